//! Fraud: the rules of each program's rulebook over the signals of the read models, and the cases that come of it.
//!
//! Invariants: a rule's finding on one subject and day is one case, however often it is seen; what happens to a case is only ever added.

mod case;
mod report;
mod signal;
mod watch;
mod window;

pub use case::{Case, CaseEvent, RuleRecord, Step, case, cases, records, step};
pub use report::report;
pub use watch::{Found, Look, watch};
