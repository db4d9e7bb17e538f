//! Search: what is found, in which order, and why.

use std::collections::HashMap;

use postgres::Client;
use serde_json::Value;
use uuid::Uuid;

use crate::cluster::{Database, failure};

/// Contents found, best first.
fn found(client: &mut Client, call: &str) -> Vec<String> {
    client
        .query(&format!("SELECT content FROM engram.search({call})"), &[])
        .unwrap_or_else(|e| panic!("{call}: {e:?}"))
        .iter()
        .map(|row| row.get(0))
        .collect()
}

fn add_all(client: &mut Client, contents: &[&str]) {
    for content in contents {
        client.execute("SELECT engram.add($1)", &[content]).unwrap();
    }
}

#[test]
fn words_are_found_without_their_accents_and_dates_by_their_parts() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let contents = [
        "She sent her résumé",
        "Her protégés won",
        "Her birthday is 14/03/1988",
        "Passport issued 07.05.2024 in Bern",
        "Dentist on 3/5/2019",
    ];
    add_all(&mut ann, &contents);
    for (query, found_at) in [
        ("resume", 0),
        ("résumé", 0),
        ("proteges", 1),
        ("1988", 2),
        ("14 March 1988", 2),
        ("2024-05-07", 3),
        ("2019", 4),
    ] {
        assert_eq!(
            found(&mut ann, &format!("'{query}'")),
            [contents[found_at]],
            "{query}"
        );
    }
    // Of a phrase of stop words alone nothing is asked.
    assert_eq!(found(&mut ann, r#"'won -"for the"'"#), [contents[1]]);
    assert_eq!(found(&mut ann, r#"'won "for the"'"#), [contents[1]]);
}

#[test]
fn words_are_found_beside_signs_beyond_ascii() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let contents = [
        "Ann loved the “Lisbon” trip—great food for €99",
        "•first of all «bonjour» and 🎉party",
        "O’Brien met us in 2019–2021",
    ];
    add_all(&mut ann, &contents[..2]);
    // The long way, too.
    ann.execute(
        "INSERT INTO engram.memories (content) VALUES ($1)",
        &[&contents[2]],
    )
    .unwrap();
    let check = |ann: &mut Client| {
        for (query, at) in [
            ("lisbon", 0),
            ("“trip”", 0),
            ("99", 0),
            ("\"great food\"", 0),
            ("\"Lisbon trip\"", 0),
            ("first", 1),
            ("Bonjour", 1),
            ("party", 1),
            ("—party", 1),
            ("brien", 2),
            ("2021", 2),
        ] {
            let call = format!("$q${query}$q$");
            assert_eq!(found(ann, &call), [contents[at]], "{query}");
        }
        assert_eq!(found(ann, "'food -\"Lisbon trip\"'"), [""; 0]);
    };
    check(&mut ann);
    db.admin().batch_execute("CALL engram.maintain()").unwrap();
    check(&mut ann);
    let workspace: Uuid = ann
        .query_one("SELECT engram.current_user_id()", &[])
        .unwrap()
        .get(0);
    db.admin()
        .execute("SELECT engram.reindex($1)", &[&workspace])
        .unwrap();
    check(&mut ann);
}

/// Adds half of the contents the long way.
fn add_both_ways(client: &mut Client, contents: &[&str]) {
    let (short, long) = contents.split_at(contents.len() / 2);
    add_all(client, short);
    for content in long {
        client
            .execute(
                "INSERT INTO engram.memories (content) VALUES ($1)",
                &[content],
            )
            .unwrap();
    }
}

#[test]
fn invisible_characters_make_no_other_words() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let mut admin = db.admin();
    // Only what the words themselves say.
    admin
        .batch_execute("UPDATE engram.settings SET fuzzy_weight = 0")
        .unwrap();
    let contents = [
        "\u{200f}שלום\u{200e} and so\u{ad}ft tea",
        "\u{feff}begins with two\u{200b}parts",
        "his houses\u{200e}, her garden\u{2060}",
        "\u{200f}مرحبا\u{200f} می\u{200c}خواهم",
    ];
    add_both_ways(&mut ann, &contents);
    for _ in 0..2 {
        for (query, at) in [
            ("שלום", 0),
            ("soft", 0),
            ("so\u{ad}ft", 0),
            ("\"soft tea\"", 0),
            ("begin", 1),
            ("parts", 1),
            ("house", 2),
            ("gardens", 2),
            ("مرحبا", 3),
            ("میخواهم", 3),
            ("می\u{200c}خواهم", 3),
        ] {
            let call = format!("$q${query}$q$");
            assert_eq!(found(&mut ann, &call), [contents[at]], "{query}");
        }
        let changed: i64 = admin
            .query_one("SELECT engram.reindex()", &[])
            .unwrap()
            .get(0);
        assert_eq!(changed, 0);
    }
}

#[test]
fn phrases_and_words_are_found_where_no_spaces_are() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let mut admin = db.admin();
    admin
        .batch_execute("UPDATE engram.settings SET fuzzy_weight = 0")
        .unwrap();
    let contents = [
        "昨日iPhoneを買いました",
        "今日は東京で寿司を食べました",
        "2024年に「getUserName」と京東",
        "寿司 and the towers of 東京",
        "ฉันชอบกินข้าวผัดกุ้ง",
    ];
    add_both_ways(&mut ann, &contents);
    for _ in 0..2 {
        for (query, wanted) in [
            ("iPhone", &[0][..]),
            ("2024", &[2]),
            ("user name", &[2]),
            ("getUserName", &[2]),
            ("\"寿司を食べ\"", &[1]),
            ("\"東京で寿司\"", &[1]),
            ("\"東京\"", &[1, 3]),
            ("\"東京寿司\"", &[]),
            ("\"寿司\" \"東京\"", &[1, 3]),
            ("\"東京 tower\"", &[3]),
            ("\"iPhoneを買\"", &[0]),
            ("\"ข้าวผัด\"", &[4]),
            ("\"ผัดข้าว\"", &[]),
            ("寿司 -食べまし", &[3]),
            ("寿司 -\"京で寿司\"", &[3]),
            ("寿司 -\"東京 tower\"", &[1]),
            ("寿司 -\"食べます\"", &[1, 3]),
        ] {
            let mut got = found(&mut ann, &format!("$q${query}$q$"));
            got.sort();
            let mut wanted: Vec<&str> = wanted.iter().map(|at| contents[*at]).collect();
            wanted.sort();
            assert_eq!(got, wanted, "{query}");
        }
        // As it was recorded, too.
        let past = "'\"寿司を食べ\"', as_of => clock_timestamp()";
        assert_eq!(found(&mut ann, past), [contents[1]]);
        let changed: i64 = admin
            .query_one("SELECT engram.reindex()", &[])
            .unwrap()
            .get(0);
        assert_eq!(changed, 0);
    }
}

#[test]
fn tokens_of_very_many_signs_are_read_in_parts() {
    let db = Database::new();
    let longest: i32 = db
        .admin()
        .query_one(
            "SELECT max(length(token)) FROM unnest(ARRAY['a_', '1a@', '/.', '~/', 'a_b_']) AS u (sign)
             CROSS JOIN string_to_table(engram_internal.parsed_text(repeat(sign, 40000)), ' ') AS t (token)",
            &[],
        )
        .unwrap()
        .get(0);
    assert!(longest < 100, "{longest}");
    // A comment that has no end is none.
    let other: i64 = db
        .admin()
        .query_one(
            "SELECT count(*) FROM unnest(ARRAY['x <!--foo bar', 'a <!-- b --> c <!--d <!-- e_f', '<!--<!--x', 'a<!--b-c@d.e']) AS t (text)
             WHERE to_tsvector('simple', text) <> to_tsvector('simple', engram_internal.parsed_text(text))",
            &[],
        )
        .unwrap()
        .get(0);
    assert_eq!(other, 0);
    let parts: i32 = db
        .admin()
        .query_one(
            "SELECT cardinality(string_to_array(engram_internal.parsed_text(repeat('<!--', 1000)), ' '))",
            &[],
        )
        .unwrap()
        .get(0);
    assert_eq!(parts, 1001);
    let mut ann = db.user("ann");
    let content = format!(
        "{} before {} behind",
        "x_".repeat(80_000),
        "1a@".repeat(10_000)
    );
    add_both_ways(&mut ann, &[&content, &format!("{content} me")]);
    assert_eq!(found(&mut ann, "'behind'").len(), 2);
    assert_eq!(found(&mut ann, "repeat('x_', 9000)").len(), 2);
    let changed: i64 = (db.admin())
        .query_one("SELECT engram.reindex()", &[])
        .unwrap()
        .get(0);
    assert_eq!(changed, 0);
}

#[test]
fn a_phrase_of_one_word_again_and_again_is_a_phrase() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let contents = [
        "we went step by step through it",
        "the next step is unclear",
        "he said yes yes",
    ];
    add_all(&mut ann, &contents);
    for (query, expected) in [
        ("\"step by step\"", &contents[..1]),
        ("step -\"step by step\"", &contents[1..2]),
        ("\"step step\"", &[]),
        ("\"yes yes\"", &contents[2..]),
        ("\"yes\"", &contents[2..]),
        ("step -\"unclear\"", &contents[..1]),
    ] {
        assert_eq!(found(&mut ann, &format!("'{query}'")), expected, "{query}");
    }
    // Sixty-four are taken out.
    let fillers: String = (0..63).fold(String::new(), |all, n| all + &format!(" -zz{n}"));
    assert_eq!(
        found(&mut ann, &format!("'step{fillers} -unclear'")),
        contents[..1]
    );
}

#[test]
fn stop_words_with_accents_ask_nothing() {
    let db = Database::new();
    let mut ann = db.user("ann");
    db.admin()
        .batch_execute(
            "UPDATE engram.settings SET text_config = 'pg_catalog.german'
             WHERE workspace_id = '00000000-0000-0000-0000-000000000000'",
        )
        .unwrap();
    add_all(
        &mut ann,
        &["Geschenk für Anna", "Ein Kännchen über dem Feuer"],
    );
    for (query, expected) in [
        ("für", &[][..]),
        ("Was können wir für Bob tun?", &[]),
        ("Geschenk für Bob", &["Geschenk für Anna"]),
        ("Kännchen", &["Ein Kännchen über dem Feuer"]),
        ("kannchen", &["Ein Kännchen über dem Feuer"]),
    ] {
        assert_eq!(found(&mut ann, &format!("'{query}'")), expected, "{query}");
    }
}

#[test]
fn what_corrects_a_result_comes_before_it_however_few_are_asked_for() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let old = "The Lisbon office opens at nine";
    let new = "That office closed for good";
    add_all(&mut ann, &[old, new]);
    for n in 0..12 {
        add_all(
            &mut ann,
            &[&format!("Lisbon office note {n} about the opens question")],
        );
    }
    ann.batch_execute(&format!(
        "SELECT engram.contradict((SELECT id FROM engram.memories WHERE content = '{new}'),
                                  (SELECT id FROM engram.memories WHERE content = '{old}'))"
    ))
    .unwrap();
    for count in [1, 2, 3, 50] {
        let hits = found(
            &mut ann,
            &format!("'when does Lisbon office opens at nine', match_count => {count}"),
        );
        assert_eq!(hits[0], new, "{count}: {hits:?}");
        assert!(
            hits.get(1).is_none_or(|hit| hit == old),
            "{count}: {hits:?}"
        );
    }
}

#[test]
fn any_word_matches_phrases_are_required_and_minus_excludes() {
    let db = Database::new();
    let mut ann = db.user("ann");
    add_all(
        &mut ann,
        &[
            "We drove the red car to New York",
            "The new car is parked in York",
            "Green tea for breakfast",
            "Coffee after lunch",
        ],
    );
    assert_eq!(
        found(&mut ann, "'where did we park the new car?'")[0],
        "The new car is parked in York"
    );
    assert_eq!(found(&mut ann, "'tea or coffee'").len(), 2);
    assert_eq!(
        found(&mut ann, r#"'"new york"'"#),
        ["We drove the red car to New York"]
    );
    assert_eq!(
        found(&mut ann, r#"'car -"new york"'"#),
        ["The new car is parked in York"]
    );
    assert_eq!(
        found(&mut ann, "'cars -parked'"),
        ["We drove the red car to New York"]
    );
    // The same constraints bind what the vector alone would bring.
    ann.execute(
        "SELECT engram.set_embedding(id, '[1,0,0]') FROM engram.memories",
        &[],
    )
    .unwrap();
    assert_eq!(
        found(&mut ann, "'car -parked', '[1,0,0]'").len(),
        3,
        "all but the parked one are near the vector"
    );
    assert_eq!(found(&mut ann, r#"'"new york"', '[1,0,0]'"#).len(), 1);
}

#[test]
fn a_question_with_flags_and_quotes_is_asked_as_it_is() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let answer = "To install a module run perl -MCPAN -e shell as root";
    add_all(&mut ann, &[answer, "Perl is a language"]);
    for question in [
        answer,
        "how do I install a module with perl -MCPAN as root?",
        r#""How do I install a module as root?""#,
    ] {
        assert_eq!(found(&mut ann, &format!("'{question}'"))[0], answer);
    }
    assert_eq!(found(&mut ann, "'perl -MCPAN'"), ["Perl is a language"]);
}

#[test]
fn of_facts_the_short_one_says_it_and_a_label_is_nobody() {
    let db = Database::new();
    let mut ann = db.user("ann");
    add_all(
        &mut ann,
        &[
            "Alice likes tea",
            "Alice told Bob that Carol prefers coffee but also drinks tea when travelling to Lisbon with Dave",
            "Diet: vegan",
            "The dog of the neighbour's cousin once tried vegan sausages at a barbecue in Lyon",
        ],
    );
    // The later one comes first where all else is equal.
    assert_eq!(found(&mut ann, "'Alice tea'")[0], "Alice likes tea");
    assert_eq!(found(&mut ann, "'vegan'")[0], "Diet: vegan");
    // What somebody says in a session is no better an answer for being short.
    for content in [
        "Thanks for the piano",
        "The piano of my aunt has been tuned by a man from Graz",
    ] {
        ann.execute(
            "SELECT engram.add($1, speaker => 'Bob', session_id => 's')",
            &[&content],
        )
        .unwrap();
    }
    assert_eq!(
        found(&mut ann, "'piano'")[0],
        "The piano of my aunt has been tuned by a man from Graz"
    );
}

#[test]
fn no_evidence_gives_no_rows() {
    let db = Database::new();
    let mut ann = db.user("ann");
    assert!(found(&mut ann, "'anything'").is_empty());
    assert!(found(&mut ann, "").is_empty());
    add_all(&mut ann, &["Green tea", "Black coffee"]);
    for nothing in [
        "'zebra'",
        "'what is it that was'",
        "''",
        "'   '",
        "'-tea'",
        "'\"zebra tea\"'",
        "'!!! ((( &|'",
        "NULL, '[1,0,0]'",
    ] {
        assert!(found(&mut ann, nothing).is_empty(), "{nothing}");
    }
    ann.execute(
        "SELECT engram.set_embedding(id, '[1,0,0]') FROM engram.memories",
        &[],
    )
    .unwrap();
    assert!(
        found(&mut ann, "NULL, '[-1,0,0]'").is_empty(),
        "opposite is no evidence"
    );
    assert_eq!(
        found(&mut ann, "").len(),
        2,
        "nothing asked: what is most needed"
    );
}

#[test]
fn without_a_question_what_is_used_comes_first() {
    let db = Database::new();
    let mut ann = db.user("ann");
    add_all(&mut ann, &["seldom", "often", "lately"]);
    // As the owner: ten days pass, one is used fifty times in nine of them, another a minute ago.
    db.admin()
        .batch_execute(
            "ALTER TABLE engram.memories DISABLE TRIGGER USER;
             UPDATE engram.memories SET created_at = now() - interval '10 days';
             UPDATE engram.memory_state SET last_accessed_at = now() - interval '10 days', heat = engram.heat_new(now() - interval '10 days');",
        )
        .unwrap();
    ann.batch_execute(
        "SELECT engram.touch(ARRAY[m.id], at => now() - i * interval '4 hours') FROM engram.memories m, generate_series(6, 55) i
           WHERE content = 'often';
         SELECT engram_internal.fold(engram.current_user_id(), 1000);
         SELECT engram.touch(ARRAY[m.id], at => now() - interval '1 minute') FROM engram.memories m WHERE content = 'lately'",
    )
    .unwrap();
    assert_eq!(found(&mut ann, "match_count => 2"), ["lately", "often"]);
    // A year later the minute no longer counts, the fifty times do.
    assert_eq!(
        found(&mut ann, "at => now() + interval '1 year'"),
        ["often", "lately", "seldom"]
    );
}

/// BM25 once more, in plain SQL over tsvectors, as a reference for the whole path: triggers, index,
/// parsing, statistics.
pub(crate) const REFERENCE: &str = "
WITH docs AS (
  SELECT m.id, to_tsvector('english', m.content) AS v FROM engram.memories m
  WHERE m.workspace_id = engram.current_user_id() AND m.deleted_at IS NULL
), lexemes AS (SELECT unnest(tsvector_to_array(to_tsvector('english', $1))) AS lexeme),
n AS (SELECT count(*)::float8 AS n FROM docs),
len AS (SELECT d.id, coalesce(sum(cardinality(u.positions)), 0)::float8 AS len FROM docs d LEFT JOIN LATERAL unnest(d.v) u ON true GROUP BY d.id),
mean AS (SELECT greatest(1, avg(len)) AS mean FROM len),
hits AS (SELECT d.id, u.lexeme, cardinality(u.positions)::float8 AS tf
         FROM docs d, unnest(d.v) u JOIN lexemes USING (lexeme)),
df AS (SELECT lexeme, count(*)::float8 AS df FROM hits GROUP BY lexeme)
SELECT h.id, sum(ln(1 + (n.n - df.df + 0.5) / (df.df + 0.5)) * h.tf / (h.tf + 1.2 * (0.25 + 0.75 * len.len / sqrt(30 * mean))))
FROM hits h JOIN df USING (lexeme) JOIN len ON len.id = h.id CROSS JOIN n CROSS JOIN mean GROUP BY h.id";

#[test]
fn word_scores_are_bm25_over_the_workspace() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let mut bob = db.user("bob");
    let words = [
        "tea",
        "green",
        "car",
        "york",
        "paint",
        "sunrise",
        "dogs",
        "running",
        "yesterday",
        "piano",
        "school",
        "meeting",
        "bread",
        "river",
        "night",
    ];
    // A fixed linear congruence: the same text every run.
    let mut state = 42u64;
    let mut next = |n: usize| {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 33) as usize % n
    };
    for i in 0..120 {
        let length = 1 + next(if i % 10 == 0 { 200 } else { 20 });
        let text: Vec<&str> = (0..length)
            .map(|_| words[next(words.len()).min(next(words.len()))])
            .collect();
        let client = if i % 3 == 0 { &mut bob } else { &mut ann };
        // Each text once: a search shows repetitions only once.
        client
            .execute(
                "SELECT engram.add($1, on_duplicate => 'allow')",
                &[&format!("{} unique{i}", text.join(" "))],
            )
            .unwrap();
    }
    // What other workspaces hold and what was deleted must not count.
    ann.execute(
        "SELECT engram.erase(filter => '{\"content\": {\"contains\": \"meeting meeting\"}}')",
        &[],
    )
    .unwrap();
    for query in [
        "tea",
        "green river piano",
        "who was running with dogs at night?",
    ] {
        let wanted: HashMap<Uuid, f64> = ann
            .query(REFERENCE, &[&query])
            .unwrap()
            .iter()
            .map(|row| (row.get(0), row.get(1)))
            .collect();
        let rows = ann
            .query(
                "SELECT id, (explain->'lanes'->'words'->>'bm25')::float8, score
                 FROM engram.search($1, match_count => 1000, explain => true)",
                &[&query],
            )
            .unwrap();
        assert_eq!(rows.len(), wanted.len(), "{query}");
        let mut last = f64::INFINITY;
        for row in rows {
            let (id, words, score): (Uuid, f64, f64) = (row.get(0), row.get(1), row.get(2));
            assert!(
                (words - wanted[&id]).abs() < 1e-9,
                "{query}: {words} {}",
                wanted[&id]
            );
            assert!(score <= last, "ranked");
            last = score;
        }
    }
}

#[test]
fn vectors_are_searched_exactly() {
    let db = Database::new();
    let mut admin = db.admin();
    let mut ann = db.user("ann");
    // An index of the user's own must not make the search approximate.
    admin
        .batch_execute(
            "CREATE INDEX users_own ON engram.embeddings USING hnsw ((embedding::extensions.vector(3)) extensions.vector_cosine_ops)",
        )
        .unwrap();
    ann.execute(
        "SELECT engram.add_many(jsonb_agg(jsonb_build_object('content', 'm' || i, 'embedding',
           jsonb_build_array(sin(i * 1.3), cos(i * 2.1), sin(i * 0.7 + 1))))) FROM generate_series(1, 400) i",
        &[],
    )
    .unwrap();
    for (model, operator) in [("cosine", "<=>"), ("l2", "<->"), ("inner_product", "<#>")] {
        admin
            .execute(
                "UPDATE engram.embedding_models SET distance = $1",
                &[&model],
            )
            .unwrap();
        let wanted: Vec<String> = ann
            .query(
                &format!(
                    "SELECT m.content FROM engram.embeddings e JOIN engram.memories m ON m.id = e.memory_id
                     ORDER BY e.embedding OPERATOR(extensions.{operator}) '[0.3,-0.5,0.8]' LIMIT 50"
                ),
                &[],
            )
            .unwrap()
            .iter()
            .map(|row| row.get(0))
            .collect();
        assert_eq!(
            found(&mut ann, "NULL, '[0.3,-0.5,0.8]', 50"),
            wanted,
            "{model}"
        );
    }
}

/// Numbers from -1 to 1, the same at every run.
fn numbers(n: usize, dims: usize, mut seed: u64) -> Vec<Vec<f32>> {
    let mut next = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    };
    (0..n)
        .map(|_| (0..dims).map(|_| next()).collect())
        .collect()
}

/// Stores a memory for each vector, with the number of it as content.
fn add_vectors(client: &mut Client, model: &str, vectors: &[Vec<f32>], from: usize) {
    let items: Vec<Value> = (vectors.iter().zip(from..))
        .map(|(v, i)| serde_json::json!({"content": format!("m{i}"), "embedding": v, "model": model}))
        .collect();
    for items in items.chunks(500) {
        client
            .execute(
                "SELECT engram.add_many($1)",
                &[&Value::Array(items.to_vec())],
            )
            .unwrap();
    }
}

/// Of the numbers of vectors those that are best by `score`, in order.
fn best_of(vectors: &[Vec<f32>], count: usize, score: impl Fn(&[f32]) -> f64) -> Vec<String> {
    let mut all: Vec<(f64, usize)> = vectors.iter().map(|v| score(v)).zip(0..).collect();
    all.sort_by(|a, b| b.0.total_cmp(&a.0));
    all.iter()
        .take(count)
        .map(|(_, i)| format!("m{i}"))
        .collect()
}

fn distance(a: &[f32], b: &[f32]) -> f64 {
    let squares = a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2));
    squares.sum::<f64>().sqrt()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        let products = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b));
        products.sum()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// The nearest by distance, wherever the vectors lie and however long their dimensions are, in blocks and in segments.
#[test]
fn the_nearest_vectors_are_found_far_from_the_origin() {
    type Shape = fn(usize, f32) -> f32;
    const DIMS: usize = 64;
    let db = Database::new();
    let (mut admin, mut ann) = (db.admin(), db.user("ann"));
    let shapes: [(&str, Shape); 4] = [
        ("around", |_, x| x),
        ("far", |_, x| x + 3.0),
        ("two", |d, x| {
            x + [30.0, -15.0].get(d).copied().unwrap_or(0.0)
        }),
        ("long", |d, x| if d == 0 { x * 100.0 } else { x }),
    ];
    let mut all = Vec::new();
    for (seed, (name, shape)) in (1..).zip(shapes) {
        let mut vectors = numbers(2_010, DIMS, seed);
        for v in &mut vectors {
            for (d, x) in v.iter_mut().enumerate() {
                *x = shape(d, *x);
            }
        }
        let queries = vectors.split_off(2_000);
        admin
            .execute(
                "SELECT engram.set_embedding_model($1, $2, distance => 'l2')",
                &[&name, &(DIMS as i32)],
            )
            .unwrap();
        all.push((name, vectors, queries));
    }
    // Only vectors are to count.
    let weights = "SELECT engram.configure('{\"context_weight\": 0, \"lend_weight\": 0, \"activation_weight\": 0, \"importance_weight\": 0, \"length_weight\": 0}')";
    ann.batch_execute(weights).unwrap();
    // A thousand and more are sealed.
    for (from, to) in [(0, 900), (900, 2_000)] {
        for (name, vectors, _) in &all {
            add_vectors(&mut ann, name, &vectors[from..to], from);
        }
        if from > 0 {
            admin.batch_execute("CALL engram.maintain()").unwrap();
        }
        let segments: i64 = admin
            .query_one(
                "SELECT count(DISTINCT model) FROM engram.search_blocks WHERE level = 4 AND model IN ('around', 'far', 'two', 'long')",
                &[],
            )
            .unwrap()
            .get(0);
        assert_eq!(segments, if from > 0 { 4 } else { 0 });
        for (name, vectors, queries) in &all {
            let mut held = 0;
            for query in queries {
                let call = format!("NULL, '{query:?}', model => '{name}'");
                let wanted = best_of(&vectors[..to], 10, |v| -distance(v, query));
                let found = found(&mut ann, &call);
                held += found.iter().filter(|m| wanted.contains(m)).count();
                // What is found is in the order of its distances.
                let far = |m: &String| distance(&vectors[m[1..].parse::<usize>().unwrap()], query);
                assert!(found.is_sorted_by(|a, b| far(a) <= far(b) + 1e-5), "{name}");
            }
            assert!(held >= 99, "{held} of 100, {name}, {to} vectors");
        }
    }
}

/// A vector counts if it does not point away from the query, or is as like it as `min_similarity` asks, and half of a
/// code does not decide that.
#[test]
fn vectors_that_hardly_count_are_compared_exactly() {
    let db = Database::new();
    let (mut admin, mut ann) = (db.admin(), db.user("ann"));
    admin
        .execute("SELECT engram.set_embedding_model('m', 19)", &[])
        .unwrap();
    let mut vectors = numbers(1_503, 19, 7);
    let queries = vectors.split_off(1_500);
    add_vectors(&mut ann, "m", &vectors, 0);
    admin.batch_execute("CALL engram.maintain()").unwrap();
    let near = |a: &[f32], b: &[f32]| 1.0 / (1.0 + distance(a, b));
    let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum();
    for (measure, least, similarity) in [
        ("cosine", None, &cosine as &dyn Fn(&[f32], &[f32]) -> f64),
        ("cosine", Some(0.2), &cosine),
        ("cosine", Some(-0.05), &cosine),
        ("inner_product", Some(1.5), &product),
        ("l2", Some(0.25), &near),
    ] {
        admin
            .execute(
                "UPDATE engram.embedding_models SET distance = $1",
                &[&measure],
            )
            .unwrap();
        let changes = serde_json::json!({ "min_similarity": least });
        ann.execute("SELECT engram.configure($1)", &[&changes])
            .unwrap();
        for query in &queries {
            let above = |m: &&String| {
                similarity(&vectors[m[1..].parse::<usize>().unwrap()], query) > least.unwrap_or(0.0)
            };
            let all = best_of(&vectors, 1_500, |v| similarity(v, query));
            let wanted: Vec<&String> = all.iter().take_while(above).collect();
            assert!((20..=1000).contains(&wanted.len()), "{measure} {least:?}");
            let found = found(&mut ann, &format!("NULL, '{query:?}', 1000, model => 'm'"));
            let lacking = wanted.iter().filter(|m| !found.contains(m)).count();
            assert_eq!(
                (lacking, found.len()),
                (0, wanted.len()),
                "{measure} {least:?}"
            );
        }
    }
}

/// What nobody has stored is not answered with what is merely nearest.
#[test]
fn a_workspace_says_how_much_evidence_a_result_needs() {
    let db = Database::new();
    let (mut ann, mut ben) = (db.user("ann"), db.user("ben"));
    for client in [&mut ann, &mut ben] {
        for (content, embedding) in [
            ("The name of the harbour is Lindau", "[1,0.2,0]"),
            ("Bees sleep in winter", "[0,1,0.2]"),
        ] {
            client
                .execute(
                    "SELECT engram.add($1, embedding => ($2::text)::extensions.vector)",
                    &[&content, &embedding],
                )
                .unwrap();
        }
    }
    let question = "'What was the name of my first dog?', '[0.3,0.3,1]'";
    assert_eq!(found(&mut ann, question).len(), 2);
    let strict = serde_json::json!({"min_similarity": 0.6, "min_coverage": 0.6});
    ann.execute("SELECT engram.configure($1)", &[&strict])
        .unwrap();
    assert!(found(&mut ann, question).is_empty());
    assert_eq!(found(&mut ben, question).len(), 2, "a workspace of its own");
    ann.execute(
        "SELECT engram.add('Rex was a terrier', entities => ARRAY['First Dog'])",
        &[],
    )
    .unwrap();
    assert_eq!(found(&mut ann, question), ["Rex was a terrier"], "a name");
    // Either is evidence enough.
    for question in ["'name of the harbour', '[0,0,1]'", "'zebra', '[1,0.3,0]'"] {
        assert_eq!(
            found(&mut ann, question),
            ["The name of the harbour is Lindau"],
            "{question}"
        );
    }
    for (setting, wrong) in [
        ("min_similarity", "-2"),
        ("min_coverage", "1.5"),
        ("min_similarity", "\"NaN\""),
    ] {
        let change: Value = format!("{{\"{setting}\": {wrong}}}").parse().unwrap();
        let refused = failure(ann.execute("SELECT engram.configure($1)", &[&change]));
        assert!(refused.message.contains(setting), "{refused:?}");
    }
}

/// Results above a score are those of the same search that have it, also where memories that are over stand among the
/// best.
#[test]
fn a_least_score_changes_no_scores() {
    let db = Database::new();
    let mut ann = db.user("ann");
    ann.batch_execute(
        "SELECT engram.add_many(jsonb_agg(jsonb_build_object('importance', 0.5, 'content',
           'zebra ' || (SELECT string_agg('w' || i * 1000 + j, ' ') FROM generate_series(1, i) j))))
         FROM generate_series(1, 300) i;
         SELECT engram.supersede(id, content => 'other words ' || n)
         FROM (SELECT id, row_number() OVER () AS n FROM engram.search('zebra', match_count => 10)) best",
    )
    .unwrap();
    let mut ranked = |more: &str| -> Vec<(Uuid, f64)> {
        ann.query(
            &format!("SELECT id, score FROM engram.search('zebra', match_count => 60{more})"),
            &[],
        )
        .unwrap()
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect()
    };
    let all = ranked("");
    assert_eq!(all.len(), 60);
    for nth in [0, 1, 5, 20, 40, 55, 59] {
        let least = all[nth].1;
        let above: Vec<(Uuid, f64)> = (all.iter().copied())
            .filter(|(_, score)| *score >= least)
            .collect();
        assert_eq!(ranked(&format!(", min_score => {least}")), above, "{nth}");
    }
    assert!(ranked(", min_score => 2").is_empty());
}

#[test]
fn filters_act_before_the_cut() {
    let db = Database::new();
    let mut ann = db.user("ann");
    // 600 better matches stand before the one that the filter wants.
    ann.execute(
        "SELECT engram.add_many(jsonb_agg(jsonb_build_object('content', 'tea tea tea ' || i, 'embedding', '[1,0,0]'::jsonb)))
         FROM generate_series(1, 600) i",
        &[],
    )
    .unwrap();
    ann.execute(
        "SELECT engram.add('some tea, and a long story about the weather, the garden and the neighbours', 'opinion',
           metadata => '{\"k\": 7}', tags => ARRAY['rare'], embedding => '[0.1,1,0]')",
        &[],
    )
    .unwrap();
    for condition in [
        "filter => '{\"type\": \"opinion\"}'",
        "types => ARRAY['opinion']",
        "filter => '{\"k\": {\"gte\": 7}}'",
        "filter => '{\"tags\": [\"rare\"]}'",
        "filter => '{\"NOT\": {\"type\": \"factual\"}}'",
        "filter => '{\"created_at\": {\"gt\": \"2020-01-01\"}, \"content\": {\"icontains\": \"STORY\"}}'",
    ] {
        for call in ["'tea'", "NULL, '[1,0,0]'", "'tea', '[1,0,0]'", "NULL"] {
            let contents = found(&mut ann, &format!("{call}, {condition}"));
            assert_eq!(contents.len(), 1, "{call}, {condition}");
            assert!(contents[0].contains("story"));
        }
    }
    assert!(found(&mut ann, "'tea', types => '{}'").is_empty());
    assert_eq!(found(&mut ann, "'tea', match_count => 1000").len(), 601);
}

#[test]
fn explain_accounts_for_every_unit_of_the_score() {
    let db = Database::new();
    let mut ann = db.user("ann");
    ann.batch_execute(
        "SELECT engram.add('green tea', embedding => '[1,0.2,0]', entities => ARRAY['Green']);
         SELECT engram.add('black tea in the morning', embedding => '[0.2,1,0]');
         SELECT engram.add('no drink at all', embedding => '[0.9,0.1,0.4]');
         SELECT engram.add('tea without a vector')",
    )
    .unwrap();
    let rows = ann
        .query("SELECT score, explain, matched, content FROM engram.search('green tea', '[1,0,0]', explain => true)", &[])
        .unwrap();
    assert_eq!(rows.len(), 4);
    for row in &rows {
        let (score, explain): (f64, Value) = (row.get(0), row.get(1));
        let lanes = explain["lanes"].as_object().unwrap();
        let from_lanes: f64 = lanes
            .values()
            .map(|l| l["contribution"].as_f64().unwrap())
            .sum();
        let others: f64 = explain
            .as_object()
            .unwrap()
            .iter()
            .filter(|(key, _)| !["lanes", "score"].contains(&key.as_str()))
            .map(|(_, part)| part.as_f64().unwrap())
            .sum();
        assert!(
            (from_lanes + others - score).abs() < 1e-12 && (-0.2..=1.6).contains(&score),
            "{explain}"
        );
        assert_eq!(explain["score"].as_f64().unwrap(), score);
        let weights: f64 = lanes.values().map(|l| l["weight"].as_f64().unwrap()).sum();
        assert!((weights - 1.0).abs() < 1e-12, "{explain}");
        if let Some(parts) = lanes["words"]["parts"].as_object() {
            let sum: f64 = parts.values().map(|p| p.as_f64().unwrap()).sum();
            assert!(
                (sum - lanes["words"]["bm25"].as_f64().unwrap()).abs() < 1e-12,
                "{explain}"
            );
        }
    }
    let best: Value = rows[0].get(1);
    for lane in ["words", "vector"] {
        assert_eq!(best["lanes"][lane]["normalized"], 1.0, "best in both lanes");
    }
    let mut matched: Vec<String> = rows[0].get(2);
    matched.sort();
    assert_eq!(matched, ["green", "tea"]);
    let off: Option<Value> = ann
        .query_one(
            "SELECT explain FROM engram.search('tea', match_count => 1)",
            &[],
        )
        .unwrap()
        .get(0);
    assert_eq!(off, None);
    // The weight is a setting, of the workspace too.
    db.admin()
        .batch_execute("INSERT INTO engram.settings (workspace_id, vector_weight) SELECT DISTINCT workspace_id, 1 FROM engram.memories")
        .unwrap();
    let explain: Value = ann
        .query_one(
            "SELECT explain FROM engram.search('green tea', '[1,0,0]', 1, explain => true)",
            &[],
        )
        .unwrap()
        .get(0);
    assert_eq!(explain["lanes"]["vector"]["weight"], 1.0);
    // min_score cuts by what is shown.
    let strong: Vec<String> = rows
        .iter()
        .filter(|row| row.get::<_, f64>(0) >= 0.5)
        .map(|row| row.get::<_, String>(3))
        .collect();
    assert!((1..4).contains(&strong.len()));
    db.admin()
        .batch_execute("DELETE FROM engram.settings WHERE vector_weight = 1")
        .unwrap();
    assert_eq!(
        found(&mut ann, "'green tea', '[1,0,0]', min_score => 0.5"),
        strong
    );
}

#[test]
fn what_is_over_is_left_out_unless_asked_for() {
    let db = Database::new();
    let mut ann = db.user("ann");
    add_all(&mut ann, &["tea now", "tea expired", "tea superseded"]);
    ann.batch_execute(
        "UPDATE engram.memories SET expires_at = now() - interval '1 hour' WHERE content = 'tea expired';
         UPDATE engram.memories SET superseded_by = (SELECT id FROM engram.memories WHERE content = 'tea now')
           WHERE content = 'tea superseded'",
    )
    .unwrap();
    assert_eq!(found(&mut ann, "'tea'"), ["tea now"]);
    assert_eq!(
        found(&mut ann, "'tea', include => ARRAY['expired']").len(),
        2
    );
    assert_eq!(
        found(&mut ann, "'tea', include => ARRAY['expired', 'superseded']").len(),
        3
    );
    assert_eq!(
        found(&mut ann, "'tea', at => now() - interval '2 hours'").len(),
        2,
        "not yet expired then"
    );
    assert_eq!(
        found(&mut ann, "'tea', at => now() + interval '1 year'"),
        ["tea now"]
    );
}

#[test]
fn a_memory_is_found_in_its_transaction_and_by_others_at_commit() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let mut other = db.user("ann");
    let mut long = db.user("ann");
    // A transaction that began before sees what is committed while it runs.
    long.batch_execute("BEGIN; SELECT 1").unwrap();
    ann.batch_execute(
        "BEGIN; SELECT engram.add('first tea'); SAVEPOINT s; SELECT engram.add('second tea')",
    )
    .unwrap();
    assert_eq!(found(&mut ann, "'tea'").len(), 2);
    assert!(found(&mut other, "'tea'").is_empty());
    ann.batch_execute("ROLLBACK TO s").unwrap();
    assert_eq!(found(&mut ann, "'tea'"), ["first tea"]);
    ann.batch_execute("COMMIT").unwrap();
    assert_eq!(found(&mut other, "'tea'"), ["first tea"]);
    assert_eq!(found(&mut long, "'tea'"), ["first tea"]);
    long.batch_execute("COMMIT").unwrap();
    ann.batch_execute("BEGIN; SELECT engram.add('third tea'); SELECT engram.forget(id) FROM engram.memories WHERE content = 'first tea'; ROLLBACK")
        .unwrap();
    assert_eq!(found(&mut ann, "'tea'"), ["first tea"]);
}

#[test]
fn searching_writes_nothing_and_runs_read_only() {
    let db = Database::new();
    let mut ann = db.user("ann");
    ann.execute("SELECT engram.add('tea', embedding => '[1,0,0]')", &[])
        .unwrap();
    ann.batch_execute("BEGIN READ ONLY").unwrap();
    for call in [
        "'tea'",
        "NULL, '[1,0,0]'",
        "'tea', '[1,0,0]', explain => true",
        "",
    ] {
        assert_eq!(found(&mut ann, call).len(), 1, "{call}");
    }
    let xid: Option<String> = ann
        .query_one("SELECT pg_current_xact_id_if_assigned()::text", &[])
        .unwrap()
        .get(0);
    assert_eq!(xid, None, "no transaction id was taken");
    ann.batch_execute("COMMIT").unwrap();
    let uses: i64 = ann
        .query_one("SELECT access_count FROM engram.memory_state", &[])
        .unwrap()
        .get(0);
    assert_eq!(uses, 1, "being found is no use");
    let e = failure(ann.batch_execute("BEGIN READ ONLY; SELECT engram.add('x')"));
    assert_eq!(e.code, "25006");
    ann.batch_execute("ROLLBACK").unwrap();
}

#[test]
fn policies_hold_in_parallel_workers() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let mut bob = db.user("bob");
    add_all(&mut ann, &["hers"]);
    add_all(&mut bob, &["his", "his too"]);
    let force = "SET debug_parallel_query = on; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0";
    for (client, n) in [(&mut ann, 1i64), (&mut bob, 2)] {
        client.batch_execute(force).unwrap();
        let plan: Vec<String> = client
            .query(
                "EXPLAIN (COSTS OFF) SELECT count(*) FROM engram.memories",
                &[],
            )
            .unwrap()
            .iter()
            .map(|row| row.get(0))
            .collect();
        assert!(plan.iter().any(|line| line.contains("Gather")), "{plan:?}");
        assert_eq!(
            client
                .query_one("SELECT count(*) FROM engram.memories", &[])
                .unwrap()
                .get::<_, i64>(0),
            n
        );
        assert_eq!(
            client
                .query("SELECT * FROM engram.list()", &[])
                .unwrap()
                .len() as i64,
            n
        );
    }
}

#[test]
fn a_search_can_be_cancelled() {
    let db = Database::new();
    let mut ann = db.user("ann");
    ann.execute(
        "SELECT engram.add_many(jsonb_agg(jsonb_build_object('content', 'tea ' || i))) FROM generate_series(1, 3000) i",
        &[],
    )
    .unwrap();
    // Far less than the search takes, so that the timeout falls into it.
    ann.batch_execute("SET statement_timeout = '1ms'").unwrap();
    let e = failure(ann.query(
        "SELECT * FROM engram.search('tea', match_count => 1000)",
        &[],
    ));
    assert_eq!(e.code, "57014");
    ann.batch_execute("SET statement_timeout = 0").unwrap();
    let user: String = ann
        .query_one("SELECT current_user::text", &[])
        .unwrap()
        .get(0);
    assert_eq!(user, "app");
    assert_eq!(found(&mut ann, "'tea'").len(), 10);
}

#[test]
fn the_first_words_of_a_long_query_count() {
    let db = Database::new();
    let mut ann = db.user("ann");
    add_all(&mut ann, &["xylophone lesson"]);
    let many = "(SELECT string_agg('a' || chr(97 + i % 26) || chr(97 + i / 26) || 'q', ' ') FROM generate_series(1, 70) i)";
    assert_eq!(found(&mut ann, &format!("'xylophone ' || {many}")).len(), 1);
}

#[test]
fn one_model_replaces_another_while_both_are_searched() {
    let db = Database::new();
    let (mut ann, mut admin) = (db.user("ann"), db.admin());
    for (content, vector) in [
        ("green tea", "[1,0,0]"),
        ("black coffee", "[0,1,0]"),
        ("a red car", "[0,0,1]"),
    ] {
        ann.execute(
            "SELECT engram.add($1, embedding => $2::text::extensions.vector)",
            &[&content, &vector],
        )
        .unwrap();
    }
    admin
        .batch_execute("SELECT engram.set_embedding_model('wide', 4, make_default => true)")
        .unwrap();
    let progress = |client: &mut Client| -> Vec<(String, i64, i64)> {
        client
            .query(
                "SELECT model, embedded, pending FROM engram.embedding_progress()",
                &[],
            )
            .unwrap()
            .iter()
            .map(|row| (row.get(0), row.get(1), row.get(2)))
            .collect()
    };
    assert_eq!(
        progress(&mut ann),
        [("wide".into(), 0, 3), ("tiny".into(), 3, 0)]
    );
    // Callers of the old model are served by its vectors, whose length tells them.
    assert_eq!(found(&mut ann, "NULL, '[0.1,1,0]'")[0], "black coffee");
    assert!(
        found(&mut ann, "NULL, '[0.1,1,0,0]'").is_empty(),
        "nothing is embedded yet"
    );
    assert_eq!(
        found(&mut ann, "'tea', '[0,1,0,0]'"),
        ["green tea"],
        "then words decide"
    );
    // Those who store by it, too; the new model's turn comes for what they stored.
    ann.batch_execute(
        r#"SELECT engram.add('an old umbrella', embedding => '[0.6,0.8,0]');
           SELECT * FROM engram.add_many('[{"content": "an old hat", "embedding": [0.8, 0.6, 0]}, {"content": "a new hat", "embedding": [0, 0, 0, 1]}]');
           SELECT engram.update(id, content => 'an older hat', embedding => '[0.9,0.1,0]') FROM engram.list('{"content": "an old hat"}')"#,
    )
    .unwrap();
    assert_eq!(found(&mut ann, "NULL, '[0.6,0.8,0]'")[0], "an old umbrella");
    assert_eq!(found(&mut ann, "NULL, '[0.9,0.1,0]'")[0], "an older hat");
    assert_eq!(found(&mut ann, "NULL, '[0,0,0,1]'"), ["a new hat"]);
    assert_eq!(
        progress(&mut ann),
        [("wide".into(), 1, 5), ("tiny".into(), 5, 1)]
    );
    ann.batch_execute(
        "SELECT engram.erase(array_agg(id)) FROM engram.memories WHERE content ~ 'umbrella|hat'",
    )
    .unwrap();
    let waiting = ann
        .query(
            "SELECT id, text, dims FROM engram.pending_embeddings(match_count => 2)",
            &[],
        )
        .unwrap();
    for row in &waiting {
        assert_eq!(row.get::<_, i32>(2), 4);
        let vector = if row.get::<_, String>(1) == "green tea" {
            "[1,0,0,0]"
        } else {
            "[0,1,0,0]"
        };
        ann.execute(
            "SELECT engram.set_embedding($1, $2::text::extensions.vector)",
            &[&row.get::<_, Uuid>(0), &vector],
        )
        .unwrap();
    }
    assert_eq!(
        progress(&mut ann),
        [("wide".into(), 2, 1), ("tiny".into(), 3, 0)]
    );
    // Half way, a memory without the new vector is still found by its words.
    assert_eq!(
        found(&mut ann, "'red car', '[0.5,0.5,0.5,0.5]'")[0],
        "a red car"
    );
    let other = failure(ann.query("SELECT * FROM engram.search(NULL, '[1,0]')", &[]));
    assert_eq!(other.code, "22000");
    let refused = failure(ann.query("SELECT engram.drop_embedding_model('tiny')", &[]));
    assert_eq!(refused.code, "42501");
    for (name, code) in [("wide", "55006"), ("none", "22023")] {
        let call = format!("SELECT engram.drop_embedding_model('{name}')");
        assert_eq!(failure(admin.query(&call, &[])).code, code, "{call}");
    }
    let dropped: i64 = admin
        .query_one("SELECT engram.drop_embedding_model('tiny')", &[])
        .unwrap()
        .get(0);
    assert_eq!(dropped, 3);
    let left: i64 = admin
        .query_one(
            "SELECT count(*) FROM engram.search_blocks WHERE model = 'tiny'",
            &[],
        )
        .unwrap()
        .get(0);
    assert_eq!(left, 0);
    assert_eq!(
        found(&mut ann, "'red car', '[1,0,0,0]'").len(),
        2,
        "one by vector, one by words"
    );
    assert_eq!(
        failure(ann.query("SELECT * FROM engram.search(NULL, '[1,0,0]')", &[])).code,
        "22000"
    );
}

#[test]
fn only_a_policy_of_the_users_own_makes_search_count_what_is_visible() {
    let db = Database::new();
    let mut ann = db.user("ann");
    ann.batch_execute(
        "SELECT engram.add('alpha beta', importance => 0.9), engram.add('alpha gamma', importance => 0.1, tags => '{secret}'),
                engram.add('delta epsilon', importance => 0.9)",
    )
    .unwrap();
    // How rare a word is shows in the score.
    let mut counts = || -> String {
        ann.query_one(
            "SELECT s.explain::text FROM engram.search('alpha', explain => true) s WHERE s.content = 'alpha beta'",
            &[],
        )
        .unwrap()
        .get(0)
    };
    let all = counts();
    let mut admin = db.admin();
    admin.batch_execute("CREATE POLICY secret ON engram.memories AS RESTRICTIVE FOR SELECT USING (NOT 'secret' = ANY (tags))").unwrap();
    let visible = counts();
    assert_ne!(visible, all, "with a policy");
    admin
        .batch_execute("DROP POLICY secret ON engram.memories")
        .unwrap();
    assert_eq!(counts(), all, "without it");
    admin.batch_execute("ALTER POLICY memories_select ON engram.memories USING (workspace_id = ANY ((SELECT engram.readable_workspaces())::uuid[]) AND importance > 0.5)").unwrap();
    assert_eq!(counts(), visible, "with ours changed");
}

#[test]
fn a_question_is_asked_as_it_was_written() {
    let db = Database::new();
    let mut ann = db.user("ann");
    add_all(
        &mut ann,
        &[
            "Melanie finished Nothing Is Impossible in June",
            "Run kubectl apply -f prod.yaml to deploy",
            "Released v1.2.3 for 1,250,000 users, as planned in 2019-2021",
            "Ben sails on Sundays",
        ],
    );
    for (question, answer) in [
        // The words of a title are there, but not as the phrase that was asked for.
        (
            r#"when did Melanie read "nothing that is impossible"?"#.to_owned(),
            "Melanie finished",
        ),
        ("how do I run kubectl apply -f?".to_owned(), "Run kubectl"),
        ("1.2.3".to_owned(), "Released"),
        ("1250000".to_owned(), "Released"),
        ("2021".to_owned(), "Released"),
        // A whole message, and what it asks at its end.
        (
            format!(
                "{}: when does Ben sail?",
                (0..200).map(|i| format!("filler{i} ")).collect::<String>()
            ),
            "Ben sails",
        ),
    ] {
        let hits: Vec<String> = ann
            .query("SELECT content FROM engram.search($1)", &[&question])
            .unwrap()
            .iter()
            .map(|row| row.get(0))
            .collect();
        assert!(
            hits.first().is_some_and(|hit| hit.starts_with(answer)),
            "{question}: {hits:?}"
        );
    }
}

#[test]
fn the_same_words_of_other_people_or_days_are_not_the_same() {
    let db = Database::new();
    let mut ann = db.user("ann");
    ann.batch_execute(
        "SELECT engram.add('Yes, please book it.', speaker => s, occurred_at => at::timestamptz, on_duplicate => 'allow')
         FROM (VALUES ('Ann', '2024-03-01'), ('Ben', '2024-03-01'), ('Ann', '2024-05-01'), ('Ann', '2024-05-01 08:00')) v (s, at)",
    )
    .unwrap();
    // Ann's two of one day are one.
    assert_eq!(found(&mut ann, "'book'").len(), 3);
}

/// Scores are relative to the candidates, which are as many for 10 rows as for 50.
#[test]
fn the_first_results_do_not_depend_on_how_many_are_asked_for() {
    let db = Database::new();
    let mut ann = db.user("ann");
    ann.execute(
        "SELECT engram.add_many(jsonb_agg(jsonb_build_object(
            'content', 'tea ' || i || repeat(' leaves', i % 7) || repeat(' of a green field', i * 13 % 11),
            'embedding', jsonb_build_array(sin(i * 1.3), cos(i * 2.1), sin(i * 0.7 + 1)))))
         FROM generate_series(1, 400) AS i",
        &[],
    )
    .unwrap();
    let mut first = |count: i32| -> Vec<(String, f64)> {
        let rows = ann
            .query(
                "SELECT content, score FROM engram.search('tea leaves of the field', '[1,0.5,0.2]'::extensions.vector,
                    match_count => $1) LIMIT 10",
                &[&count],
            )
            .unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    };
    let ten = first(10);
    assert_eq!(ten.len(), 10);
    for count in [20, 40, 50] {
        for (a, b) in ten.iter().zip(first(count)) {
            assert!(
                a.0 == b.0 && (a.1 - b.1).abs() < 1e-3,
                "{count}: {a:?} {b:?}"
            );
        }
    }
}

/// The scores of words by content, each the sum of its parts.
fn scores(client: &mut Client, query: &str) -> HashMap<String, f64> {
    let rows = client
        .query(
            "SELECT content, (explain->'lanes'->'words'->>'bm25')::float8,
                    (SELECT coalesce(sum(part::float8), 0) FROM jsonb_each_text(explain->'lanes'->'words'->'parts') AS p (word, part))
             FROM engram.search($1, match_count => 100, explain => true)",
            &[&query],
        )
        .unwrap();
    rows.iter()
        .map(|row| {
            let (score, parts): (f64, f64) = (row.get(1), row.get(2));
            assert!((score - parts).abs() < 1e-9, "{query}: {score} {parts}");
            (row.get(0), score)
        })
        .collect()
}

#[test]
fn a_name_is_one_word_of_a_question_where_somebody_has_it_as_one() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let mut contents: Vec<String> = (0..40).map(|i| format!("Note {i} on weather")).collect();
    let names = [
        "fetchUserRecord",
        "fetch_user_record",
        "fetch-user-record",
        "fetch.user.record",
        "fetch/user/record",
    ];
    contents.extend([
        "All of it: fetch the user, then the record".to_owned(),
        "The user was angry".to_owned(),
        "One more user".to_owned(),
        "A record of the weather".to_owned(),
        "An avalanche fell".to_owned(),
    ]);
    contents.extend(names.iter().map(|name| format!("Then {name} is called")));
    let contents: Vec<&str> = contents.iter().map(String::as_str).collect();
    add_all(&mut ann, &contents);
    for name in names {
        let of = scores(&mut ann, &format!("{name} avalanche"));
        let [itself, parts, one, other] = [
            &*format!("Then {name} is called"),
            "All of it: fetch the user, then the record",
            "The user was angry",
            "An avalanche fell",
        ]
        .map(|content| of.get(content).copied().unwrap_or(0.0));
        // The other word of the question is as rare as a name can be. Underscores part words whoever writes them.
        let as_one = name != "fetch_user_record";
        assert_eq!(itself <= other * 1.001, as_one, "{name}: {of:?}");
        assert_eq!(parts <= other, as_one, "{name}: {of:?}");
        assert!(0.0 < one && one < 0.6 * parts, "{name}: {of:?}");
        // Of an identifier a part is not half as much as of what is joined by other signs.
        let identifier = ["fetchUserRecord", "fetch_user_record"].contains(&name);
        assert_eq!(one < 0.2 * parts, identifier, "{name}: {of:?}");
        // Who asks for it finds it, if only beside others of the same parts.
        let of = scores(&mut ann, name);
        let most = of.values().fold(0f64, |most, score| most.max(*score));
        assert!(of[&format!("Then {name} is called")] > 0.8 * most, "{of:?}");
    }
    // A part that is asked for beside the name counts by itself.
    let angry = |of: HashMap<String, f64>| of["The user was angry"];
    let alone = angry(scores(&mut ann, "user"));
    let beside = angry(scores(&mut ann, "fetchUserRecord of user"));
    assert!((alone - beside).abs() < 1e-9, "{alone} {beside}");
}

/// Who asks why a function fails wants that function, not what shares the other words of the question.
#[test]
fn an_identifier_is_found_beside_other_words() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let mut contents: Vec<String> = (0..40).map(|i| format!("Note {i} on weather")).collect();
    contents.extend((0..4).map(|i| format!("row {i} has a key")));
    let function = "fn drop_row_key(&mut self, row: Row, key: Key) takes the key of a row out of the index and of all \
                    lists that it is in";
    contents.extend(["The parser fails", "CI fails, nobody compiles", function].map(str::to_owned));
    let contents: Vec<&str> = contents.iter().map(String::as_str).collect();
    add_all(&mut ann, &contents);
    let found: String = ann
        .query_one(
            "SELECT content FROM engram.search('drop_row_key fails to compile') LIMIT 1",
            &[],
        )
        .unwrap()
        .get(0);
    assert_eq!(found, function);
}

#[test]
fn what_is_written_in_two_ways_is_found_by_either() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let contents = [
        "He paid 1250.50",
        "Invoice of 1,250.50 euros",
        "Rechnung von 1.250,50 Euro",
        "Page 1 of 250, 50 more",
        "Haus in der Langen Straße",
        "Haus in der Hauptstrasse",
        "Die Strasse ist nass",
        "Flug nach Łódź",
        "The printer is at 192.168.1.20",
        "The server is at 192.168.12.20",
        "Update to v4.11.2",
        "Launch 🚀 today",
        "Nice work👍🏽🚀",
        "Call lookup(foo_bar_baz)",
        "The data base is slow",
        "foo, bar and baz",
        "Sunny ☀️ in Berlin 🇩🇪",
    ];
    add_all(&mut ann, &contents);
    for (query, wanted) in [
        ("1250.50", &[0, 1, 2][..]),
        ("1,250.50", &[0, 1, 2]),
        ("1.250,50", &[0, 1, 2]),
        ("1250,50", &[0, 1, 2, 3]),
        ("1,250", &[1]),
        ("Strasse", &[4, 6]),
        ("straße", &[4, 6]),
        ("Hauptstraße", &[5]),
        ("lodz", &[7]),
        ("192.168.1", &[8]),
        ("192.168", &[8, 9]),
        ("192.168.1.20", &[8]),
        ("4.11", &[10]),
        ("🚀", &[11, 12]),
        ("👍", &[12]),
        ("🎂", &[]),
        ("☀️", &[16]),
        ("❤️", &[]),
        ("🇩🇪", &[16]),
        ("🇩🇰", &[]),
        ("foobar", &[13]),
        ("database", &[14]),
        ("databars", &[]),
    ] {
        let mut all = found(&mut ann, &format!("'{query}', match_count => 50"));
        let mut wanted: Vec<&str> = wanted.iter().map(|i| contents[*i]).collect();
        all.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(all, wanted, "{query}");
    }
    let matched: Vec<Vec<String>> = ann
        .query(
            "SELECT matched FROM engram.search('foobar 👍') ORDER BY content",
            &[],
        )
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(matched, [["foobar~foo_bar"], ["👍"]]);
}

/// A number, an acronym or a part of a name is asked for as any word where it stands by itself too.
#[test]
fn what_is_asked_for_by_itself_counts_beside_a_token_that_holds_it() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let contents = [
        "The room 250 is free",
        "Invoice of 1,250 euros",
        "HTTP is a protocol",
        "Then parseHTTPResponse is called",
        "The café is closed",
    ];
    add_all(&mut ann, &contents);
    for query in ["'250 1,250'", "'1,250 (250)'", "'1,250 gate_250'"] {
        let mut all = found(&mut ann, query);
        all.sort_unstable();
        assert_eq!(all, [contents[1], contents[0]], "{query}");
    }
    for (word, beside, content) in [
        ("HTTP", "parseHTTPResponse HTTP", contents[2]),
        ("café", "café-room café", contents[4]),
    ] {
        let alone = scores(&mut ann, word)[content];
        let beside = scores(&mut ann, beside)[content];
        assert!((alone - beside).abs() < 1e-9, "{word}: {alone} {beside}");
    }
}

/// What holds all of a token holds all of it, however that is rounded, and one of its words is not all where nobody has
/// written the other.
#[test]
fn a_token_of_several_words_is_evidence_by_how_much_of_it_is_there() {
    let db = Database::new();
    let mut ann = db.user("ann");
    let contents = [
        "The user has a name",
        "A name of some user",
        "Only a name",
        "It cost 50",
        "It cost 1250",
        "tea",
        "coffee",
        "milk",
    ];
    add_all(&mut ann, &contents);
    ann.batch_execute("SELECT engram.configure('{\"min_coverage\": 1}')")
        .unwrap();
    let mut all = |query: &str| {
        let mut all = found(&mut ann, &format!("'{query}'"));
        all.sort_unstable();
        all
    };
    assert_eq!(all("userName"), [contents[1], contents[0]]);
    for query in [
        "name-zebra",
        "náme-zebra",
        "nameZebra",
        "name zebra",
        "tea 1250.50",
    ] {
        assert_eq!(all(query), Vec::<String>::new(), "{query}");
    }
}
