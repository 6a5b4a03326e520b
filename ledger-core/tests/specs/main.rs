//! Given / when / then, by verb.

#![allow(clippy::unwrap_used, clippy::panic, clippy::float_arithmetic, clippy::type_complexity, reason = "a test may")]

mod alias;
mod causes;
mod earn;
mod expire;
mod fold;
mod forget;
mod fuzz;
mod life;
mod model;
mod offline;
mod payers;
mod propose;
mod redeem;
mod refunds;
mod returns;
mod rulebook;
mod rulebook_edges;
mod size;
mod support;
mod tiers;
mod unmatched_refunds;
mod versions;
