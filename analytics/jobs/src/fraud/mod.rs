//! Fraud: the rules of each program's rulebook over the signals of the read models, and the cases that come of it.
//!
//! Invariants: a rule's finding on one subject and day is one case, however often it is seen; what happens to a case is only ever added; signals count as
//! known fraud while a case that they are evidence of is confirmed, and no longer.

mod case;
mod finding;
mod freeze;
mod report;
mod signal;
mod slide;
mod watch;
mod window;

pub use case::{Case, CaseEvent, Evidence, HeldBack, RuleRecord, STATES, Step, case, cases, records, step};
pub use freeze::{PendingFreeze, is_pending, pending_freezes, settle_freeze};
pub use report::{Reference, Reported, report};
pub use watch::{Found, Look, watch};
