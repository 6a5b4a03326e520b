//! What an accepted command answers, made of its record alone, so that a retry gets the same body.

use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use command_service::Answer;
use ledger_core::account::event::Part;
use ledger_core::account::state::Balance;
use ledger_core::account::{Event, EventKind};
use ledger_core::points::Amount;
use ledger_core::policy::Program;
use serde::Serialize;
use utoipa::ToSchema;

use crate::names::{AcceptedOutcome, EventType};

/// Points moved, as far as they apply.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct PointsMoved {
    /// Given for a purchase.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub earned: Option<i64>,
    /// Spent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redeemed: Option<i64>,
    /// Set aside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<i64>,
    /// No longer set aside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub released: Option<i64>,
    /// Taken back with returned goods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clawed_back: Option<i64>,
    /// Given back with a returned redemption.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restored: Option<i64>,
    /// Lost to time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expired: Option<i64>,
    /// Could not be taken back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shortfall: Option<i64>,
    /// Given (or, negative, taken) by hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adjusted: Option<i64>,
    /// Paid towards what the account owed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owed_paid: Option<i64>,
    /// Lost by closing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forfeited: Option<i64>,
}

fn add(sum: &mut Option<i64>, points: i64) {
    *sum = Some(sum.unwrap_or(0) + points);
}

fn total(parts: &[Part]) -> i64 {
    parts.iter().map(|part| part.points).sum()
}

impl PointsMoved {
    pub(crate) fn of(events: &[Event]) -> Self {
        let mut moved = Self::default();
        for event in events {
            match &event.kind {
                EventKind::PointsEarned(earned) => add(&mut moved.earned, earned.lot.as_ref().map_or(0, |lot| lot.points)),
                EventKind::PointsRedeemed(spent) | EventKind::HoldCaptured(spent) => add(&mut moved.redeemed, total(&spent.parts)),
                EventKind::PointsHeld { parts, .. } => add(&mut moved.held, total(parts)),
                EventKind::HoldReleased { parts, .. } => add(&mut moved.released, total(parts)),
                EventKind::RedemptionReturned { parts, .. } => add(&mut moved.restored, total(parts)),
                EventKind::PurchaseReturned(reversed) => {
                    add(&mut moved.clawed_back, total(&reversed.parts) + reversed.owed);
                    if reversed.shortfall > 0 {
                        add(&mut moved.shortfall, reversed.shortfall);
                    }
                }
                EventKind::PointsExpired(part) => add(&mut moved.expired, part.points),
                EventKind::PointsAdded { lot, .. } => add(&mut moved.adjusted, lot.points),
                EventKind::PointsTaken { parts, .. } => add(&mut moved.adjusted, -total(parts)),
                EventKind::DebtPaid { parts, owed: true } => add(&mut moved.owed_paid, total(parts)),
                EventKind::DebtPaid { parts, owed: false } => add(&mut moved.clawed_back, total(parts)),
                EventKind::PointsForfeited { parts } => add(&mut moved.forfeited, total(parts)),
                _ => {}
            }
        }
        moved
    }
}

/// What happened.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct EventView {
    /// The kind of event.
    #[serde(rename = "type")]
    #[schema(value_type = EventType)]
    pub kind: String,
    /// When it took effect.
    #[schema(format = DateTime)]
    pub at: String,
    /// In words.
    pub reason: String,
    /// Of points spent or given back: what they are worth, in minor units of the currency. The values of the parts of a redemption add up to that of the
    /// whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = "decimal")]
    pub value: Option<String>,
    /// The currency of the value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
    /// For a bonus condition that failed: what it said.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failed_conditions: Vec<String>,
}

impl EventView {
    pub(crate) fn of(event: &Event, program: &Program) -> Self {
        let failed_conditions = match &event.kind {
            EventKind::PointsEarned(earned) => earned.failures.iter().map(|failure| format!("{}: {}", failure.bonus, failure.error)).collect(),
            _ => Vec::new(),
        };
        let kind = projectors::kind(&event.kind).to_owned();
        let value = match &event.kind {
            EventKind::PointsRedeemed(spent) | EventKind::HoldCaptured(spent) => Some(spent.value),
            EventKind::RedemptionReturned { value, .. } => *value,
            _ => None,
        };
        let rules = program.latest().filter(|_| value.is_some());
        Self {
            kind,
            at: event.at.to_string(),
            reason: projectors::reason(&event.kind),
            value: value.zip(rules).map(|(value, rules)| money(value, rules.money_digits())),
            currency: rules.map(|rules| rules.rulebook.currency.clone()),
            failed_conditions,
        }
    }
}

/// With all decimals of the minor unit: 1.00, not 1.
fn money(amount: Amount, digits: u32) -> String {
    let mut decimal = amount.0;
    if decimal.scale() < digits {
        decimal.rescale(digits);
    }
    decimal.to_string()
}

/// What an account has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct BalanceView {
    /// To be spent.
    pub available: i64,
    /// Earned, not yet to be spent.
    pub pending: i64,
    /// Set aside for redemptions.
    pub held: i64,
    /// What the account owes.
    pub owed: i64,
    /// All that purchases ever gave.
    pub lifetime_earned: i64,
}

impl From<Balance> for BalanceView {
    fn from(balance: Balance) -> Self {
        let Balance { available, pending, held, owed, lifetime_earned, lapsed } = balance;
        Self { available: available - lapsed, pending, held, owed, lifetime_earned }
    }
}

/// An accepted command.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(examples(json!({
    "outcome": "accepted", "command_id": "P-20260301-17", "account_id": "m-1001", "points": {"earned": 25},
    "events": [{"type": "points_earned", "at": "2026-03-01T12:00:00Z", "reason": "purchase P-20260301-17 rated by rulebook version 1 as silver"}],
    "balance": {"available": 1500, "pending": 25, "held": 0, "owed": 0, "lifetime_earned": 2025}, "rule_version": 1, "position": "3:17"
})))]
pub struct Accepted {
    /// `accepted`.
    #[schema(value_type = AcceptedOutcome)]
    pub outcome: &'static str,
    /// The command's id.
    pub command_id: String,
    /// The account.
    pub account_id: String,
    /// Points moved, as far as they apply.
    pub points: PointsMoved,
    /// What happened.
    pub events: Vec<EventView>,
    /// What the account has after it.
    pub balance: BalanceView,
    /// The version of the rulebook that decided.
    pub rule_version: u32,
    /// Where it stands on the log: partition:position. Give it as `min_position` to a read that must have seen it.
    pub position: String,
}

/// Position as the API writes it.
pub(crate) fn position(partition: u16, position: u64) -> String {
    format!("{partition}:{position}")
}

/// 201 with the answer, or 200 with the first answer again. Of the program only its currency is told, which never changes.
pub(crate) fn respond(answer: &Answer, program: &Program) -> Response {
    let record = &answer.record;
    let accepted = Accepted {
        outcome: "accepted",
        command_id: record.command_id.to_string(),
        account_id: record.key.account.to_string(),
        points: PointsMoved::of(&record.events),
        events: record.events.iter().map(|event| EventView::of(event, program)).collect(),
        balance: record.balance.into(),
        rule_version: record.rule_version,
        position: position(answer.partition, answer.position),
    };
    if answer.replayed {
        let replayed = (HeaderName::from_static("idempotent-replayed"), HeaderValue::from_static("true"));
        return (StatusCode::OK, [replayed], axum::Json(accepted)).into_response();
    }
    (StatusCode::CREATED, axum::Json(accepted)).into_response()
}
