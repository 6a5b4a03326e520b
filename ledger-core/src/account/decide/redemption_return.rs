//! Return of a redemption: the points go back to the lots they came from, the last taken first, with their first expiry.

use super::{Context, Decision, Draft, require_open, taking};
use crate::account::event::{EventKind, Part};
use crate::account::rejection::Rejection;
use crate::account::state::Account;
use crate::id::Id;
use crate::points::Points;

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
    draft.emit(context.now, EventKind::RedemptionReturned { return_id: id.clone(), redemption: redemption_id, parts });
    taking::pay_debts(&mut draft, context.now, asked);
    Ok(draft.finish())
}

fn exceeds(redemption: &Id, points: Option<Points>, left: Points) -> Rejection {
    let nothing = || Rejection::NothingToReturn { redemption_id: redemption.clone() };
    points.map_or_else(nothing, |points| Rejection::ReturnExceedsRedemption { points, left })
}
