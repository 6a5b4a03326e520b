//! How large messages may be. In a quarter of the runs the limits are so small that purchases, accounts and what is made of them come near them:
//! whatever is too large is refused by name, and everything else goes on.

use std::collections::BTreeMap;

use command_service::Limits;
use ledger_core::account::command::Action;
use ledger_core::account::{Account, Command};
use ledger_core::id::AccountKey;
use ledger_schemas::{Ask, What};

use crate::check::Story;
use crate::plan::Plan;
use crate::run::{Answered, Findings, Site, key};

/// What is refused for its size, each with its name.
pub const REFUSALS: [&str; 2] = ["too_large", "account_full"];

/// Less than a purchase of as many lines as `plan` draws has, and more than a rulebook.
const SMALL: Limits = Limits { command_bytes: 4096, record_bytes: 4400, answer_bytes: 3000, lots: 7, lines: 50 };
/// A refused command is on the log with the words of its refusal.
const SMALL_MESSAGE_BYTES: usize = 4700;
/// What a decision adds to its command is less than this, so that no smaller command is refused.
const ADDED_BYTES: usize = 1500;

/// The limits that every process of the run has.
pub fn limits(plan: &Plan) -> Limits {
    if plan.is_small { SMALL } else { Limits::default() }
}

/// The largest message that the run's log takes.
pub fn message_bytes(plan: &Plan) -> usize {
    if plan.is_small { SMALL_MESSAGE_BYTES } else { event_log::MESSAGE_BYTES_MAX }
}

fn command_bytes(key: AccountKey, command: &Command) -> usize {
    Ask { program_entries: u64::MAX, what: What::Command(key, command.clone()) }.encode().len()
}

/// Whether nobody takes the command in, as the API and intake take no more than goes over the log.
pub fn is_turned_away(plan: &Plan, account: usize, command: &Command) -> bool {
    command_bytes(key(account), command) > limits(plan).command_bytes
}

/// Which of [`REFUSALS`] were told, and whether a record came near the largest that there may be.
pub fn met(site: &Site, answered: &[Answered]) -> [bool; 3] {
    let told = |code: &str| site.plan.is_small && answered.iter().any(|answered| answered.outcome.as_ref().is_err_and(|told| told == code));
    let near = limits(&site.plan).record_bytes * 9 / 10;
    let is_near = site.world.inner().records.iter().flatten().any(|entry| entry.body.len() > near);
    [told(REFUSALS[0]), told(REFUSALS[1]), is_near]
}

/// What is on the log is not too large, and nothing else was refused for its size.
pub fn check(site: &Site, stories: &BTreeMap<String, Story>, findings: &mut Findings) {
    let limits = limits(&site.plan);
    let mut most = BTreeMap::new();
    for (name, story) in stories.iter().filter(|_| site.plan.is_small) {
        for (record, body) in story.records.iter().zip(story.bodies()) {
            // What falls due is booked as it is: of so many lots it is never too large.
            if record.command_kind != "expire" && body.len() > limits.record_bytes {
                findings.push(format!("{name}: record {} has {} bytes", record.account_seq, body.len()));
            }
        }
        let (lots, lines) = most_of(story);
        if lots > limits.lots || lines > limits.lines {
            findings.push(format!("{name} had {lots} lots and {lines} lines"));
        }
        most.insert(name.clone(), (lots, lines));
    }
    for answered in site.answered() {
        let Err(code) = &answered.outcome else { continue };
        let name = key(answered.account).to_string();
        let (lots, lines) = most.get(&name).copied().unwrap_or_default();
        let bytes = command_bytes(key(answered.account), &answered.command);
        let is_right = match (code.as_str(), &answered.command.action) {
            ("too_large", Action::Earn(_)) => bytes + ADDED_BYTES > limits.record_bytes,
            ("too_large", _) => false,
            ("account_full", Action::Earn(purchase)) => lots == limits.lots || lines + purchase.lines.len() > limits.lines,
            ("account_full", Action::Adjust { .. } | Action::Approve { .. }) => lots == limits.lots,
            ("account_full", _) => false,
            _ => true,
        };
        if !is_right {
            let kind = answered.command.action.kind();
            findings
                .push(format!("step {}: a {kind} of {bytes} bytes of {name}, which had at most {lots} lots and {lines} lines, is told {code}", answered.step));
        }
    }
}

/// How many lots and lines of purchases the account had at most.
fn most_of(story: &Story) -> (usize, usize) {
    let (mut account, mut most) = (Account::default(), (0, 0));
    for record in &story.records {
        record.events.iter().for_each(|event| account.evolve(event));
        account.seal(record.recorded_at, [0; 32]);
        let lines = account.purchases.iter().map(|state| state.purchase.lines.len()).sum();
        most = (account.lots.len().max(most.0), most.1.max(lines));
    }
    most
}
