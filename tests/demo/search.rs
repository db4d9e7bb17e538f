//! Asking questions, as the ordinary role.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use postgres::Client;
use serde_json::Value;

use super::input::{Line, Source};
use super::load::Model;
use super::npy::Matrix;
use super::server::act_for;
use super::{Result, show, vectors_beside};

/// What the demo asks when nobody else asks anything.
pub const ABOUT_THE_CONVERSATION: [&str; 5] = [
    "When do we fly to Lisbon?",
    "What am I allergic to?",
    "What does the cat eat, and who has the spare key?",
    "Which book did Dad get for his birthday?",
    "How is my knee after the half marathon?",
];

/// Questions that are taken from queries.jsonl.
const FROM_FILE: usize = 3;
/// Words of a message that make a question of it.
const WORDS_OF_A_MESSAGE: usize = 6;

/// One search to make.
pub struct Question {
    pub text: String,
    /// Whose memory is asked.
    pub user: String,
    pub vector: Option<Vec<f32>>,
}

/// One row of its result.
pub struct Hit {
    pub score: f64,
    pub matched: Vec<String>,
    pub date: Option<String>,
    pub speaker: Option<String>,
    pub content: String,
    pub explain: Option<Value>,
}

/// Asks all questions and shows what comes back.
pub fn all(
    app: &mut Client,
    questions: &[Question],
    limit: i32,
    out: &mut dyn Write,
) -> Result<()> {
    let mut explained = false;
    for (n, question) in questions.iter().enumerate() {
        let (hits, took) = ask(app, question, limit)?;
        show::question(question, took, out)?;
        if n == 0 {
            show::call(question, limit, out)?;
        }
        show::hits(&hits, out)?;
        if !explained && let Some(explain) = hits.first().and_then(|hit| hit.explain.as_ref()) {
            show::explanation(explain, out)?;
            explained = true;
        }
        writeln!(out)?;
        out.flush()?;
    }
    Ok(())
}

/// Asks the first question as somebody else and as nobody.
pub fn as_others(app: &mut Client, questions: &[Question], out: &mut dyn Write) -> Result<()> {
    let Some(question) = questions.first() else {
        return Ok(());
    };
    let mut count = |user: &str| -> Result<usize> {
        let question = Question {
            text: question.text.clone(),
            user: user.to_owned(),
            vector: question.vector.clone(),
        };
        Ok(ask(app, &question, 1000)?.0.len())
    };
    let (mine, stranger, nobody) = (count(&question.user)?, count("stranger")?, count("")?);
    writeln!(
        out,
        "Row security: what the first question finds in all, as {}: {mine}, as stranger: {stranger}, with no user set: {nobody}\n",
        question.user
    )?;
    Ok(())
}

/// Searches the memory of one user; tells how long the server took to answer.
fn ask(app: &mut Client, question: &Question, limit: i32) -> Result<(Vec<Hit>, Duration)> {
    let mut transaction = app.transaction()?;
    act_for(&mut transaction, &question.user)?;
    let vector = question.vector.clone().map(pgvector::Vector::from);
    let statement = transaction.prepare(
        "SELECT score, matched, to_char(occurred_at, 'YYYY-MM-DD'), speaker, content, explain
         FROM engram.search($1, query_embedding => $2, match_count => $3, explain => true)",
    )?;
    let started = Instant::now();
    let rows = transaction.query(&statement, &[&question.text, &vector, &limit])?;
    let took = started.elapsed();
    transaction.commit()?;
    let hits = rows
        .iter()
        .map(|row| Hit {
            score: row.get(0),
            matched: row.get(1),
            date: row.get(2),
            speaker: row.get(3),
            content: row.get(4),
            explain: row.get(5),
        })
        .collect();
    Ok((hits, took))
}

/// The first questions of a file of objects with text and user, with their vectors from the matrix
/// beside it when the memories have vectors as long.
pub fn from_file(path: &Path, default_user: &str, model: Option<&Model>) -> Vec<Question> {
    let Ok(source) = Source::open(Some(path)) else {
        return Vec::new();
    };
    let beside = vectors_beside(path);
    let matrix = match model {
        Some(model) if beside.exists() => Matrix::open(&beside)
            .ok()
            .filter(|matrix| matrix.dims == model.dims && matrix.rows == source.total),
        _ => None,
    };
    let mut questions = Vec::new();
    for line in source.lines() {
        if let Some((text, user)) = parse(&line) {
            questions.push(Question {
                text,
                user: user.unwrap_or_else(|| default_user.to_owned()),
                vector: matrix.as_ref().and_then(|matrix| matrix.row(line.row).ok()),
            });
        }
        if questions.len() == FROM_FILE {
            break;
        }
    }
    questions
}

fn parse(line: &Line<'_>) -> Option<(String, Option<String>)> {
    let fields: Value = serde_json::from_slice(line.text).ok()?;
    let text = fields.get("text")?.as_str()?.to_owned();
    let user = fields
        .get("user")
        .and_then(Value::as_str)
        .map(str::to_owned);
    Some((text, user))
}

/// A question made of a memory in the middle of those that `user` has.
pub fn about_the_middle(app: &mut Client, user: &str) -> Result<Option<Question>> {
    let mut transaction = app.transaction()?;
    act_for(&mut transaction, user)?;
    let row = transaction.query_opt(
        "SELECT l.content FROM engram.stats() s, engram.list(match_count => 1, skip => (s.memories / 2)::integer) l",
        &[],
    )?;
    transaction.commit()?;
    Ok(row.map(|row| Question {
        text: longest_words(row.get(0)),
        user: user.to_owned(),
        vector: None,
    }))
}

/// The longest words of a text, in their order.
fn longest_words(content: &str) -> String {
    let words: Vec<&str> = content
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .collect();
    let mut lengths: Vec<usize> = words.iter().map(|word| word.chars().count()).collect();
    lengths.sort_unstable_by(|a, b| b.cmp(a));
    let least = lengths.get(WORDS_OF_A_MESSAGE - 1).copied().unwrap_or(0);
    let chosen: Vec<&str> = words
        .into_iter()
        .filter(|word| word.chars().count() >= least)
        .take(WORDS_OF_A_MESSAGE)
        .collect();
    chosen.join(" ")
}
