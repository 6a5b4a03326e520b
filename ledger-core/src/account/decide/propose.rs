//! Changes by hand that take two people: one proposes, another approves. Who made a proposal never approves it.

use super::life::one_event;
use super::{Context, Decision, Draft, adjust, require_open};
use crate::account::command::{Command, Reason};
use crate::account::event::{EventKind, Proposal};
use crate::account::rejection::Rejection;
use crate::account::state::Account;
use crate::id::Id;
use crate::points::Points;

/// How many may wait.
const PROPOSALS_MAX: usize = 32;

pub(super) fn propose(account: &Account, command: &Command, points: Points, reason: &Reason, context: &Context<'_>) -> Result<Decision, Rejection> {
    require_open(account)?;
    if account.proposals.len() >= PROPOSALS_MAX {
        return Err(Rejection::TooManyProposals { most: PROPOSALS_MAX });
    }
    let proposal = Proposal { proposal: command.id.clone(), maker: command.actor.clone(), points, reason: reason.clone() };
    one_event(account, EventKind::AdjustmentProposed(Box::new(proposal)), context)
}

pub(super) fn approve(account: &Account, checker: &str, proposal: &Id, context: &Context<'_>) -> Result<Decision, Rejection> {
    require_open(account)?;
    let Proposal { proposal, maker, points, reason } = find(account, proposal)?.clone();
    if maker == checker {
        return Err(Rejection::ApprovalByMaker { actor: maker.into() });
    }
    let mut draft = Draft::new(account, context)?;
    draft.emit(context.now, EventKind::AdjustmentApproved { proposal: proposal.clone() });
    adjust::change(&mut draft, &proposal, points, &reason)?;
    Ok(draft.finish())
}

pub(super) fn decline(account: &Account, proposal: &Id, reason: &Reason, context: &Context<'_>) -> Result<Decision, Rejection> {
    require_open(account)?;
    let proposal = find(account, proposal)?.proposal.clone();
    one_event(account, EventKind::AdjustmentDeclined { proposal, reason: reason.clone() }, context)
}

fn find<'a>(account: &'a Account, proposal: &Id) -> Result<&'a Proposal, Rejection> {
    let found = account.proposals.iter().find(|kept| kept.proposal == *proposal);
    found.ok_or_else(|| Rejection::ProposalNotFound { proposal_id: proposal.clone() })
}
