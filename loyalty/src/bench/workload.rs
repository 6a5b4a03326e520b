//! The commands that are measured: made by a counter, so every run is alike.

use std::sync::Arc;

use ledger_core::account::Command;
use ledger_core::account::command::{Action, Line, Purchase};
use ledger_core::id::{AccountKey, Id};
use ledger_core::points::Amount;
use ledger_core::policy::{Program, Rulebook, read_rulebook};
use ledger_core::time::Moment;

/// The rulebook of the measurements: pending points, expiry, a bonus condition, caps and tiers.
pub const RULEBOOK: &str = r#"{"program": "bench", "mode": "live", "currency": "GBP", "time_zone": "Europe/London", "effective_from": "2009-12-01T00:00:00Z",
 "earn": {"base": {"points": "1", "per": "1.00"}, "rounding": "floor", "round_per": "order", "pending_days": 0,
   "exclude": {"categories": ["gift-card"], "skus": ["POST", "DOT", "M"]},
   "bonus": [{"id": "mugs-x2", "when": "line.sku == '21212' && purchase.total >= 50.0", "multiply": "2"}],
   "caps": {"per_purchase": 5000, "per_day": 1000000}},
 "expiry": {"mode": "rolling", "months": 12},
 "redeem": {"minimum": 1, "multiple_of": 1, "value": {"points": 100, "amount": "1.00"}},
 "return": {"window_days": 365, "on_shortfall": "clamp"},
 "tiers": {"qualify_by": "points", "window": "rolling_12_months", "downgrade": "one_level",
   "levels": [{"name": "member", "at": 0, "multiplier": "1"}, {"name": "silver", "at": 1000, "multiplier": "1.25"}, {"name": "gold", "at": 5000, "multiplier": "1.5"}]}}"#;

/// The rulebook, compiled.
pub fn program() -> anyhow::Result<Program> {
    let rulebook: Rulebook = serde_json::from_str(RULEBOOK)?;
    let mut program = Program::default();
    let version = read_rulebook(rulebook, &program).map_err(|invalid| anyhow::anyhow!("{invalid:?}"))?;
    program.publish(Arc::new(version));
    Ok(program)
}

/// A number that looks random and is always the same.
fn scatter(n: u64) -> u64 {
    let mut x = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

fn id(text: &str) -> Id {
    Id::parse(text).expect("a letter and digits are an id")
}

/// The account of command `n`.
pub fn key(n: u64, accounts: u64) -> AccountKey {
    AccountKey { program: id("bench"), account: id(&format!("m{}", scatter(n) % accounts)) }
}

/// A purchase of one line, 5 to 104 pounds.
pub fn earn(n: u64, at: Moment) -> Command {
    let line = Line {
        line_id: id("1"),
        sku: "85123A".into(),
        category: "decoration".into(),
        quantity: Amount::from(1 + i64::try_from(n % 3).unwrap_or(0)),
        unit_price: Amount::from_wire(500 + i64::try_from(scatter(n) % 9900).unwrap_or(0), 2).unwrap_or(Amount::ONE),
        discount: Amount::ZERO,
        tax: Amount::ZERO,
        amount: None,
    };
    let purchase = Purchase {
        purchase_id: id(&format!("p{n}")),
        occurred_at: at,
        currency: "GBP".into(),
        channel: "store".into(),
        store: "s17".into(),
        lines: vec![line],
        shipping: Amount::ZERO,
        origin: None,
    };
    Command { id: purchase.purchase_id.clone(), actor: "till".into(), action: Action::Earn(Arc::new(purchase)) }
}

/// 80 % earn, 20 % redeem.
pub fn mixed(n: u64, at: Moment) -> Command {
    if n % 5 == 4 { Command { id: id(&format!("r{n}")), actor: "till".into(), action: Action::Redeem { points: 1, occurred_at: None } } } else { earn(n, at) }
}
