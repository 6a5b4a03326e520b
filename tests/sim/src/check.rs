//! What must hold when all is over.

use std::collections::{BTreeMap, BTreeSet};

use event_log::{Entry, partition_of};
use ledger_core::account::state::Status;
use ledger_core::account::{Account, Event, EventKind};
use ledger_core::points::Amount;
use ledger_core::posting::{Bucket, postings};
use ledger_core::time::Moment;
use ledger_schemas::{ProgramChange, ProgramEntry, Record, hash};
use projectors::Projector;

use crate::cards;
use crate::model::{Has, Model};
use crate::plan::DAY_US;
use crate::run::{Answered, Findings, Refused, Site, key};
use crate::sizes;
use crate::tables::MemoryTables;

/// Kinds of events, as they are counted.
pub const EVENTS: [&str; 29] = [
    "opened",
    "activated",
    "woken",
    "lapsed",
    "frozen",
    "unfrozen",
    "closed",
    "earned",
    "matured",
    "expired",
    "expiry moved",
    "redeemed",
    "held",
    "captured",
    "released",
    "redemption returned",
    "purchase returned",
    "added",
    "taken",
    "debt paid",
    "forfeited",
    "tier changed",
    "adjustment proposed",
    "adjustment approved",
    "adjustment declined",
    "tier kept",
    "alias added",
    "alias removed",
    "refund booked",
];

/// Which of [`EVENTS`] it is.
fn kind(kind: &EventKind) -> usize {
    match kind {
        EventKind::AccountOpened { .. } => 0,
        EventKind::AccountActivated => 1,
        EventKind::AccountWoken => 2,
        EventKind::AccountLapsed => 3,
        EventKind::AccountFrozen(_) => 4,
        EventKind::AccountUnfrozen { .. } => 5,
        EventKind::AccountClosed(_) => 6,
        EventKind::PointsEarned(_) => 7,
        EventKind::PointsMatured { .. } => 8,
        EventKind::PointsExpired(_) => 9,
        EventKind::ExpiryMoved { .. } => 10,
        EventKind::PointsRedeemed(_) => 11,
        EventKind::PointsHeld { .. } => 12,
        EventKind::HoldCaptured(_) => 13,
        EventKind::HoldReleased { .. } => 14,
        EventKind::RedemptionReturned { .. } => 15,
        EventKind::PurchaseReturned(_) => 16,
        EventKind::PointsAdded { .. } => 17,
        EventKind::PointsTaken { .. } => 18,
        EventKind::DebtPaid { .. } => 19,
        EventKind::PointsForfeited { .. } => 20,
        EventKind::TierChanged(_) => 21,
        EventKind::AdjustmentProposed(_) => 22,
        EventKind::AdjustmentApproved { .. } => 23,
        EventKind::AdjustmentDeclined { .. } => 24,
        EventKind::TierKept(_) => 25,
        EventKind::AliasAdded(_) => 26,
        EventKind::AliasRemoved(_) => 27,
        EventKind::RefundBooked { .. } => 28,
    }
}

/// Of a redemption that is not kept any more it is not told apart whether all of it came back or its time was over.
const SPENT_BACK: [&str; 2] = ["outside_return_window", "return_exceeds_redemption"];

/// Which kinds of events came after which kinds of faults.
pub fn covered(answered: &[Answered], faults: &[(usize, usize)]) -> BTreeSet<(usize, usize)> {
    let mut covered = BTreeSet::new();
    for (fault, from) in faults {
        for answer in answered.iter().skip(*from).filter_map(|answer| answer.outcome.as_ref().ok()) {
            covered.extend(answer.record.events.iter().map(|event| (kind(&event.kind), *fault)));
        }
    }
    covered
}

/// One account's part of the log, and what becomes of it.
pub struct Story {
    entries: Vec<Entry>,
    pub records: Vec<Record>,
    folded: Account,
}

impl Story {
    /// The bytes of its records.
    pub fn bodies(&self) -> impl Iterator<Item = &[u8]> {
        self.entries.iter().map(|entry| entry.body.as_slice())
    }
}

pub async fn all(site: &Site) -> Findings {
    let mut findings = site.wrong.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
    let stories = match stories(site, &mut findings) {
        Ok(stories) => stories,
        Err(why) => return vec![why],
    };
    let by_card = cards::answers(site, &stories, &mut findings);
    acknowledged(site, &stories, &by_card, &mut findings);
    sizes::check(site, &stories, &mut findings);
    against_the_model(site, &stories, &by_card, &mut findings);
    snapshots(site, &stories, &mut findings).await;
    read_model(site, &stories, &mut findings).await;
    findings
}

/// The book itself: positions, sequence, chain, postings, balances.
fn stories(site: &Site, findings: &mut Findings) -> Result<BTreeMap<String, Story>, String> {
    let mut stories: BTreeMap<String, Story> = BTreeMap::new();
    let inner = site.world.inner();
    for (partition, records) in inner.records.iter().enumerate() {
        for (entry, expected) in records.iter().zip(0_u64..) {
            if entry.position != expected {
                return Err(format!("partition {partition}: position {} stands where {expected} should", entry.position));
            }
            let record = Record::decode(&entry.body).map_err(|error| format!("partition {partition}, position {expected}: {error}"))?;
            let story = stories.entry(entry.account.clone()).or_insert_with(|| Story { entries: Vec::new(), records: Vec::new(), folded: Account::default() });
            let account = &mut story.folded;
            if record.recorded_at < account.recorded_at {
                findings.push(format!("{}: record {} was booked before the record before it", entry.account, record.account_seq));
            }
            if record.account_seq != account.seq + 1 || record.previous_hash != account.last_hash {
                return Err(format!("{}: record {} follows record {}, or the chain is broken", entry.account, record.account_seq, account.seq));
            }
            for event in &record.events {
                let mut sum = 0;
                postings(event, |posting| sum += posting.points);
                if sum != 0 {
                    findings.push(format!("{}, record {}: the postings of {event:?} sum to {sum}", entry.account, record.account_seq));
                }
                account.evolve(event);
            }
            account.seal(record.recorded_at, hash(&entry.body));
            let negative = [Bucket::Pending, Bucket::Available, Bucket::Held, Bucket::Shortfall].into_iter().any(|bucket| account.total(bucket) < 0);
            if negative || account.balance_at(record.recorded_at) != record.balance {
                findings.push(format!(
                    "{}, record {}: {:?}, the fold has {:?}",
                    entry.account,
                    record.account_seq,
                    record.balance,
                    account.balance_at(record.recorded_at)
                ));
            }
            story.entries.push(entry.clone());
            story.records.push(record);
        }
    }
    for (account, story) in &stories {
        findings.extend(below_zero(&story.records).map(|what| format!("{account}: {what}")));
        let mut used = BTreeSet::new();
        for record in story.records.iter().filter(|record| record.command_kind != "expire") {
            if !used.insert((record.command_kind.clone(), record.command_id.clone())) {
                findings.push(format!("{account}: {} {} is booked twice", record.command_kind, record.command_id));
            }
        }
    }
    Ok(stories)
}

/// The first moment at which the account had fewer points than none, as no event may come before its cause.
fn below_zero(records: &[Record]) -> Option<String> {
    let mut events: Vec<&Event> = records.iter().flat_map(|record| &record.events).collect();
    events.sort_by_key(|event| event.at);
    let mut has: BTreeMap<usize, i64> = BTreeMap::new();
    for (i, event) in events.iter().enumerate() {
        postings(event, |posting| *has.entry(posting.bucket as usize).or_default() += posting.points);
        let is_last = events.get(i + 1).is_none_or(|next| next.at != event.at);
        let below =
            [Bucket::Pending, Bucket::Available, Bucket::Held].into_iter().find(|bucket| has.get(&(*bucket as usize)).is_some_and(|points| *points < 0));
        if let Some(bucket) = below.filter(|_| is_last) {
            return Some(format!("at {}, after {:?}, {bucket:?} is below zero", event.at, event.kind));
        }
    }
    None
}

/// What was acknowledged is on the log, as it was told, in the order it was asked.
fn acknowledged(site: &Site, stories: &BTreeMap<String, Story>, by_card: &[Answered], findings: &mut Findings) {
    let mut last: BTreeMap<usize, u64> = BTreeMap::new();
    let id = |answered: &Answered| (answered.account, answered.command.action.kind().to_owned(), answered.command.id.to_string());
    let mut first_seen: BTreeMap<(usize, String, String), u64> = by_card.iter().filter_map(|answered| Some((id(answered), answered.seq()?))).collect();
    for answered in site.answered() {
        let Ok(answer) = &answered.outcome else { continue };
        let name = key(answered.account).to_string();
        let told = &answer.record;
        let at = stories.get(&name).and_then(|story| story.entries.iter().position(|entry| entry.position == answer.position).map(|i| &story.records[i]));
        if at != Some(&**told) || answer.partition != partition_of(&name, site.plan.partitions) {
            findings.push(format!("step {}: {name} was told record {} at {}, which the log does not have", answered.step, told.account_seq, answer.position));
            continue;
        }
        let id = id(&answered);
        if told.command_id != answered.command.id {
            findings.push(format!("step {}: asked {}, was told of {}", answered.step, answered.command.id, told.command_id));
        }
        match first_seen.get(&id) {
            Some(first) if *first != told.account_seq => {
                findings.push(format!("step {}: {} {} was first record {first}, then {}", answered.step, id.1, id.2, told.account_seq));
            }
            Some(_) => {}
            None => {
                let before = last.insert(answered.account, told.account_seq).unwrap_or(0);
                if told.account_seq <= before {
                    findings.push(format!("step {}: record {} was asked for after record {before} was told of", answered.step, told.account_seq));
                }
                first_seen.insert(id, told.account_seq);
            }
        }
    }
}

/// How long the book keeps what was granted on a day: what is told of later shares no cap with it, which the model, who forgets nothing, does not know.
const CAPS_KEPT_US: i64 = 400 * DAY_US;

/// The naive model, asked the same in the order of the log, answers the same.
fn against_the_model(site: &Site, stories: &BTreeMap<String, Story>, by_card: &[Answered], findings: &mut Findings) {
    for account in 0..site.plan.accounts {
        let name = key(account).to_string();
        let all = cards::merged(site, by_card, account);
        if let Err(why) = one_against_the_model(site, all, stories.get(&name)) {
            findings.push(format!("{name}: {why}"));
        }
    }
}

/// The rulebooks on the program stream, and how many of them there are among its first entries, by how many entries.
fn rulebooks(site: &Site) -> (Vec<serde_json::Value>, Vec<usize>) {
    let (mut rulebooks, mut counts) = (Vec::new(), vec![0]);
    for bytes in &site.world.inner().programs {
        if let Ok(ProgramEntry { change: ProgramChange::RulebookPublished { rulebook, .. }, .. }) = ProgramEntry::decode(bytes) {
            rulebooks.extend(serde_json::from_slice(&rulebook).ok());
        }
        counts.push(rulebooks.len());
    }
    (rulebooks, counts)
}

/// How many rulebooks decided `record`.
fn known(rulebooks: &[usize], record: &Record) -> usize {
    let entries = record.program_entries.and_then(|entries| usize::try_from(entries).ok());
    entries.and_then(|entries| rulebooks.get(entries)).copied().unwrap_or(1)
}

fn one_against_the_model(site: &Site, all: Vec<Answered>, story: Option<&Story>) -> Result<(), String> {
    let (mut model, mut told) = (Model::default(), Told::default());
    let mut contents: BTreeMap<(String, String), String> = BTreeMap::new();
    let mut next = 0;
    let none = Vec::new();
    let records = story.map_or(&none, |story| &story.records);
    let (all_rules, rulebooks) = rulebooks(site);
    for answered in all {
        let id = (answered.command.action.kind().to_owned(), answered.command.id.to_string());
        let content = format!("{:?}", answered.command.action);
        let before = contents.get(&id).cloned();
        match (&answered.outcome, before) {
            (Ok(_), Some(before)) if before == content => {}
            (Ok(_), Some(_)) => return Err(format!("step {}: {id:?} was used for other content, and granted", answered.step)),
            (Err(code), Some(before)) if before == content => return Err(format!("step {}: {id:?} was granted before, now {code}", answered.step)),
            (Err(code), Some(_)) if code == "id_reused" || sizes::REFUSALS.contains(&code.as_str()) => {}
            (Err(code), Some(_)) => return Err(format!("step {}: {id:?} was used for other content, told {code}", answered.step)),
            (Ok(answer), None) => {
                while let Some(record) = records.get(next).filter(|record| record.account_seq <= answer.record.account_seq) {
                    next += 1;
                    let published = known(&rulebooks, record);
                    let now_us = record.recorded_at.as_micros();
                    if now_us - record.effective_at.as_micros() > CAPS_KEPT_US && record.command_kind == "purchase" {
                        return Ok(());
                    }
                    if record.command_kind == "expire" {
                        model.tick(now_us, &all_rules[..published]);
                    } else if record.account_seq == answer.record.account_seq {
                        let rules = &all_rules[..published];
                        model.act(&answered.deed, now_us, rules).map_err(|code| {
                            format!("step {}: {:?} was granted as record {}, the model says {code}", answered.step, answered.deed, record.account_seq)
                        })?;
                    } else {
                        return Err(format!("record {} ({} {}) was answered to nobody", record.account_seq, record.command_kind, record.command_id));
                    }
                    same(record, &mut told, &model, &all_rules, &format!("step {}: {:?}", answered.step, answered.deed))?;
                }
                contents.insert(id, content);
            }
            // More digits than can be rated exactly: refused, and that is all right.
            (Err(code), None) if code == "amount_too_large" => {}
            (Err(code), None) => {
                let Some(Refused { at_us: now_us, .. }) = answered.refused else { continue };
                // What was due before it is on the log as records of its own.
                while let Some(record) = records.get(next).filter(|record| record.command_kind == "expire" && record.recorded_at.as_micros() <= now_us) {
                    next += 1;
                    let published = known(&rulebooks, record);
                    model.tick(record.recorded_at.as_micros(), &all_rules[..published]);
                    same(record, &mut told, &model, &all_rules, "due work")?;
                }
                // A refusal changes nothing, and does not say how many rulebooks decided it; what is told in the same moment may have been decided
                // before or after it.
                let is_code = |expected: &str| expected == code || [expected, code].iter().all(|code| SPENT_BACK.contains(code));
                let said: Vec<_> = (1..=all_rules.len()).map(|published| model.clone().act(&answered.deed, now_us, &all_rules[..published])).collect();
                if !said.iter().any(|said| said.is_err_and(is_code)) {
                    return Err(format!("step {}: {:?} was refused with {code}, the model says {said:?}", answered.step, answered.deed));
                }
            }
        }
    }
    Ok(())
}

/// What the records of an account said so far.
#[derive(Default)]
struct Told {
    account: Account,
    /// What its redemptions are worth.
    worth: Amount,
}

impl Told {
    fn add(&mut self, record: &Record) {
        for event in &record.events {
            match &event.kind {
                EventKind::PointsRedeemed(spent) | EventKind::HoldCaptured(spent) => self.worth = self.worth.plus(spent.value),
                EventKind::RedemptionReturned { value, .. } => self.worth = self.worth.minus(value.unwrap_or_default()),
                _ => {}
            }
            self.account.evolve(event);
        }
        self.account.seal(record.recorded_at, [0; 32]);
    }
}

fn same(record: &Record, so_far: &mut Told, model: &Model, rules: &[serde_json::Value], what: &str) -> Result<(), String> {
    let balance = &record.balance;
    let told = Has {
        available: balance.available,
        pending: balance.pending,
        held: balance.held,
        owed: balance.owed,
        earned: balance.lifetime_earned,
        lapsed: balance.lapsed,
    };
    let has = model.has();
    so_far.add(record);
    let account = &so_far.account;
    let worth = Amount::from_wire(model.worth(rules), 2).unwrap_or_default();
    if so_far.worth != worth {
        return Err(format!("{what}: after record {} redemptions are worth {}, of the model {worth}", record.account_seq, so_far.worth));
    }
    let is_asleep = account.status == Status::Inactive;
    if matches!(account.status, Status::Active | Status::Inactive) && is_asleep != model.asleep {
        return Err(format!("{what}: after record {} the account sleeps: {is_asleep}, in the model: {}", record.account_seq, model.asleep));
    }
    let tier = (account.standing.tier.as_str(), account.standing.review_at.map(Moment::as_micros));
    if account.status != Status::Unopened && tier != model.tier() {
        return Err(format!("{what}: after record {} the tier and its review are {tier:?}, of the model {:?}", record.account_seq, model.tier()));
    }
    if told == has { Ok(()) } else { Err(format!("{what}: record {} says {told:?}, the model {has:?}", record.account_seq)) }
}

fn without_purchases(account: &Account) -> Account {
    let mut account = account.clone();
    account.purchases.clear();
    account
}

/// The nodes' state in memory is the fold of the log.
async fn snapshots(site: &Site, stories: &BTreeMap<String, Story>, findings: &mut Findings) {
    for account in 0..site.plan.accounts {
        let key = key(account);
        let folded = stories.get(&key.to_string()).map(|story| story.folded.clone()).unwrap_or_default();
        for node in 0..site.plan.nodes {
            let service = site.with_node(node, |own| own.service.clone());
            let Some(service) = service else { continue };
            // Due work may have been done since. What another node has comes without its purchases.
            if let Ok(Some(snapshot)) = service.snapshot(key.clone(), None).await
                && snapshot.account.seq == folded.seq
                && snapshot.account != folded
                && snapshot.account != without_purchases(&folded)
            {
                findings.push(format!("node {node} believes other than the log of {key}"));
            }
        }
    }
}

/// The read model, come about in steps, equals a fresh fold in one; an account that was stopped is named and stands still.
async fn read_model(site: &Site, stories: &BTreeMap<String, Story>, findings: &mut Findings) {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    let fresh = MemoryTables::new(site.plan.partitions);
    let log = std::sync::Arc::new(site.reader());
    let Ok(mut projector) = Projector::over("balance", log, vec![Box::new(fresh.clone())]).await else { return };
    // Due work may still be booked: the two are compared when they have come equally far.
    let (live, fresh) = loop {
        if let Err(error) = projector.catch_up().await {
            findings.push(format!("the fresh fold fails: {error}"));
            return;
        }
        let (live, fresh) = (site.tables.data(), fresh.data());
        if live.checkpoints == fresh.checkpoints {
            break (live, fresh);
        }
        if tokio::time::Instant::now() > deadline {
            findings.push(format!("the projector stands at {:?}, the log ends at {:?}", live.checkpoints, fresh.checkpoints));
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    let unreadable = *site.unreadable.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let stopped = unreadable.and_then(|(partition, position)| {
        let inner = site.world.inner();
        inner.records[usize::from(partition)].get(usize::try_from(position).ok()?).map(|entry| entry.account.clone())
    });
    for account in stories.keys() {
        let poison = live.cursors.get(account).and_then(|cursor| cursor.poison.clone());
        if stopped.as_ref() == Some(account) {
            let why = poison.unwrap_or_default();
            if !why.contains("schema") {
                findings.push(format!("{account} has an unreadable record, but is not stopped for it ({why:?})"));
            }
        } else if let Some(why) = poison {
            findings.push(format!("the projector stopped {account}: {why}"));
        } else if live.rows.get(account) != fresh.rows.get(account) {
            findings.push(format!("{account}: the read model has {:?}, a fresh fold {:?}", live.rows.get(account), fresh.rows.get(account)));
        }
    }
}

/// The book of one account, a line a record.
pub fn tell(site: &Site) -> Vec<String> {
    let mut lines = Vec::new();
    for records in &site.world.inner().records {
        for record in records.iter().filter_map(|entry| Record::decode(&entry.body).ok()) {
            let events: Vec<String> = record.events.iter().map(|event| format!("{} {:?}", event.at, event.kind)).collect();
            lines.push(format!(
                "{} {} {} {} recorded {} {:?}\n      {}",
                record.key,
                record.account_seq,
                record.command_kind,
                record.command_id,
                record.recorded_at,
                record.balance,
                events.join("\n      ")
            ));
        }
    }
    lines
}

/// A hash of all that stands on the log.
pub fn fingerprint(site: &Site) -> String {
    let inner = site.world.inner();
    let bytes: Vec<u8> = inner.records.iter().flatten().flat_map(|entry| hash(&entry.body)).collect();
    in_hex(&bytes)
}

/// A hash of `bytes`, in hexadecimal.
pub fn in_hex(bytes: &[u8]) -> String {
    hash(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
