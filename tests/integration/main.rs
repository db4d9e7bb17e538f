//! Tests against a real server, as ordinary roles. Run them with `./task test`.

mod adds;
mod blocks;
mod care;
mod cells;
mod cluster;
mod concurrency;
mod demo;
mod dynamics;
mod filters;
mod fuzzy;
mod golden;
mod graph;
mod history;
mod isolation;
mod lifecycle;
mod messages;
mod schedule;
mod search;
mod similar;
mod store;
mod sync;
mod transfer;
mod truth;
mod upgrade;
mod upstream;
mod uses;
