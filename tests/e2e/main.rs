//! End to end, over HTTP and the command line, with the real binary and a real Postgres.

mod api;
mod crash;
mod support;
