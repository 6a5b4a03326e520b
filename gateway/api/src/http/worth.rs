//! What points come to in money, by the rulebook's value of a point.

use analytics::liability::{Payer, RollForward, Rolled};
use ledger_core::policy::Rulebook;
use serde::Serialize;
use utoipa::ToSchema;

/// What points are worth, in a string; none where that is too large for a decimal.
fn worth(points: i64, rulebook: &Rulebook) -> Option<String> {
    rulebook.redeem.value.money(points).map(|money| money.0.to_string())
}

/// A roll-forward in money.
#[derive(Debug, Serialize, ToSchema)]
pub struct RollForwardMoney {
    /// ISO 4217 code.
    currency: String,
    /// As the rows in points.
    rows: Vec<RolledMoney>,
    /// As the total in points.
    total: RolledMoney,
}

/// A row of a roll-forward in money: decimals rounded to 6 places, half even; null where one is too large.
#[derive(Debug, Serialize, ToSchema)]
pub struct RolledMoney {
    /// The tier or the issue month, where it is by one.
    group: Option<String>,
    /// Owed at the start.
    #[schema(format = "decimal")]
    opening: Option<String>,
    /// Earned.
    #[schema(format = "decimal")]
    issued: Option<String>,
    /// Became available; it moves nothing in or out.
    #[schema(format = "decimal")]
    matured: Option<String>,
    /// Spent, less what came back with returned redemptions.
    #[schema(format = "decimal")]
    redeemed: Option<String>,
    /// Lost to time.
    #[schema(format = "decimal")]
    expired: Option<String>,
    /// Taken back with returned goods.
    #[schema(format = "decimal")]
    clawed_back: Option<String>,
    /// Given and taken by hand.
    #[schema(format = "decimal")]
    adjusted: Option<String>,
    /// Lost by closing accounts.
    #[schema(format = "decimal")]
    forfeited: Option<String>,
    /// Owed at the end.
    #[schema(format = "decimal")]
    closing: Option<String>,
}

impl RollForwardMoney {
    pub(super) fn of(rolled: &RollForward, rulebook: &Rulebook) -> Self {
        let row = |row: &Rolled| RolledMoney::of(row, rulebook);
        Self { currency: rulebook.currency.to_string(), rows: rolled.rows.iter().map(row).collect(), total: row(&rolled.total) }
    }
}

impl RolledMoney {
    fn of(row: &Rolled, rulebook: &Rulebook) -> Self {
        let worth = |points| worth(points, rulebook);
        Self {
            group: row.group.clone(),
            opening: worth(row.opening),
            issued: worth(row.issued),
            matured: worth(row.matured),
            redeemed: worth(row.redeemed),
            expired: worth(row.expired),
            clawed_back: worth(row.clawed_back),
            adjusted: worth(row.adjusted),
            forfeited: worth(row.forfeited),
            closing: worth(row.closing),
        }
    }
}

/// Who pays, in money.
#[derive(Debug, Serialize, ToSchema)]
pub struct PayersMoney {
    /// ISO 4217 code.
    currency: String,
    /// As the payers in points.
    payers: Vec<PayerMoney>,
}

/// What a payer pays in money: decimals rounded to 6 places, half even; null where one is too large.
#[derive(Debug, Serialize, ToSchema)]
pub struct PayerMoney {
    /// Who; none for the program itself.
    payer: Option<String>,
    /// Given in the period.
    #[schema(format = "decimal")]
    issued: Option<String>,
    /// Negative: of goods that were returned in the period.
    #[schema(format = "decimal")]
    clawed_back: Option<String>,
    /// Given at any time and owed to members now.
    #[schema(format = "decimal")]
    liability: Option<String>,
}

impl PayersMoney {
    /// By the rules of the period's end; what is owed now, by those of now.
    pub(super) fn of(payers: &[Payer], then: &Rulebook, now: &Rulebook) -> Self {
        let row = |row: &Payer| PayerMoney::of(row, then, now);
        Self { currency: then.currency.to_string(), payers: payers.iter().map(row).collect() }
    }
}

impl PayerMoney {
    fn of(row: &Payer, then: &Rulebook, now: &Rulebook) -> Self {
        let (issued, clawed_back) = (worth(row.issued, then), worth(row.clawed_back, then));
        Self { payer: row.payer.clone(), issued, clawed_back, liability: worth(row.liability, now) }
    }
}
