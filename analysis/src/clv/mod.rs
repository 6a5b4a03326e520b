//! Lifetime value: fit, check against a naive forecast, put in force, score.

mod fit;
mod history;
mod holdout;
mod score;

pub use fit::{BuyingFit, Calibration, Fit, SpendFit, fit, in_force, list};
pub use history::{Member, Share, member, shares};
pub use holdout::Holdout;
pub use score::{Score, score_all, score_one};
