//! Redeem: at once, or hold → capture (whole or in part) → release. A till that was offline tells of it later.

use super::{Context, Decision, Draft, happened_at, require_open, require_past, require_spending, rules, rules_at, taking};
use crate::account::event::{Event, EventKind, Part, Spent};
use crate::account::rejection::Rejection;
use crate::account::state::{Account, Status};
use crate::id::Id;
use crate::points::{Amount, Exact, Points, TooLarge};
use crate::policy::Version;
use crate::time::{MINUTE_US, Moment};

/// When a redemption takes effect and by which rules: now, or when it occurred, where it is told later.
fn moment<'a>(account: &Account, occurred_at: Option<Moment>, context: &Context<'a>) -> Result<(Moment, &'a Version), Rejection> {
    let Some(at) = occurred_at else {
        let version = rules(context)?;
        require_spending(account)?;
        return Ok((context.now, version));
    };
    if account.status == Status::Unopened {
        return Err(Rejection::AccountNotFound);
    }
    let version = rules_at(context, at)?;
    require_spending(account)?;
    require_past(at, context.now)?;
    let minutes = version.rulebook.redeem.offline_minutes;
    if context.now > at.plus_micros(i64::from(minutes) * MINUTE_US) {
        return Err(Rejection::ToldTooLate { occurred_at: at, minutes });
    }
    Ok((happened_at(at, context.now), version))
}

/// From which lots a redemption at `at` takes its points.
fn taken(account: &Account, points: Points, version: &Version, at: Moment, is_told_later: bool) -> Result<Vec<Part>, Rejection> {
    let redeem = &version.rulebook.redeem;
    if points < redeem.minimum {
        return Err(Rejection::BelowMinimum { points, minimum: redeem.minimum });
    }
    if points % redeem.multiple_of != 0 {
        return Err(Rejection::NotAMultiple { points, multiple_of: redeem.multiple_of });
    }
    if is_told_later { taking::available_then(account, points, at) } else { taking::available(account, points, at) }
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
fn activity(account: &Account, at: Moment, context: &Context<'_>) -> Result<Vec<Event>, Rejection> {
    let version = rules(context)?;
    let woken = (account.status == Status::Inactive).then_some(Event { at: context.now, kind: EventKind::AccountWoken });
    Ok(woken.into_iter().chain(taking::move_expiry(account, version, at, context.now)).collect())
}

/// What is told later may have been over by now, such as a hold.
fn decided(account: &Account, version: &Version, events: Vec<Event>, is_told_later: bool, context: &Context<'_>) -> Result<Decision, Rejection> {
    if !is_told_later {
        return Ok(Decision { rule_version: version.number, events });
    }
    let mut draft = Draft::new(account, context)?;
    for Event { at, kind } in events {
        draft.emit(at, kind);
    }
    Ok(Decision { rule_version: version.number, ..draft.finish() })
}

pub(super) fn at_once(account: &Account, id: &Id, points: Points, occurred_at: Option<Moment>, context: &Context<'_>) -> Result<Decision, Rejection> {
    let (at, version) = moment(account, occurred_at, context)?;
    let parts = taken(account, points, version, at, occurred_at.is_some())?;
    let mut events = activity(account, at, context)?;
    let spent = spent(account, id, parts, version, at)?;
    events.push(Event { at, kind: EventKind::PointsRedeemed(spent) });
    decided(account, version, events, occurred_at.is_some(), context)
}

pub(super) fn hold(
    account: &Account,
    id: &Id,
    (points, minutes): (Points, Option<u32>),
    occurred_at: Option<Moment>,
    context: &Context<'_>,
) -> Result<Decision, Rejection> {
    let (at, version) = moment(account, occurred_at, context)?;
    let parts = taken(account, points, version, at, occurred_at.is_some())?;
    let lapses_at = at.plus_micros(i64::from(minutes.unwrap_or(version.rulebook.redeem.hold_minutes)) * MINUTE_US);
    let mut events = activity(account, at, context)?;
    events.push(Event { at, kind: EventKind::PointsHeld { redemption: id.clone(), parts, lapses_at } });
    decided(account, version, events, occurred_at.is_some(), context)
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
    for part in &hold.parts {
        let taken = part.points.min(left);
        if taken > 0 {
            parts.push(Part { points: taken, ..*part });
        }
        left -= taken;
    }
    let mut events = activity(account, context.now, context)?;
    let spent = spent(account, redemption, parts, version, context.now)?;
    events.push(Event { at: context.now, kind: EventKind::HoldCaptured(spent) });
    Ok(Decision { rule_version: version.number, events })
}

pub(super) fn release(account: &Account, redemption: &Id, context: &Context<'_>) -> Result<Decision, Rejection> {
    require_open(account)?;
    let hold = account.hold(redemption).ok_or_else(|| no_hold(account, redemption, context))?;
    let mut draft = Draft::new(account, context)?;
    let kind = EventKind::HoldReleased { redemption: redemption.clone(), parts: hold.parts.clone(), lapsed: false };
    taking::give_back(&mut draft, context.now, context.now, &hold.parts, kind);
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
