//! Given / when / then, by verb.

mod earn;
mod expire;
mod life;
mod model;
mod redeem;
mod returns;
mod rulebook;
mod support;
mod tiers;
