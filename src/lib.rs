//! engram: agent memory inside PostgreSQL.
//!
//! | module | owns |
//! |---|---|
//! | [`model`] | pure maths: BM25, fusion, vector similarity; activation, consolidation, forgetting, links. No Postgres types. |
//! | [`text`] | what is compared, indexed and keyed of a memory's text |
//! | [`terms`] | reading a `tsvector`, keys of the lexical index |
//! | `words` | the words of a text, as `to_tsvector` finds them, remembered |
//! | [`blocks`] | packed blocks of words and vectors: what search scans |
//! | [`simd`] | the inner loops over blocks, for several instruction sets |
//! | [`query`] | the search box: phrases, negations, names |
//! | [`filter`] | the jsonb filter dialect, compiled to SQL with bound values |
//! | [`items`] | the items of `add_many`, checked one by one |
//! | `identity`, `settings` | who calls, and the settings that decide it |
//! | `vector`, `raw` | reading and passing on pgvector's and jsonb's values |
//! | `jsonb` | comparing jsonb as PostgreSQL does, without a statement |
//! | `scan` | reading rows straight from their table |
//! | `write` | writing rows straight to their table |
//! | `store` | storing memories without a statement for each |
//! | `rows` | which memories the caller may see, without a statement |
//! | `ids` | new ids |
//! | `own` | whether what the policies ask is as setup() made it |
//! | `pack` | packing small blocks without a statement |
//! | `places` | where the rows of segments' entries are |
//! | `arrange` | arranging the vectors of large workspaces in cells |
//! | `locks` | how many locks a transaction has taken |
//! | `partitions` | into which partition a row belongs |
//! | `privilege` | acting as the owner of the store for a moment |
//! | `search` | candidates, fusion, fetch |
//! | `uses` | noting that memories were used, and folding what was noted |
//! | `dynamics` | the memory models of `model` as SQL functions |
//! | `graph` | links between memories: reading, following and spreading over them |
//! | `messages` | turns of conversations, and which of them are worth extracting from |
//! | `life` | the state of memories as SQL functions |
//! | `transfer` | import: lines of JSON, ours and others', checked and converted |
//! | `sweep` | how far memories without vectors were looked for |
//! | `sync` | where events come from, for devices that synchronise |
//! | `care` | what the store as a whole needs, as its owner |
//! | `worker` | the optional background worker |
//! | `setup` | creating the tables and bringing them up to date |
//! | `api` | the functions that SQL sees: arguments in, errors out, no logic |
//!
//! Data flows one way: `api` → domain module → `model`. The SQL that declares the tables is in
//! `sql/store`, the SQL that declares the functions in `sql/extension`.

mod api;
mod arrange;
pub mod blocks;
mod care;
mod dynamics;
mod error;
pub mod filter;
mod graph;
mod heap;
mod identity;
mod ids;
pub mod items;
mod jsonb;
mod life;
mod locks;
mod messages;
pub mod model;
mod own;
mod pack;
mod partitions;
mod places;
mod privilege;
pub mod query;
mod raw;
mod rows;
mod scan;
mod search;
mod settings;
mod setup;
pub mod simd;
mod spi;
mod store;
mod sweep;
mod sync;
pub mod terms;
pub mod text;
mod transfer;
mod uses;
mod vector;
mod words;
mod worker;
mod write;

pgrx::pg_module_magic!(name, version);

/// Called by PostgreSQL when the library is loaded; it defines settings, and workers where the
/// server preloads it.
#[pgrx::pg_guard]
#[allow(non_snake_case)]
pub extern "C-unwind" fn _PG_init() {
    // With RUST_BACKTRACE in the server's environment every error would carry a backtrace in its
    // detail, to whoever called. SAFETY: a backend has one thread, and nothing of this library
    // has read the environment yet.
    unsafe { std::env::set_var("RUST_LIB_BACKTRACE", "0") };
    settings::register();
    worker::register();
}
