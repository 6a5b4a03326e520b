//! What a command does. Pure: the account, the command, the program's rules and the time are all there is.
//!
//! Invariants: due work comes first (the caller lets `Action::Expire` settle whatever [`due_at`] says before any other command); a rejection
//! changes nothing; of several rejections the one with the lowest number is given.

mod adjust;
mod alias;
mod earn;
mod expire;
mod life;
mod propose;
mod redeem;
mod redemption_return;
mod refund;
mod return_purchase;
mod taking;
mod tier;
mod unmatched_refund;

pub use expire::due_at;

use super::command::{Action, Command};
use super::event::{Event, EventKind};
use super::rejection::Rejection;
use super::state::{Account, Status};
use crate::points::Points;
use crate::policy::{Caps, Program, Version};
use crate::time::{MINUTE_US, Moment};

/// How far a till's clock may run ahead.
const CLOCK_SKEW_US: i64 = 5 * MINUTE_US;

/// What a decision may know beside the account and the command.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The program's rules, all versions.
    pub program: &'a Program,
    /// The program's clock.
    pub now: Moment,
    /// Whether the purchase or redemption that the command refers to was ever booked for this account; ids are kept forever, what
    /// they stood for is not.
    pub target_known: bool,
}

/// What an accepted command does: one record with these events.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The version of the rulebook that decided.
    pub rule_version: u32,
    /// What happens, in this order; none where nothing is to be done.
    pub events: Vec<Event>,
}

/// Decides `command` for `account`.
///
/// # Errors
/// The [`Rejection`] with the lowest number of those that apply.
pub fn decide(account: &Account, command: &Command, context: &Context<'_>) -> Result<Decision, Rejection> {
    match &command.action {
        Action::Open => life::open(account, context),
        Action::Activate => life::activate(account, context),
        Action::Freeze(reason) => life::freeze(account, reason, context),
        Action::Unfreeze(reason) => life::unfreeze(account, reason, context),
        Action::Close(reason) => life::close(account, reason, context),
        Action::Earn(purchase) => earn::decide(account, purchase, context),
        Action::Redeem { points, occurred_at } => redeem::at_once(account, &command.id, *points, *occurred_at, context),
        Action::Hold { points, minutes, occurred_at } => redeem::hold(account, &command.id, (*points, *minutes), *occurred_at, context),
        Action::Capture { redemption, points } => redeem::capture(account, redemption, *points, context),
        Action::Release { redemption } => redeem::release(account, redemption, context),
        Action::ReturnRedemption { redemption, points } => redemption_return::decide(account, &command.id, redemption, *points, context),
        Action::Return(body) => return_purchase::decide(account, &command.id, body, context),
        Action::Refund(body) => unmatched_refund::decide(account, &command.id, body, context),
        Action::Adjust { points, reason } => adjust::decide(account, &command.id, *points, reason, context),
        Action::Propose { points, reason } => propose::propose(account, command, *points, reason, context),
        Action::Approve { proposal } => propose::approve(account, &command.actor, proposal, context),
        Action::Decline { proposal, reason } => propose::decline(account, proposal, reason, context),
        Action::AddAlias(alias) => alias::add(account, *alias, context),
        Action::RemoveAlias(alias) => alias::remove(account, *alias, context),
        Action::Expire => expire::decide(account, context),
    }
}

/// A decision in the making: the account as it becomes, event by event.
struct Draft<'a> {
    account: Account,
    events: Vec<Event>,
    context: &'a Context<'a>,
    version: &'a Version,
}

impl<'a> Draft<'a> {
    fn new(account: &Account, context: &'a Context<'a>) -> Result<Self, Rejection> {
        Ok(Self { account: account.clone(), events: Vec::new(), context, version: rules(context)? })
    }

    fn emit(&mut self, at: Moment, kind: EventKind) {
        let event = Event { at, kind };
        self.account.evolve(&event);
        self.events.push(event);
    }

    /// What follows from the events by the clock belongs to the same record.
    fn finish(mut self) -> Decision {
        expire::settle(&mut self);
        Decision { rule_version: self.version.number, events: self.events }
    }
}

/// The rules in force now.
fn rules<'a>(context: &Context<'a>) -> Result<&'a Version, Rejection> {
    let version = context.program.at(context.now);
    version.map(AsRef::as_ref).ok_or(Rejection::NoRulebook { at: context.now })
}

/// The rules of something that says to occur at `occurred_at`: those in force then, but none that are not in force yet.
fn rules_at<'a>(context: &Context<'a>, occurred_at: Moment) -> Result<&'a Version, Rejection> {
    let version = context.program.at(happened_at(occurred_at, context.now));
    version.map(AsRef::as_ref).ok_or(Rejection::NoRulebook { at: occurred_at })
}

/// Refuses accounts that are not there or closed.
fn require_open(account: &Account) -> Result<(), Rejection> {
    match account.status {
        Status::Unopened => Err(Rejection::AccountNotFound),
        Status::Closed => Err(Rejection::AccountClosed),
        Status::Pending | Status::Active | Status::Inactive | Status::Frozen => Ok(()),
    }
}

/// Refuses accounts that can't spend.
fn require_spending(account: &Account) -> Result<(), Rejection> {
    require_open(account)?;
    match account.status {
        Status::Frozen => Err(Rejection::AccountFrozen),
        Status::Pending => Err(Rejection::AccountPending),
        _ => Ok(()),
    }
}

/// The cap of a version of the rulebook, by the version's number.
fn cap_of(program: &Program, cap: impl Fn(&Caps) -> Option<Points>) -> impl Fn(u32) -> Option<Points> {
    move |version| program.version(version).and_then(|version| cap(&version.rulebook.earn.caps))
}

/// When something that says to occur at `occurred_at` is booked to have happened: a till's clock may run ahead, but what takes the points now
/// is not dated before they came.
fn happened_at(occurred_at: Moment, now: Moment) -> Moment {
    occurred_at.min(now)
}

fn require_past(occurred_at: Moment, now: Moment) -> Result<(), Rejection> {
    if occurred_at > now.plus_micros(CLOCK_SKEW_US) { Err(Rejection::OccurredInFuture { occurred_at, now }) } else { Ok(()) }
}
