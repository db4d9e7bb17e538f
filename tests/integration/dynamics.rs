//! The memory models through SQL: names, argument order, units, defaults, NULLs, errors, aggregates.
//! The numbers themselves are tested in `src/model`; here one or two oracle cases of each family pass
//! through the server.

use postgres::Client;
use postgres::types::ToSql;
use serde_json::Value;

use crate::cluster::{Database, failure};

fn vectors(name: &str) -> Value {
    let path = format!("{}/tests/vectors/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The first and the last case under `key`.
fn two<'a>(file: &'a Value, key: &str) -> [&'a Value; 2] {
    let cases = file[key].as_array().unwrap();
    [cases.first().unwrap(), cases.last().unwrap()]
}

fn f(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value}"))
}

fn fs(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(f).collect()
}

struct Session(Client);

impl Session {
    /// The one number that a statement gives.
    fn number(&mut self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> f64 {
        self.0
            .query_one(sql, params)
            .unwrap_or_else(|e| panic!("{sql}: {e:?}"))
            .get(0)
    }

    #[track_caller]
    fn gives(&mut self, sql: &str, params: &[&(dyn ToSql + Sync)], wanted: f64, tolerance: f64) {
        let got = self.number(sql, params);
        assert!(
            got == wanted || (got - wanted).abs() <= tolerance * wanted.abs().max(1.0),
            "{sql} {params:?} gives {got}, not {wanted}"
        );
    }

    fn text(&mut self, sql: &str) -> String {
        let row = self
            .0
            .query_one(&format!("SELECT ({sql})::text"), &[])
            .unwrap_or_else(|e| panic!("{sql}: {e:?}"));
        row.get::<_, Option<String>>(0)
            .unwrap_or_else(|| "NULL".to_owned())
    }
}

/// As an ordinary role that was granted access, and is nobody.
fn session(db: &Database) -> Session {
    Session(db.connect("app"))
}

#[test]
fn activation_is_that_of_the_oracles() {
    let db = Database::new();
    let mut s = session(&db);
    let file = vectors("base_level_exact");
    for case in two(&file, "cases") {
        let (now, d) = (f(&case["now"]), f(&case["d"]));
        let t = fs(&case["t"]);
        let ages: Vec<f64> = t.iter().map(|t| now - t).collect();
        let b = f(&case["B"]);
        s.gives("SELECT engram.base_level($1, $2)", &[&ages, &d], b, 1e-9);
        s.gives(
            "SELECT engram.base_level_agg(to_timestamp(t), to_timestamp($2), $3) FROM unnest($1::float8[]) t",
            &[&t, &now, &d],
            b,
            1e-6,
        );
    }
    for case in two(&vectors("base_level_optimized"), "cases") {
        s.gives(
            "SELECT engram.base_level_optimized($1, $2, $3)",
            &[&case["n"].as_i64(), &f(&case["age_s"]), &f(&case["d"])],
            f(&case["B"]),
            1e-9,
        );
    }
    for case in two(&vectors("base_level_petrov"), "cases") {
        s.gives(
            "SELECT engram.base_level_petrov($1, $2, $3, $4)",
            &[
                &fs(&case["recent_ages_s"]),
                &case["n"].as_i64(),
                &f(&case["age_created_s"]),
                &f(&case["d"]),
            ],
            f(&case["B"]),
            1e-9,
        );
    }
    for case in two(&vectors("retrieval"), "cases") {
        let (a, tau) = (f(&case["A"]), f(&case["tau"]));
        s.gives(
            "SELECT engram.retrieval_probability($1, $2, $3)",
            &[&a, &tau, &f(&case["s"])],
            f(&case["P"]),
            1e-10,
        );
        s.gives(
            "SELECT engram.retrieval_latency($1, $2, $3)",
            &[&a, &f(&case["f"]), &f(&case["F"])],
            f(&case["latency_s"]),
            1e-10,
        );
    }
    // Which of the two is the exponent and which the factor.
    s.gives(
        "SELECT engram.retrieval_latency(-1, 2, 3)",
        &[],
        3.0 * 2f64.exp(),
        1e-12,
    );
    s.gives("SELECT engram.activation_01(-4.09434)", &[], 0.719, 1e-3);
    // Where the sum is less than a number can be, beside more such uses and beside a usual one.
    let far = -40.0 * 157_788_000f64.ln();
    s.gives(
        "SELECT engram.base_level(ARRAY[157788000], 40)",
        &[],
        far,
        1e-12,
    );
    for (ages, wanted) in [
        ("157788000", far),
        ("157788000, 157788000", far + 2f64.ln()),
        ("157788000, 100000000", -40.0 * 1e8f64.ln()),
        ("157788000, 60", -40.0 * 60f64.ln()),
        ("60, 157788000", -40.0 * 60f64.ln()),
    ] {
        let sql = format!(
            "SELECT engram.base_level_agg(timestamptz '2026-01-01' - a * interval '1 second', '2026-01-01', 40) FROM unnest(ARRAY[{ages}]) a"
        );
        s.gives(&sql, &[], wanted, 1e-9);
    }
    s.gives(
        "SELECT r2 FROM engram.trace_evolve(1, 0, 1e305, 1e10, 0.15, 0.005)",
        &[],
        0.0,
        0.0,
    );
}

#[test]
fn heat_is_that_of_the_oracles() {
    let db = Database::new();
    let mut s = session(&db);
    let file = vectors("base_level_soe");
    for case in two(&file, "cases") {
        let t = fs(&case["t"]);
        // Use by use, and all at once.
        let touched = "WITH RECURSIVE h(i, t, heat) AS (
               SELECT 1, $1::float8[], engram.heat_new(to_timestamp(($1::float8[])[1]))
               UNION ALL SELECT i + 1, t, engram.heat_touch(heat, to_timestamp(t[i + 1])) FROM h WHERE i < cardinality(t))
             SELECT heat FROM h ORDER BY i DESC LIMIT 1";
        let touched: Vec<u8> = s.0.query_one(touched, &[&t]).unwrap().get(0);
        let all: Vec<u8> =
            s.0.query_one(
                "SELECT engram.heat_agg(to_timestamp(t), NULL) FROM unnest($1::float8[]) t",
                &[&t],
            )
            .unwrap()
            .get(0);
        for heat in [touched, all] {
            assert_eq!(heat.len(), 80);
            let t_ref = f(&case["t_ref"]);
            for read in case["reads"].as_array().unwrap() {
                s.gives(
                    "SELECT engram.heat_level($1, to_timestamp($2 + $3::float8), $4)",
                    &[&heat, &t_ref, &f(&read["lag_s"]), &f(&read["d"])],
                    f(&read["B_soe"]),
                    1e-5,
                );
            }
            for (m, c) in (0..).zip(fs(&case["c"])) {
                s.gives(
                    "SELECT engram.heat_mass($1, $2, to_timestamp($3))",
                    &[&heat, &m, &t_ref],
                    c,
                    1e-6,
                );
            }
            let count = s.0.query_one("SELECT engram.heat_count($1)", &[&heat]);
            assert_eq!(count.unwrap().get::<_, i64>(0), t.len() as i64);
        }
    }
    // As many touches as one likes, each so near to the one before that a slow counter loses less than a digit.
    s.0.batch_execute(
        "DO $$
         DECLARE
           start timestamptz := '2020-01-01Z';
           heat bytea := engram.heat_new(start);
           off double precision;
         BEGIN
           FOR i IN 1..29999 LOOP
             heat := engram.heat_touch(heat, start + i * interval '20.9067 s');
           END LOOP;
           off := engram.heat_level(heat, start + interval '630000 s' + interval '76430000 s')
             - (SELECT engram.base_level_agg(start + i * interval '20.9067 s', start + interval '630000 s' + interval '76430000 s', 0.5)
                FROM generate_series(0, 29999) i);
           ASSERT abs(off) < 0.00247, off;
         END
         $$",
    )
    .unwrap_or_else(|e| panic!("{e:?}"));
    // What a column holds does not change with versions: the first use of 2000 and a half one of 1999.
    let bytes = "\\x01000000000000000000000002000000";
    let whole =
        s.text("engram.heat_touch(engram.heat_new('2000-01-01 00:00Z'), '1999-01-01Z', 0.5)");
    assert_eq!(whole[..34], *bytes);
    assert_eq!(
        whole[34..42],
        *"0000803f",
        "what is a year ago does not show in 2/3 s"
    );
    assert_eq!(
        s.text(&format!(
            "engram.heat_level('{whole}', '2000-01-02Z') BETWEEN -5.66 AND -5.60"
        )),
        "true"
    );
}

#[test]
fn consolidation_forgetting_links_and_need_are_those_of_the_oracles() {
    let db = Database::new();
    let mut s = session(&db);
    for case in two(&vectors("two_store"), "cases") {
        let [r1, r2, dt, alpha, mu1, mu2, input] =
            ["r1", "r2", "dt_days", "alpha", "mu1", "mu2", "input"].map(|key| f(&case[key]));
        for (column, wanted) in [
            ("r1", "r1_out"),
            ("r2", "r2_out"),
            ("engram.trace_strength(r1, r2)", "p"),
        ] {
            s.gives(
                &format!("SELECT {column} FROM engram.trace_evolve($1, $2, $3, $4, $5, $6, $7)"),
                &[&r1, &r2, &dt, &alpha, &mu1, &mu2, &input],
                f(&case[wanted]),
                1e-8,
            );
        }
    }
    s.gives(
        "SELECT engram.consolidation_alpha(0.5)",
        &[],
        0.08 * 0.45,
        1e-12,
    );
    for case in vectors("layers")["cases"]
        .as_array()
        .unwrap()
        .iter()
        .take(40)
    {
        let numbers = [
            "r1", "r2", "dt_days", "alpha", "mu1", "mu2", "promote", "demote", "archive",
        ];
        let numbers = numbers.map(|key| case[key].to_string()).join(", ");
        let layer = case["layer"].as_str().unwrap();
        assert_eq!(
            s.text(&format!("engram.layer_tick('{layer}', {numbers})")),
            case["layer_out"].as_str().unwrap(),
            "{case}"
        );
    }
    let fsrs = vectors("fsrs6");
    for case in two(&fsrs, "cases") {
        let mut before = (None::<f64>, None::<f64>);
        for review in case["steps"].as_array().unwrap() {
            let elapsed = review["elapsed_days"].as_f64();
            let rating = review["rating"].as_i64().unwrap() as i32;
            let row =
                s.0.query_one(
                    "SELECT stability, difficulty, r FROM engram.fsrs_step($1, $2, $3, $4)",
                    &[&before.0, &before.1, &elapsed, &rating],
                )
                .unwrap();
            before = (row.get(0), row.get(1));
            let near = |got: f64, wanted: &Value| (got - f(wanted)).abs() <= 1e-9 * f(wanted);
            assert!(near(before.0.unwrap(), &review["stability"]), "{review}");
            assert!(near(before.1.unwrap(), &review["difficulty"]), "{review}");
            let r: Option<f64> = row.get(2);
            assert_eq!(r.is_none(), review["R_before"].is_null());
            assert!(r.is_none_or(|r| near(r, &review["R_before"])), "{review}");
        }
    }
    for case in two(&fsrs, "retrievability") {
        s.gives(
            "SELECT engram.fsrs_retrievability($1, $2)",
            &[&f(&case["elapsed_days"]), &f(&case["stability"])],
            f(&case["R"]),
            1e-9,
        );
    }
    for case in two(&fsrs, "intervals") {
        s.gives(
            "SELECT engram.fsrs_interval($1, $2)",
            &[&f(&case["stability"]), &f(&case["desired_retention"])],
            f(&case["interval_days_unrounded"]),
            1e-9,
        );
    }
    let retrieval = vectors("retrieval");
    for case in two(&retrieval, "forgetting") {
        s.gives(
            "SELECT engram.exp_retrievability($1, $2)",
            &[&f(&case["t_days"]), &f(&case["S_days"])],
            f(&case["R_exp"]),
            1e-10,
        );
    }
    for case in two(&retrieval, "upstream_stability") {
        s.gives(
            "SELECT engram.stability_upstream($1, $2, $3, $4)",
            &[
                &case["type"].as_str(),
                &case["n_accesses"].as_i64(),
                &f(&case["importance"]),
                &(f(&case["consolidation_count"]) as i32),
            ],
            f(&case["S_days"]),
            1e-10,
        );
    }
    let hebbian = vectors("hebbian");
    for case in two(&hebbian, "cases") {
        let sum = |side: &str| {
            let events = case["events_unordered"].as_array().unwrap().iter();
            let terms: Vec<String> = events
                .filter(|e| e[2] == side)
                .map(|e| {
                    format!(
                        "engram.link_decay({}, {} - {}, {})",
                        e[1], case["now"], e[0], case["half_life_s"]
                    )
                })
                .collect();
            terms.join(" + ")
        };
        let (xf, xb) = (sum("fwd"), sum("bwd"));
        s.gives(&format!("SELECT {xf}"), &[], f(&case["x_fwd"]), 1e-9);
        s.gives(
            &format!("SELECT engram.link_strength({xf} + {xb})"),
            &[],
            f(&case["strength"]),
            1e-9,
        );
        s.gives(
            &format!("SELECT engram.link_direction({xf}, {xb})"),
            &[],
            f(&case["direction"]),
            1e-9,
        );
    }
    for case in two(&hebbian, "ppmi") {
        s.gives(
            "SELECT engram.link_ppmi($1, $2, $3, $4, $5)",
            &[
                &f(&case["x_ij"]),
                &f(&case["x_i"]),
                &f(&case["x_j"]),
                &f(&case["X"]),
                &f(&case["kappa"]),
            ],
            f(&case["S_ij"]),
            1e-9,
        );
    }
    let fan = &vectors("spreading")["fan"][0];
    s.gives(
        "SELECT engram.spread_fan($1, 4)",
        &[&f(&fan["S"])],
        f(&fan["facts"][0]["S_ji"][0]),
        1e-9,
    );
    s.gives(
        "SELECT engram.need_score(-4, 5, 0.1, 0.5, 0.5, true)",
        &[],
        1.0,
        1e-12,
    );
    s.gives(
        "SELECT engram.need_score(-4, 5, 9, 0.5, 0.5, true, '{1,1,1,1,1,1}')",
        &[],
        7.0,
        1e-12,
    );
    s.gives("SELECT engram.need_probability(2, -2)", &[], 0.5, 1e-12);
}

#[test]
fn null_is_the_default_or_null() {
    let db = Database::new();
    let mut s = session(&db);
    // With the last arguments left out, and NULL.
    for (call, usual) in [
        ("base_level('{60,3600}'", "0.5"),
        ("base_level_optimized(3, 3600", "0.5"),
        ("base_level_petrov('{60}', 3, 3600", "0.5"),
        ("retrieval_probability(-2, -3", "0.4"),
        ("retrieval_latency(-2", "1"),
        ("activation_01(-3", "-5.5"),
        ("heat_new('2026-01-01'", "1"),
        (
            "heat_touch(engram.heat_new('2026-01-01'), '2026-01-02'",
            "1",
        ),
        (
            "heat_level(engram.heat_new('2026-01-01'), '2026-01-02'",
            "0.5",
        ),
        ("consolidation_alpha(0.5", "0.08"),
        ("layer_tick('core', 0.2, 0.2, 9, 0.1, 0.15, 0.005", "0.25"),
        ("fsrs_retrievability(3, 2", "0.1542"),
        ("fsrs_interval(3", "0.9"),
        ("link_decay(1, 86400", "2592000"),
        ("link_ppmi(3, 4, 5, 60", "1"),
        (
            "need_score(-4, 5, 0.1, 0.5, 0.5, true",
            "'{0.5,0.6,15,1,2,3}'",
        ),
        ("need_probability(1", "0"),
    ] {
        let value = s.text(&format!("engram.{call})"));
        assert_ne!(value, "NULL");
        assert_eq!(s.text(&format!("engram.{call}, NULL)")), value, "{call}");
        assert_eq!(s.text(&format!("engram.{call}, {usual})")), value, "{call}");
    }
    for call in [
        "base_level(NULL)",
        "base_level_agg(now(), NULL, 0.5)",
        "base_level_optimized(NULL, 60)",
        "base_level_petrov('{60}', NULL, 60)",
        "retrieval_probability(-2, NULL)",
        "heat_new(NULL)",
        "heat_touch(NULL, now())",
        "heat_touch(engram.heat_new('2026-01-01'), NULL)",
        "heat_merge(engram.heat_new('2026-01-01'), NULL)",
        "heat_level(engram.heat_new('2026-01-01'), NULL)",
        "heat_mass(engram.heat_new('2026-01-01'), NULL, now())",
        "heat_count(NULL)",
        "heat_agg(NULL, 1)",
        "heat_merge_agg(NULL)",
        "layer_tick(NULL, 1, 0, 1, 0.1, 0.15, 0.005)",
        "fsrs_interval(NULL)",
        "stability_upstream('factual', NULL, 0.5, 0)",
        "link_ppmi(1, 2, 2, NULL)",
        "need_score(-2, NULL, 0.1, 0, 0.5, false)",
    ] {
        assert_eq!(s.text(&format!("SELECT engram.{call}")), "NULL", "{call}");
    }
    // Where a row is due, there is one.
    for call in [
        "trace_evolve(1, NULL, 1, 0.1, 0.15, 0.005)",
        "fsrs_step(1, NULL, 1, 3)",
        "fsrs_step(NULL, NULL, NULL, NULL)",
    ] {
        assert_eq!(
            s.text(&format!("SELECT count(*) FILTER (WHERE t IS NULL) || ' of ' || count(*) FROM engram.{call} t")),
            "1 of 1",
            "{call}"
        );
    }
    assert_eq!(s.text("engram.base_level('{}')"), "-Infinity");
    assert_eq!(
        s.text("SELECT engram.base_level_agg(t, now(), 0.5) FROM unnest('{}'::timestamptz[]) t"),
        "-Infinity"
    );
    assert_eq!(
        s.text("engram.heat_level(engram.heat_new('2026-01-01', 0), '2026-02-01')"),
        "-Infinity"
    );
    assert_eq!(
        s.text("SELECT engram.heat_agg(t, 1) FROM unnest('{}'::timestamptz[]) t"),
        "NULL"
    );
}

#[test]
fn what_cannot_be_is_refused_with_a_hint() {
    let db = Database::new();
    let mut s = session(&db);
    let heat = "engram.heat_new('2026-01-01')";
    let broken = "substr(engram.heat_new('2026-01-01'), 2)";
    for (call, told) in [
        ("base_level('{-1}')".to_owned(), "-1"),
        ("base_level('{NaN}')".to_owned(), "NaN"),
        ("base_level('{1,NULL}')".to_owned(), "NULL"),
        ("base_level('{1}', -0.5)".to_owned(), "d is -0.5"),
        (
            "base_level_agg('infinity', now(), 0.5)".to_owned(),
            "accessed_at is infinite",
        ),
        ("base_level_agg(now(), now(), 'NaN')".to_owned(), "d is NaN"),
        ("base_level_optimized(-1, 60)".to_owned(), "n is -1"),
        ("base_level_optimized(1, 60, 1)".to_owned(), "d is 1"),
        ("base_level_petrov('{60,70}', 1, 70)".to_owned(), "n is 1"),
        (
            "base_level_petrov('{60}', 1, -1)".to_owned(),
            "age_created_s is -1",
        ),
        ("retrieval_probability('NaN', 0)".to_owned(), "a is NaN"),
        ("retrieval_probability(0, 0, 0)".to_owned(), "s is 0"),
        ("retrieval_latency(0, -1)".to_owned(), "f is -1"),
        ("activation_01(0, 0, 0)".to_owned(), "scale is 0"),
        ("heat_new('infinity')".to_owned(), "t is infinite"),
        ("heat_new('2026-01-01', -1)".to_owned(), "gain is -1"),
        ("heat_new('2026-01-01', 'NaN')".to_owned(), "gain is NaN"),
        (format!("heat_touch({heat}, '-infinity')"), "t is infinite"),
        (
            format!("heat_touch({heat}, '2026-01-01', 'infinity')"),
            "gain is inf",
        ),
        (format!("heat_touch({heat}, '2026-01-01', -2)"), "gain -2"),
        (format!("heat_touch({heat}, '2025-01-01', -1)"), "gain -1"),
        (format!("heat_touch({heat}, '2026-01-02', -1)"), "gain -1"),
        (format!("heat_touch({broken}, '2026-01-01')"), "79 bytes"),
        (
            format!("heat_touch('\\x02' || {broken}, '2026-01-01')"),
            "format is [2, 0, 0, 0]",
        ),
        (format!("heat_merge({heat}, '\\x')"), "b is no heat"),
        (format!("heat_level({broken}, now())"), "79 bytes"),
        (format!("heat_level({heat}, 'infinity')"), "now is infinite"),
        (format!("heat_level({heat}, now(), 0.96)"), "d is 0.96"),
        (format!("heat_level({heat}, now(), 0.09)"), "d is 0.09"),
        (format!("heat_mass({heat}, 16, now())"), "m is 16"),
        (format!("heat_mass({heat}, -1, now())"), "m is -1"),
        ("heat_count('\\x00')".to_owned(), "1 bytes"),
        ("heat_agg(now(), -1)".to_owned(), "takes away more"),
        (
            "heat_agg('infinity', 1)".to_owned(),
            "accessed_at is infinite",
        ),
        ("heat_merge_agg('\\x00')".to_owned(), "1 bytes"),
        (
            "trace_evolve(-1, 0, 1, 0.1, 0.15, 0.005)".to_owned(),
            "r1 is -1",
        ),
        (
            "trace_evolve(1, 0, -1, 0.1, 0.15, 0.005)".to_owned(),
            "dt_days is -1",
        ),
        (
            "trace_evolve(1, 0, 1, 0.1, 'NaN', 0.005)".to_owned(),
            "mu1 is NaN",
        ),
        (
            "trace_evolve(1, 0, 1, 0.1, 0.15, 0.005, 'infinity')".to_owned(),
            "input is inf",
        ),
        ("trace_strength(0, -1)".to_owned(), "r2 is -1"),
        ("consolidation_alpha(1.1)".to_owned(), "importance is 1.1"),
        (
            "layer_tick('attic', 1, 0, 1, 0.1, 0.15, 0.005)".to_owned(),
            "\"attic\"",
        ),
        (
            "layer_tick('core', 1, 0, -1, 0.1, 0.15, 0.005)".to_owned(),
            "dt_days is -1",
        ),
        (
            "layer_tick('core', 1, 0, 1, 0.1, 0.15, 0.005, 0.01)".to_owned(),
            "promote is 0.01",
        ),
        (
            "layer_tick('core', 1, 0, 1, 0.1, 0.15, 0.005, 0.25, 0)".to_owned(),
            "demote 0",
        ),
        (
            "layer_tick('core', 1, 0, 1, 0.1, 0.15, 0.005, archive => 0.3)".to_owned(),
            "archive 0.3",
        ),
        (
            "fsrs_retrievability(-1, 1)".to_owned(),
            "elapsed_days is -1",
        ),
        ("fsrs_retrievability(1, 0)".to_owned(), "stability is 0"),
        ("fsrs_step(NULL, NULL, NULL, 5)".to_owned(), "rating is 5"),
        ("fsrs_step(1, 11, 1, 3)".to_owned(), "difficulty is 11"),
        ("fsrs_step(1, 5, -1, 3)".to_owned(), "elapsed_days is -1"),
        ("fsrs_step(1, 5, 1, 3, '{1,2}')".to_owned(), "w has 2"),
        (
            "fsrs_step(1, 5, 1, 3, array_fill(1e300, ARRAY[20]) || 0.1542)".to_owned(),
            "finite",
        ),
        ("fsrs_interval(1, 0)".to_owned(), "retention is 0"),
        ("exp_retrievability(1, 0)".to_owned(), "s_days is 0"),
        ("stability_upstream('odd', 1, 0.5, 0)".to_owned(), "\"odd\""),
        (
            "stability_upstream('causal', 1, 0.5, -1)".to_owned(),
            "consolidation_count is -1",
        ),
        ("link_decay(1, -1)".to_owned(), "dt_s is -1"),
        ("link_decay(1, 1, 0)".to_owned(), "half_life_s is 0"),
        ("link_strength(-1)".to_owned(), "x is -1"),
        ("link_direction(1, 'NaN')".to_owned(), "xb is NaN"),
        ("link_ppmi(1, 2, 3, 0)".to_owned(), "total is 0"),
        ("link_ppmi(1, 2, 3, 4, 0)".to_owned(), "kappa is 0"),
        ("spread_fan(1, 0)".to_owned(), "fan is 0"),
        (
            "need_score(1, 'NaN', 0, 0, 0, false)".to_owned(),
            "text_llr is NaN",
        ),
        (
            "need_score(1, 0, 0, 0, 0, false, '{1}')".to_owned(),
            "betas has 1",
        ),
        (
            "need_score(1, 0, 0, 0, 0, false, '{1,1,1,1,1,-1}')".to_owned(),
            "-1",
        ),
        ("need_probability('infinity')".to_owned(), "score is inf"),
    ] {
        let e = failure(s.0.batch_execute(&format!("SELECT engram.{call}")));
        assert!(
            e.code == "22023" && !e.hint.is_empty() && e.message.contains(told),
            "{call}: {e:?}"
        );
    }
    // The states of the aggregates, handed in by hand.
    for call in [
        "heat_step('\\x00', now(), 1)",
        "heat_merge_step('\\x00', NULL)",
        "heat_combine(NULL, '\\x00')",
        "heat_final(decode(repeat('ff', 144), 'hex'))",
    ] {
        let e = failure(s.0.batch_execute(&format!("SELECT engram_internal.{call}")));
        assert!(e.code == "22023" && !e.hint.is_empty(), "{call}: {e:?}");
    }
}

#[test]
fn aggregates_do_not_see_the_order_nor_who_adds_up() {
    let db = Database::new();
    let mut s = Session(db.admin());
    s.0.batch_execute(
        "CREATE TABLE uses AS SELECT timestamptz '2024-01-01' + make_interval(secs => 1e8 * (i * 7919 % 100003) / 100003.0) AS at,
             0.1 + (i % 10) / 10.0 AS gain, i % 50 AS memory, i AS n FROM generate_series(1, 100000) i;
         ALTER TABLE uses SET (parallel_workers = 2); ANALYZE uses;
         SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;
         SET debug_parallel_query = off",
    )
    .unwrap_or_else(|e| panic!("{e:?}"));
    let one = "SELECT engram.heat_agg(at, gain) FROM uses";
    let plan = |s: &mut Session, sql: &str| {
        let rows = s.0.query(&format!("EXPLAIN {sql}"), &[]).unwrap();
        rows.iter()
            .map(|row| row.get::<_, String>(0))
            .collect::<Vec<_>>()
            .join("\n")
    };
    let parallel = plan(&mut s, one);
    assert!(
        parallel.contains("Partial Aggregate") && parallel.contains("Gather"),
        "{parallel}"
    );
    let together = s.text(one);
    let exact = "SELECT engram.base_level_agg(at, '2028-01-01', 0.5) FROM uses";
    assert!(plan(&mut s, exact).contains("Partial Aggregate"));
    let exactly = s.number(exact, &[]);
    s.0.batch_execute("SET max_parallel_workers_per_gather = 0")
        .unwrap();
    assert!(!plan(&mut s, one).contains("Gather"));
    assert_eq!(s.text(one), together);
    s.gives(exact, &[], exactly, 1e-12);
    for order in ["at", "at DESC", "md5(n::text)"] {
        assert_eq!(
            s.text(&format!(
                "SELECT engram.heat_agg(at, gain ORDER BY {order}) FROM uses"
            )),
            together,
            "by {order}"
        );
    }
    assert_eq!(
        s.text(&format!("SELECT engram.heat_count(({one}))")),
        "100000"
    );

    // Fifty memories added up are one; each heat is rounded once.
    let merged = "SELECT engram.heat_merge_agg(heat) FROM (SELECT engram.heat_agg(at, gain) AS heat FROM uses GROUP BY memory) x";
    assert_eq!(
        s.text(&format!("SELECT engram.heat_count(({merged}))")),
        "100000"
    );
    let level = |heat: &str| format!("SELECT engram.heat_level(({heat}), '2028-01-01', 0.5)");
    let whole = s.number(&level(one), &[]);
    s.gives(&level(merged), &[], whole, 1e-6);
    // And as exact as is promised, with the gains as they are.
    let odds = "SELECT ln(sum(gain * extract(epoch FROM '2028-01-01' - at)::float8 ^ -0.5))::float8 FROM uses";
    let wanted = s.number(odds, &[]);
    s.gives(&level(one), &[], wanted, 0.00247 / wanted.abs().max(1.0));
    // A use that is taken back later was never there.
    assert_eq!(
        s.text("SELECT engram.heat_agg(at, gain) FROM (SELECT at, gain FROM uses UNION ALL SELECT '2024-06-01', 1 UNION ALL SELECT '2024-06-01', -1) x"),
        together
    );
}
