//! Return: after it the member keeps exactly the points that the goods kept would have earned, by the rule version, the tier and the
//! caps that rated the purchase.

use std::sync::Arc;

use super::{Context, Decision, Draft, cap_of, happened_at, refund, require_open, require_past, taking, tier};
use crate::account::command::{Purchase, Return};
use crate::account::event::{EventKind, Part, Reversed};
use crate::account::evolve::kept_until;
use crate::account::pool::Lowered;
use crate::account::qualifying::Qualifying;
use crate::account::rejection::Rejection;
use crate::account::state::{Account, LotState, PurchaseState};
use crate::id::Id;
use crate::planted::{Bug, is_planted};
use crate::points::{Amount, Points, TooLarge};
use crate::policy::{Kept, OnShortfall, Paid, Program, Rated, Version, gross, paid_by, paid_less, rate};
use crate::time::Moment;

pub(super) fn decide(account: &Account, id: &Id, body: &Arc<Return>, context: &Context<'_>) -> Result<Decision, Rejection> {
    require_open(account)?;
    require_past(body.occurred_at, context.now)?;
    let Some(state) = account.purchase(&body.purchase_id) else {
        let purchase_id = body.purchase_id.clone();
        return Err(if context.target_known { Rejection::ReturnWindowForgotten } else { Rejection::PurchaseNotFound { purchase_id } });
    };
    // Whether it is still kept must not depend on what else the account did.
    if context.now > kept_until(state.return_until) {
        return Err(Rejection::ReturnWindowForgotten);
    }
    if body.occurred_at > state.return_until {
        return Err(Rejection::OutsideReturnWindow { until: state.return_until });
    }
    if body.occurred_at < state.purchase.occurred_at {
        let (occurred_at, purchased_at) = (body.occurred_at, state.purchase.occurred_at);
        return Err(Rejection::ReturnBeforePurchase { occurred_at, purchased_at });
    }
    let (kept, refunded) = refund::divide(state, body)?;
    let mut version = context.program.version(state.rule_version);
    if is_planted(Bug::TodaysRulebookForReturn) {
        version = context.program.at(context.now);
    }
    let version = version.ok_or(Rejection::NoRulebook { at: state.purchase.occurred_at })?;
    let returned_at = happened_at(body.occurred_at, context.now);
    let mut draft = Draft::new(account, context)?;
    // What of its lot is lost by then counts as taken, so it is booked as lost first: no redemption that is told later may spend it.
    taking::lose(&mut draft, Some(&state.lot.into_iter().collect()), returned_at);
    let account = &draft.account;
    let state = account.purchase(&body.purchase_id).unwrap_or(state);
    let mut reversed = reversed(account, state, &kept, (context.program, version), (id, body), returned_at).map_err(|_| Rejection::AmountTooLarge)?;
    reversed.refunded = Some(refunded);
    // Told late, it may take points that came after it.
    let at = returned_at.max(taking::since(account, &reversed.parts));
    draft.emit(at, EventKind::PurchaseReturned(Box::new(reversed)));
    // What a smaller basket earns more pays what is owed, as any points that come.
    taking::pay_owed(&mut draft, at, None);
    tier::after_return(&mut draft, returned_at);
    Ok(Decision { rule_version: version.number, ..draft.finish() })
}

fn reversed(
    account: &Account,
    state: &PurchaseState,
    kept: &Kept,
    (program, version): (&Program, &Version),
    (id, body): (&Id, &Arc<Return>),
    returned_at: Moment,
) -> Result<Reversed, TooLarge> {
    let rated = rate(&state.purchase, kept, version, &state.facts)?;
    // A purchase that gave nothing has no lot for a smaller basket's bonus to go to.
    let mut uncapped_points = if state.lot.is_none() { rated.points.min(state.uncapped_points) } else { rated.points };
    let (day_cap, member_cap) = (cap_of(program, |caps| caps.per_day), cap_of(program, |caps| caps.per_member));
    let mut lowered = account.pools.lowered((state.seq, state.day), state.uncapped_points - uncapped_points, day_cap, member_cap);
    if state.lot.is_none() && lowered.points < 0 {
        // Nor for the room that it leaves to others. What nobody gets must not be taken from anybody later, so it keeps its place under the caps.
        (uncapped_points, lowered) = (state.uncapped_points, Lowered::default());
    }
    let mut points = lowered.points;
    if is_planted(Bug::RoundingPerPartOfReturn) {
        points = rounded_alone(state, kept, version, points)?;
    }
    let counted = uncounted(state, kept, &rated, points)?;
    let (parts, expired) = take_back(account, state, points, returned_at);
    let missing = points - taking::sum(&parts) - expired;
    let owes = version.rulebook.returns.on_shortfall == OnShortfall::Negative;
    Ok(Reversed {
        return_id: id.clone(),
        body: Arc::clone(body),
        points,
        uncapped_points,
        day_points: lowered.day_points,
        parts,
        expired,
        shortfall: if owes { 0 } else { missing },
        owed: if owes { missing } else { 0 },
        refunded: None,
        qualifying: counted.by(version.rulebook.tiers.qualify_by),
        paid_by: unpaid(state, version, rated, points)?,
        counted: Some(counted),
        day_points_by_run: lowered.by_run,
    })
}

/// What payers don't pay for any more, when the goods kept, which are `rated`, earn `points` less than before.
fn unpaid(state: &PurchaseState, version: &Version, mut rated: Rated, points: Points) -> Result<Vec<Paid>, TooLarge> {
    let Some(lot) = state.lot.filter(|_| version.has_payers()) else { return Ok(Vec::new()) };
    let mut before = rate(&state.purchase, &state.kept, version, &state.facts)?;
    before.cap(state.points.max(0));
    rated.cap((state.points - points).max(0));
    Ok(paid_less(&paid_by(lot, &before.lines, version)?, &paid_by(lot, &rated.lines, version)?))
}

/// The planted bug: what is given back rated on its own, as if it were a purchase.
fn rounded_alone(state: &PurchaseState, kept: &Kept, version: &Version, points: Points) -> Result<Points, TooLarge> {
    let mut alone = Purchase::clone(&state.purchase);
    for (index, line) in alone.lines.iter_mut().enumerate() {
        let before = state.kept.quantity(index, line);
        line.quantity = before.minus(kept.quantity(index, line));
    }
    alone.lines.retain(|line| line.quantity > Amount::ZERO);
    Ok(if points <= 0 { points } else { rate(&alone, &Kept::default(), version, &state.facts)?.points.min(points + 1) })
}

/// From the purchase's own lot first; then what of it has expired (all of it that is lost by `at` is booked so) counts as taken; then from the
/// others, the oldest expiry first.
fn take_back(account: &Account, state: &PurchaseState, points: Points, at: Moment) -> (Vec<Part>, Points) {
    let own = state.lot.and_then(|lot| account.lot(lot)).filter(|lot| !lot.is_lost_by(at));
    if points < 0 {
        // The goods kept earn more than before (a bonus for small baskets): it goes to the same lot, or expired with it.
        return match own {
            Some(lot) if lot.remaining > 0 || state.expired == 0 => (vec![Part { lot: lot.lot, points, pending: lot.pending }], 0),
            _ => (Vec::new(), points),
        };
    }
    if is_planted(Bug::ClawbackFromOtherLotsFirst) {
        return others_first(account, state, points, at);
    }
    let (mut parts, expired) = take_back_own(own, state, points);
    parts.extend(taking::take_back(account, state.lot, points - taking::sum(&parts) - expired, at));
    (parts, expired)
}

/// What of `points` the purchase's own lot has, and how many of them expired with it.
fn take_back_own(own: Option<&LotState>, state: &PurchaseState, points: Points) -> (Vec<Part>, Points) {
    let mut parts = Vec::new();
    let mut left = points;
    if let Some(lot) = own.filter(|lot| lot.remaining > 0 && left > 0) {
        let taken = lot.remaining.min(left);
        parts.push(Part { lot: lot.lot, points: taken, pending: lot.pending });
        left -= taken;
    }
    (parts, state.expired.clamp(0, left))
}

/// The planted bug: from the other lots first.
fn others_first(account: &Account, state: &PurchaseState, points: Points, at: Moment) -> (Vec<Part>, Points) {
    let mut parts = taking::take_back(account, state.lot, points, at);
    let own = state.lot.and_then(|lot| account.lot(lot)).filter(|lot| !lot.is_lost_by(at));
    let (own, expired) = take_back_own(own, state, points - taking::sum(&parts));
    parts.extend(own);
    (parts, expired)
}

/// What the goods given back had counted towards a tier.
fn uncounted(state: &PurchaseState, kept: &Kept, rated: &Rated, points: Points) -> Result<Qualifying, TooLarge> {
    let is_all_back = gross(&state.purchase, kept)?.to_amount()? <= Amount::ZERO;
    // What is kept counts what it is rated to have cost, as if nothing else had been bought.
    let spend = state.qualifying.spend.minus(rated.spend).max(Amount::ZERO);
    Ok(Qualifying { points, spend, purchases: i64::from(is_all_back) }.min(state.qualifying))
}
