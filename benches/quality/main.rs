//! How well engram finds the memories that questions need, beside what people use without it, on
//! data sets with known answers. `./task bench quality [DIR]`

#[path = "../common/mod.rs"]
mod common;
#[path = "../../tests/demo/npy.rs"]
mod npy;

mod data;
mod metrics;
mod textbook;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;

use pgvector::Vector;
use postgres::types::{Json, ToSql};
use postgres::{Client, Statement};
use serde_json::json;
use uuid::Uuid;

use common::markdown::Table;
use common::server::{Server, act_for, install_engram, settle};
use common::{Failure, Result, baselines, in_repository, machine, publish, say};
use data::{DataSet, Memory, Query};
use metrics::{CUTS, Scores};
use textbook::{Ranking, Workspace};

const USAGE: &str = "\
usage: ./task bench quality [DIR] [--out FILE]

  DIR         folders with memories.jsonl, queries.jsonl, memories.f32.npy and queries.f32.npy
              ($ENGRAM_DATA, or ../shared/data)
  --out FILE  where the report goes (benches/results/quality.md)
";

const DATABASE: &str = "quality";
const RESULTS: i32 = 20;
const BATCH: usize = 500;
/// Questions that have no answer in the conversation: never part of overall numbers.
const APART: &str = "adversarial";

const SYSTEMS: [&str; 14] = [
    "engram, text and vector",
    "engram, text only",
    "engram, vector only",
    "ts_rank_cd, AND of the words",
    "ts_rank_cd, OR",
    "vector, exact cosine",
    "vector, HNSW defaults, an index per workspace",
    "vector, HNSW defaults, tenant filter",
    "textbook BM25",
    "published hybrid_search",
    "the same with an OR query",
    "the same repaired, HNSW iterative",
    "RRF of BM25 and cosine",
    "mean of min-max scores of BM25 and cosine",
];

fn run() -> Result<()> {
    let mut directory = std::env::var_os("ENGRAM_DATA")
        .map_or_else(|| in_repository("../shared/data"), PathBuf::from);
    let mut out = in_repository("benches/results/quality.md");
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "-h" | "--help" => {
                print!("{USAGE}");
                return Ok(());
            }
            "--out" => {
                out = args
                    .next()
                    .ok_or_else(|| Failure::new("--out needs a file."))?
                    .into()
            }
            option if option.starts_with('-') => {
                return Err(Failure::new(format!("Unknown option {option}.\n\n{USAGE}")));
            }
            _ => directory = arg.into(),
        }
    }
    let sets = DataSet::all(&directory)?;
    let server =
        Server::start(&["autovacuum=off", "jit=off", "synchronous_commit=off"].map(str::to_owned))?;
    let mut report = String::new();
    for set in &sets {
        say(format!(
            "{}: {} memories, {} questions",
            set.name,
            set.memories.len(),
            set.queries.len()
        ));
        let mut bench = Bench::load(&server, set)?;
        let results = bench.run(set)?;
        // Slips change a setting, and come last.
        let diversity = bench.diversity(set)?;
        let others = bench.slips(set)? + &diversity;
        drop(bench);
        if report.is_empty() {
            report = format!(
                "# Quality\n\n{}. {}. Evidence retrieval: what a question needs is known, and no language model \
                 takes part. Binary relevance, points of 100, {RESULTS} results; one workspace per conversation, \
                 stored and searched as an ordinary role under row security.\n\n",
                machine::describe(),
                server.versions(DATABASE)?
            );
        }
        report += &overall(set, &results);
        report += &by_category(set, &results);
        report += &others;
        server
            .admin("postgres")?
            .batch_execute(&format!("DROP DATABASE {DATABASE} WITH (FORCE)"))?;
    }
    publish(&report, &out)
}

/// A figure of a table.
type Measure = fn(&Scores) -> f64;

/// Category → scores of every system.
type Results = BTreeMap<String, [Scores; SYSTEMS.len()]>;

/// A loaded data set and the connections that search it.
struct Bench {
    /// File ids of the memories that engram stored.
    ids: HashMap<Uuid, i64>,
    /// The user id of each conversation, and what is needed to rank its memories here.
    workspaces: HashMap<String, (Uuid, Workspace)>,
    app: Client,
    admin: Client,
    /// Reads the vectors of `docs` through HNSW indexes only.
    approximate: Client,
    repaired: Client,
}

impl Bench {
    fn load(server: &Server, set: &DataSet) -> Result<Self> {
        server
            .admin("postgres")?
            .batch_execute(&format!("DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)"))?;
        server
            .admin("postgres")?
            .batch_execute(&format!("CREATE DATABASE {DATABASE}"))?;
        let mut admin = server.admin(DATABASE)?;
        install_engram(&mut admin, set.dims)?;
        baselines::create(&mut admin, set.dims)?;
        let mut app = server.app(DATABASE)?;
        let mut ids = HashMap::new();
        let mut workspaces = HashMap::new();
        for user in set.users() {
            let id = Uuid::new_v5(
                &Uuid::NAMESPACE_OID,
                format!("{}/{user}", set.name).as_bytes(),
            );
            act_for(&mut app, &id.to_string())?;
            let memories: Vec<&Memory> = set.memories.iter().filter(|m| m.user == user).collect();
            for batch in memories.chunks(BATCH) {
                store(&mut app, batch, id, &mut ids)?;
            }
            let vectors = memories.iter().map(|m| (m.id, m.vector.clone())).collect();
            workspaces.insert(
                user.to_owned(),
                (id, Workspace::load(&mut admin, &id.to_string(), vectors)?),
            );
        }
        baselines::index(&mut admin, set.memories.len(), set.dims)?;
        for (n, (user, _)) in workspaces.values().enumerate() {
            admin.batch_execute(&format!(
                "CREATE INDEX docs_{n}_idx ON docs USING hnsw (embedding vector_cosine_ops) WHERE user_id = '{user}'"
            ))?;
        }
        settle(&mut admin)?;
        admin.batch_execute(baselines::EXACT)?;
        let mut approximate = server.admin(DATABASE)?;
        approximate.batch_execute("SET enable_sort = off")?;
        let mut repaired = server.app(DATABASE)?;
        repaired.batch_execute(baselines::ITERATIVE)?;
        Ok(Self {
            ids,
            workspaces,
            app,
            admin,
            approximate,
            repaired,
        })
    }

    fn run(&mut self, set: &DataSet) -> Result<Results> {
        let mut results = Results::new();
        let engram = "SELECT id FROM engram.search($1, query_embedding => $2, match_count => $3)";
        let engram = self.app.prepare(engram)?;
        let published = "SELECT id FROM hybrid_search($1, $2, $3)";
        let published = self.app.prepare(published)?;
        let repaired = self
            .repaired
            .prepare("SELECT id FROM repaired($1, $2, $3)")?;
        let lexemes = self
            .admin
            .prepare("SELECT tsvector_to_array(to_tsvector('english', $1))")?;
        let ranked = "SELECT id FROM docs, websearch_to_tsquery('english', $1) q
            WHERE user_id = $2 AND fts @@ q ORDER BY ts_rank_cd(fts, q) DESC, id LIMIT $3";
        let ranked = self.admin.prepare(ranked)?;
        let exact = "SELECT id FROM docs WHERE user_id = $2 ORDER BY embedding <=> $1 LIMIT $3";
        let exact = self.admin.prepare(exact)?;
        // The index by inner product is the shared one; vectors of unit length order alike.
        let shared = "SELECT id FROM docs WHERE user_id = $2 ORDER BY embedding <#> $1 LIMIT $3";
        let shared = self.approximate.prepare(shared)?;
        let mut own: HashMap<String, Statement> = HashMap::new();
        for (name, (user, _)) in &self.workspaces {
            // A partial index serves only who names its tenant as a constant.
            let sql = format!(
                "SELECT id FROM docs WHERE user_id = '{user}' ORDER BY embedding <=> $1 LIMIT $2"
            );
            own.insert(name.clone(), self.approximate.prepare(&sql)?);
        }
        for query in &set.queries {
            let Some((user, workspace)) = self.workspaces.get(&query.user) else {
                return Err(Failure::new(format!(
                    "{}: nobody stored memories for {}.",
                    set.name, query.user
                )));
            };
            let vector = Vector::from(query.vector.clone());
            let (no_text, no_vector) = (None::<&str>, None::<Vector>);
            let either = any_word(&query.text);
            let numbers =
                |rows: Vec<postgres::Row>| -> Vec<i64> { rows.iter().map(|r| r.get(0)).collect() };
            for client in [&mut self.app, &mut self.repaired] {
                act_for(client, &user.to_string())?;
            }
            let words: Vec<String> = self.admin.query_one(&lexemes, &[&query.text])?.get(0);
            let bm25 = workspace.bm25(&words.into_iter().collect::<BTreeSet<_>>());
            let cosine = workspace.cosine(&query.vector);
            let mut memories =
                |text: &(dyn ToSql + Sync), vector: &(dyn ToSql + Sync)| -> Result<Vec<i64>> {
                    let rows = self.app.query(&engram, &[text, vector, &RESULTS])?;
                    Ok(rows
                        .iter()
                        .map(|row| self.ids[&row.get::<_, Uuid>(0)])
                        .collect())
                };
            let limit = i64::from(RESULTS);
            let mut rankings = vec![
                memories(&query.text, &vector)?,
                memories(&query.text, &no_vector)?,
                memories(&no_text, &vector)?,
                numbers(self.admin.query(&ranked, &[&query.text, user, &limit])?),
                numbers(self.admin.query(&ranked, &[&either, user, &limit])?),
                numbers(self.admin.query(&exact, &[&vector, user, &limit])?),
                numbers(
                    self.approximate
                        .query(&own[&query.user], &[&vector, &limit])?,
                ),
                numbers(self.approximate.query(&shared, &[&vector, user, &limit])?),
                best(&bm25),
            ];
            rankings.push(numbers(
                self.app
                    .query(&published, &[&query.text, &vector, &RESULTS])?,
            ));
            rankings.push(numbers(
                self.app.query(&published, &[&either, &vector, &RESULTS])?,
            ));
            rankings.push(numbers(
                self.repaired
                    .query(&repaired, &[&either, &vector, &RESULTS])?,
            ));
            rankings.push(best(&textbook::reciprocal_ranks(&[&bm25, &cosine])));
            rankings.push(best(&textbook::mean_of_scores(&[&bm25, &cosine])));
            let scores = results.entry(query.category.clone()).or_default();
            for (scores, ranking) in scores.iter_mut().zip(&rankings) {
                scores.add(ranking, &query.relevant);
            }
        }
        Ok(results)
    }
}

impl Bench {
    /// What `sql` finds for every counted question, whose parameters `args` gives, by the file's ids.
    fn each(
        &mut self,
        set: &DataSet,
        sql: &str,
        args: impl Fn(&Query) -> (Option<String>, Option<Vector>),
    ) -> Result<Vec<Vec<i64>>> {
        let statement = self.app.prepare(sql)?;
        let mut rankings = Vec::new();
        for query in counted(set) {
            let Some((user, _)) = self.workspaces.get(&query.user) else {
                continue;
            };
            act_for(&mut self.app, &user.to_string())?;
            let (text, vector) = args(query);
            let rows = self.app.query(&statement, &[&text, &vector, &RESULTS])?;
            rankings.push(
                rows.iter()
                    .map(|row| self.ids[&row.get::<_, Uuid>(0)])
                    .collect(),
            );
        }
        Ok(rankings)
    }

    /// Questions in which a word is misspelt, by their words alone.
    fn slips(&mut self, set: &DataSet) -> Result<String> {
        let sql = "SELECT id FROM engram.search($1, query_embedding => $2, match_count => $3)";
        let mut table = table_of_scores("question, fuzzy_weight", &[]);
        let mut slipped = 0;
        let default: f64 = self
            .admin
            .query_one("SELECT max(fuzzy_weight) FROM engram.settings", &[])?
            .get(0);
        for of in [default, 0.0] {
            self.admin
                .execute("UPDATE engram.settings SET fuzzy_weight = $1", &[&of])?;
            let as_written = self.each(set, sql, |query| (Some(query.text.clone()), None))?;
            table.row(&scores(&format!("as written, {of}"), set, &as_written));
            let misspelt = self.each(set, sql, |query| (Some(slip(&query.text)), None))?;
            table.row(&scores(&format!("a slip, {of}"), set, &misspelt));
        }
        for query in counted(set) {
            slipped += usize::from(slip(&query.text) != query.text);
        }
        Ok(table.under(&format!(
            "{}: a slip in the longest word, text only",
            set.name
        )) + &format!(
            "Two neighbouring letters in the middle of the longest word change places, in {slipped} of {} questions.\n\n",
            counted(set).count()
        ))
    }

    /// Results that repeat each other less.
    fn diversity(&mut self, set: &DataSet) -> Result<String> {
        let vectors: HashMap<i64, &[f32]> = set
            .memories
            .iter()
            .map(|m| (m.id, m.vector.as_slice()))
            .collect();
        let mut table = table_of_scores("diversity", &["likeness"]);
        for diversity in [0.0, 0.1, 0.3] {
            let sql = format!(
                "SELECT id FROM engram.search($1, query_embedding => $2, match_count => $3, diversity => {diversity})"
            );
            let rankings = self.each(set, &sql, |query| {
                (Some(query.text.clone()), Some(query.vector.clone().into()))
            })?;
            let mut row = scores(&diversity.to_string(), set, &rankings);
            row.push(format!("{:.3}", likeness(&rankings, &vectors)));
            table.row(&row);
        }
        Ok(
            table.under(&format!("{}: diversity, text and vector", set.name))
                + "Likeness: the greatest cosine of a result to one before it, the mean of results 2 to 10.\n\n",
        )
    }
}

/// Questions that are part of overall numbers.
fn counted(set: &DataSet) -> impl Iterator<Item = &Query> {
    set.queries.iter().filter(|query| query.category != APART)
}

/// The same text with two neighbouring letters in the middle of its longest word swapped.
fn slip(text: &str) -> String {
    let mut letters: Vec<char> = text.chars().collect();
    let (mut longest, mut begin) = (0..0, 0);
    for end in 0..=letters.len() {
        if letters.get(end).is_some_and(|c| c.is_alphabetic()) {
            continue;
        }
        if end - begin > longest.len() {
            longest = begin..end;
        }
        begin = end + 1;
    }
    let middle = longest.start + longest.len() / 2;
    // Two equal letters make no slip.
    let pair = (middle..longest.end)
        .chain(longest.start + 1..middle)
        .find(|at| letters[*at - 1] != letters[*at]);
    if let Some(at) = pair.filter(|_| longest.len() > 1) {
        letters.swap(at - 1, at);
    }
    letters.into_iter().collect()
}

fn likeness(rankings: &[Vec<i64>], vectors: &HashMap<i64, &[f32]>) -> f64 {
    let cosine = |a: &i64, b: &i64| -> f64 {
        let (a, b) = (vectors[a], vectors[b]);
        a.iter().zip(b).map(|(x, y)| f64::from(x * y)).sum()
    };
    let mut all = Vec::new();
    for ranking in rankings {
        let best = &ranking[..ranking.len().min(10)];
        for (nth, id) in best.iter().enumerate().skip(1) {
            let before = best[..nth].iter().map(|other| cosine(id, other));
            all.push(before.fold(f64::MIN, f64::max));
        }
    }
    all.iter().sum::<f64>() / all.len().max(1) as f64
}

fn table_of_scores(first: &str, more: &[&str]) -> Table {
    let cuts = CUTS.map(|cut| format!("R@{cut}"));
    let mut header = vec![first, "nDCG@10"];
    header.extend(cuts.iter().map(String::as_str));
    header.push("MRR");
    header.extend(more);
    Table::new(&header)
}

/// A row of such a table, for rankings of the counted questions.
fn scores(title: &str, set: &DataSet, rankings: &[Vec<i64>]) -> Vec<String> {
    let mut all = Scores::default();
    for (query, ranking) in counted(set).zip(rankings) {
        all.add(ranking, &query.relevant);
    }
    row_of(title, &all)
}

fn row_of(title: &str, scores: &Scores) -> Vec<String> {
    let mut cells = vec![title.to_owned(), format!("{:.1}", scores.ndcg())];
    cells.extend(scores.recall().map(|r| format!("{r:.1}")));
    cells.push(format!("{:.1}", scores.mrr()));
    cells
}

/// Stores memories of one conversation in engram and in `docs`.
fn store(
    app: &mut Client,
    batch: &[&Memory],
    user: Uuid,
    ids: &mut HashMap<Uuid, i64>,
) -> Result<()> {
    let items: Vec<_> = batch
        .iter()
        .map(|m| {
            json!({"content": m.content, "occurred_at": m.occurred_at, "speaker": m.speaker,
                   "session_id": m.session, "embedding": m.vector,
                   // People repeat themselves, and each time may be the answer.
                   "on_duplicate": "allow"})
        })
        .collect();
    let rows = app.query(
        "SELECT position, id, error FROM engram.add_many($1)",
        &[&Json(items)],
    )?;
    for row in rows {
        let memory = batch[row.get::<_, i32>(0) as usize - 1];
        let id: Option<Uuid> = row.get(1);
        let id = id.ok_or_else(|| {
            let error: Option<String> = row.get(2);
            Failure::new(format!(
                "Memory {} was refused: {}",
                memory.id,
                error.unwrap_or_default()
            ))
        })?;
        ids.insert(id, memory.id);
    }
    let insert = app.prepare(
        "INSERT INTO docs (id, user_id, content, tags, metadata, embedding) VALUES ($1, $2, $3, '{}', '{}', $4)",
    )?;
    let mut transaction = app.transaction()?;
    for m in batch {
        transaction.execute(
            &insert,
            &[&m.id, &user, &m.content, &Vector::from(m.vector.clone())],
        )?;
    }
    transaction.commit()?;
    Ok(())
}

/// The words of a question with `or` between them, as websearch_to_tsquery reads it.
fn any_word(text: &str) -> String {
    let words: Vec<&str> = text
        .split(|c: char| !c.is_alphanumeric())
        .filter(|w| !w.is_empty())
        .collect();
    words.join(" or ")
}

fn best(ranking: &Ranking) -> Vec<i64> {
    ranking
        .iter()
        .take(RESULTS as usize)
        .map(|(id, _)| *id)
        .collect()
}

fn overall(set: &DataSet, results: &Results) -> String {
    let mut table = table_of_scores("system", &[]);
    let counted: Vec<_> = results
        .iter()
        .filter(|(category, _)| *category != APART)
        .collect();
    for (n, system) in SYSTEMS.iter().enumerate() {
        let mut all = Scores::default();
        counted.iter().for_each(|(_, scores)| all.merge(&scores[n]));
        table.row(&row_of(system, &all));
    }
    let questions: usize = counted.iter().map(|(_, scores)| scores[0].questions).sum();
    table.under(&format!(
        "{}: {} memories, workspaces: {}, {questions} questions",
        set.name,
        set.memories.len(),
        set.users().len()
    ))
}

fn by_category(set: &DataSet, results: &Results) -> String {
    if results.len() < 2 {
        return String::new();
    }
    let titles: Vec<String> = results
        .iter()
        .map(|(category, scores)| {
            let apart = if category == APART { ", apart" } else { "" };
            format!("{category} ({}{apart})", scores[0].questions)
        })
        .collect();
    let mut header = vec!["system"];
    header.extend(titles.iter().map(String::as_str));
    let mut report = String::new();
    let measures: [(String, Measure); 6] = [
        ("nDCG@10".to_owned(), Scores::ndcg),
        (format!("R@{}", CUTS[0]), |s| s.recall()[0]),
        (format!("R@{}", CUTS[1]), |s| s.recall()[1]),
        (format!("R@{}", CUTS[2]), |s| s.recall()[2]),
        (format!("R@{}", CUTS[3]), |s| s.recall()[3]),
        ("MRR".to_owned(), Scores::mrr),
    ];
    for (measure, of) in measures {
        let mut table = Table::new(&header);
        for (n, system) in SYSTEMS.iter().enumerate() {
            let mut cells = vec![(*system).to_owned()];
            cells.extend(
                results
                    .values()
                    .map(|scores| format!("{:.1}", of(&scores[n]))),
            );
            table.row(&cells);
        }
        report += &table.under(&format!("{}: {measure} by category", set.name));
    }
    report
}

fn main() {
    common::finish(run());
}
