//! Results that resemble each other: repetitions and diversity.

use postgres::Client;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::cluster::{Database, failure};

/// Stores a memory by its fields, with its vector.
fn add(client: &mut Client, item: Value) -> Uuid {
    let sql = "SELECT id FROM engram.add_many(jsonb_build_array($1::jsonb))";
    client.query_one(sql, &[&item]).unwrap().get(0)
}

/// Contents, scores and explanations, best first.
fn found(client: &mut Client, call: &str) -> Vec<(String, f64, Value)> {
    let sql = format!("SELECT content, score, explain FROM engram.search({call}, explain => true)");
    let rows = client.query(&sql, &[]);
    let rows = rows.unwrap_or_else(|e| panic!("{call}: {e:?}"));
    rows.iter()
        .map(|row| (row.get(0), row.get(1), row.get(2)))
        .collect()
}

#[test]
fn of_the_same_said_twice_the_better_is_returned() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let repeated = add(
        &mut ann,
        json!({"content": "The club meets on Monday", "embedding": [1, 0, 0]}),
    );
    for (content, vector) in [
        ("The club meets on Tuesday", [1.0, 0.0, 0.01]),
        ("The club meets at Monday", [1.0, 0.01, 0.0]),
        ("The club does not meet on Monday", [1.0, 0.0, 0.0]),
        // Says the same, but the vectors do not agree.
        ("club meets on Monday", [0.5, 1.0, 0.0]),
    ] {
        add(&mut ann, json!({"content": content, "embedding": vector}));
    }
    add(
        &mut ann,
        json!({"content": "the club meets on Monday, too", "speaker": "Bob", "embedding": [1, 0, 0]}),
    );
    // Newer, so that it comes first of those that score alike.
    add(
        &mut ann,
        json!({"content": "The club really meets on Monday!", "embedding": [1, 0.1, 0]}),
    );
    let all = found(
        &mut ann,
        "'when does the club meet: Monday?', '[1,0,0]', match_count => 20",
    );
    assert_eq!(all.len(), 6, "{all:?}");
    let explain: Vec<&Value> = all.iter().map(|hit| &hit.2["repeats"]).collect();
    let repeats: Vec<&&Value> = explain.iter().filter(|r| !r.is_null()).collect();
    assert_eq!(repeats.len(), 1, "{all:?}");
    let kept = all.iter().find(|hit| !hit.2["repeats"].is_null()).unwrap();
    let other = if kept.0.contains("really") {
        repeated
    } else {
        ann.query_one(
            "SELECT id FROM engram.memories WHERE content LIKE '%really%'",
            &[],
        )
        .unwrap()
        .get(0)
    };
    assert_eq!(kept.2["repeats"], json!([other.to_string()]), "{all:?}");
    // The vectors decide without a query vector as well, and room is made up for.
    assert_eq!(found(&mut ann, "'club Monday', match_count => 6").len(), 6);
    // Memories that contradict each other are both shown.
    ann.execute(
        "SELECT engram.contradict(a.id, b.id) FROM engram.memories a, engram.memories b
         WHERE a.content LIKE '%really%' AND b.id = $1",
        &[&repeated],
    )
    .unwrap();
    assert_eq!(found(&mut ann, "'club Monday', match_count => 20").len(), 7);
    ann.execute(
        "SELECT engram.forget(id) FROM engram.memories WHERE content LIKE '%really%'",
        &[],
    )
    .unwrap();
    // Days that are known and differ are different events.
    for day in [
        "2024-01-01T10:00:00Z",
        "2024-01-02T10:00:00Z",
        "2024-01-02T20:00:00Z",
    ] {
        add(
            &mut ann,
            json!({"content": format!("Ann swam a mile{}", "!".repeat(usize::from(day.contains("20:")))),
                             "occurred_at": day, "embedding": [0, 0, 1], "on_duplicate": "allow"}),
        );
    }
    // The exclamation is the newest, and of the other two one is of its day.
    let repeats = |client: &mut Client| -> Vec<(usize, usize)> {
        let count = |ids: &Value| ids.as_array().map_or(0, Vec::len);
        let hits = found(client, "'swam mile'");
        hits.iter()
            .map(|hit| (hit.0.len(), count(&hit.2["repeats"])))
            .collect()
    };
    let (exclaimed, said) = ("Ann swam a mile!".len(), "Ann swam a mile".len());
    assert_eq!(repeats(&mut ann), [(exclaimed, 1), (said, 0)]);
    // Off: only equal content is one, and that not of two days.
    db.admin()
        .batch_execute("UPDATE engram.settings SET duplicate_similarity = 1")
        .unwrap();
    assert_eq!(repeats(&mut ann), [(exclaimed, 0), (said, 0), (said, 0)]);
    // Nearly 1: the very same vector.
    db.admin()
        .batch_execute("UPDATE engram.settings SET duplicate_similarity = 0.99999999")
        .unwrap();
    for content in ["the cat sat on the mat", "a cat sat on the mat"] {
        add(
            &mut ann,
            json!({"content": content, "embedding": [0.1, 0.7, 0.3]}),
        );
    }
    let cats = found(&mut ann, "'cat mat', '[0.1,0.7,0.3]'");
    let cats = cats.iter().filter(|hit| hit.0.contains("cat sat")).count();
    assert_eq!(cats, 1);
}

#[test]
fn diversity_brings_other_things_forward() {
    let db = Database::new();
    let mut ann = db.user("ann");
    for i in 0..6 {
        add(
            &mut ann,
            json!({"content": format!("green tea number {i}"), "embedding": [1, 0.01 * f64::from(i), 0]}),
        );
    }
    for content in ["green tea and herbs", "green tea house"] {
        add(
            &mut ann,
            json!({"content": content, "embedding": if content.contains("herbs") { [0.3, 1.0, 0.0] } else { [0.3, 0.0, 1.0] }}),
        );
    }
    let call = |diversity: &str| {
        format!("'green tea', '[1,0,0]', match_count => 3, diversity => {diversity}")
    };
    let plain = found(&mut ann, &call("0"));
    assert!(plain.iter().all(|hit| hit.0.contains("number")));
    assert_eq!(plain, found(&mut ann, &call("NULL")));
    let diverse = found(&mut ann, &call("1"));
    let numbers = diverse
        .iter()
        .filter(|hit| hit.0.contains("number"))
        .count();
    assert_eq!(numbers, 1, "{diverse:?}");
    assert_eq!(diverse[0].0, plain[0].0, "the best stays the best");
    assert_eq!(diverse[0].2["diversity"], Value::Null);
    for pair in diverse.windows(2) {
        assert!(pair[0].1 >= pair[1].1);
        assert!(pair[1].2["diversity"].as_f64().unwrap() < 0.0);
    }
    // What is explained adds up.
    for (_, score, explain) in &diverse {
        let parts = explain.as_object().unwrap();
        let sum: f64 = parts
            .iter()
            .filter(|(name, _)| *name != "score")
            .filter_map(|(_, v)| v.as_f64())
            .sum();
        let lanes = parts["lanes"].as_object().unwrap();
        let lanes: f64 = lanes
            .values()
            .map(|lane| lane["contribution"].as_f64().unwrap())
            .sum();
        assert!((sum + lanes - score).abs() < 1e-9, "{explain}");
    }
    // Without vectors words in common tell.
    ann.execute("SELECT engram.forget(id) FROM engram.memories", &[])
        .unwrap();
    // Of equals that with the higher id comes first.
    for (n, content) in [
        "old coffee machine",
        "black coffee Kenya",
        "black coffee Peru",
    ]
    .iter()
    .enumerate()
    {
        add(
            &mut ann,
            json!({"content": content, "id": format!("00000000-0000-7000-8000-00000000000{n}")}),
        );
    }
    let plain = found(&mut ann, "'coffee', match_count => 2");
    assert!(plain.iter().all(|hit| hit.0.contains("black")), "{plain:?}");
    let words = found(&mut ann, "'coffee', match_count => 2, diversity => 1");
    assert!(
        words.iter().any(|hit| hit.0.contains("machine")),
        "{words:?}"
    );
    for wrong in ["-0.1", "1.5", "'NaN'", "'infinity'"] {
        let error = ann.query(
            &format!("SELECT FROM engram.search('tea', diversity => {wrong})"),
            &[],
        );
        assert_eq!(failure(error).code, "22023", "{wrong}");
    }
}

#[test]
fn diversity_is_maximal_marginal_relevance() {
    const DIMS: usize = 19;
    let db = Database::new();
    db.admin()
        .batch_execute("SELECT engram.set_embedding_model('wide', 19, make_default => true)")
        .unwrap();
    let mut ann = db.user("ann");
    // Some point the same way, and their lengths differ.
    let vector = |n: usize| -> Vec<f64> {
        let length = 1.0 + (n % 3) as f64;
        (0..DIMS)
            .map(|d| length * ((n / 4 * 7 + d * 3) as f64 + (n % 4) as f64 * 0.2).sin())
            .collect()
    };
    for n in 0..20 {
        add(
            &mut ann,
            json!({"content": format!("entry {n}"), "embedding": vector(n)}),
        );
    }
    let number = |content: &str| content[6..].parse::<usize>().unwrap();
    let cosine = |a: usize, b: usize| -> f64 {
        let (a, b) = (vector(a), vector(b));
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
        dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt()
    };
    let query = json!(vector(1)).to_string();
    let base: Vec<(usize, f64)> = found(&mut ann, &format!("NULL, '{query}', match_count => 20"))
        .iter()
        .map(|hit| (number(&hit.0), hit.1))
        .collect();
    assert!(
        base.len() > 8,
        "those on the other side are not found: {base:?}"
    );
    for count in [4, 7] {
        let mut left = base.clone();
        let mut wanted: Vec<(usize, f64)> = Vec::new();
        while wanted.len() < count {
            let worth = |(n, score): &(usize, f64)| {
                let nearest = wanted.iter().map(|(other, _)| cosine(*n, *other));
                score - 0.7 * nearest.fold(0.0, f64::max)
            };
            let best = (0..left.len())
                .max_by(|a, b| worth(&left[*a]).total_cmp(&worth(&left[*b])))
                .unwrap();
            let score = worth(&left[best]);
            wanted.push((left.remove(best).0, score));
        }
        let call = format!("NULL, '{query}', match_count => {count}, diversity => 0.7");
        let diverse = found(&mut ann, &call);
        assert_eq!(diverse.len(), count);
        for (hit, (n, score)) in diverse.iter().zip(&wanted) {
            assert_eq!(number(&hit.0), *n, "{diverse:?}\n{wanted:?}");
            assert!((hit.1 - score).abs() < 1e-6, "{hit:?} {score}");
        }
    }
}

#[test]
fn a_context_repeats_itself_less() {
    let db = Database::new();
    let mut ann = db.user("ann");
    for i in 0..8 {
        add(
            &mut ann,
            json!({"content": format!("Ann adopted a cat, says letter {i}"), "embedding": [1, 0.02 * f64::from(i), 0]}),
        );
    }
    add(
        &mut ann,
        json!({"content": "Ann did adopt a cat: Tom", "embedding": [0.5, 0, 1]}),
    );
    let mut ids = |diversity: &str| -> String {
        db.admin()
            .batch_execute(&format!(
                "UPDATE engram.settings SET context_diversity = {diversity}"
            ))
            .unwrap();
        let sql = "SELECT engram.context('which cat did Ann adopt', '[1,0,0]', max_tokens => 24) ->> 'text'";
        ann.query_one(sql, &[]).unwrap().get(0)
    };
    assert!(!ids("0").contains("Tom"));
    assert!(ids("1").contains("Tom"));
}
