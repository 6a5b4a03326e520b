//! What came of messages that name their account by a card: booked for one account, once, or kept.

use std::collections::{BTreeMap, BTreeSet};

use command_service::Answer;
use ledger_core::account::{Command, EventKind};
use ledger_core::id::{AccountKey, Id};
use ledger_schemas::content_hash;

use crate::check::Story;
use crate::run::{Answered, ByCard, Findings, Site, key};
use crate::sizes;
use crate::topic::Became;

/// An id as it is used once: the kind of command and its id.
type Used = (String, String);

fn used(command: &Command) -> Used {
    (command.action.kind().to_owned(), command.id.to_string())
}

/// For each that was booked its answer, as if its till had been told.
pub fn answers(site: &Site, stories: &BTreeMap<String, Story>, findings: &mut Findings) -> Vec<Answered> {
    let all = site.by_card.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let claims = site.topic.claims();
    let (mut answers, mut given): (Vec<Answered>, BTreeMap<Used, BTreeSet<Id>>) = Default::default();
    let booked = |account: Option<Id>, command: &Command| site.booked(&AccountKey { account: account?, ..key(0) }, command);
    for ByCard { step, place, mark, command, deed, became, rulebooks } in all.iter() {
        let (account, rulebooks) = match became {
            // Where it was given to an account, and to another process that gave it to the same it was granted: see below.
            Became::Rejected(_) => {
                let account = site.topic.matched(mark);
                let Some(answer) = booked(account.clone(), command).filter(|answer| is_of(answer, command)) else { continue };
                (account, rule_version(&answer))
            }
            Became::Booked => (site.topic.matched(mark), *rulebooks),
            Became::Waits | Became::Early(_) => match claims.iter().find(|claim| claim.place == *place) {
                Some(claim) if claim.outcome == "accepted" => (Some(claim.account.clone()), claim.rulebooks),
                _ => continue,
            },
        };
        let booked = booked(account.clone(), command);
        let (Some(account), Some(answer)) = (account, booked) else {
            findings.push(format!("step {step}: intake is done with {} {}, and it is neither booked nor kept", command.action.kind(), command.id));
            continue;
        };
        given.entry(used(command)).or_default().insert(account);
        let account = (0..site.plan.accounts).find(|account| key(*account) == answer.record.key).unwrap_or_default();
        let (command, deed) = (command.clone(), deed.clone());
        answers.push(Answered { step: *step, account, command, deed, outcome: Ok(answer), refused: None, rulebooks, is_published: true });
    }
    booked_elsewhere(site, &all, &given, stories, findings);
    kept_right(site, findings);
    answers.extend(refused_and_booked(site, &answers));
    answers
}

/// Of two intakes that both believe a message to be theirs one may be refused, and keep it, and the other one be granted it a moment later.
fn refused_and_booked(site: &Site, by_card: &[Answered]) -> Vec<Answered> {
    let all = site.answered();
    let known: BTreeSet<(usize, u64)> = by_card.iter().filter_map(|answered| Some((answered.account, answered.seq()?))).collect();
    let booked = |answered: &Answered| {
        // Of what is too large there is no word on the log.
        let is_too_large = answered.outcome.as_ref().is_err_and(|code| sizes::REFUSALS.contains(&code.as_str()));
        let told = answered.refused.map(|told| told.write).or(is_too_large.then_some(0))?;
        let answer = site.booked(&key(answered.account), &answered.command)?;
        let is_late = is_of(&answer, &answered.command) && site.write_of(&answer) >= told;
        let is_new = is_late && !known.contains(&(answered.account, answer.record.account_seq));
        let rulebooks = rule_version(&answer);
        is_new.then(|| Answered { outcome: Ok(answer), refused: None, rulebooks, ..answered.clone() })
    };
    all.iter().filter(|answered| answered.is_published && answered.outcome.as_ref().is_err_and(|code| code != "id_reused")).filter_map(booked).collect()
}

/// Whether the record is of this command, not of another with its id.
fn is_of(answer: &Answer, command: &Command) -> bool {
    content_hash(&answer.record.key.to_string(), command, &mut Vec::new()) == answer.record.content_hash
}

/// How many rulebooks there were at least; none where it rated nothing.
fn rule_version(answer: &Answer) -> usize {
    let earned = answer.record.events.iter().find_map(|event| match &event.kind {
        EventKind::PointsEarned(earned) => usize::try_from(earned.rule_version).ok(),
        _ => None,
    });
    earned.unwrap_or_default()
}

/// What was published by card is booked for nobody but whom it was given to, and who asked the same otherwise.
fn booked_elsewhere(site: &Site, all: &[ByCard], given: &BTreeMap<Used, BTreeSet<Id>>, stories: &BTreeMap<String, Story>, findings: &mut Findings) {
    let ids: BTreeSet<Used> = all.iter().map(|by_card| used(&by_card.command)).collect();
    let asked: BTreeSet<(Used, Id)> = site.answered().into_iter().map(|answered| (used(&answered.command), key(answered.account).account)).collect();
    for record in stories.values().flat_map(|story| &story.records) {
        let used = (record.command_kind.to_string(), record.command_id.to_string());
        let account = &record.key.account;
        let is_given = given.get(&used).is_some_and(|accounts| accounts.contains(account));
        if ids.contains(&used) && !is_given && !asked.contains(&(used.clone(), account.clone())) {
            findings.push(format!("{} {} is booked for {account}, whom nobody gave it to", used.0, used.1));
        }
    }
}

/// What can't be read is kept as such; nothing waits that one account has.
fn kept_right(site: &Site, findings: &mut Findings) {
    let rejected = site.topic.rejected();
    for place in site.unreadable_messages.lock().unwrap_or_else(std::sync::PoisonError::into_inner).iter() {
        if rejected.get(place).map(String::as_str) != Some("malformed") {
            findings.push(format!("message {} can't be read, and is kept as {:?}", place.offset, rejected.get(place)));
        }
    }
    if let Some(place) = site.topic.unclaimed(&site.world) {
        findings.push(format!("message {} waits, and could be booked", place.offset));
    }
}

/// The answers of one account in the order of its book.
pub fn merged(site: &Site, by_card: &[Answered], account: usize) -> Vec<Answered> {
    let mut all: Vec<Answered> = site.answered().into_iter().filter(|answered| answered.account == account).collect();
    let mut late: Vec<&Answered> = by_card.iter().filter(|answered| answered.account == account).collect();
    // Of two messages about the same the first was booked, by the rules of then.
    late.sort_by_key(|answered| (answered.seq(), answered.rulebooks));
    for answer in late {
        let Ok(told) = &answer.outcome else { continue };
        let write = site.write_of(told);
        // What was refused in the very same write was decided before it or after it: not known, so not compared.
        all.retain(|other| other.refused.is_none_or(|refused| refused.write != write));
        let after = before(&all, told.record.account_seq);
        // Of two answers about one record the one that knew fewer rulebooks came first.
        let place = (Some(told.record.account_seq), answer.rulebooks);
        let is_later = |other: &Answered| (other.seq(), other.rulebooks) > place || other.refused.is_some_and(|refused| refused.write > write);
        let at = all.iter().skip(after).position(is_later).map_or(all.len(), |at| after + at);
        all.insert(at, answer.clone());
    }
    all
}

/// How many of the answers come before record `seq`, as the records that they tell of for the first time show.
fn before(all: &[Answered], seq: u64) -> usize {
    let (mut last, mut count) = (0, 0);
    for (i, told) in all.iter().enumerate().filter_map(|(i, answered)| Some((i, answered.seq()?))) {
        if told >= seq {
            break;
        }
        if told > last {
            (last, count) = (told, i + 1);
        }
    }
    count
}
