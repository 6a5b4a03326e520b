//! AdjustManual: points up or down by hand, with a reason and an actor.

use super::{Context, Decision, Draft, require_open, taking};
use crate::account::command::Reason;
use crate::account::event::{EventKind, Lot};
use crate::account::rejection::Rejection;
use crate::account::state::Account;
use crate::id::Id;
use crate::points::Points;

pub(super) fn decide(account: &Account, id: &Id, points: Points, reason: &Reason, context: &Context<'_>) -> Result<Decision, Rejection> {
    require_open(account)?;
    let mut draft = Draft::new(account, context)?;
    if let Some(from) = draft.version.rulebook.adjust.approval_from_points.filter(|from| points.unsigned_abs() >= from.unsigned_abs()) {
        return Err(Rejection::ApprovalRequired { from });
    }
    change(&mut draft, id, points, reason)?;
    Ok(draft.finish())
}

/// Adds the points as a lot of their own, or takes them from the lots that expire first.
pub(super) fn change(draft: &mut Draft<'_>, id: &Id, points: Points, reason: &Reason) -> Result<(), Rejection> {
    let (adjustment, reason, now) = (id.clone(), reason.clone(), draft.context.now);
    let account = &draft.account;
    if points > 0 {
        let lot = Lot {
            lot: account.lot_count + 1,
            points,
            available_at: now,
            expires_at: draft.version.expires_at(now, account.last_activity.max(now)),
            expiry_moves: draft.version.expiry_moves(),
        };
        draft.emit(now, EventKind::PointsAdded { adjustment, lot, rule_version: draft.version.number, reason });
        taking::pay_owed(draft, now, Some(draft.account.lot_count));
        return Ok(());
    }
    let parts = taking::available(account, -points, now)?;
    draft.emit(now, EventKind::PointsTaken { adjustment, parts, reason });
    Ok(())
}
