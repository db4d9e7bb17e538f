//! The demo program behind `./task run`, run inside this process: it is what a newcomer sees first.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use uuid::Uuid;

use crate::cluster::{Database, scratch, shared};

#[path = "../demo/main.rs"]
#[allow(dead_code)] // its main()
mod program;

const CONVERSATION: &str = include_str!("../demo/conversation.jsonl");

/// What a run printed, or the sentence that it ended with.
fn run(database: &str, args: &[&str]) -> Result<String, String> {
    let socket = shared().directory.display().to_string();
    let mut all = vec!["--socket", &socket, "--database", database];
    all.extend(args);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let args = all.into_iter().map(str::to_owned);
    match program::run(args, &mut out, &mut err, false) {
        Ok(()) => Ok(String::from_utf8(out).unwrap()),
        Err(program::Failure::Sentence(sentence)) => Err(sentence),
        Err(program::Failure::OutputClosed) => panic!("a Vec does not close"),
    }
}

/// A directory for input files.
struct Files(PathBuf);

impl Files {
    fn new() -> Self {
        Self(scratch("demo"))
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        let path = self.0.join(name);
        fs::write(&path, bytes).unwrap();
        path.display().to_string()
    }

    fn lines(&self, name: &str, lines: &[Value]) -> String {
        let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
        self.write(name, lines.join("\n"))
    }

    fn matrix(&self, name: &str, rows: &[&[f32]]) -> String {
        let header = format!(
            "{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {}), }}\n",
            rows.len(),
            rows[0].len()
        );
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend(u16::try_from(header.len()).unwrap().to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(
            rows.iter()
                .flat_map(|row| row.iter().flat_map(|x| x.to_le_bytes())),
        );
        self.write(name, bytes)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The part of the output that answers `question`.
fn answer<'a>(output: &'a str, question: &str) -> &'a str {
    let (_, after) = output
        .split_once(&format!("asks: {question}"))
        .unwrap_or_else(|| panic!("{question} was not asked:\n{output}"));
    after.split(" asks: ").next().unwrap()
}

/// The best hit that is shown in answer to `question`.
fn best<'a>(output: &'a str, question: &str) -> &'a str {
    answer(output, question)
        .lines()
        .find(|line| line.starts_with("   1  "))
        .unwrap_or_else(|| panic!("{question} has no answer:\n{output}"))
}

fn count(database: &Database, user: &str) -> i64 {
    database
        .user(user)
        .query_one("SELECT count(*) FROM engram.memories", &[])
        .unwrap()
        .get(0)
}

#[test]
fn the_conversation_is_loaded_once_and_answers() {
    // An empty database, as `./task run` makes it: the program installs everything.
    let name = format!("demo_{}", std::process::id());
    shared().create_database(&name);
    let database = Database { name };
    let messages = CONVERSATION.lines().count();

    let output = run(&database.name, &[]).unwrap();
    assert!(output.contains("CREATE EXTENSION"), "{output}");
    let loaded = format!("{messages} added, 0 already there, 0 errors");
    assert!(output.contains(&loaded), "{output}");
    assert_eq!(count(&database, "mara"), i64::try_from(messages).unwrap());
    assert_eq!(count(&database, "stranger"), 0);
    for (question, content) in [
        (
            "When do we fly to Lisbon?",
            "leaves one day of Lisbon. We'll f",
        ),
        ("What am I allergic to?", "cashews"),
        ("What does the cat eat", "Who feeds the cat"),
        ("Which book did Dad get", "The Worst Journey"),
        ("How is my knee", "Half marathon in 2:04:31"),
    ] {
        let best = best(&output, question);
        assert!(best.contains(content), "{question}: {best}");
    }
    let first = answer(&output, "When do we fly to Lisbon?");
    assert!(first.contains("moved Lisbon to the autumn"), "{first}");
    assert!(
        first.contains("SET LOCAL engram.user_id = 'mara';"),
        "{first}"
    );
    assert!(first.contains("Why the first is first"), "{first}");
    // What the README prints of it, but for the time that it took.
    let readme = include_str!("../../README.md");
    let (_, printed) = first.split_once("  BEGIN;").unwrap();
    let printed = printed.trim_end().trim_end_matches("mara").trim_end();
    assert!(readme.contains(printed), "README.md lacks:\n{printed}");
    assert!(
        output.contains("as stranger: 0, with no user set: 0"),
        "{output}"
    );

    let output = run(&database.name, &["--query", "Piranesi", "--limit", "1"]).unwrap();
    let loaded = format!("0 added, {messages} already there, 0 errors");
    assert!(output.contains(&loaded), "{output}");
    assert!(best(&output, "Piranesi").contains("piranesi"), "{output}");
    assert!(
        !answer(&output, "Piranesi").contains("\n   2  "),
        "{output}"
    );
    assert_eq!(count(&database, "mara"), i64::try_from(messages).unwrap());
}

#[test]
fn a_users_own_file_is_read_with_its_names_and_mistakes() {
    let database = Database::new();
    let files = Files::new();
    let id = "018f3a2e-0000-7000-8000-000000000001";
    let file = files.write(
        "chat.jsonl",
        [
            &br#"{"text":"Ada keeps bees","name":"Ada","timestamp":1683554160,"thread":7,"role":"human","mood":"calm"}"#[..],
            b"",
            b"not json",
            br#"{"speaker":"Ada"}"#,
            br#"{"content":"   "}"#,
            br#"{"content":"\u0000"}"#,
            b"{\"content\":\"caf\xe9\"}",
            br#"{"content":"when","date":"some day"}"#,
            br#"{"message":"Bo plays chess","user":"bo","id":"m-1","time":"2024-02-29T12:00:00Z"}"#,
            format!(r#"{{"content":"Ada sold the honey","id":"{id}","importance":0.9,"tags":["bees"],"entities":["Ada"]}}"#).as_bytes(),
            b"",
        ]
        .join(&b"\r\n"[..]),
    );

    let output = run(&database.name, &[&file]).unwrap();
    assert!(
        output.contains("3 added, 0 already there, 6 errors, memories of 2 users"),
        "{output}"
    );
    for reason in [
        "line 3 skipped: not valid JSON",
        "line 4 skipped: has no content",
        "line 5 skipped: content is empty",
        "line 6 skipped: has a NUL character",
        "line 7 skipped: not UTF-8",
        "and 1 more",
        r#"role "human", which engram does not know: 1"#,
    ] {
        assert!(output.contains(reason), "{reason}:\n{output}");
    }
    // Without a question the program makes one up and finds something.
    assert!(output.contains("\n   1   1."), "{output}");

    let mut demo = database.user("demo");
    let row = demo
        .query_one(
            "SELECT to_char(occurred_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS'), speaker, session_id, metadata
             FROM engram.memories WHERE content = 'Ada keeps bees'",
            &[],
        )
        .unwrap();
    assert_eq!(row.get::<_, &str>(0), "2023-05-08 13:56:00");
    assert_eq!(row.get::<_, &str>(1), "Ada");
    assert_eq!(row.get::<_, &str>(2), "7");
    assert_eq!(
        row.get::<_, Value>(3),
        json!({"role": "human", "mood": "calm"})
    );
    let row = demo
        .query_one(
            "SELECT id, tags, entities FROM engram.get($1)",
            &[&Uuid::parse_str(id).unwrap()],
        )
        .unwrap();
    assert_eq!(row.get::<_, Vec<String>>(1), ["bees"]);
    assert_eq!(row.get::<_, Vec<String>>(2), ["Ada"]);
    let metadata: Value = database
        .user("bo")
        .query_one("SELECT metadata FROM engram.memories", &[])
        .unwrap()
        .get(0);
    assert_eq!(metadata, json!({"id": "m-1"}));

    let output = run(&database.name, &[&file, "--user", "bo", "--query", "chess"]).unwrap();
    assert!(
        output.contains("0 added, 3 already there, 6 errors"),
        "{output}"
    );
    assert!(
        best(&output, "chess").contains("Bo plays chess"),
        "{output}"
    );
}

#[test]
fn embeddings_come_from_the_matrix_beside_the_file() {
    let database = Database::new();
    let files = Files::new();
    let file = files.lines(
        "notes.jsonl",
        &[
            json!({"user": "ann", "content": "one"}),
            json!({"user": "bo", "content": "two"}),
            json!({"user": "ann", "content": "three", "embedding": [0, 0, 1]}),
        ],
    );
    files.matrix(
        "notes.f32.npy",
        &[&[1.0, 0.0, 0.0], &[0.0, 1.0, 0.0], &[1.0, 0.0, 0.0]],
    );
    files.lines(
        "queries.jsonl",
        &[json!({"user": "ann", "text": "nowhere written"})],
    );
    files.matrix("queries.f32.npy", &[&[0.1, 0.0, 1.0]]);
    let vectors = |user: &str, model: &str| -> Vec<(String, String)> {
        database
            .user(user)
            .query(
                "SELECT m.content, e.embedding::text FROM engram.embeddings e
                 JOIN engram.memories m ON m.id = e.memory_id WHERE e.model = $1 ORDER BY m.content",
                &[&model],
            )
            .unwrap()
            .iter()
            .map(|row| (row.get(0), row.get(1)))
            .collect()
    };

    let output = run(&database.name, &[&file, "--no-embeddings"]).unwrap();
    assert!(output.contains("3 added"), "{output}");
    assert!(output.contains("nothing matches"), "{output}");
    assert!(vectors("ann", "tiny").is_empty());

    // The memories are there, their embeddings are not.
    let output = run(&database.name, &[&file]).unwrap();
    assert!(
        output.contains("0 added, 3 already there, 0 errors, 3 given the embedding"),
        "{output}"
    );
    assert!(output.contains("3 dimensions, model tiny"), "{output}");
    let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        let own = |(a, b): &(&str, &str)| ((*a).to_owned(), (*b).to_owned());
        pairs.iter().map(own).collect()
    };
    let expected = pairs(&[("one", "[1,0,0]"), ("three", "[0,0,1]")]);
    assert_eq!(vectors("ann", "tiny"), expected);
    assert_eq!(vectors("bo", "tiny"), pairs(&[("two", "[0,1,0]")]));
    // Only the vector of the question can have found this.
    assert!(
        best(&output, "nowhere written").ends_with("three"),
        "{output}"
    );

    // Vectors of another length get a model of their own, and new memories are stored for it.
    let file = files.lines("more.jsonl", &[json!({"user": "cy", "content": "four"})]);
    files.matrix("more.f32.npy", &[&[0.0, 0.5]]);
    let output = run(&database.name, &[&file]).unwrap();
    assert!(output.contains("1 added"), "{output}");
    assert!(
        output.contains("2 dimensions, model more-2") && output.contains("instead of tiny"),
        "{output}"
    );
    assert_eq!(vectors("cy", "more-2"), pairs(&[("four", "[0,0.5]")]));

    // A matrix that does not belong to the file is refused before anything is stored.
    let file = files.lines("other.jsonl", &[json!({"user": "dee", "content": "five"})]);
    files.matrix("other.f32.npy", &[&[1.0, 0.0], &[0.0, 1.0]]);
    let sentence = run(&database.name, &[&file]).unwrap_err();
    assert!(
        sentence.contains("has 2 rows") && sentence.contains("--no-embeddings"),
        "{sentence}"
    );
    files.write("other.f32.npy", b"\x93NUMPY\x01\x00");
    let sentence = run(&database.name, &[&file]).unwrap_err();
    assert!(sentence.contains("ends within its header"), "{sentence}");
    assert_eq!(count(&database, "dee"), 0);
}

#[test]
fn more_messages_than_one_batch_keep_their_lines() {
    let database = Database::new();
    let files = Files::new();
    // Two users in turn, more than one transaction each, one bad line far down.
    let mut lines: Vec<Value> = (0..500)
        .map(|n| json!({"user": (["ann", "bo"][n % 2]), "content": format!("note {n}"), "id": n}))
        .collect();
    lines[470]["importance"] = json!(7);
    let file = files.lines("long.jsonl", &lines);
    let output = run(&database.name, &[&file, "--query", "471"]).unwrap();
    assert!(
        output.contains("499 added, 0 already there, 1 error, memories of 2 users"),
        "{output}"
    );
    assert!(
        output.contains("line 471 skipped: importance 7 is outside 0 to 1"),
        "{output}"
    );
    assert_eq!(
        (count(&database, "ann"), count(&database, "bo")),
        (249, 250)
    );
}

#[test]
fn failures_are_sentences_that_say_what_to_do() {
    let files = Files::new();
    let array = files.write("array.jsonl", r#"[{"content": "x"}]"#);
    let text = files.write("text.jsonl", "Dear diary,\nnothing happened.\n");
    let empty = files.write("empty.jsonl", "\n\n");
    let missing = files.0.join("missing.jsonl").display().to_string();
    let directory = files.0.display().to_string();
    let database = Database::new();
    for (args, words) in [
        (vec![missing.as_str()], "There is no file"),
        (vec![&directory], "is a directory"),
        (vec![&array], "jq -c '.[]'"),
        (vec![&empty], "is empty"),
        (vec![&text], "must be one JSON object"),
        (vec![&text, &text], "One file at a time"),
        (vec!["--limit", "0"], "from 1 to 1000"),
        (vec!["--query"], "needs a value"),
        (vec!["--querry", "x"], "Unknown option --querry"),
    ] {
        let sentence = run(&database.name, &args).unwrap_err();
        assert!(sentence.contains(words), "{args:?}: {sentence}");
    }
    let sentence = run("no_such_database", &[]).unwrap_err();
    assert!(sentence.contains("createdb -h"), "{sentence}");
    let nowhere = Path::new(&directory).join("nowhere").display().to_string();
    let sentence = run(&database.name, &["--socket", &nowhere]).unwrap_err();
    assert!(sentence.contains("./task run"), "{sentence}");
}
