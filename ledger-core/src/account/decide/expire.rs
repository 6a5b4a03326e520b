//! Expire: what falls due by the clock. Points mature and expire, holds lapse, tiers are reviewed, unused accounts fall asleep; each
//! at its own moment, in the order of those moments.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

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
        if let Some(at) = matures_at(lot) {
            each(at, &|| Due::Mature(lot.lot));
        }
        if let Some(at) = expires_at(account, lot, program) {
            each(at, &|| Due::Expire(lot.lot));
        }
    }
    for hold in &account.holds {
        each(hold.lapses_at, &|| Due::Lapse(hold.redemption.clone()));
    }
    if let Some(at) = reviewed_at(account) {
        each(at, &|| Due::Review);
    }
    if let Some(at) = sleeps_at(account, program) {
        each(at, &|| Due::Sleep);
    }
}

/// When `due` falls due as the account stands; none if it does not any more.
fn due_moment(account: &Account, program: &Program, due: &Due) -> Option<Moment> {
    let lot = |lot: &LotId| account.lot(*lot).filter(|lot| lot.remaining > 0);
    match due {
        Due::Mature(id) => matures_at(lot(id)?),
        Due::Expire(id) => expires_at(account, lot(id)?, program),
        Due::Lapse(redemption) => account.hold(redemption).map(|hold| hold.lapses_at),
        Due::Review => reviewed_at(account),
        Due::Sleep => sleeps_at(account, program),
    }
}

fn matures_at(lot: &LotState) -> Option<Moment> {
    lot.pending.then(|| lot.available_at.max(lot.points_since))
}

fn expires_at(account: &Account, lot: &LotState, program: &Program) -> Option<Moment> {
    let at = lost_at(lot)?;
    // Pending points can't be spent by a redemption of before, nor can those of a closed account.
    let waits = !lot.pending && account.status != Status::Closed;
    Some(if waits { program.booked_at(at) } else { at })
}

fn reviewed_at(account: &Account) -> Option<Moment> {
    account.standing.review_at.filter(|_| account.status != Status::Closed)
}

fn sleeps_at(account: &Account, program: &Program) -> Option<Moment> {
    if account.status == Status::Active { program.sleeps_at(account.last_activity) } else { None }
}

fn lost_at(lot: &LotState) -> Option<Moment> {
    lot.lost_at().map(|at| if is_planted(Bug::ExpiryOffByOneInstant) { at.plus_micros(1) } else { at })
}

/// Whether an account last used at `last_activity` is asleep by `now`.
pub(super) fn lapses_by(program: &Program, last_activity: Moment, now: Moment) -> bool {
    program.sleeps_at(last_activity).is_some_and(|at| at <= now)
}

/// Does all that is due by the context's time, in the order of the moments.
///
/// What is done changes what is due, but puts nothing forward, and what is new is of the lots and the standing that it was done to. So all
/// that is due is looked for once: an account with many lots has as many things due, and to look for each would take the square of them.
pub(super) fn settle(draft: &mut Draft<'_>) {
    let (now, program) = (draft.context.now, draft.context.program);
    let mut waiting = BinaryHeap::new();
    each_due(&draft.account, program, |at, due| {
        if at <= now {
            waiting.push(Reverse((at, due())));
        }
    });
    while let Some(Reverse((at, due))) = waiting.pop() {
        match due_moment(&draft.account, program, &due) {
            Some(moved) if moved != at => {
                if moved <= now {
                    waiting.push(Reverse((moved, due)));
                }
                continue;
            }
            Some(_) => {}
            None => continue,
        }
        let touched = settle_one(draft, at, due);
        let more = touched.into_iter().filter_map(|due| Some((due_moment(&draft.account, program, &due)?, due)));
        waiting.extend(more.filter(|(at, _)| *at <= now).map(Reverse));
    }
}

/// Does what is due at `at`; tells what may be due now that was not before.
fn settle_one(draft: &mut Draft<'_>, at: Moment, due: Due) -> Vec<Due> {
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
            return parts.iter().map(|part| Due::Expire(part.lot)).collect();
        }
        Due::Expire(lot) => {
            let Some(state) = draft.account.lot(lot) else { return Vec::new() };
            let part = Part { lot, points: state.remaining, pending: state.pending };
            let at = lost_at(state).unwrap_or(at).max(state.points_since);
            draft.emit(at, EventKind::PointsExpired(part));
        }
        Due::Review => {
            tier::review(draft, at);
            return vec![Due::Review];
        }
        Due::Sleep => draft.emit(at, EventKind::AccountLapsed),
    }
    Vec::new()
}
