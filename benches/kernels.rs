//! What the pure maths in `src/model` costs. `./task bench kernels [FILTER]`
//!
//! One function per module; a new kernel gets a function and a line at the end. Only modules that
//! never call into PostgreSQL can be used here: there is no server to link with.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use engram::model::activation::base_level;
use engram::model::bm25::{self, Norms, Params};
use engram::model::fusion;
use engram::model::heat::{Heat, Weights};
use engram::model::layers::{self, Layer, Thresholds};
use engram::model::similarity::{Distance, similarity};
use engram::simd;

const PARAMS: Params = Params {
    k1: 1.2,
    pivot: 30.0,
};

/// Numbers that look random and are the same in every run.
fn numbers() -> impl Iterator<Item = u32> {
    let mut state = 1u64;
    std::iter::repeat_with(move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u32
    })
}

fn vectors(count: usize, dims: usize) -> Vec<Vec<f32>> {
    let mut numbers = numbers();
    (0..count)
        .map(|_| {
            numbers
                .by_ref()
                .take(dims)
                .map(|n| n as f32 / 2f32.powi(30) - 1.0)
                .collect()
        })
        .collect()
}

/// The sum of six words' weights over many memories.
fn bm25(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("bm25");
    let mut numbers = numbers();
    let documents: Vec<(u32, [u32; 6])> = (0..1000)
        .map(|_| {
            let mut below = |n| numbers.next().map_or(0, |x| x % n);
            (20 + below(40), std::array::from_fn(|_| 1 + below(3)))
        })
        .collect();
    let norms = Norms::new(PARAMS, 40.0);
    group.throughput(Throughput::Elements(documents.len() as u64));
    group.bench_function("1000 documents", |b| {
        b.iter(|| {
            black_box(&documents)
                .iter()
                .map(|(length, counts)| -> f64 {
                    let norm = norms.of(*length, false);
                    counts
                        .iter()
                        .map(|tf| bm25::weight(PARAMS, 2.0, *tf, norm))
                        .sum()
                })
                .sum::<f64>()
        });
    });
    group.finish();
}

/// Finding six words among the hashes of 5,000 documents of 25 words, and comparing a query with
/// 5,000 vectors of 384 dimensions: what one search of such a workspace scans.
fn scans(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("scan");
    let mut numbers = numbers();
    let hashes: Vec<u8> = numbers
        .by_ref()
        .take(125_000)
        .flat_map(u32::to_le_bytes)
        .collect();
    let wanted: Vec<u32> = numbers.by_ref().take(6).collect();
    let mut found = Vec::new();
    group.throughput(Throughput::Bytes(hashes.len() as u64));
    group.bench_function("125,000 hashes for 6 words", |b| {
        b.iter(|| {
            found.clear();
            simd::find(black_box(&hashes), &wanted, &mut found);
            found.len()
        });
    });
    let codes: Vec<u8> = numbers
        .by_ref()
        .take(5000 * 384)
        .map(|n| n.to_le_bytes()[0])
        .collect();
    let query: Vec<i16> = numbers
        .by_ref()
        .take(384)
        .map(|n| n.cast_signed() as i16)
        .collect();
    let mut dots = vec![0; 5000];
    group.throughput(Throughput::Bytes(codes.len() as u64));
    group.bench_function("5,000 vectors of 384 codes", |b| {
        b.iter(|| simd::products(&query, black_box(&codes), &mut dots));
    });
    group.finish();
}

/// Bringing the scores of a lane to 0..1.
fn min_max(criterion: &mut Criterion) {
    let scores: Vec<f64> = numbers().take(200).map(f64::from).collect();
    criterion.bench_function("fusion/min_max of 200", |bencher| {
        bencher.iter(|| fusion::min_max(black_box(&scores)));
    });
}

/// One query against the vectors of a workspace.
fn similarities(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("similarity of 1000");
    for dims in [384, 1536] {
        let stored = vectors(1001, dims);
        let (query, stored) = (&stored[0], &stored[1..]);
        group.throughput(Throughput::Elements(stored.len() as u64));
        for distance in [Distance::Cosine, Distance::InnerProduct, Distance::L2] {
            group.bench_function(BenchmarkId::new(format!("{distance:?}"), dims), |bencher| {
                bencher.iter(|| {
                    stored
                        .iter()
                        .filter_map(|v| similarity(distance, black_box(query), v))
                        .fold(f64::MIN, f64::max)
                });
            });
        }
    }
    group.finish();
}

/// Counting a use of a memory, reading its activation, and what both replace: all ages of its uses.
fn heat(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("heat");
    let mut numbers = numbers();
    // Uses within a year.
    let mut times = || i64::from(numbers.next().unwrap_or(0)) * 14_000;
    let mut heats: Vec<Heat> = (0..1000).map(|_| Heat::new(times(), 1.0)).collect();
    let uses: Vec<i64> = (0..1000).map(|_| times()).collect();
    for heat in &mut heats {
        uses.iter().take(10).for_each(|at| heat.touch(*at, 1.0));
    }
    let now = 15_000 << 31;
    group.throughput(Throughput::Elements(1000));
    group.bench_function("touch of 1000", |b| {
        b.iter_batched_ref(
            || heats.clone(),
            |heats| {
                for (heat, at) in heats.iter_mut().zip(&uses) {
                    heat.touch(*at, 1.0);
                }
            },
            criterion::BatchSize::SmallInput,
        );
    });
    group.bench_function("level of 1000", |b| {
        b.iter(|| {
            let levels = black_box(&heats).iter().map(|heat| heat.level(now, 0.5));
            levels.sum::<f64>()
        });
    });
    group.bench_function("level of 1000 with the same weights", |b| {
        let weights = Weights::new(0.5);
        b.iter(|| {
            let levels = black_box(&heats).iter();
            levels
                .map(|heat| heat.level_with(now, &weights))
                .sum::<f64>()
        });
    });
    group.finish();
    let mut group = criterion.benchmark_group("exact base level");
    let ages: Vec<f64> = uses.iter().map(|at| (now - at) as f64 * 1e-6).collect();
    for n in [10, 1000] {
        group.bench_function(BenchmarkId::from_parameter(n), |b| {
            b.iter(|| base_level(black_box(&ages[..n]), 0.5));
        });
    }
    group.finish();
}

/// Deciding on the layers of memories, as a job does for everybody.
fn layer_ticks(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("layers");
    let mut numbers = numbers();
    let mut up_to = |most: f64| f64::from(numbers.next().unwrap_or(0)) / 2f64.powi(31) * most;
    let memories: Vec<[f64; 3]> = (0..1000)
        .map(|_| [up_to(1.0), up_to(0.4), up_to(60.0)])
        .collect();
    let layers = [Layer::Working, Layer::Core, Layer::Archive];
    let thresholds = Thresholds::default();
    group.throughput(Throughput::Elements(1000));
    group.bench_function("tick of 1000", |b| {
        b.iter(|| {
            let memories = black_box(&memories).iter().zip(layers.iter().cycle());
            memories
                .filter(|([r1, r2, days], layer)| {
                    layers::tick(**layer, *r1, *r2, *days, 0.04, 0.15, 0.005, &thresholds)
                        != **layer
                })
                .count()
        });
    });
    group.finish();
}

criterion_group!(
    kernels,
    bm25,
    scans,
    min_max,
    similarities,
    heat,
    layer_ticks
);
criterion_main!(kernels);
