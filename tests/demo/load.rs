//! Loading messages through `engram.add_many`, as the ordinary role.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use postgres::Client;
use postgres::types::Json;
use uuid::Uuid;

use super::input::{Message, Source};
use super::npy::Matrix;
use super::server::{ROLE, act_for, explain};
use super::{Failure, Result, show, vectors_beside};

/// Messages of one transaction.
const BATCH: usize = 200;
/// Where the output is no terminal, progress is told every so many messages.
const PROGRESS_EVERY: usize = 1000;
/// Errors that are told, and how many columns of each.
const ERRORS_SHOWN: usize = 5;
const REASON_WIDTH: usize = 200;
const VALUE_WIDTH: usize = 40;

/// Where the embeddings of the messages are.
pub enum Embeddings {
    /// Not wanted.
    Ignored,
    /// In the lines, if anywhere.
    InLines,
    /// In a matrix beside the file; one in a line goes before.
    Beside(Matrix),
}

impl Embeddings {
    /// Looks for a matrix beside `file`. It must fit: a row too many or too few would give every
    /// message its neighbour's vector.
    pub fn beside(file: &Path, messages: usize) -> Result<Self> {
        let path = vectors_beside(file);
        if !path.exists() {
            return Ok(Self::InLines);
        }
        let name = path.display();
        let advice = "Embed the messages again, or load them without: --no-embeddings";
        let matrix =
            Matrix::open(&path).map_err(|e| Failure::new(format!("{name} {e}. {advice}")))?;
        if matrix.rows != messages {
            return Err(Failure::new(format!(
                "{name} has {} rows, {} has {messages} messages. {advice}",
                matrix.rows,
                file.display()
            )));
        }
        Ok(Self::Beside(matrix))
    }
}

/// The model that embeddings are stored for and compared in.
#[derive(Clone, Debug)]
pub struct Model {
    pub name: String,
    pub dims: usize,
}

/// What loading came to.
#[derive(Default)]
pub struct Loaded {
    /// The user of the first message.
    pub first_user: String,
    /// Set when messages had embeddings.
    pub model: Option<Model>,
    added: usize,
    present: usize,
    /// Messages that were there and got the embedding that they had lacked.
    embedded: usize,
    users: usize,
    errors: Vec<(usize, String)>,
    moved: BTreeMap<(&'static str, String), usize>,
    note: Option<String>,
}

/// Loads one source.
pub struct Loader<'a> {
    admin: &'a mut Client,
    app: &'a mut Client,
    embeddings: Embeddings,
    loaded: Loaded,
}

impl<'a> Loader<'a> {
    pub fn new(admin: &'a mut Client, app: &'a mut Client, embeddings: Embeddings) -> Self {
        Self {
            admin,
            app,
            embeddings,
            loaded: Loaded::default(),
        }
    }

    /// Stores every message of `source` that is not there yet.
    pub fn load(
        mut self,
        source: &Source,
        out: &mut dyn Write,
        err: &mut dyn Write,
        live: bool,
    ) -> Result<Loaded> {
        writeln!(
            out,
            "Loading {} ({} messages) with engram.add_many() as role {ROLE}, which row security binds:",
            source.name, source.total
        )?;
        out.flush()?;
        let mut progress = Progress::new(source.total, err, live);
        // One transaction belongs to one user, so every user has a batch of its own.
        let mut batches: Vec<Vec<Message>> = Vec::new();
        let mut batch_of: HashMap<String, usize> = HashMap::new();
        for line in source.lines() {
            let message = match Message::parse(&line) {
                Ok(message) => self.complete(message, line.row)?,
                Err(reason) => {
                    self.loaded.errors.push((line.number, reason));
                    progress.advance(1)?;
                    continue;
                }
            };
            if batches.is_empty() {
                self.loaded.first_user.clone_from(&message.user);
            }
            let at = *batch_of.entry(message.user.clone()).or_insert_with(|| {
                batches.push(Vec::new());
                batches.len() - 1
            });
            batches[at].push(message);
            if batches[at].len() == BATCH {
                self.store(std::mem::take(&mut batches[at]), source)?;
                progress.advance(BATCH)?;
            }
        }
        self.loaded.users = batches.len();
        for batch in batches.into_iter().filter(|batch| !batch.is_empty()) {
            let messages = batch.len();
            self.store(batch, source)?;
            progress.advance(messages)?;
        }
        let seconds = progress.finish();
        self.report(source, seconds, out)?;
        Ok(self.loaded)
    }

    /// Settles the embedding of a message that lies in row `row` of the matrix.
    fn complete(&mut self, mut message: Message, row: usize) -> Result<Message> {
        match &self.embeddings {
            Embeddings::Ignored => message.embedding = None,
            Embeddings::Beside(matrix) if message.embedding.is_none() => {
                message.embedding = Some(matrix.row(row).map_err(|e| {
                    Failure::new(format!(
                        "Cannot read the embedding of line {}: {e}.",
                        message.line
                    ))
                })?);
            }
            Embeddings::InLines | Embeddings::Beside(_) => {}
        }
        for moved in &message.moved {
            *self.loaded.moved.entry(moved.clone()).or_default() += 1;
        }
        Ok(message)
    }

    /// Stores a batch of one user in one transaction.
    fn store(&mut self, mut batch: Vec<Message>, source: &Source) -> Result<()> {
        let items: Vec<_> = batch
            .iter_mut()
            .map(|message| {
                let mut item = std::mem::take(&mut message.item);
                if let Some(embedding) = &message.embedding {
                    item.insert("embedding".to_owned(), as_text(embedding).into());
                }
                item
            })
            .collect();
        if self.loaded.model.is_none()
            && let Some(first) = batch.iter().find_map(|m| m.embedding.as_ref())
        {
            self.choose_model(first.len(), source)?;
        }
        let mut transaction = self.app.transaction()?;
        act_for(&mut transaction, &batch[0].user)?;
        let rows = transaction
            .query(
                "SELECT position, id, status, error FROM engram.add_many($1)",
                &[&Json(items)],
            )
            .map_err(|error| {
                let last = batch.len() - 1;
                Failure::new(format!(
                    "Lines {} to {} were refused as a whole: {}",
                    batch[0].line,
                    batch[last].line,
                    explain(&error)
                ))
            })?;
        let mut present: Vec<(Uuid, &Message)> = Vec::new();
        for row in rows {
            let message = &batch[row.get::<_, i32>(0) as usize - 1];
            match row.get::<_, &str>(2) {
                "added" => self.loaded.added += 1,
                "error" => self.loaded.errors.push((message.line, row.get(3))),
                _ => {
                    self.loaded.present += 1;
                    present.push((row.get(1), message));
                }
            }
        }
        // A first run without embeddings must not keep a second one from bringing them.
        if let Some(model) = &self.loaded.model {
            let ids: Vec<Uuid> = present.iter().map(|(id, _)| *id).collect();
            let lacking: Vec<Uuid> = transaction
                .query(
                    "SELECT id FROM unnest($1::uuid[]) id WHERE NOT EXISTS (
                       SELECT FROM engram.embeddings e
                       WHERE e.workspace_id = engram.current_user_id() AND e.memory_id = id AND e.model = $2)",
                    &[&ids, &model.name],
                )?
                .iter()
                .map(|row| row.get(0))
                .collect();
            for (id, message) in present.iter().filter(|(id, _)| lacking.contains(id)) {
                let Some(embedding) = &message.embedding else {
                    continue;
                };
                let vector = pgvector::Vector::from(embedding.clone());
                let mut attempt = transaction.transaction()?;
                match attempt.execute("SELECT engram.set_embedding($1, $2)", &[id, &vector]) {
                    Ok(_) => {
                        attempt.commit()?;
                        self.loaded.embedded += 1;
                    }
                    Err(error) => self.loaded.errors.push((message.line, explain(&error))),
                }
            }
        }
        transaction.commit()?;
        Ok(())
    }

    /// Makes sure that the default model, which messages are stored for, has `dims` dimensions.
    fn choose_model(&mut self, dims: usize, source: &Source) -> Result<()> {
        let default = self.admin.query_opt(
            "SELECT name, dims FROM engram.embedding_models WHERE is_default",
            &[],
        )?;
        let default = default.map(|row| (row.get::<_, String>(0), row.get::<_, i32>(1)));
        let name = match default {
            Some((name, known)) if usize::try_from(known) == Ok(dims) => name,
            other => {
                let name = format!("{}-{dims}", source.stem);
                self.admin.execute(
                    "SELECT engram.set_embedding_model($1, $2, true)",
                    &[&name, &i32::try_from(dims).unwrap_or(i32::MAX)],
                )?;
                self.loaded.note = other.map(|(old, known)| {
                    format!(
                        "it is now the default instead of {old}, which has {known}; memories stored for {old} are found by their words"
                    )
                });
                name
            }
        };
        self.loaded.model = Some(Model { name, dims });
        Ok(())
    }

    fn report(&mut self, source: &Source, seconds: f64, out: &mut dyn Write) -> Result<()> {
        let loaded = &mut self.loaded;
        let mut parts = vec![
            format!("{} added", loaded.added),
            format!("{} already there", loaded.present),
            match loaded.errors.len() {
                1 => "1 error".to_owned(),
                n => format!("{n} errors"),
            },
        ];
        if loaded.embedded > 0 {
            parts.push(format!(
                "{} given the embedding that they lacked",
                loaded.embedded
            ));
        }
        if loaded.users > 1 {
            parts.push(format!("memories of {} users", loaded.users));
        }
        writeln!(out, "  {}, in {seconds:.1} s", parts.join(", "))?;
        if let Some(model) = &loaded.model {
            writeln!(
                out,
                "  embeddings of {} dimensions, model {}",
                model.dims, model.name
            )?;
        }
        if let Some(note) = &loaded.note {
            writeln!(out, "  {note}")?;
        }
        for ((key, value), n) in loaded.moved.iter().take(ERRORS_SHOWN) {
            let value = show::cut(value, VALUE_WIDTH);
            writeln!(
                out,
                "  messages with {key} \"{value}\", which engram does not know: {n} (kept in metadata)"
            )?;
        }
        loaded.errors.sort();
        for (line, reason) in loaded.errors.iter().take(ERRORS_SHOWN) {
            writeln!(
                out,
                "  line {line} skipped: {}",
                show::cut(reason, REASON_WIDTH)
            )?;
        }
        if loaded.errors.len() > ERRORS_SHOWN {
            writeln!(out, "  and {} more", loaded.errors.len() - ERRORS_SHOWN)?;
        }
        writeln!(out)?;
        if loaded.added + loaded.present == 0 {
            return Err(Failure::new(format!(
                "Nothing of {} could be stored. A line must be one JSON object with a text under content (or text, or message).",
                source.name
            )));
        }
        Ok(())
    }
}

/// A vector as pgvector writes it.
fn as_text(vector: &[f32]) -> String {
    let numbers: Vec<String> = vector.iter().map(f32::to_string).collect();
    format!("[{}]", numbers.join(","))
}

/// How far loading has come, on the error output so that the output stays clean.
struct Progress<'a> {
    err: &'a mut dyn Write,
    live: bool,
    total: usize,
    done: usize,
    told: usize,
    started: Instant,
}

impl<'a> Progress<'a> {
    fn new(total: usize, err: &'a mut dyn Write, live: bool) -> Self {
        Self {
            err,
            live,
            total,
            done: 0,
            told: 0,
            started: Instant::now(),
        }
    }

    fn advance(&mut self, messages: usize) -> Result<()> {
        self.done += messages;
        let due = self.live || self.done - self.told >= PROGRESS_EVERY || self.done == self.total;
        if !due {
            return Ok(());
        }
        self.told = self.done;
        let rate = self.done as f64 / self.started.elapsed().as_secs_f64();
        let start = if self.live { "\r" } else { "" };
        let end = if self.live { "    " } else { "\n" };
        write!(
            self.err,
            "{start}  {} of {} messages, {rate:.0} a second{end}",
            self.done, self.total
        )?;
        self.err.flush()?;
        Ok(())
    }

    /// Ends the line; gives back the seconds that it took.
    fn finish(self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        if self.live && self.told > 0 {
            let _ = writeln!(self.err);
        }
    }
}
