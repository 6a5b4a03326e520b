//! Lifetime value: fit, check against a naive forecast, put in force, score.

mod fit;
mod history;
mod holdout;
mod kept;
mod score;

pub use fit::{Asked, BuyingFit, Calibration, Choice, Fit, SpendFit, fit};
pub use history::{AsOf, CategoryShare, ChannelShare, Member, last_day, member, refunded, shares};
pub use holdout::Holdout;
pub use kept::{fit_for, in_force, list, put_in_force, version_of};
pub use score::{Score, Scored, score_all, score_one, scored};
