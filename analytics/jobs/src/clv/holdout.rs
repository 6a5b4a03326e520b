//! A forecast against what then happened.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How good a forecast was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Holdout {
    /// Purchases expected.
    pub expected: f64,
    /// Purchases there were.
    pub actual: f64,
    /// Expected over actual, less 1.
    pub bias: f64,
    /// Root mean squared error by member.
    pub rmse: f64,
    /// Of what was then spent, the share of the tenth of the members who were expected to spend most.
    pub decile_share: f64,
}

/// A member's forecast, and what came.
pub(super) struct Forecast {
    /// Purchases expected.
    pub(super) expected: f64,
    /// Spend expected.
    pub(super) value: f64,
    /// Purchases there were.
    pub(super) actual: f64,
    /// What was spent on them.
    pub(super) spend: f64,
}

pub(super) fn measure(mut members: Vec<Forecast>) -> Holdout {
    #[allow(clippy::cast_precision_loss)]
    let count = members.len().max(1) as f64;
    let sum = |of: fn(&Forecast) -> f64| members.iter().map(of).sum::<f64>();
    let (expected, actual, spend) = (sum(|m| m.expected), sum(|m| m.actual), sum(|m| m.spend));
    let squares = sum(|m| (m.expected - m.actual).powi(2));
    members.sort_by(|one, other| other.value.total_cmp(&one.value));
    let top: f64 = members[..members.len().div_ceil(10)].iter().map(|member| member.spend).sum();
    Holdout {
        expected,
        actual,
        bias: if actual > 0.0 { expected / actual - 1.0 } else { 0.0 },
        rmse: (squares / count).sqrt(),
        decile_share: if spend > 0.0 { top / spend } else { 0.0 },
    }
}
