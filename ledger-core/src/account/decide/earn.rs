//! Earn: a purchase gives points, rated by the rulebook and the tier of the time it occurred.

use std::sync::Arc;

use compact_str::CompactString;

use super::{Context, Decision, Draft, cap_of, expire, happened_at, require_past, rules, rules_at, taking, tier};
use crate::account::command::Purchase;
use crate::account::event::{Earned, Event, EventKind, Lot};
use crate::account::qualifying::Qualifying;
use crate::account::rejection::Rejection;
use crate::account::state::{Account, Status};
use crate::policy::{Facts, Kept, Version, paid_by, rate};
use crate::posting::Bucket;
use crate::time::{DAY_US, Moment};

pub(super) fn decide(account: &Account, purchase: &Arc<Purchase>, context: &Context<'_>) -> Result<Decision, Rejection> {
    let occurred_at = purchase.occurred_at;
    let now_rules = rules(context)?;
    if account.status == Status::Unopened && !now_rules.rulebook.accounts.open_on_earn {
        return Err(Rejection::AccountNotFound);
    }
    let version = rules_at(context, occurred_at)?;
    match account.status {
        Status::Closed => return Err(Rejection::AccountClosed),
        Status::Frozen => return Err(Rejection::AccountFrozen),
        Status::Unopened | Status::Pending | Status::Active | Status::Inactive => {}
    }
    require_past(occurred_at, context.now)?;
    if purchase.currency != version.rulebook.currency {
        let (currency, expected) = (purchase.currency.to_string(), version.rulebook.currency.clone());
        return Err(Rejection::CurrencyMismatch { currency, expected });
    }
    let mut events = Vec::with_capacity(2);
    let at = happened_at(occurred_at, context.now);
    wake(account, at, (version, now_rules), context, &mut events);
    let earned = rated(account, purchase, version, context)?;
    let lot = earned.lot.as_ref().map(|lot| lot.lot);
    let moved = tier::after_earning(account, &earned, now_rules, context.now);
    let goes_on = pays_debt(account, &earned)
        || matures_by(&earned, context.now)
        || earned.lot.as_ref().and_then(|lot| lot.expires_at).is_some_and(|at| at <= context.now)
        || moved.as_ref().and_then(|(_, moved)| moved.review_at).is_some_and(|at| at <= context.now)
        || expire::lapses_by(context.program, account.last_activity.max(occurred_at), context.now);
    events.push(Event { at, kind: EventKind::PointsEarned(earned) });
    if !goes_on {
        events.extend(moved.map(|(at, moved)| Event { at, kind: EventKind::TierChanged(moved) }));
        return Ok(Decision { rule_version: version.number, events });
    }
    // What was earned is used up or falls due at once: go on from the account as it is then.
    let mut draft = Draft::new(account, context)?;
    for event in events {
        draft.emit(event.at, event.kind);
    }
    taking::pay_owed(&mut draft, at, lot);
    if let Some((at, moved)) = moved {
        draft.emit(at, EventKind::TierChanged(moved));
    }
    Ok(Decision { rule_version: version.number, ..draft.finish() })
}

/// Whether the account owes something that the points earned pay.
fn pays_debt(account: &Account, earned: &Earned) -> bool {
    account.total(Bucket::Owed) < 0 && earned.lot.is_some()
}

/// Whether the points earned are pending no more at `now`, as those of a purchase that is told late.
fn matures_by(earned: &Earned, now: Moment) -> bool {
    earned.pending && earned.lot.as_ref().is_some_and(|lot| lot.available_at <= now)
}

/// What an activity does beside its points: it opens or wakes the account, and moves the expiry of the lots that follow it.
fn wake(account: &Account, at: Moment, (version, now_rules): (&Version, &Version), context: &Context<'_>, events: &mut Vec<Event>) {
    match account.status {
        Status::Unopened => {
            let pending = now_rules.rulebook.accounts.activation_required;
            let tier = CompactString::from(version.levels()[0].name.as_str());
            events.push(Event { at, kind: EventKind::AccountOpened { pending, tier } });
        }
        Status::Inactive if !expire::lapses_by(context.program, account.last_activity.max(at), context.now) => {
            // Told late, it wakes the account no earlier than it fell asleep.
            let asleep_at = context.program.sleeps_at(account.last_activity).map_or(at, |lapsed| lapsed.min(context.now));
            events.push(Event { at: at.max(asleep_at), kind: EventKind::AccountWoken });
        }
        _ => {}
    }
    events.extend(taking::move_expiry(account, now_rules, at, context.now));
}

fn facts(account: &Account, purchase: &Purchase, version: &Version) -> Facts {
    let opened = account.status != Status::Unopened;
    let tier = if opened { account.tier_at(purchase.occurred_at).clone() } else { CompactString::from(version.levels()[0].name.as_str()) };
    let age_us = if opened { purchase.occurred_at.as_micros() - account.opened_at.as_micros() } else { 0 };
    Facts { tier, lifetime_earned: account.lifetime_earned, purchases: account.purchase_count, age_days: u32::try_from(age_us / DAY_US).unwrap_or(0) }
}

fn rated(account: &Account, purchase: &Arc<Purchase>, version: &Version, context: &Context<'_>) -> Result<Box<Earned>, Rejection> {
    let program = context.program;
    let (earn, at) = (&version.rulebook.earn, purchase.occurred_at);
    let facts = facts(account, purchase, version);
    let kept = Kept::all(purchase);
    let mut rated = rate(purchase, &kept, version, &facts).map_err(|_| Rejection::AmountTooLarge)?;
    let uncapped_points = rated.points;
    let day = version.zone.day(happened_at(at, context.now));
    let day_points = account.pools.day_room(day, uncapped_points, earn.caps.per_day, cap_of(program, |caps| caps.per_day));
    let points = account.pools.member_room(day_points, earn.caps.per_member, cap_of(program, |caps| caps.per_member));
    rated.cap(points);
    let available_at = if earn.pending_days == 0 { at } else { version.zone.plus_days(at, earn.pending_days) };
    let lot = (points > 0).then(|| Lot {
        lot: account.lot_count + 1,
        points,
        available_at,
        expires_at: version.expires_at(at, account.last_activity.max(at)),
        expiry_moves: version.expiry_moves(),
    });
    let paid_by = lot.as_ref().map_or(Ok(Vec::new()), |lot| paid_by(lot.lot, &rated.lines, version)).map_err(|_| Rejection::AmountTooLarge)?;
    let counted = Qualifying { points, spend: rated.spend, purchases: 1 };
    Ok(Box::new(Earned {
        purchase: Arc::clone(purchase),
        rule_version: version.number,
        facts,
        lot,
        pending: earn.pending_days > 0,
        uncapped_points,
        day_points,
        day,
        qualifying: counted.by(version.rulebook.tiers.qualify_by),
        paid_by,
        lines: rated.lines,
        failures: rated.failures,
        return_until: version.zone.plus_days(at, version.rulebook.returns.window_days),
        counted: Some(counted),
        decimals: kept.decimals,
    }))
}
