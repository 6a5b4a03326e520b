//! The rulebook: what a program's points are earned, kept, spent and lost by.
//!
//! Invariants: a published version never changes; every question about the past is answered by the version (and tier) of then.

mod condition;
mod fraud;
mod insight;
mod payer;
mod predicate;
mod program;
mod rate;
mod rulebook;
mod validate;

pub use condition::ConditionError;
pub use fraud::{FraudRule, FraudRules, FraudScope, Measure, Severity, SignalField, SignalKind, SignalView, SignalWindow};
pub use insight::{ActionRule, ActionScope, BudgetRule, InsightRules, MemberView, Rung};
pub use payer::{Paid, paid_by, paid_less};
pub use predicate::Predicate;
pub use program::{Program, Version};
pub use rate::{Facts, Kept, LinePoints, RateFailure, Rated, gross, rate};
pub use rulebook::*;
pub use validate::{BONUSES_MAX, Invalid, compile_rulebook, json_schema, read_rulebook};
