//! The word lane: BM25 over the workspace's documents, plus the entities that the query names.

use std::collections::HashMap;

use pgrx::datum::DatumWithOid;
use pgrx::spi::SpiHeapTupleData;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::eligible::Eligible;
use super::{Context, Lane, take_eligible};
use crate::error::Result;
use crate::model::bm25::{self, Document, Scored};
use crate::query::{self, Query};
use crate::{spi, terms};

/// Most distinct lexemes of a query that count.
const MAX_LEXEMES: usize = 64;

/// A query after the text configuration has seen it.
pub struct Analysed {
    lexemes: Vec<String>,
    required: Vec<String>,
    excluded: Vec<String>,
}

/// Analyses the parts of a query. Stop words vanish here.
pub fn analyse(query: &Query) -> Result<Analysed> {
    if query == &Query::default() {
        return Ok(Analysed {
            lexemes: Vec::new(),
            required: Vec::new(),
            excluded: Vec::new(),
        });
    }
    let texts = |v: Option<Vec<Option<String>>>| -> Vec<String> {
        v.unwrap_or_default()
            .into_iter()
            .flatten()
            .filter(|s| !s.is_empty())
            .collect()
    };
    let analysed = spi::row(
        include_str!("sql/analyse.sql"),
        &[
            DatumWithOid::from(query.free.as_str()),
            DatumWithOid::from(query.required.clone()),
            DatumWithOid::from(query.excluded.clone()),
        ],
        |row| {
            let mut lexemes = texts(row.get(1)?);
            lexemes.truncate(MAX_LEXEMES);
            Ok(Analysed {
                lexemes,
                required: texts(row.get(2)?),
                excluded: texts(row.get(3)?),
            })
        },
    )?;
    Ok(analysed.expect("a SELECT without FROM gives one row"))
}

impl Analysed {
    /// What every result must satisfy, as the text of a tsquery; `None` when nothing.
    pub fn constraint(&self) -> Option<String> {
        let parts: Vec<String> = self
            .required
            .iter()
            .map(|phrase| format!("( {phrase} )"))
            .chain(self.excluded.iter().map(|phrase| format!("!( {phrase} )")))
            .collect();
        (!parts.is_empty()).then(|| parts.join(" & "))
    }
}

/// The lane, with all matches scored.
pub struct Words {
    lexemes: Vec<String>,
    scored: HashMap<Uuid, Scored>,
}

impl Words {
    /// Reads the postings of the query's lexemes and names and scores them.
    pub fn new(context: &Context, query: &Query, analysed: &Analysed) -> Result<Self> {
        let mut lane = Self {
            lexemes: analysed.lexemes.clone(),
            scored: HashMap::new(),
        };
        let names = query::names(&query.free);
        if lane.lexemes.is_empty() && names.is_empty() {
            return Ok(lane);
        }
        let workspace = [DatumWithOid::from(spi::pg_uuid(context.workspace))];
        let count = |row: &SpiHeapTupleData<'_>| Ok(row.get::<i64>(1)?);
        let n = if context.partly_hidden {
            spi::rows(include_str!("sql/visible_documents.sql"), &workspace, count)
        } else {
            context.as_owner(include_str!("sql/documents.sql"), &workspace, count)
        }?;
        let n = n.into_iter().flatten().next().map_or(0, i64::unsigned_abs);
        if !lane.lexemes.is_empty() {
            let mut documents = lane.postings(context)?;
            if context.partly_hidden {
                let ids: Vec<Uuid> = documents.iter().map(|d| d.id).collect();
                let visible = context.visible(&ids)?;
                documents.retain(|d| visible.contains(&d.id));
            }
            lane.scored = bm25::score(context.bm25, n, lane.lexemes.len(), &documents);
        }
        lane.add_entities(context, names, n)?;
        Ok(lane)
    }

    fn postings(&self, context: &Context) -> Result<Vec<Document<Uuid>>> {
        let workspace = context.workspace.as_bytes();
        let keys: Vec<i64> = self
            .lexemes
            .iter()
            .map(|lexeme| terms::key(workspace, lexeme.as_bytes()))
            .collect();
        let index: HashMap<&[u8], usize> = self
            .lexemes
            .iter()
            .enumerate()
            .map(|(i, lexeme)| (lexeme.as_bytes(), i))
            .collect();
        context.as_owner(
            include_str!("sql/postings.sql"),
            &[
                DatumWithOid::from(spi::pg_uuid(context.workspace)),
                DatumWithOid::from(keys),
            ],
            |row| {
                let sent = row.get::<Vec<u8>>(3)?.unwrap_or_default();
                Ok(Document {
                    id: spi::uuid(row.get::<pgrx::Uuid>(1)?.expect("NOT NULL")),
                    length: row.get::<i32>(2)?.unwrap_or(0).unsigned_abs(),
                    // Compares the lexemes themselves: keys may collide.
                    matches: terms::parse(&sent)
                        .filter_map(|t| index.get(t.lexeme).map(|i| (*i, t.count)))
                        .collect(),
                })
            },
        )
    }

    /// A memory that mentions an entity named in the query scores as if the name stood once more in
    /// a short text: it is about what others only speak of.
    fn add_entities(&mut self, context: &Context, names: Vec<String>, n: u64) -> Result<()> {
        if names.is_empty() {
            return Ok(());
        }
        let mut links = context.as_owner(
            include_str!("sql/entities.sql"),
            &[
                DatumWithOid::from(spi::pg_uuid(context.workspace)),
                DatumWithOid::from(names),
            ],
            |row| {
                Ok((
                    row.get::<String>(1)?.unwrap_or_default(),
                    spi::uuid(row.get::<pgrx::Uuid>(2)?.expect("NOT NULL")),
                ))
            },
        )?;
        if context.partly_hidden {
            let ids: Vec<Uuid> = links.iter().map(|(_, memory)| *memory).collect();
            let visible = context.visible(&ids)?;
            links.retain(|(_, memory)| visible.contains(memory));
        }
        let mut by_node: HashMap<String, Vec<Uuid>> = HashMap::new();
        for (node, memory) in links {
            by_node.entry(node).or_default().push(memory);
        }
        let mut by_node: Vec<_> = by_node.into_iter().collect();
        by_node.sort_unstable();
        for (node, memories) in by_node {
            let idf = bm25::idf(n, memories.len() as u64);
            let part = bm25::weight(context.bm25, idf, 1, 1);
            let at = self.lexemes.len();
            self.lexemes.push(node);
            for memory in memories {
                let scored = self.scored.entry(memory).or_insert_with(|| Scored {
                    score: 0.0,
                    parts: Vec::new(),
                });
                scored.score += part;
                scored.parts.push((at, part));
            }
        }
        Ok(())
    }
}

impl Lane for Words {
    fn name(&self) -> &'static str {
        "words"
    }

    fn candidates(&mut self, eligible: &Eligible<'_>, pool: usize) -> Result<Vec<Uuid>> {
        let mut ranked: Vec<(Uuid, f64)> =
            self.scored.iter().map(|(id, s)| (*id, s.score)).collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| b.0.cmp(&a.0)));
        take_eligible(eligible, &ranked, pool)
    }

    fn scores(&self, ids: &[Uuid]) -> Result<HashMap<Uuid, f64>> {
        Ok(ids
            .iter()
            .filter_map(|id| self.scored.get(id).map(|s| (*id, s.score)))
            .collect())
    }

    fn matched(&self, id: Uuid) -> Vec<String> {
        let mut words: Vec<String> = Vec::new();
        for (i, _) in self.scored.get(&id).map_or(&[][..], |s| &s.parts) {
            // A lexeme can be an entity's name as well.
            if !words.contains(&self.lexemes[*i]) {
                words.push(self.lexemes[*i].clone());
            }
        }
        words
    }

    fn parts(&self, id: Uuid) -> Value {
        let Some(scored) = self.scored.get(&id) else {
            return Value::Null;
        };
        let mut parts = Map::new();
        for (i, part) in &scored.parts {
            // A name can be a lexeme too: their parts add up.
            let sum = parts
                .get(&self.lexemes[*i])
                .and_then(Value::as_f64)
                .unwrap_or(0.0);
            parts.insert(self.lexemes[*i].clone(), Value::from(sum + part));
        }
        Value::Object(parts)
    }
}
