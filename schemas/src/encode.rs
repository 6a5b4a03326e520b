//! From the core's types to bytes.

use ledger_core::account::command::{Action, Line, Purchase, Reason, Return, Returned};
use ledger_core::account::event::{Earned, Lot, Part, Reversed, Spent, TierCause, TierMove};
use ledger_core::account::{Command, Event, EventKind};
use ledger_core::points::Amount;
use ledger_core::time::Moment;
use prost::Message;

use crate::record::{Hash, Outcome, ProgramChange, ProgramEntry, Record};
use crate::{SCHEMA_VERSION, v1};

/// Appends the bytes of `record` to `out`.
pub fn encode_record(record: &Record, out: &mut Vec<u8>) {
    let balance = &record.balance;
    let message = v1::Record {
        schema_version: SCHEMA_VERSION,
        program: record.key.program.to_string(),
        account: record.key.account.to_string(),
        account_seq: record.account_seq,
        command_id: record.command_id.to_string(),
        command_kind: record.command_kind.to_string(),
        content_hash: record.content_hash.to_vec(),
        recorded_at_us: record.recorded_at.as_micros(),
        effective_at_us: record.effective_at.as_micros(),
        actor: record.actor.to_string(),
        rule_version: record.rule_version,
        previous_hash: record.previous_hash.to_vec(),
        events: record.events.iter().map(event).collect(),
        balance: Some(v1::Balance {
            available: balance.available,
            pending: balance.pending,
            held: balance.held,
            owed: balance.owed,
            lifetime_earned: balance.lifetime_earned,
        }),
    };
    message.encode(out).expect("a Vec grows as needed");
}

/// The bytes of `outcome`.
#[must_use]
pub fn encode_outcome(outcome: &Outcome) -> Vec<u8> {
    let command = v1::Command { id: outcome.command.id.to_string(), actor: outcome.command.actor.to_string(), action: Some(action(&outcome.command.action)) };
    v1::Outcome {
        schema_version: SCHEMA_VERSION,
        program: outcome.key.program.to_string(),
        account: outcome.key.account.to_string(),
        command: Some(command),
        recorded_at_us: outcome.recorded_at.as_micros(),
        number: u32::from(outcome.number),
        code: outcome.code.clone(),
        detail: outcome.detail.clone(),
    }
    .encode_to_vec()
}

/// The bytes of `entry`.
#[must_use]
pub fn encode_program_entry(entry: &ProgramEntry) -> Vec<u8> {
    let kind = match &entry.change {
        ProgramChange::RulebookPublished { version, rulebook } => {
            v1::program_entry::Kind::RulebookPublished(v1::RulebookPublished { version: *version, rulebook: rulebook.clone() })
        }
        ProgramChange::ClockSet { now } => v1::program_entry::Kind::ClockSet(v1::ClockSet { now_us: now.as_micros() }),
    };
    v1::ProgramEntry {
        schema_version: SCHEMA_VERSION,
        program: entry.program.to_string(),
        recorded_at_us: entry.recorded_at.as_micros(),
        actor: entry.actor.to_string(),
        kind: Some(kind),
    }
    .encode_to_vec()
}

/// The hash of what `command` asks of the account, without its id and who asks; `scratch` is used as a buffer.
#[must_use]
pub fn content_hash(account: &str, command: &Command, scratch: &mut Vec<u8>) -> Hash {
    scratch.clear();
    scratch.extend_from_slice(account.as_bytes());
    scratch.push(0);
    let message = v1::Command { id: String::new(), actor: String::new(), action: Some(action(&command.action)) };
    message.encode(scratch).expect("a Vec grows as needed");
    *blake3::hash(scratch).as_bytes()
}

fn amount(amount: Amount) -> Option<v1::Amount> {
    let amount = Amount(amount.0.normalize());
    Some(v1::Amount { units: amount.units(), scale: amount.scale() })
}

fn reason(reason: &Reason) -> v1::Reason {
    v1::Reason { code: reason.code.to_string(), note: reason.note.clone() }
}

fn micros(moment: Option<Moment>) -> Option<i64> {
    moment.map(Moment::as_micros)
}

fn action(action: &Action) -> v1::command::Action {
    use v1::command::Action as Wire;
    let capture = |redemption: &ledger_core::id::Id, points| v1::Capture { redemption: redemption.to_string(), points };
    match action {
        Action::Open => Wire::Open(v1::Empty {}),
        Action::Activate => Wire::Activate(v1::Empty {}),
        Action::Freeze(why) => Wire::Freeze(reason(why)),
        Action::Unfreeze(why) => Wire::Unfreeze(reason(why)),
        Action::Close(why) => Wire::Close(reason(why)),
        Action::Earn(body) => Wire::Earn(purchase(body)),
        Action::Redeem { points } => Wire::Redeem(v1::Redeem { points: *points }),
        Action::Hold { points, minutes } => Wire::Hold(v1::Hold { points: *points, minutes: *minutes }),
        Action::Capture { redemption, points } => Wire::Capture(capture(redemption, *points)),
        Action::Release { redemption } => Wire::Release(v1::Release { redemption: redemption.to_string() }),
        Action::ReturnRedemption { redemption, points } => Wire::ReturnRedemption(capture(redemption, *points)),
        Action::Return(body) => Wire::Return(purchase_return(body)),
        Action::Adjust { points, reason: why } => Wire::Adjust(v1::Adjust { points: *points, reason: Some(reason(why)) }),
        Action::Expire => Wire::Expire(v1::Empty {}),
    }
}

fn purchase(purchase: &Purchase) -> v1::Purchase {
    v1::Purchase {
        purchase_id: purchase.purchase_id.to_string(),
        occurred_at_us: purchase.occurred_at.as_micros(),
        currency: purchase.currency.to_string(),
        channel: purchase.channel.to_string(),
        store: purchase.store.to_string(),
        lines: purchase.lines.iter().map(line).collect(),
        shipping: amount(purchase.shipping),
    }
}

fn line(line: &Line) -> v1::Line {
    v1::Line {
        line_id: line.line_id.to_string(),
        sku: line.sku.to_string(),
        category: line.category.to_string(),
        quantity: amount(line.quantity),
        unit_price: amount(line.unit_price),
        discount: amount(line.discount),
        tax: amount(line.tax),
    }
}

fn purchase_return(body: &Return) -> v1::PurchaseReturn {
    let (lines, amount) = match &body.what {
        Returned::Amount(given) => (Vec::new(), amount(*given)),
        Returned::Lines(lines) => {
            let line = |(line_id, quantity): &(ledger_core::id::Id, Amount)| v1::ReturnLine { line_id: line_id.to_string(), quantity: amount(*quantity) };
            (lines.iter().map(line).collect(), None)
        }
    };
    v1::PurchaseReturn { purchase_id: body.purchase_id.to_string(), occurred_at_us: body.occurred_at.as_micros(), lines, amount }
}

fn event(event: &Event) -> v1::Event {
    use v1::event::Kind;
    let kind = match &event.kind {
        EventKind::AccountOpened { pending, tier } => Kind::AccountOpened(v1::AccountOpened { pending: *pending, tier: tier.to_string() }),
        EventKind::AccountActivated => Kind::AccountActivated(v1::Empty {}),
        EventKind::AccountFrozen(why) => Kind::AccountFrozen(reason(why)),
        EventKind::AccountUnfrozen { reason: why, status } => {
            Kind::AccountUnfrozen(v1::AccountUnfrozen { reason: Some(reason(why)), status: status.name().to_owned() })
        }
        EventKind::AccountClosed(why) => Kind::AccountClosed(reason(why)),
        EventKind::AccountLapsed => Kind::AccountLapsed(v1::Empty {}),
        EventKind::AccountWoken => Kind::AccountWoken(v1::Empty {}),
        EventKind::PointsEarned(earned) => Kind::PointsEarned(points_earned(earned)),
        EventKind::PointsMatured { lot, points } => Kind::PointsMatured(v1::PointsMatured { lot: *lot, points: *points }),
        EventKind::PointsRedeemed(given) => Kind::PointsRedeemed(spent(given)),
        EventKind::PointsHeld { redemption, parts: from, lapses_at } => {
            Kind::PointsHeld(v1::PointsHeld { redemption: redemption.to_string(), parts: parts(from), lapses_at_us: lapses_at.as_micros() })
        }
        EventKind::HoldCaptured(given) => Kind::HoldCaptured(spent(given)),
        EventKind::HoldReleased { redemption, parts: to, lapsed } => {
            Kind::HoldReleased(v1::HoldReleased { redemption: redemption.to_string(), parts: parts(to), lapsed: *lapsed })
        }
        EventKind::RedemptionReturned { return_id, redemption, parts: to } => {
            Kind::RedemptionReturned(v1::RedemptionReturned { return_id: return_id.to_string(), redemption: redemption.to_string(), parts: parts(to) })
        }
        EventKind::PurchaseReturned(reversed) => Kind::PurchaseReturned(purchase_returned(reversed)),
        EventKind::PointsExpired(given) => Kind::PointsExpired(part(given)),
        EventKind::ExpiryMoved { expires_at } => Kind::ExpiryMoved(v1::ExpiryMoved { expires_at_us: expires_at.as_micros() }),
        EventKind::PointsAdded { adjustment, lot: into, rule_version, reason: why } => Kind::PointsAdded(v1::PointsAdded {
            adjustment: adjustment.to_string(),
            lot: Some(lot(into)),
            rule_version: *rule_version,
            reason: Some(reason(why)),
        }),
        EventKind::PointsTaken { adjustment, parts: from, reason: why } => {
            Kind::PointsTaken(v1::PointsTaken { adjustment: adjustment.to_string(), parts: parts(from), reason: Some(reason(why)) })
        }
        EventKind::DebtPaid { parts: from, owed } => Kind::DebtPaid(v1::DebtPaid { parts: parts(from), owed: *owed }),
        EventKind::PointsForfeited { parts: from } => Kind::PointsForfeited(v1::Parts { parts: parts(from) }),
        EventKind::TierChanged(moved) => Kind::TierChanged(tier_move(moved)),
        EventKind::TierKept(moved) => Kind::TierKept(tier_move(moved)),
    };
    v1::Event { at_us: event.at.as_micros(), kind: Some(kind) }
}

fn part(part: &Part) -> v1::Part {
    v1::Part { lot: part.lot, points: part.points, pending: part.pending }
}

fn parts(parts: &[Part]) -> Vec<v1::Part> {
    parts.iter().map(part).collect()
}

fn lot(lot: &Lot) -> v1::Lot {
    v1::Lot {
        lot: lot.lot,
        points: lot.points,
        available_at_us: lot.available_at.as_micros(),
        expires_at_us: micros(lot.expires_at),
        expiry_moves: lot.expiry_moves,
    }
}

fn points_earned(earned: &Earned) -> v1::PointsEarned {
    let line_points = |line: &ledger_core::policy::LinePoints| v1::LinePoints {
        line: line.line,
        points: line.points,
        bonus: line.bonus.iter().map(ToString::to_string).collect(),
    };
    let failure =
        |failure: &ledger_core::policy::RateFailure| v1::RateFailure { line: failure.line, bonus: failure.bonus.to_string(), error: failure.error.clone() };
    v1::PointsEarned {
        purchase: Some(purchase(&earned.purchase)),
        rule_version: earned.rule_version,
        facts: Some(v1::Facts {
            tier: earned.facts.tier.to_string(),
            lifetime_earned: earned.facts.lifetime_earned,
            purchases: earned.facts.purchases,
            age_days: earned.facts.age_days,
        }),
        lot: earned.lot.as_ref().map(lot),
        pending: earned.pending,
        uncapped_points: earned.uncapped_points,
        day_points: earned.day_points,
        day: earned.day,
        qualifying: amount(earned.qualifying),
        lines: earned.lines.iter().map(line_points).collect(),
        failures: earned.failures.iter().map(failure).collect(),
        return_until_us: earned.return_until.as_micros(),
    }
}

fn spent(spent: &Spent) -> v1::Spent {
    v1::Spent {
        redemption: spent.redemption.to_string(),
        parts: parts(&spent.parts),
        value: amount(spent.value),
        return_until_us: spent.return_until.as_micros(),
    }
}

fn purchase_returned(reversed: &Reversed) -> v1::PurchaseReturned {
    v1::PurchaseReturned {
        return_id: reversed.return_id.to_string(),
        body: Some(purchase_return(&reversed.body)),
        points: reversed.points,
        uncapped_points: reversed.uncapped_points,
        day_points: reversed.day_points,
        parts: parts(&reversed.parts),
        expired: reversed.expired,
        shortfall: reversed.shortfall,
        owed: reversed.owed,
        qualifying: amount(reversed.qualifying),
    }
}

fn tier_move(moved: &TierMove) -> v1::TierMove {
    let cause = match moved.cause {
        TierCause::Earned => v1::TierCause::Earned,
        TierCause::Returned => v1::TierCause::Returned,
        TierCause::Review => v1::TierCause::Review,
    };
    v1::TierMove {
        from: moved.from.to_string(),
        to: moved.to.to_string(),
        qualifying: amount(moved.qualifying),
        earned: moved.earned,
        counted_from_us: micros(moved.counted_from),
        review_at_us: micros(moved.review_at),
        cause: cause.into(),
    }
}
