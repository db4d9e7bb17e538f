//! A data set: a folder with memories, queries and their embeddings.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::npy::Matrix;
use crate::common::{Failure, Result};

/// A line of memories.jsonl.
#[derive(Deserialize)]
pub struct Memory {
    pub id: i64,
    pub user: String,
    pub content: String,
    pub occurred_at: Option<String>,
    pub session: Option<String>,
    pub speaker: Option<String>,
    #[serde(skip)]
    pub vector: Vec<f32>,
}

/// A line of queries.jsonl.
#[derive(Deserialize)]
pub struct Query {
    pub user: String,
    pub text: String,
    pub category: String,
    pub relevant: Vec<i64>,
    #[serde(skip)]
    pub vector: Vec<f32>,
}

pub struct DataSet {
    pub name: String,
    pub dims: usize,
    pub memories: Vec<Memory>,
    pub queries: Vec<Query>,
}

impl DataSet {
    /// Every data set below `directory`, by name.
    pub fn all(directory: &Path) -> Result<Vec<Self>> {
        let entries = std::fs::read_dir(directory).map_err(|e| {
            Failure::new(format!(
                "Cannot read {}: {e}. Name the directory with the data sets: ./task bench quality DIR, or ENGRAM_DATA=DIR.",
                directory.display()
            ))
        })?;
        let mut folders: Vec<PathBuf> = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.join("queries.jsonl").exists())
            .collect();
        folders.sort();
        if folders.is_empty() {
            return Err(Failure::new(format!(
                "No folder in {} has memories.jsonl and queries.jsonl.",
                directory.display()
            )));
        }
        folders.iter().map(|folder| Self::open(folder)).collect()
    }

    fn open(folder: &Path) -> Result<Self> {
        let mut memories: Vec<Memory> = lines(&folder.join("memories.jsonl"))?;
        let mut queries: Vec<Query> = lines(&folder.join("queries.jsonl"))?;
        let vectors = vectors(&folder.join("memories.f32.npy"), memories.len())?;
        let dims = vectors.first().map_or(0, Vec::len);
        for (memory, vector) in memories.iter_mut().zip(vectors) {
            memory.vector = vector;
        }
        let vectors = self::vectors(&folder.join("queries.f32.npy"), queries.len())?;
        for (query, vector) in queries.iter_mut().zip(vectors) {
            query.vector = vector;
        }
        // Cranfield has an abstract without a word, which nobody can store.
        memories.retain(|memory| !memory.content.trim().is_empty());
        // A question without an answer in the data measures nothing.
        queries.retain(|query| !query.relevant.is_empty());
        Ok(Self {
            name: folder
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            dims,
            memories,
            queries,
        })
    }

    /// Every user, in order of appearance.
    pub fn users(&self) -> Vec<&str> {
        let mut users: Vec<&str> = Vec::new();
        for memory in &self.memories {
            if !users.contains(&memory.user.as_str()) {
                users.push(&memory.user);
            }
        }
        users
    }
}

fn lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let name = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|e| Failure::new(format!("Cannot read {name}: {e}.")))?;
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(n, line)| {
            serde_json::from_str(line)
                .map_err(|e| Failure::new(format!("{name}, line {}: {e}.", n + 1)))
        })
        .collect()
}

fn vectors(path: &Path, rows: usize) -> Result<Vec<Vec<f32>>> {
    let name = path.display();
    let matrix = Matrix::open(path).map_err(|e| Failure::new(format!("{name} {e}.")))?;
    if matrix.rows != rows {
        return Err(Failure::new(format!(
            "{name} has {} rows for {rows} lines.",
            matrix.rows
        )));
    }
    (0..rows)
        .map(|n| {
            matrix
                .row(n)
                .map_err(|e| Failure::new(format!("Cannot read {name}: {e}.")))
        })
        .collect()
}
