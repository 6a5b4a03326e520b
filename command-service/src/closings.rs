//! Closing months: proposed by one with the figures, approved by another. A closed month never changes; what comes late or is back-dated goes into the
//! next open one.

use std::sync::Arc;

use compact_str::CompactString;
use event_log::Position;
use ledger_core::id::Id;
use ledger_core::time::Moment;
use ledger_schemas::{Closing, Month, ProgramChange, ProgramEntry};

use crate::programs::{ProgramState, Programs};
use crate::request::Refusal;

/// A month that somebody proposed to close.
#[derive(Debug, Clone)]
pub struct ProposedClosing {
    /// The month and its figures.
    pub closing: Arc<Closing>,
    /// Who proposed it.
    pub maker: CompactString,
    /// When, by the real clock.
    pub proposed_at: Moment,
    /// The entry of the program stream.
    pub entry: Position,
}

/// A month that is closed.
#[derive(Debug, Clone)]
pub struct ClosedPeriod {
    /// As it was proposed.
    pub proposed: ProposedClosing,
    /// Who approved it.
    pub approver: CompactString,
    /// When, by the real clock.
    pub closed_at: Moment,
}

/// A step of closing a month.
#[derive(Debug, Clone)]
pub enum ClosingStep {
    /// One proposes its figures.
    Propose(Box<Closing>),
    /// Another approves them.
    Approve {
        /// The month.
        period: Month,
        /// The entry of the program stream with the figures.
        proposed_in: Position,
    },
}

/// Why a month is not closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeriodRefusal {
    /// It is closed.
    #[error("period {0} is closed; a closed period never changes")]
    Closed(Month),
    /// Months are closed from a later one on.
    #[error("period {period} can't be closed any more: period {first} was closed first, and its opening figures with it")]
    BeforeFirst {
        /// The one that was asked for.
        period: Month,
        /// The first that was closed.
        first: Month,
    },
    /// One before it is open.
    #[error("period {period} can't be closed before {next}, which is open")]
    NotNext {
        /// The one that was asked for.
        period: Month,
        /// The one whose turn it is.
        next: Month,
    },
    /// It is not over.
    #[error("period {0} is not over by the program's clock")]
    NotOver(Month),
    /// Nobody proposed it.
    #[error("nobody has proposed to close period {0}")]
    NotProposed(Month),
    /// Its maker can't approve it.
    #[error("{maker} proposed to close period {period}, so somebody else must approve it, with a key of their own")]
    ByMaker {
        /// The month.
        period: Month,
        /// Who proposed it.
        maker: CompactString,
    },
}

impl PeriodRefusal {
    /// The stable code, as in the API's errors.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Closed(_) => "period_closed",
            Self::BeforeFirst { .. } => "period_before_first",
            Self::NotNext { .. } => "period_not_next",
            Self::NotOver(_) => "period_not_over",
            Self::NotProposed(_) => "closing_not_found",
            Self::ByMaker { .. } => "approval_by_maker",
        }
    }
}

impl ProgramState {
    pub(crate) fn propose(&mut self, proposed: ProposedClosing) {
        self.proposed_closing = Some(proposed);
    }

    /// Closes what was proposed in `proposed_in`; tells whether there was such a proposal.
    pub(crate) fn close(&mut self, proposed_in: Position, approver: CompactString, closed_at: Moment) -> bool {
        let Some(proposed) = self.proposed_closing.take_if(|proposed| proposed.entry == proposed_in) else { return false };
        self.closed_periods.push(ClosedPeriod { proposed, approver, closed_at });
        true
    }

    /// The first month that is not closed, where one before it is.
    #[must_use]
    pub fn next_period(&self) -> Option<Month> {
        self.closed_periods.last().map(|closed| closed.proposed.closing.period.next())
    }

    fn require_closable(&self, period: Month, now: Moment) -> Result<(), PeriodRefusal> {
        if let Some(first) = self.closed_periods.first().map(|closed| closed.proposed.closing.period).filter(|first| period < *first) {
            return Err(PeriodRefusal::BeforeFirst { period, first });
        }
        if let Some(next) = self.next_period() {
            if period < next {
                return Err(PeriodRefusal::Closed(period));
            }
            if period > next {
                return Err(PeriodRefusal::NotNext { period, next });
            }
        }
        if period.next().begin().is_none_or(|end| end > now) {
            return Err(PeriodRefusal::NotOver(period));
        }
        Ok(())
    }
}

impl Programs {
    /// Takes a step of closing a month; tells the entry for the stream.
    pub(crate) fn closing(&mut self, program: &Id, step: ClosingStep, actor: CompactString, real_now: Moment) -> Result<ProgramEntry, Refusal> {
        match step {
            ClosingStep::Propose(closing) => self.propose_closing(program, *closing, actor, real_now),
            ClosingStep::Approve { period, proposed_in } => self.approve_closing(program, period, proposed_in, actor, real_now),
        }
    }

    /// Takes a proposal to close a month, in place of any that waits.
    fn propose_closing(&mut self, program: &Id, closing: Closing, actor: CompactString, real_now: Moment) -> Result<ProgramEntry, Refusal> {
        let entry = self.entries;
        let state = self.by_id.get_mut(program).ok_or_else(|| Refusal::ProgramNotFound(program.clone()))?;
        state.require_closable(closing.period, state.now(real_now))?;
        state.propose(ProposedClosing { closing: Arc::new(closing.clone()), maker: actor.clone(), proposed_at: real_now, entry });
        let change = ProgramChange::ClosingProposed { program: program.clone(), closing: Box::new(closing) };
        Ok(ProgramEntry { recorded_at: real_now, actor, change })
    }

    /// Closes a month with the figures that somebody else proposed in the entry `proposed_in`.
    fn approve_closing(&mut self, program: &Id, period: Month, proposed_in: Position, actor: CompactString, real_now: Moment) -> Result<ProgramEntry, Refusal> {
        let state = self.by_id.get_mut(program).ok_or_else(|| Refusal::ProgramNotFound(program.clone()))?;
        state.require_closable(period, state.now(real_now))?;
        let waits = state.proposed_closing.as_ref().filter(|proposed| proposed.closing.period == period && proposed.entry == proposed_in);
        let Some(ProposedClosing { maker, .. }) = waits.cloned() else { return Err(PeriodRefusal::NotProposed(period).into()) };
        if maker == actor {
            return Err(PeriodRefusal::ByMaker { period, maker }.into());
        }
        state.close(proposed_in, actor.clone(), real_now);
        let change = ProgramChange::PeriodClosed { program: program.clone(), period, proposed_in };
        Ok(ProgramEntry { recorded_at: real_now, actor, change })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;

    fn month(text: &str) -> Month {
        Month::parse(text).unwrap()
    }

    fn closing(period: &str) -> Closing {
        Closing { period: month(period), log_ends: vec![7], program_entries: 1, currency: "GBP".into(), opening: Vec::new(), figures: Vec::new() }
    }

    /// A live program, on 10 March 2026.
    fn programs() -> (Programs, Id, Moment) {
        let (mut programs, shop) = (Programs::default(), Id::parse("shop").unwrap());
        programs.by_id.insert(shop.clone(), ProgramState::default());
        (programs, shop, Moment::parse("2026-03-10T00:00:00Z").unwrap())
    }

    fn refused(outcome: Result<ProgramEntry, Refusal>) -> String {
        outcome.unwrap_err().code().to_owned()
    }

    #[test]
    fn a_month_is_closed_by_two_people_once_and_in_turn() {
        let (mut programs, shop, now) = programs();
        // Given a proposal of Ada's, when she approves it, or somebody approves another month, it stays open.
        programs.propose_closing(&shop, closing("2026-01"), "ada".into(), now).unwrap();
        assert_eq!(refused(programs.approve_closing(&shop, month("2026-01"), 0, "ada".into(), now)), "approval_by_maker");
        assert_eq!(refused(programs.approve_closing(&shop, month("2026-02"), 0, "ben".into(), now)), "closing_not_found");
        // When Ben approves it, it is closed, once.
        programs.approve_closing(&shop, month("2026-01"), 0, "ben".into(), now).unwrap();
        assert_eq!(refused(programs.approve_closing(&shop, month("2026-01"), 0, "ben".into(), now)), "period_closed");
        assert_eq!(refused(programs.propose_closing(&shop, closing("2026-01"), "ada".into(), now)), "period_closed");
        assert_eq!(refused(programs.propose_closing(&shop, closing("2025-12"), "ada".into(), now)), "period_before_first");
        // Then February comes next, and March not before it is over.
        assert_eq!(refused(programs.propose_closing(&shop, closing("2026-03"), "ada".into(), now)), "period_not_next");
        programs.propose_closing(&shop, closing("2026-02"), "ben".into(), now).unwrap();
        programs.approve_closing(&shop, month("2026-02"), 0, "ada".into(), now).unwrap();
        assert_eq!(refused(programs.propose_closing(&shop, closing("2026-03"), "ada".into(), now)), "period_not_over");
    }

    #[test]
    fn what_is_on_the_stream_folds_to_what_was_decided() {
        let (mut programs, shop, now) = programs();
        let proposed = programs.propose_closing(&shop, closing("2026-01"), "ada".into(), now).unwrap();
        programs.entries += 1;
        // A later proposal takes the place of the one before.
        let again = programs.propose_closing(&shop, closing("2026-01"), "eve".into(), now).unwrap();
        programs.entries += 1;
        assert_eq!(refused(programs.approve_closing(&shop, month("2026-01"), 0, "ben".into(), now)), "closing_not_found", "the figures of before");
        let closed = programs.approve_closing(&shop, month("2026-01"), 1, "ben".into(), now).unwrap();
        let mut folded = Programs::default();
        folded.by_id.insert(shop.clone(), ProgramState::default());
        for entry in [proposed, again, closed] {
            folded.fold(&ledger_schemas::encode_program_entry(&entry)).unwrap();
        }
        let state = &folded.by_id[&shop];
        let (period, people) = (&state.closed_periods[0], |period: &ClosedPeriod| (period.proposed.maker.clone(), period.approver.clone()));
        assert_eq!((people(period), period.proposed.entry, state.proposed_closing.is_none()), (("eve".into(), "ben".into()), 1, true));
        assert_eq!(*period.proposed.closing, closing("2026-01"));
    }
}
