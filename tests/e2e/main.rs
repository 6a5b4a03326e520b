//! End to end, over HTTP and the command line, with the real binary and a real Postgres and Kafka.

#![allow(clippy::unwrap_used, clippy::panic, clippy::float_arithmetic, reason = "a test may")]

mod access;
mod analytics;
mod api;
mod audit;
mod availability;
mod channels;
mod clv;
mod corrections;
mod crash;
mod decline;
mod editions;
mod export;
mod flags;
mod fraud;
mod hostile;
mod import;
mod intake;
mod kafka;
mod liability;
mod limits;
mod objects;
mod openapi;
mod periods;
mod queries;
mod recipes;
mod redemptions;
mod refunds;
mod share;
mod support;
mod traces;
mod trail;
mod witness;
mod worth;
