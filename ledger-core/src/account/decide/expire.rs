//! Expire: what falls due by the clock. Points mature and expire, holds lapse, tiers are reviewed, unused accounts fall asleep; each
//! at its own moment, in the order of those moments.

use super::{Context, Decision, Draft, require_open, taking, tier};
use crate::account::event::{EventKind, LotId, Part};
use crate::account::rejection::Rejection;
use crate::account::state::{Account, LotState, Status};
use crate::id::Id;
use crate::planted::{Bug, is_planted};
use crate::policy::Program;
use crate::time::Moment;

// The order of the variants is the order of what falls due at one moment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Mature(LotId),
    Lapse(Id),
    Expire(LotId),
    Review,
    Sleep,
}

pub(super) fn decide(account: &Account, context: &Context<'_>) -> Result<Decision, Rejection> {
    if account.status != Status::Closed {
        require_open(account)?;
    }
    Ok(Draft::new(account, context)?.finish())
}

/// When the next thing falls due; none if nothing ever will.
#[must_use]
pub fn due_at(account: &Account, program: &Program) -> Option<Moment> {
    let mut earliest: Option<Moment> = None;
    each_due(account, program, |at, _| earliest = Some(earliest.map_or(at, |earlier| earlier.min(at))));
    earliest
}

fn each_due(account: &Account, program: &Program, mut each: impl FnMut(Moment, &dyn Fn() -> Due)) {
    for lot in account.lots.iter().filter(|lot| lot.remaining > 0) {
        if lot.pending {
            each(lot.available_at.max(lot.points_since), &|| Due::Mature(lot.lot));
        }
        if let Some(at) = lost_at(lot) {
            // Pending points can't be spent by a redemption of before, nor can those of a closed account.
            let waits = !lot.pending && account.status != Status::Closed;
            each(if waits { program.booked_at(at) } else { at }, &|| Due::Expire(lot.lot));
        }
    }
    for hold in &account.holds {
        each(hold.lapses_at, &|| Due::Lapse(hold.redemption.clone()));
    }
    if account.status == Status::Closed {
        return;
    }
    if let Some(at) = account.standing.review_at {
        each(at, &|| Due::Review);
    }
    if account.status == Status::Active
        && let Some(at) = program.sleeps_at(account.last_activity)
    {
        each(at, &|| Due::Sleep);
    }
}

fn lost_at(lot: &LotState) -> Option<Moment> {
    lot.lost_at().map(|at| if is_planted(Bug::ExpiryOffByOneInstant) { at.plus_micros(1) } else { at })
}

/// Whether an account last used at `last_activity` is asleep by `now`.
pub(super) fn lapses_by(program: &Program, last_activity: Moment, now: Moment) -> bool {
    program.sleeps_at(last_activity).is_some_and(|at| at <= now)
}

fn next(account: &Account, context: &Context<'_>) -> Option<(Moment, Due)> {
    let mut next: Option<(Moment, Due)> = None;
    each_due(account, context.program, |at, due| {
        if at <= context.now && next.as_ref().is_none_or(|(earliest, first)| at.cmp(earliest).then_with(|| due().cmp(first)).is_lt()) {
            next = Some((at, due()));
        }
    });
    next
}

/// Does all that is due by the context's time.
pub(super) fn settle(draft: &mut Draft<'_>) {
    while let Some((at, due)) = next(&draft.account, draft.context) {
        match due {
            Due::Mature(lot) => {
                let points = draft.account.lot(lot).map_or(0, |lot| lot.remaining);
                draft.emit(at, EventKind::PointsMatured { lot, points });
            }
            Due::Lapse(redemption) => {
                let parts = draft.account.hold(&redemption).map(|hold| hold.parts.clone()).unwrap_or_default();
                let kind = EventKind::HoldReleased { redemption, parts: parts.clone(), lapsed: true };
                // What expires at this very moment comes after it.
                taking::give_back(draft, at, at.plus_micros(-1), &parts, kind);
            }
            Due::Expire(lot) => {
                let Some(state) = draft.account.lot(lot) else { return };
                let part = Part { lot, points: state.remaining, pending: state.pending };
                let at = lost_at(state).unwrap_or(at).max(state.points_since);
                draft.emit(at, EventKind::PointsExpired(part));
            }
            Due::Review => tier::review(draft, at),
            Due::Sleep => draft.emit(at, EventKind::AccountLapsed),
        }
    }
}
