//! Tests against a real server, as ordinary roles. Run them with `./task test`.

mod cluster;
mod demo;
mod isolation;
mod lifecycle;
mod store;
