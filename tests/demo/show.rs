//! What a person gets to see.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use postgres::Client;
use serde_json::Value;

use super::Result;
use super::search::{Hit, Question};
use super::server::{ROLE, act_for};

/// Columns of a line where nobody tells.
const WIDTH: usize = 100;
/// Most columns for the words that matched, and for a speaker's name.
const MATCHED_WIDTH: usize = 20;
const SPEAKER_WIDTH: usize = 12;

/// The question and whose memory was asked.
pub fn question(question: &Question, took: Duration, out: &mut dyn Write) -> Result<()> {
    let how = if question.vector.is_some() {
        "by words and vector"
    } else {
        "by words"
    };
    writeln!(
        out,
        "{} asks: {}\n  ({how}, {:.1} ms)",
        question.user,
        plain(&question.text),
        took.as_secs_f64() * 1e3
    )?;
    Ok(())
}

/// The call behind the tables, for repeating it.
pub fn call(question: &Question, limit: i32, out: &mut dyn Write) -> Result<()> {
    let vector = question.vector.as_ref().map_or(String::new(), |vector| {
        format!(
            "\n                     query_embedding => '[{}, … {} numbers]',",
            vector[0],
            vector.len()
        )
    });
    writeln!(
        out,
        "
  BEGIN;
  SET LOCAL engram.user_id = {};
  SELECT score, matched, occurred_at, speaker, content
  FROM engram.search({},{vector} match_count => {limit});
  COMMIT;
",
        quoted(&question.user),
        quoted(&plain(&question.text)),
    )?;
    Ok(())
}

/// The table of one search. Columns that nobody filled are left out.
pub fn hits(hits: &[Hit], out: &mut dyn Write) -> Result<()> {
    if hits.is_empty() {
        writeln!(out, "  nothing matches")?;
        return Ok(());
    }
    let column = |title: &str, most: usize, cell: &dyn Fn(&Hit) -> String| {
        let cells: Vec<String> = hits.iter().map(cell).collect();
        let widest = cells.iter().map(|cell| width(cell)).max().unwrap_or(0);
        let columns = match widest {
            0 => return vec![String::new(); hits.len() + 1],
            _ => widest.clamp(width(title), most),
        };
        std::iter::once(title)
            .chain(cells.iter().map(String::as_str))
            .map(|cell| format!("  {}", fit(cell, columns)))
            .collect()
    };
    let matched = column("matched", MATCHED_WIDTH, &|hit| hit.matched.join(" "));
    let date = column("date", 10, &|hit| hit.date.clone().unwrap_or_default());
    let speaker = column("speaker", SPEAKER_WIDTH, &|hit| {
        hit.speaker.clone().unwrap_or_default()
    });
    let mut line = |n: usize, rank: &str, score: &str, content: &str| -> Result<()> {
        let start = format!(
            "  {rank:>2}  {score:>5}{}{}{}  ",
            matched[n], date[n], speaker[n]
        );
        let rest = terminal().saturating_sub(width(&start)).max(20);
        writeln!(out, "{start}{}", fit(content, rest).trim_end())?;
        Ok(())
    };
    line(0, "#", "score", "memory")?;
    for (at, hit) in hits.iter().enumerate() {
        let (rank, score) = ((at + 1).to_string(), format!("{:.2}", hit.score));
        line(at + 1, &rank, &score, without_speaker(hit))?;
    }
    Ok(())
}

/// Many chats begin every message with the name that stands in the column beside it.
fn without_speaker(hit: &Hit) -> &str {
    hit.speaker
        .as_deref()
        .and_then(|speaker| hit.content.strip_prefix(speaker)?.strip_prefix(": "))
        .unwrap_or(&hit.content)
}

/// How the score of the best hit came about.
pub fn explanation(explain: &Value, out: &mut dyn Write) -> Result<()> {
    let Some(lanes) = explain["lanes"].as_object() else {
        return Ok(());
    };
    writeln!(
        out,
        "
  Why the first is first (explain => true): points are brought to 0..1 and weighted
    lane     points  scaled  weight  share"
    )?;
    for (lane, part) in lanes {
        let number = |key: &str| part[key].as_f64().unwrap_or(0.0);
        // Points of the single words, most first.
        let mut words: Vec<(&String, f64)> = part["parts"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(word, points)| (word, points.as_f64().unwrap_or(0.0)))
            .collect();
        words.sort_by(|a, b| b.1.total_cmp(&a.1));
        let words: Vec<String> = words
            .iter()
            .map(|(word, points)| format!("{word} {points:.2}"))
            .collect();
        let line = format!(
            "    {lane:<7}  {:>6.2}  {:>6.2}  {:>6.2}  {:>5.2}  {}",
            number("score"),
            number("normalized"),
            number("weight"),
            number("contribution"),
            words.join(", ")
        );
        writeln!(out, "{}", plain(line.trim_end()))?;
    }
    for (name, contribution) in explain.as_object().into_iter().flatten() {
        if let Some(contribution) = contribution.as_f64().filter(|_| name != "score") {
            writeln!(out, "    {name:<11}{contribution:>27.2}")?;
        }
    }
    let score = explain["score"].as_f64().unwrap_or(0.0);
    writeln!(out, "    score    {score:>29.2}")?;
    Ok(())
}

/// `engram.stats()` of a user.
pub fn stats(app: &mut Client, user: &str, out: &mut dyn Write) -> Result<()> {
    writeln!(out, "SELECT * FROM engram.stats();  -- as {user}")?;
    let mut transaction = app.transaction()?;
    act_for(&mut transaction, user)?;
    let rows = transaction.query(
        "SELECT key, value FROM engram.stats() s, json_each_text(row_to_json(s))",
        &[],
    )?;
    transaction.commit()?;
    for row in rows {
        let value: Option<String> = row.get(1);
        writeln!(
            out,
            "  {:<18}  {}",
            row.get::<_, String>(0),
            value.unwrap_or_default()
        )?;
    }
    writeln!(out)?;
    Ok(())
}

/// Lines to paste.
pub fn next_steps(socket: &Path, database: &str, user: &str, out: &mut dyn Write) -> Result<()> {
    writeln!(
        out,
        "Go on yourself: ./task psql -U {ROLE}   (or: psql -h {} -U {ROLE} -d {database})

  SET engram.user_id = {};
  SELECT engram.add('My sister Jo lives in Leeds', occurred_at => now());
  SELECT score, content FROM engram.search('who lives in Leeds', match_count => 3);
  SELECT * FROM engram.whoami();",
        socket.display(),
        quoted(user)
    )?;
    Ok(())
}

/// A text as an SQL literal.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// One line that cannot play tricks on a terminal.
fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// Fills or cuts a text to exactly `columns`.
fn fit(text: &str, columns: usize) -> String {
    let mut out = cut(text, columns);
    out.push_str(&" ".repeat(columns - width(&out)));
    out
}

/// One line of at most `columns`.
pub fn cut(text: &str, columns: usize) -> String {
    let text = plain(text);
    if width(&text) <= columns {
        return text;
    }
    let mut out = String::new();
    let mut left = columns - 1;
    for c in text.chars() {
        match left.checked_sub(char_width(c)) {
            Some(rest) => left = rest,
            None => break,
        }
        out.push(c);
    }
    out.push('…');
    out
}

fn width(text: &str) -> usize {
    text.chars().map(char_width).sum()
}

/// Columns of a character: two for East Asian scripts and most emoji. Near enough for a table.
fn char_width(c: char) -> usize {
    match u32::from(c) {
        0x300..=0x36f | 0x200b..=0x200f | 0xfe00..=0xfe0f => 0,
        0x1100..=0x115f
        | 0x2e80..=0xa4cf
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60
        | 0x1f300..=0x1faff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

fn terminal() -> usize {
    std::env::var("COLUMNS")
        .ok()
        .and_then(|columns| columns.parse().ok())
        .filter(|columns| (40..=1000).contains(columns))
        .unwrap_or(WIDTH)
}
