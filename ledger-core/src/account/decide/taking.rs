//! Taking points from lots: in which order, and what is done about debts.

use super::Draft;
use crate::account::event::{Event, EventKind, LotId, Part};
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

/// The parts of a redemption of `points`; the caller knows that so many are available.
pub(super) fn available(account: &Account, points: Points) -> Vec<Part> {
    take_from(account.lots.iter().filter(|lot| !lot.pending), points)
}

/// The parts that can be taken back of `points`, pending and available, without the lot `own`.
pub(super) fn take_back(account: &Account, own: Option<LotId>, points: Points) -> Vec<Part> {
    take_from(account.lots.iter().filter(|lot| Some(lot.lot) != own), points)
}

/// All that is pending or available.
pub(super) fn everything(account: &Account) -> Vec<Part> {
    take_from(account.lots.iter(), Points::MAX)
}

/// How many points `parts` have together.
pub(super) fn sum(parts: &[Part]) -> Points {
    parts.iter().map(|part| part.points).sum()
}

/// The event that moves the expiry of the lots that follow activity, if there are any and the rules (still) say so.
pub(super) fn move_expiry(account: &Account, version: &Version, at: Moment) -> Option<Event> {
    let follows = version.expiry_moves() && account.lots.iter().any(|lot| lot.expiry_moves && (lot.remaining > 0 || lot.held > 0));
    let expires_at = version.expires_at(at, at).filter(|_| follows && at > account.last_activity)?;
    Some(Event { at, kind: EventKind::ExpiryMoved { expires_at } })
}

fn pay(draft: &mut Draft<'_>, at: Moment, points: Points, owed: bool) {
    let parts = take_from(draft.account.lots.iter(), points);
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

/// Lets an account pay what it owes.
pub(super) fn pay_owed(draft: &mut Draft<'_>, at: Moment) {
    pay(draft, at, -draft.account.total(Bucket::Owed), true);
}

/// Lets `restored` points, which came back from a redemption or a hold, pay what an earlier return could not take: first what is
/// owed, then the shortfall. So returning the goods and the redemption ends alike in either order.
pub(super) fn pay_debts(draft: &mut Draft<'_>, at: Moment, restored: Points) {
    pay_owed(draft, at);
    let shortfall = draft.account.total(Bucket::Shortfall);
    pay(draft, at, shortfall.min(restored), false);
}
