//! Words of a query that nothing holds.

use postgres::Client;
use serde_json::Value;

use crate::cluster::Database;

fn add(client: &mut Client, contents: &[&str]) {
    for content in contents {
        client.execute("SELECT engram.add($1)", &[content]).unwrap();
    }
}

/// Contents and what matched, best first.
fn found(client: &mut Client, call: &str) -> Vec<(String, Vec<String>)> {
    let sql = format!("SELECT content, matched FROM engram.search({call})");
    let rows = client.query(&sql, &[]);
    let rows = rows.unwrap_or_else(|e| panic!("{call}: {e:?}"));
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

#[test]
fn slips_and_fragments_find_what_is_meant() {
    let db = Database::new();
    let mut ann = db.user("ann");
    add(
        &mut ann,
        &[
            "Tiramisu needs cold coffee",
            "The colleagues questioned the plan",
            "Call getUserName before the checkout",
            "Read https://docs.kubernetes.example.org/setup/guide first",
            "Set max_parallel_workers to 4",
            "Ticket PROJ-1234 is open",
            "We moved to a house by the sea",
            "Die Küchenmaschine ist kaputt",
        ],
    );
    for (query, content, matched) in [
        ("tiramsu", "Tiramisu", "tiramsu~tiramisu"),
        ("Tiarmisu", "Tiramisu", "tiarmisu~tiramisu"),
        ("collegues", "colleagues", "collegues~colleagues"),
        ("qeustion", "questioned", "qeustion~questioned"),
        // Parts of identifiers and addresses are words; parts of these are fragments.
        ("username", "getUserName", "username~getusername"),
        ("kubernete", "kubernetes", ""),
        ("kubern", "kubernetes", "kubern~kubernetes"),
        ("paralel", "max_parallel", "paralel~parallel"),
        ("guides", "setup/guide", ""),
        (
            "kuchenmascine",
            "Küchenmaschine",
            "kuchenmascine~kuchenmaschine",
        ),
    ] {
        let hits = found(&mut ann, &format!("'{query}'"));
        assert_eq!(hits.len(), 1, "{query}: {hits:?}");
        assert!(hits[0].0.contains(content), "{query}: {hits:?}");
        assert!(
            matched.is_empty() || hits[0].1 == [matched],
            "{query}: {hits:?}"
        );
    }
    // Other words, numbers and short ones are not meant; nor is what must or must not occur.
    for query in [
        "mouse",
        "1235",
        "1233",
        "sae",
        "zzzzzz",
        "\"tiramsu\"",
        "coffee -tiramsu",
    ] {
        let hits = found(&mut ann, &format!("'{query}'"));
        let wanted = usize::from(query.starts_with("coffee"));
        assert_eq!(hits.len(), wanted, "{query}: {hits:?}");
    }
    // A word that is there is not taken for another, and what is certain counts more.
    add(&mut ann, &["Tiramsu is how Bob spells it", "Cold tea"]);
    let hits = found(&mut ann, "'tiramsu'");
    assert_eq!(hits.len(), 1, "{hits:?}");
    assert_eq!(hits[0].1, ["tiramsu"]);
    let hits = found(&mut ann, "'tea from kubern'");
    assert_eq!(hits.len(), 2);
    assert!(hits[0].0.contains("tea"), "{hits:?}");
    let explain: Value = ann
        .query_one(
            "SELECT explain FROM engram.search('colleguaes', explain => true)",
            &[],
        )
        .unwrap()
        .get(0);
    let part = explain["lanes"]["words"]["parts"]["colleguaes~colleagues"].as_f64();
    assert!(part.is_some_and(|part| part > 0.0), "{explain}");
    db.admin()
        .batch_execute("UPDATE engram.settings SET fuzzy_weight = 0")
        .unwrap();
    assert!(found(&mut ann, "'colleguaes'").is_empty());
}

#[test]
fn nothing_hidden_forgotten_or_of_others_is_read() {
    let db = Database::new();
    let (mut ann, mut bob) = (db.user("ann"), db.user("bob"));
    add(
        &mut ann,
        &[
            "The password is albatross",
            "We saw a pelican",
            "A heron flew by",
        ],
    );
    add(&mut bob, &["Nothing here"]);
    assert!(found(&mut bob, "'albatros, albatrosss, pelicn'").is_empty());
    let count = |client: &mut Client, query: &str| found(client, &format!("'{query}'")).len();
    assert_eq!(count(&mut ann, "albatrosss"), 1);
    assert_eq!(count(&mut ann, "pelicn"), 1);
    ann.execute(
        "SELECT engram.forget(id) FROM engram.memories WHERE content LIKE '%pelican%'",
        &[],
    )
    .unwrap();
    assert_eq!(count(&mut ann, "pelicn"), 0);
    // The past has its own words.
    let then: String = ann
        .query_one("SELECT clock_timestamp()::text", &[])
        .unwrap()
        .get(0);
    ann.execute(
        "SELECT engram.update(id, 'A cormorant flew by') FROM engram.memories WHERE content LIKE '%heron%'",
        &[],
    )
    .unwrap();
    assert_eq!(count(&mut ann, "cormorat"), 1);
    assert!(found(&mut ann, &format!("'cormorat', as_of => '{then}'")).is_empty());
    assert_eq!(count(&mut ann, "herron"), 0);
    let past = found(&mut ann, &format!("'herron', as_of => '{then}'"));
    assert_eq!(past.len(), 1, "{past:?}");
    assert_eq!(past[0].1, ["herron~heron"]);
    // A policy of the user's own hides rows, and with them their words.
    db.admin()
        .batch_execute(
            "CREATE POLICY quiet ON engram.memories AS RESTRICTIVE FOR SELECT USING (content NOT LIKE '%password%')",
        )
        .unwrap();
    assert_eq!(count(&mut ann, "albatrosss"), 0);
    assert_eq!(count(&mut ann, "cormorat"), 1);
}

#[test]
fn a_store_without_the_newest_settings_has_them_off() {
    let db = Database::new();
    let mut ann = db.user("ann");
    ann.batch_execute(
        "SELECT engram.add('Tiramisu needs cold coffee', embedding => '[1,0,0]');
         SELECT engram.add('Tiramisu needs the cold coffee', embedding => '[1,0,0]')",
    )
    .unwrap();
    let mut counts = || ["'tiramisu'", "'tiramsu'"].map(|call| found(&mut ann, call).len());
    assert_eq!(counts(), [1, 1]);
    // As the library of this version finds a store of 0.3, until setup() has run.
    db.admin()
        .batch_execute(
            "ALTER TABLE engram.settings DROP COLUMN fuzzy_weight CASCADE, DROP COLUMN duplicate_similarity CASCADE",
        )
        .unwrap();
    assert_eq!(counts(), [2, 0]);
}
