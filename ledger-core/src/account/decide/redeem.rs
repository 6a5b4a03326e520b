//! Redeem: at once, or hold → capture (whole or in part) → release.

use super::{Context, Decision, Draft, require_open, require_spending, rules, taking};
use crate::account::event::{Event, EventKind, Part, Spent};
use crate::account::rejection::Rejection;
use crate::account::state::{Account, Status};
use crate::id::Id;
use crate::points::{Amount, Exact, Points, TooLarge};
use crate::policy::Version;
use crate::posting::Bucket;
use crate::time::{MINUTE_US, Moment};

fn check(account: &Account, points: Points, version: &Version) -> Result<(), Rejection> {
    require_spending(account)?;
    let redeem = &version.rulebook.redeem;
    let available = account.total(Bucket::Available);
    if points < redeem.minimum {
        Err(Rejection::BelowMinimum { points, minimum: redeem.minimum })
    } else if points % redeem.multiple_of != 0 {
        Err(Rejection::NotAMultiple { points, multiple_of: redeem.multiple_of })
    } else if points > available {
        Err(Rejection::InsufficientPoints { points, available })
    } else {
        Ok(())
    }
}

fn spent(account: &Account, redemption: &Id, parts: Vec<Part>, version: &Version, now: Moment) -> Result<Spent, Rejection> {
    let rate = version.rulebook.redeem.value;
    let value = growth(account, redemption, rate.exact(taking::sum(&parts)), version).map_err(|_| Rejection::AmountTooLarge)?;
    let return_until = version.zone.plus_days(now, version.rulebook.returns.window_days);
    Ok(Spent { redemption: redemption.clone(), parts, value, return_until, rate: Some(rate) })
}

/// By how much the value of the redemption, rounded to what can be paid, grows by `more`.
fn growth(account: &Account, redemption: &Id, more: Result<Exact, TooLarge>, version: &Version) -> Result<Amount, TooLarge> {
    let before = account.redemption(redemption).map_or(Ok(Exact::ZERO), |state| state.worth(0))?;
    let digits = version.money_digits();
    Ok(before.plus(more?)?.to_decimals(digits)?.minus(before.to_decimals(digits)?))
}

/// An activity without a purchase: it wakes the account and moves the expiry of the lots that follow it.
fn activity(account: &Account, version: &Version, now: Moment) -> Vec<Event> {
    let woken = (account.status == Status::Inactive).then_some(Event { at: now, kind: EventKind::AccountWoken });
    woken.into_iter().chain(taking::move_expiry(account, version, now)).collect()
}

pub(super) fn at_once(account: &Account, id: &Id, points: Points, context: &Context<'_>) -> Result<Decision, Rejection> {
    let version = rules(context)?;
    check(account, points, version)?;
    let mut events = activity(account, version, context.now);
    let spent = spent(account, id, taking::available(account, points), version, context.now)?;
    events.push(Event { at: context.now, kind: EventKind::PointsRedeemed(spent) });
    Ok(Decision { rule_version: version.number, events })
}

pub(super) fn hold(account: &Account, id: &Id, points: Points, minutes: Option<u32>, context: &Context<'_>) -> Result<Decision, Rejection> {
    let version = rules(context)?;
    check(account, points, version)?;
    let minutes = minutes.unwrap_or(version.rulebook.redeem.hold_minutes);
    let lapses_at = context.now.plus_micros(i64::from(minutes) * MINUTE_US);
    let mut events = activity(account, version, context.now);
    let parts = taking::available(account, points);
    events.push(Event { at: context.now, kind: EventKind::PointsHeld { redemption: id.clone(), parts, lapses_at } });
    Ok(Decision { rule_version: version.number, events })
}

pub(super) fn capture(account: &Account, redemption: &Id, points: Option<Points>, context: &Context<'_>) -> Result<Decision, Rejection> {
    let version = rules(context)?;
    require_spending(account)?;
    let hold = account.hold(redemption).ok_or_else(|| no_hold(account, redemption, context))?;
    let held = hold.points();
    let points = points.unwrap_or(held);
    if points > held {
        return Err(Rejection::CaptureExceedsHold { points, held });
    }
    let mut left = points;
    let mut parts = Vec::new();
    for part in hold.parts.iter().take_while(|_| points > 0) {
        let taken = part.points.min(left);
        if taken > 0 {
            parts.push(Part { points: taken, ..*part });
        }
        left -= taken;
    }
    let mut events = activity(account, version, context.now);
    let spent = spent(account, redemption, parts, version, context.now)?;
    events.push(Event { at: context.now, kind: EventKind::HoldCaptured(spent) });
    Ok(Decision { rule_version: version.number, events })
}

pub(super) fn release(account: &Account, redemption: &Id, context: &Context<'_>) -> Result<Decision, Rejection> {
    require_open(account)?;
    let hold = account.hold(redemption).ok_or_else(|| no_hold(account, redemption, context))?;
    let (parts, points) = (hold.parts.clone(), hold.points());
    let mut draft = Draft::new(account, context)?;
    draft.emit(context.now, EventKind::HoldReleased { redemption: redemption.clone(), parts, lapsed: false });
    taking::pay_debts(&mut draft, context.now, points);
    Ok(draft.finish())
}

fn no_hold(account: &Account, redemption: &Id, context: &Context<'_>) -> Rejection {
    let redemption_id = redemption.clone();
    if context.target_known || account.redemption(redemption).is_some() {
        Rejection::HoldNotFound { redemption_id }
    } else {
        Rejection::RedemptionNotFound { redemption_id }
    }
}
