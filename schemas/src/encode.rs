//! From the core's types to bytes. The order and numbers of the fields are those of `proto/loyalty/v1/book.proto`.

use ledger_core::account::command::{Action, Line, Purchase, Reason, Refund, Return, Returned};
use ledger_core::account::event::{Earned, Lot, Part, Proposal, Reversed, Spent, TierCause, TierMove};
use ledger_core::account::qualifying::Qualifying;
use ledger_core::account::state::Balance;
use ledger_core::account::{Command, Event, EventKind};
use ledger_core::edition::FIRST_EDITION;
use ledger_core::id::Id;
use ledger_core::points::Points;
use ledger_core::policy::{Facts, LinePoints, Paid, RateFailure};
use ledger_core::time::Moment;

use crate::record::{EditionEntered, Hash, Outcome, ProgramChange, ProgramEntry, Record};
use crate::schema_version::SCHEMA_VERSION;
use crate::v1;
use crate::wire::{Wire, amount};

/// Appends the bytes of `record` to `out`.
pub fn encode_record(record: &Record, out: &mut Vec<u8>) {
    let mut to = Wire(out);
    to.uint(1, if record.edition == FIRST_EDITION { 1_u32 } else { SCHEMA_VERSION });
    to.text(2, record.key.program.as_str());
    to.text(3, record.key.account.as_str());
    to.uint(4, record.account_seq);
    to.text(5, record.command_id.as_str());
    to.text(6, &record.command_kind);
    to.bytes(7, &record.content_hash);
    to.int(8, record.recorded_at.as_micros());
    to.int(9, record.effective_at.as_micros());
    to.text(10, &record.actor);
    to.uint(11, record.rule_version);
    to.bytes(12, &record.previous_hash);
    for each in &record.events {
        to.message(13, |to| event(to, each));
    }
    to.message(14, |to| balance(to, &record.balance));
    if record.edition != FIRST_EDITION {
        to.uint(15, record.edition);
    }
    to.optional_uint(16, record.program_entries);
}

/// The bytes of `outcome`.
#[must_use]
pub fn encode_outcome(outcome: &Outcome) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    let mut to = Wire(&mut out);
    to.uint(1, 1_u32);
    to.text(2, outcome.key.program.as_str());
    to.text(3, outcome.key.account.as_str());
    to.message(4, |to| command(to, &outcome.command));
    to.int(5, outcome.recorded_at.as_micros());
    to.uint(6, outcome.number);
    to.text(7, &outcome.code);
    to.text(8, &outcome.detail);
    out
}

pub(crate) fn command(to: &mut Wire<'_>, command: &Command) {
    to.text(1, command.id.as_str());
    to.text(2, &command.actor);
    action(to, &command.action);
}

/// The bytes of `entry`.
#[must_use]
pub fn encode_program_entry(entry: &ProgramEntry) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    let mut to = Wire(&mut out);
    let (schema_version, program) = match &entry.change {
        ProgramChange::EditionEntered(_) | ProgramChange::AliasKeyNamed(_) => (SCHEMA_VERSION, ""),
        ProgramChange::RulebookPublished { program, .. } | ProgramChange::ClockSet { program, .. } => (1, program.as_str()),
        ProgramChange::ClosingProposed { program, .. } | ProgramChange::PeriodClosed { program, .. } => (SCHEMA_VERSION, program.as_str()),
    };
    to.uint(1, schema_version);
    to.text(2, program);
    to.int(3, entry.recorded_at.as_micros());
    to.text(4, &entry.actor);
    match &entry.change {
        ProgramChange::RulebookPublished { version, rulebook, .. } => to.message(5, |to| {
            to.uint(1, *version);
            to.bytes(2, rulebook);
        }),
        ProgramChange::ClockSet { now, .. } => to.message(6, |to| to.int(1, now.as_micros())),
        ProgramChange::EditionEntered(entered) => to.message(7, |to| edition_entered(to, entered)),
        ProgramChange::ClosingProposed { closing, .. } => to.message(8, |to| closing.encode(to)),
        ProgramChange::PeriodClosed { period, proposed_in, .. } => to.message(9, |to| {
            to.text(1, &period.to_string());
            to.uint(2, *proposed_in);
        }),
        ProgramChange::AliasKeyNamed(fingerprint) => to.message(10, |to| to.bytes(1, fingerprint)),
    }
    out
}

fn edition_entered(to: &mut Wire<'_>, entered: &EditionEntered) {
    to.uint(1, entered.edition);
    to.text(2, &entered.time_zones);
    to.text(3, &entered.cel);
    for (partition, position) in (0_u32..).zip(&entered.first_positions) {
        to.message(4, |to| {
            to.uint(1, partition);
            to.uint(2, *position);
        });
    }
}

/// The hash of what `command` asks of the account, without its id and who asks; `scratch` is used as a buffer.
#[must_use]
pub fn content_hash(account: &str, command: &Command, scratch: &mut Vec<u8>) -> Hash {
    scratch.clear();
    scratch.extend_from_slice(account.as_bytes());
    scratch.push(0);
    action(&mut Wire(scratch), &command.action);
    *blake3::hash(scratch).as_bytes()
}

fn balance(to: &mut Wire<'_>, balance: &Balance) {
    to.sint(1, balance.available);
    to.sint(2, balance.pending);
    to.sint(3, balance.held);
    to.sint(4, balance.owed);
    to.sint(5, balance.lifetime_earned);
    to.sint(6, balance.lapsed);
}

fn reason(to: &mut Wire<'_>, number: u32, reason: &Reason) {
    to.message(number, |to| {
        to.text(1, &reason.code);
        to.text(2, &reason.note);
    });
}

fn empty(_: &mut Wire<'_>) {}

/// The field of a command that says what is asked.
fn action(to: &mut Wire<'_>, action: &Action) {
    let capture = |to: &mut Wire<'_>, redemption: &Id, points: Option<Points>| {
        to.text(1, redemption.as_str());
        to.optional_sint(2, points);
    };
    match action {
        Action::Open => to.message(3, empty),
        Action::Activate => to.message(4, empty),
        Action::Freeze(why) => reason(to, 5, why),
        Action::Unfreeze(why) => reason(to, 6, why),
        Action::Close(why) => reason(to, 7, why),
        Action::Earn(body) => to.message(8, |to| purchase(to, body)),
        Action::Redeem { points, occurred_at } => to.message(9, |to| {
            to.sint(1, *points);
            to.optional_int(2, occurred_at.map(Moment::as_micros));
        }),
        Action::Hold { points, minutes, occurred_at } => to.message(10, |to| {
            to.sint(1, *points);
            to.optional_uint(2, *minutes);
            to.optional_int(3, occurred_at.map(Moment::as_micros));
        }),
        Action::Capture { redemption, points } => to.message(11, |to| capture(to, redemption, *points)),
        Action::Release { redemption } => to.message(12, |to| to.text(1, redemption.as_str())),
        Action::ReturnRedemption { redemption, points } => to.message(13, |to| capture(to, redemption, *points)),
        Action::Return(body) => to.message(14, |to| purchase_return(to, body)),
        Action::Refund(body) => to.message(22, |to| refund(to, body)),
        Action::Adjust { points, reason: why } => to.message(15, |to| adjust(to, *points, why)),
        Action::Propose { points, reason: why } => to.message(19, |to| adjust(to, *points, why)),
        Action::Approve { proposal } => to.message(20, |to| to.text(1, proposal.as_str())),
        Action::Decline { proposal, reason: why } => to.message(21, |to| decline(to, proposal, why)),
        Action::Expire => to.message(16, empty),
        Action::AddAlias(alias) => to.message(17, |to| to.bytes(1, &alias.0)),
        Action::RemoveAlias(alias) => to.message(18, |to| to.bytes(1, &alias.0)),
    }
}

fn adjust(to: &mut Wire<'_>, points: Points, why: &Reason) {
    to.sint(1, points);
    reason(to, 2, why);
}

fn decline(to: &mut Wire<'_>, proposal: &Id, why: &Reason) {
    to.text(1, proposal.as_str());
    reason(to, 2, why);
}

fn purchase(to: &mut Wire<'_>, purchase: &Purchase) {
    to.text(1, purchase.purchase_id.as_str());
    to.int(2, purchase.occurred_at.as_micros());
    to.text(3, &purchase.currency);
    to.text(4, &purchase.channel);
    to.text(5, &purchase.store);
    for each in &purchase.lines {
        to.message(6, |to| line(to, each));
    }
    amount(to, 7, purchase.shipping);
    if let Some(origin) = &purchase.origin {
        to.message(12, |to| {
            to.text(1, &origin.cashier);
            to.text(2, &origin.till);
            to.text(3, &origin.device);
            to.text(4, &origin.card_token);
        });
    }
}

fn line(to: &mut Wire<'_>, line: &Line) {
    to.text(1, line.line_id.as_str());
    to.text(2, &line.sku);
    to.text(3, &line.category);
    amount(to, 4, line.quantity);
    amount(to, 5, line.unit_price);
    amount(to, 6, line.discount);
    amount(to, 7, line.tax);
    if let Some(charged) = line.amount {
        amount(to, 8, charged);
    }
}

fn purchase_return(to: &mut Wire<'_>, body: &Return) {
    to.text(1, body.purchase_id.as_str());
    to.int(2, body.occurred_at.as_micros());
    match &body.what {
        Returned::Amount(given) => amount(to, 4, *given),
        Returned::Lines(lines) => {
            for (line_id, quantity) in lines {
                to.message(3, |to| {
                    to.text(1, line_id.as_str());
                    amount(to, 2, *quantity);
                });
            }
        }
    }
    if let Some(shipping) = body.shipping {
        amount(to, 13, shipping);
    }
}

fn refund(to: &mut Wire<'_>, body: &Refund) {
    to.int(1, body.occurred_at.as_micros());
    amount(to, 2, body.amount);
    to.text(3, &body.reference);
}

fn refund_booked(to: &mut Wire<'_>, id: &Id, body: &Refund) {
    to.text(1, id.as_str());
    to.message(2, |to| refund(to, body));
}

fn proposal(to: &mut Wire<'_>, asked: &Proposal) {
    to.text(1, asked.proposal.as_str());
    to.text(2, &asked.maker);
    to.sint(3, asked.points);
    reason(to, 4, &asked.reason);
}

fn event(to: &mut Wire<'_>, event: &Event) {
    to.int(1, event.at.as_micros());
    match &event.kind {
        EventKind::AccountOpened { pending, tier } => to.message(2, |to| {
            to.bool(1, *pending);
            to.text(2, tier);
        }),
        EventKind::AccountActivated => to.message(3, empty),
        EventKind::AccountFrozen(why) => reason(to, 4, why),
        EventKind::AccountUnfrozen { reason: why, status } => to.message(5, |to| {
            reason(to, 1, why);
            to.text(2, status.name());
        }),
        EventKind::AccountClosed(why) => reason(to, 6, why),
        EventKind::AccountLapsed => to.message(7, empty),
        EventKind::AccountWoken => to.message(8, empty),
        EventKind::AliasAdded(alias) => to.message(25, |to| to.bytes(1, &alias.0)),
        EventKind::AliasRemoved(alias) => to.message(26, |to| to.bytes(1, &alias.0)),
        EventKind::PointsEarned(earned) => to.message(9, |to| points_earned(to, earned)),
        EventKind::PointsMatured { lot, points } => to.message(10, |to| {
            to.uint(1, *lot);
            to.sint(2, *points);
        }),
        EventKind::PointsRedeemed(given) => to.message(11, |to| spent(to, given)),
        EventKind::PointsHeld { redemption, parts: from, lapses_at } => to.message(12, |to| {
            to.text(1, redemption.as_str());
            parts(to, 2, from);
            to.int(3, lapses_at.as_micros());
        }),
        EventKind::HoldCaptured(given) => to.message(13, |to| spent(to, given)),
        EventKind::HoldReleased { redemption, parts: into, lapsed } => to.message(14, |to| {
            to.text(1, redemption.as_str());
            parts(to, 2, into);
            to.bool(3, *lapsed);
        }),
        EventKind::RedemptionReturned { return_id, redemption, parts: into, value } => to.message(15, |to| {
            to.text(1, return_id.as_str());
            to.text(2, redemption.as_str());
            parts(to, 3, into);
            value.iter().for_each(|value| amount(to, 4, *value));
        }),
        EventKind::PurchaseReturned(reversed) => to.message(16, |to| purchase_returned(to, reversed)),
        EventKind::RefundBooked { refund, body } => to.message(30, |to| refund_booked(to, refund, body)),
        EventKind::PointsExpired(gone) => to.message(17, |to| part(to, gone)),
        EventKind::ExpiryMoved { expires_at } => to.message(18, |to| to.int(1, expires_at.as_micros())),
        EventKind::PointsAdded { adjustment, lot: into, rule_version, reason: why } => to.message(19, |to| {
            to.text(1, adjustment.as_str());
            to.message(2, |to| lot(to, into));
            to.uint(3, *rule_version);
            reason(to, 4, why);
        }),
        EventKind::AdjustmentProposed(asked) => to.message(27, |to| proposal(to, asked)),
        EventKind::AdjustmentApproved { proposal } => to.message(28, |to| to.text(1, proposal.as_str())),
        EventKind::AdjustmentDeclined { proposal, reason: why } => to.message(29, |to| decline(to, proposal, why)),
        EventKind::PointsTaken { adjustment, parts: from, reason: why } => to.message(20, |to| {
            to.text(1, adjustment.as_str());
            parts(to, 2, from);
            reason(to, 3, why);
        }),
        EventKind::DebtPaid { parts: from, owed } => to.message(21, |to| {
            parts(to, 1, from);
            to.bool(2, *owed);
        }),
        EventKind::PointsForfeited { parts: from } => to.message(22, |to| parts(to, 1, from)),
        EventKind::TierChanged(moved) => to.message(23, |to| tier_move(to, moved)),
        EventKind::TierKept(moved) => to.message(24, |to| tier_move(to, moved)),
    }
}

fn part(to: &mut Wire<'_>, part: &Part) {
    to.uint(1, part.lot);
    to.sint(2, part.points);
    to.bool(3, part.pending);
}

fn parts(to: &mut Wire<'_>, number: u32, parts: &[Part]) {
    for each in parts {
        to.message(number, |to| part(to, each));
    }
}

fn lot(to: &mut Wire<'_>, lot: &Lot) {
    to.uint(1, lot.lot);
    to.sint(2, lot.points);
    to.int(3, lot.available_at.as_micros());
    to.optional_int(4, lot.expires_at.map(Moment::as_micros));
    to.bool(5, lot.expiry_moves);
}

fn points_earned(to: &mut Wire<'_>, earned: &Earned) {
    to.message(1, |to| purchase(to, &earned.purchase));
    to.uint(2, earned.rule_version);
    to.message(3, |to| facts(to, &earned.facts));
    if let Some(given) = &earned.lot {
        to.message(4, |to| lot(to, given));
    }
    to.bool(5, earned.pending);
    to.sint(6, earned.uncapped_points);
    to.sint(7, earned.day_points);
    to.sint(8, earned.day);
    amount(to, 9, earned.qualifying);
    for each in &earned.lines {
        to.message(10, |to| line_points(to, each));
    }
    for each in &earned.failures {
        to.message(11, |to| failure(to, each));
    }
    to.int(12, earned.return_until.as_micros());
    paid_by(to, 13, &earned.paid_by);
    counted(to, 14, earned.counted.as_ref());
    to.optional_uint(20, earned.decimals);
}

fn counted(to: &mut Wire<'_>, field: u32, counted: Option<&Qualifying>) {
    if let Some(counted) = counted {
        to.message(field, |to| {
            to.sint(1, counted.points);
            amount(to, 2, counted.spend);
            to.sint(3, counted.purchases);
        });
    }
}

fn paid_by(to: &mut Wire<'_>, field: u32, all: &[Paid]) {
    for each in all {
        to.message(field, |to| {
            to.uint(1, each.lot);
            to.text(2, each.payer.as_str());
            to.sint(3, each.points);
        });
    }
}

fn facts(to: &mut Wire<'_>, facts: &Facts) {
    to.text(1, &facts.tier);
    to.sint(2, facts.lifetime_earned);
    to.uint(3, facts.purchases);
    to.uint(4, facts.age_days);
}

fn line_points(to: &mut Wire<'_>, line: &LinePoints) {
    to.uint(1, line.line);
    to.sint(2, line.points);
    for bonus in &line.bonus {
        to.item(3, bonus.as_str().as_bytes());
    }
}

fn failure(to: &mut Wire<'_>, failure: &RateFailure) {
    to.uint(1, failure.line);
    to.text(2, failure.bonus.as_str());
    to.text(3, &failure.error);
}

fn spent(to: &mut Wire<'_>, spent: &Spent) {
    to.text(1, spent.redemption.as_str());
    parts(to, 2, &spent.parts);
    amount(to, 3, spent.value);
    to.int(4, spent.return_until.as_micros());
    if let Some(rate) = &spent.rate {
        to.message(5, |to| {
            to.sint(1, rate.points);
            amount(to, 2, rate.amount);
        });
    }
}

fn purchase_returned(to: &mut Wire<'_>, reversed: &Reversed) {
    to.text(1, reversed.return_id.as_str());
    to.message(2, |to| purchase_return(to, &reversed.body));
    to.sint(3, reversed.points);
    to.sint(4, reversed.uncapped_points);
    to.sint(5, reversed.day_points);
    parts(to, 6, &reversed.parts);
    to.sint(7, reversed.expired);
    to.sint(8, reversed.shortfall);
    to.sint(9, reversed.owed);
    amount(to, 10, reversed.qualifying);
    paid_by(to, 11, &reversed.paid_by);
    counted(to, 12, reversed.counted.as_ref());
    for each in &reversed.day_points_by_run {
        to.message(13, |to| {
            to.uint(1, each.first_seq);
            to.sint(2, each.points);
        });
    }
    if let Some(refunded) = &reversed.refunded {
        to.message(20, |to| {
            amount(to, 1, refunded.goods);
            amount(to, 2, refunded.shipping);
            to.bool(3, refunded.all_goods);
        });
    }
}

fn tier_move(to: &mut Wire<'_>, moved: &TierMove) {
    let cause = match moved.cause {
        TierCause::Earned => v1::TierCause::Earned,
        TierCause::Returned => v1::TierCause::Returned,
        TierCause::Review => v1::TierCause::Review,
    };
    to.text(1, &moved.from);
    to.text(2, &moved.to);
    amount(to, 3, moved.qualifying);
    to.bool(4, moved.earned);
    to.optional_int(5, moved.counted_from.map(Moment::as_micros));
    to.optional_int(6, moved.review_at.map(Moment::as_micros));
    to.int(7, i64::from(i32::from(cause)));
    counted(to, 8, moved.counted.as_ref());
}
