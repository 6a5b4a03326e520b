//! Taking points from lots: in which order, and what is done about debts.

use std::collections::BTreeSet;

use super::Draft;
use crate::account::event::{Event, EventKind, LotId, Part};
use crate::account::rejection::Rejection;
use crate::account::state::{Account, LotState};
use crate::points::Points;
use crate::policy::Version;
use crate::posting::Bucket;
use crate::time::Moment;

/// The lot that expires first, never-expiring last, then the older.
fn order(lot: &LotState) -> impl Ord + use<> {
    (lot.expires_at.is_none(), lot.expires_at, lot.earned_at, lot.lot)
}

fn take_from<'a>(lots: impl Iterator<Item = &'a LotState>, mut points: Points) -> Vec<Part> {
    if points == 0 {
        return Vec::new();
    }
    let mut sorted: Vec<&LotState> = lots.filter(|lot| lot.remaining > 0).collect();
    sorted.sort_unstable_by_key(|lot| order(lot));
    let mut parts = Vec::new();
    for lot in sorted {
        if points == 0 {
            break;
        }
        let taken = lot.remaining.min(points);
        parts.push(Part { lot: lot.lot, points: taken, pending: lot.pending });
        points -= taken;
    }
    parts
}

/// The parts of `points`, of those that are available at `at`.
///
/// # Errors
/// [`Rejection::InsufficientPoints`] where there are fewer.
pub(super) fn available(account: &Account, points: Points, at: Moment) -> Result<Vec<Part>, Rejection> {
    spendable(account, points, |lot| !lot.is_lost_by(at))
}

/// The same at a moment that is past: of lots that were there by then, and to which none came back since, so that no balance since falls below zero.
///
/// # Errors
/// [`Rejection::InsufficientPoints`] where there are fewer.
pub(super) fn available_then(account: &Account, points: Points, at: Moment) -> Result<Vec<Part>, Rejection> {
    spendable(account, points, |lot| !lot.is_lost_by(at) && lot.points_since <= at)
}

fn spendable(account: &Account, points: Points, is_usable: impl Fn(&LotState) -> bool) -> Result<Vec<Part>, Rejection> {
    let usable = || account.lots.iter().filter(|lot| !lot.pending && is_usable(lot));
    let available = usable().map(|lot| lot.remaining).sum();
    if points > available { Err(Rejection::InsufficientPoints { points, available }) } else { Ok(take_from(usable(), points)) }
}

/// The parts that can be taken back at `at` of `points`, pending and available, without the lot `own`.
pub(super) fn take_back(account: &Account, own: Option<LotId>, points: Points, at: Moment) -> Vec<Part> {
    take_from(account.lots.iter().filter(|lot| Some(lot.lot) != own && !lot.is_lost_by(at)), points)
}

/// All that is pending or available.
pub(super) fn everything(account: &Account) -> Vec<Part> {
    take_from(account.lots.iter(), Points::MAX)
}

/// How many points `parts` have together.
pub(super) fn sum(parts: &[Part]) -> Points {
    parts.iter().map(|part| part.points).sum()
}

/// What an activity at `at`, told of at `now`, does to the lots that follow it, if there are any and the rules (still) say so: those that are lost by then
/// are booked so, the expiry of the others moves. It brings nothing back that was lost before it was told of.
pub(super) fn move_expiry(account: &Account, version: &Version, at: Moment, now: Moment) -> Vec<Event> {
    let mut following = account.lots.iter().filter(|lot| lot.expiry_moves && (lot.remaining > 0 || lot.held > 0));
    let comes_back = |lot: &LotState| lot.remaining > 0 && lot.is_lost_by(now) && !lot.is_lost_by(at);
    let moves = version.expiry_moves() && at > account.last_activity && !following.clone().any(comes_back);
    let moves = moves && following.any(|lot| lot.held > 0 || !lot.is_lost_by(at));
    let Some(expires_at) = version.expires_at(at, at).filter(|_| moves) else { return Vec::new() };
    let lost = account.lots.iter().filter(|lot| lot.expiry_moves && lot.remaining > 0 && lot.is_lost_by(at));
    let mut events: Vec<Event> = lost.filter_map(expired).collect();
    events.push(Event { at, kind: EventKind::ExpiryMoved { expires_at } });
    events
}

/// The event that books what is left of a lot as expired.
fn expired(lot: &LotState) -> Option<Event> {
    let part = Part { lot: lot.lot, points: lot.remaining, pending: lot.pending };
    lot.lost_at().map(|at| Event { at, kind: EventKind::PointsExpired(part) })
}

/// Books as expired what of `lots` (of all, if none are named) is lost by `at`, as points are about to come back to them.
pub(super) fn lose(draft: &mut Draft<'_>, lots: Option<&BTreeSet<LotId>>, at: Moment) {
    let (account, is_lost) = (&draft.account, |lot: &&LotState| lot.remaining > 0 && lot.is_lost_by(at));
    let mut events: Vec<Event> = match lots {
        Some(lots) => lots.iter().filter_map(|lot| account.lot(*lot)).filter(is_lost).filter_map(expired).collect(),
        None => account.lots.iter().filter(is_lost).filter_map(expired).collect(),
    };
    events.sort_by_key(|event| event.at);
    for Event { at, kind } in events {
        draft.emit(at, kind);
    }
}

fn pay(draft: &mut Draft<'_>, at: Moment, points: Points, owed: bool, can_pay: impl Fn(&LotState) -> bool) {
    let parts = take_from(draft.account.lots.iter().filter(|lot| can_pay(lot)), points);
    if !parts.is_empty() {
        let at = at.max(draft.account.debt_since).max(since(&draft.account, &parts));
        draft.emit(at, EventKind::DebtPaid { parts, owed });
    }
}

/// When the last of the points that `parts` take came: what takes them is dated no earlier.
pub(super) fn since(account: &Account, parts: &[Part]) -> Moment {
    let taken = parts.iter().filter(|part| part.points > 0);
    taken.filter_map(|part| account.lot(part.lot)).map(|lot| lot.points_since).max().unwrap_or_default()
}

/// Lets an account pay what it owes, with the points of the lot `new` even where they are lost as they come.
pub(super) fn pay_owed(draft: &mut Draft<'_>, at: Moment, new: Option<LotId>) {
    pay(draft, at, -draft.account.total(Bucket::Owed), true, |lot| !lot.is_lost_by(at) || Some(lot.lot) == new);
}

/// Gives `parts` back at `at` by the event `kind`. They pay what an earlier return could not take: first what is owed, then the shortfall. So returning
/// the goods and the redemption ends alike in either order. What is left of them in lots that are lost by `lost_by` is lost as it comes, not before.
pub(super) fn give_back(draft: &mut Draft<'_>, at: Moment, lost_by: Moment, parts: &[Part], kind: EventKind) {
    // A hold of a large account has as many parts as the account has lots: each is looked up, none is looked for.
    let own: BTreeSet<LotId> = parts.iter().map(|part| part.lot).collect();
    lose(draft, Some(&own), lost_by);
    draft.emit(at, kind);
    let can_pay = |lot: &LotState| own.contains(&lot.lot) || !lot.is_lost_by(lost_by);
    pay(draft, at, -draft.account.total(Bucket::Owed), true, can_pay);
    let shortfall = draft.account.total(Bucket::Shortfall);
    pay(draft, at, shortfall.min(sum(parts)), false, can_pay);
    let lost = own.iter().filter_map(|lot| draft.account.lot(*lot)).filter(|lot| lot.remaining > 0 && lot.is_lost_by(lost_by));
    let mut lost: Vec<&LotState> = lost.collect();
    lost.sort_unstable_by_key(|lot| order(lot));
    let lost: Vec<Part> = lost.into_iter().map(|lot| Part { lot: lot.lot, points: lot.remaining, pending: lot.pending }).collect();
    lost.into_iter().for_each(|part| draft.emit(at, EventKind::PointsExpired(part)));
}
