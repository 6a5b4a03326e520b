//! Events in words, for members and those who help them.

use ledger_core::account::EventKind;
use ledger_core::account::command::Returned;
use ledger_core::account::event::{Earned, Reversed, TierCause};
use ledger_core::points::Amount;

/// Every name that [`kind`] gives.
pub const KINDS: [&str; 29] = [
    "account_opened",
    "account_activated",
    "account_frozen",
    "account_unfrozen",
    "account_closed",
    "account_lapsed",
    "alias_added",
    "alias_removed",
    "adjustment_proposed",
    "adjustment_approved",
    "adjustment_declined",
    "account_woken",
    "points_earned",
    "points_matured",
    "points_redeemed",
    "points_held",
    "hold_captured",
    "hold_released",
    "redemption_returned",
    "purchase_returned",
    "refund_booked",
    "points_expired",
    "expiry_moved",
    "points_added",
    "points_taken",
    "debt_paid",
    "points_forfeited",
    "tier_changed",
    "tier_kept",
];

/// The stable name of a kind of event.
#[must_use]
pub fn kind(kind: &EventKind) -> &'static str {
    match kind {
        EventKind::AccountOpened { .. } => "account_opened",
        EventKind::AccountActivated => "account_activated",
        EventKind::AccountFrozen(_) => "account_frozen",
        EventKind::AccountUnfrozen { .. } => "account_unfrozen",
        EventKind::AccountClosed(_) => "account_closed",
        EventKind::AccountLapsed => "account_lapsed",
        EventKind::AliasAdded(_) => "alias_added",
        EventKind::AliasRemoved(_) => "alias_removed",
        EventKind::AdjustmentProposed(_) => "adjustment_proposed",
        EventKind::AdjustmentApproved { .. } => "adjustment_approved",
        EventKind::AdjustmentDeclined { .. } => "adjustment_declined",
        EventKind::AccountWoken => "account_woken",
        EventKind::PointsEarned(_) => "points_earned",
        EventKind::PointsMatured { .. } => "points_matured",
        EventKind::PointsRedeemed(_) => "points_redeemed",
        EventKind::PointsHeld { .. } => "points_held",
        EventKind::HoldCaptured(_) => "hold_captured",
        EventKind::HoldReleased { .. } => "hold_released",
        EventKind::RedemptionReturned { .. } => "redemption_returned",
        EventKind::PurchaseReturned(_) => "purchase_returned",
        EventKind::RefundBooked { .. } => "refund_booked",
        EventKind::PointsExpired(_) => "points_expired",
        EventKind::ExpiryMoved { .. } => "expiry_moved",
        EventKind::PointsAdded { .. } => "points_added",
        EventKind::PointsTaken { .. } => "points_taken",
        EventKind::DebtPaid { .. } => "debt_paid",
        EventKind::PointsForfeited { .. } => "points_forfeited",
        EventKind::TierChanged(_) => "tier_changed",
        EventKind::TierKept(_) => "tier_kept",
    }
}

/// The id of what caused the event; empty for the clock.
pub(super) fn reference(kind: &EventKind) -> &str {
    match kind {
        EventKind::PointsEarned(earned) => earned.purchase.purchase_id.as_str(),
        EventKind::PointsRedeemed(spent) | EventKind::HoldCaptured(spent) => spent.redemption.as_str(),
        EventKind::PointsHeld { redemption, .. } | EventKind::HoldReleased { redemption, .. } => redemption.as_str(),
        EventKind::RedemptionReturned { return_id, .. } => return_id.as_str(),
        EventKind::PurchaseReturned(reversed) => reversed.return_id.as_str(),
        EventKind::RefundBooked { refund, .. } => refund.as_str(),
        EventKind::PointsAdded { adjustment, .. } | EventKind::PointsTaken { adjustment, .. } => adjustment.as_str(),
        EventKind::AdjustmentProposed(asked) => asked.proposal.as_str(),
        EventKind::AdjustmentApproved { proposal } | EventKind::AdjustmentDeclined { proposal, .. } => proposal.as_str(),
        _ => "",
    }
}

/// Why it happened, in words.
#[must_use]
pub fn reason(kind: &EventKind) -> String {
    match kind {
        EventKind::AccountOpened { pending: true, tier } => format!("account opened as {tier}, to be activated"),
        EventKind::AccountOpened { pending: false, tier } => format!("account opened as {tier}"),
        EventKind::AccountActivated => "account activated".into(),
        EventKind::AccountFrozen(reason) => format!("account frozen: {}", reason.code),
        EventKind::AccountUnfrozen { reason, status } => format!("account unfrozen, {} again: {}", status.name(), reason.code),
        EventKind::AccountClosed(reason) => format!("account closed: {}", reason.code),
        EventKind::AccountLapsed => "account inactive: not used for the program's time".into(),
        EventKind::AccountWoken => "account active again".into(),
        EventKind::AliasAdded(_) => "an alias was added".into(),
        EventKind::AliasRemoved(_) => "an alias was removed".into(),
        EventKind::AdjustmentProposed(asked) => format!("{} proposed an adjustment of {:+} points: {}", asked.maker, asked.points, asked.reason.code),
        EventKind::AdjustmentApproved { proposal } => format!("adjustment {proposal} was approved"),
        EventKind::AdjustmentDeclined { proposal, reason } => format!("adjustment {proposal} was declined: {}", reason.code),
        EventKind::PointsEarned(earned) => earned_words(earned),
        EventKind::PointsMatured { lot, .. } => format!("points of lot {lot} became available"),
        EventKind::PointsRedeemed(spent) => format!("redemption {}, worth {}", spent.redemption, spent.value),
        EventKind::PointsHeld { redemption, lapses_at, .. } => format!("held for redemption {redemption} until {lapses_at}"),
        EventKind::HoldCaptured(spent) => format!("redemption {} captured, worth {}", spent.redemption, spent.value),
        EventKind::HoldReleased { redemption, lapsed: true, .. } => format!("hold of redemption {redemption} lapsed"),
        EventKind::HoldReleased { redemption, lapsed: false, .. } => format!("hold of redemption {redemption} released"),
        EventKind::RedemptionReturned { return_id, redemption, .. } => format!("redemption {redemption} returned by {return_id}"),
        EventKind::PurchaseReturned(reversed) => reversed_words(reversed),
        EventKind::RefundBooked { refund, body } => format!("refund {refund}: {} for a purchase that is not on the book", Amount(body.amount.0.normalize())),
        EventKind::PointsExpired(part) => format!("points of lot {} expired", part.lot),
        EventKind::ExpiryMoved { expires_at } => format!("points now expire at {expires_at}"),
        EventKind::PointsAdded { adjustment, reason, .. } => format!("adjustment {adjustment}: {}", reason.code),
        EventKind::PointsTaken { adjustment, reason, .. } => format!("adjustment {adjustment}: {}", reason.code),
        EventKind::DebtPaid { owed: true, .. } => "paid points that were owed".into(),
        EventKind::DebtPaid { owed: false, .. } => "paid for goods returned after their points were spent".into(),
        EventKind::PointsForfeited { .. } => "forfeited by closing the account".into(),
        EventKind::TierChanged(moved) => {
            let why = match moved.cause {
                TierCause::Earned => "reached by earning",
                TierCause::Returned => "after a return",
                TierCause::Review => "by review",
            };
            format!("tier {} → {} {why}", moved.from, moved.to)
        }
        EventKind::TierKept(moved) => format!("tier {} kept by review", moved.to),
    }
}

fn earned_words(earned: &Earned) -> String {
    let purchase = &earned.purchase;
    let mut words = format!("purchase {} rated by rulebook version {} as {}", purchase.purchase_id, earned.rule_version, earned.facts.tier);
    let mut bonuses: Vec<&str> = earned.lines.iter().flat_map(|line| &line.bonus).map(ledger_core::id::Id::as_str).collect();
    bonuses.sort_unstable();
    bonuses.dedup();
    if !bonuses.is_empty() {
        words.push_str(&format!(", with bonus {}", bonuses.join(", ")));
    }
    let points = earned.lot.as_ref().map_or(0, |lot| lot.points);
    if points < earned.uncapped_points {
        words.push_str(&format!(", capped from {} points", earned.uncapped_points));
    }
    words
}

fn reversed_words(reversed: &Reversed) -> String {
    let what = match &reversed.body.what {
        Returned::Amount(amount) => format!("{} of", Amount(amount.0.normalize())),
        Returned::Lines(lines) if lines.len() == 1 => "1 line of".into(),
        Returned::Lines(lines) => format!("{} lines of", lines.len()),
    };
    let mut words = format!("return {}: {what} purchase {}", reversed.return_id, reversed.body.purchase_id);
    if let Some(refunded) = reversed.refunded.filter(|refunded| !refunded.shipping.0.is_zero()) {
        words.push_str(&format!(", {} for shipping", refunded.shipping));
    }
    for (points, why) in [(reversed.expired, "had expired already"), (reversed.shortfall, "could not be taken back"), (reversed.owed, "are owed")] {
        if points > 0 {
            words.push_str(&format!(", {points} points {why}"));
        }
    }
    words
}
