//! Return of a redemption: the points go back to the lots they came from, the last taken first, with their first expiry.

use super::{Context, Decision, Draft, require_open, taking};
use crate::account::event::{EventKind, Part};
use crate::account::rejection::Rejection;
use crate::account::state::{Account, RedemptionState};
use crate::id::Id;
use crate::points::{Amount, Points, TooLarge};
use crate::policy::Version;

pub(super) fn decide(account: &Account, id: &Id, redemption: &Id, points: Option<Points>, context: &Context<'_>) -> Result<Decision, Rejection> {
    require_open(account)?;
    let redemption_id = redemption.clone();
    let Some(state) = account.redemption(redemption) else {
        return Err(match account.hold(redemption) {
            // Nothing of the hold was captured yet, so there is nothing to give back but by releasing it.
            Some(_) => exceeds(redemption, points, 0),
            None if context.target_known => Rejection::ReturnWindowForgotten,
            None => Rejection::RedemptionNotFound { redemption_id },
        });
    };
    if context.now > state.return_until {
        return Err(Rejection::OutsideReturnWindow { until: state.return_until });
    }
    let left = taking::sum(&state.parts);
    let asked = points.unwrap_or(left);
    if asked > left || left == 0 {
        return Err(exceeds(redemption, points, left));
    }
    let mut missing = asked;
    let mut parts = Vec::new();
    for part in state.parts.iter().rev() {
        let given = part.points.min(missing);
        if given > 0 {
            parts.push(Part { points: given, ..*part });
        }
        missing -= given;
    }
    let mut draft = Draft::new(account, context)?;
    let value = Some(fall(state, asked, draft.version).map_err(|_| Rejection::AmountTooLarge)?);
    let kind = EventKind::RedemptionReturned { return_id: id.clone(), redemption: redemption_id, parts: parts.clone(), value };
    taking::give_back(&mut draft, context.now, context.now, &parts, kind);
    Ok(draft.finish())
}

/// By how much the value of the redemption, rounded to what can be paid, falls.
fn fall(state: &RedemptionState, points: Points, version: &Version) -> Result<Amount, TooLarge> {
    let digits = version.money_digits();
    Ok(state.worth(0)?.to_decimals(digits)?.minus(state.worth(points)?.to_decimals(digits)?))
}

fn exceeds(redemption: &Id, points: Option<Points>, left: Points) -> Rejection {
    let nothing = || Rejection::NothingToReturn { redemption_id: redemption.clone() };
    points.map_or_else(nothing, |points| Rejection::ReturnExceedsRedemption { points, left })
}
