//! A till: asks one thing after the other, and asks again until it has an answer.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use command_service::{Answer, Snapshot, purchase_of, simulate};
use event_log::{EventLog, partition_of};
use ledger_core::account::Command;
use ledger_core::id::AccountKey;
use ledger_schemas::v1::{Reply, reply::Kind};
use ledger_schemas::{Ask as Question, Outcome, Record, What as Asked};
use prost::Message;
use rand::Rng;
use tokio::sync::mpsc;

use crate::model::Deed;
use crate::plan::{Way, What};
use crate::run::{Answered, ByCard, PATIENCE, Refused, Site, key};
use crate::sizes;
use crate::topic::Became;
use crate::work::{alias, command, message};

impl Site {
    pub async fn till(self: Arc<Self>, account: usize, mut steps: mpsc::UnboundedReceiver<usize>) {
        while let Some(number) = steps.recv().await {
            let step = self.plan.steps.iter().find(|step| step.number == number).map(|step| step.what.clone());
            if let (Some((command, deed)), Some(What::Ask { way, twin, .. })) = (command(&self.plan, number), step) {
                match way {
                    _ if sizes::is_turned_away(&self.plan, account, &command) => self.turned_away(number, account, command, deed),
                    Way::Card(card) if message(&key(account), &command, Some(card)).is_some() => self.by_card(number, account, card, command, deed).await,
                    way => self.by_account(number, account, way, twin, command, deed).await,
                }
            }
            self.pending.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// What is larger than anybody takes in gets no further.
    fn turned_away(&self, step: usize, account: usize, command: Command, deed: Deed) {
        let rulebooks = self.published.lock().unwrap_or_else(std::sync::PoisonError::into_inner).len();
        let outcome = Err(sizes::REFUSALS[0].to_owned());
        let answered = Answered { step, account, command, deed, outcome, refused: None, rulebooks, is_published: false };
        self.answered.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(answered);
    }

    /// For whoever has the card: what becomes of it is looked up when all is over.
    async fn by_card(&self, step: usize, account: usize, card: u8, command: Command, deed: Deed) {
        let Some((kind, body)) = message(&key(account), &command, Some(card)) else { return };
        let place = self.topic.publish(kind, body);
        let mark = intake::mark(&key(account).program, command.action.kind(), &command.id, alias(card));
        let became = self.topic.done(&place).await;
        let rulebooks = self.published.lock().unwrap_or_else(std::sync::PoisonError::into_inner).len();
        self.by_card.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(ByCard { step, place, mark, command, deed, became, rulebooks });
    }

    async fn by_account(&self, number: usize, account: usize, way: Way, twin: bool, command: Command, deed: Deed) {
        let asked = self.insist(account, &command, way);
        // The same, sent twice at once.
        let (outcome, again) =
            if twin { tokio::join!(biased; asked, async { Some(self.insist(account, &command, Way::Node).await) }) } else { (asked.await, None) };
        let mut outcomes: Vec<(Result<Answer, String>, Option<Refused>)> = std::iter::once(outcome)
            .chain(again)
            .map(|outcome| {
                let refused = outcome.as_ref().err().and_then(|code| self.refused(account, &command, code));
                (outcome, refused)
            })
            .collect();
        // Of two at once the one that was refused was decided first, of two that were the one that was refused earlier.
        outcomes.sort_by_key(|(outcome, refused)| (outcome.is_ok(), *refused));
        for (outcome, refused) in outcomes {
            let mut answered = self.answered.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let rulebooks = self.published.lock().unwrap_or_else(std::sync::PoisonError::into_inner).len();
            answered.push(Answered {
                step: number,
                account,
                command: command.clone(),
                deed: deed.clone(),
                outcome,
                refused,
                rulebooks,
                is_published: way == Way::Topic,
            });
        }
    }

    /// The last refusal of this command, as the log tells.
    fn refused(&self, account: usize, command: &Command, code: &str) -> Option<Refused> {
        let key = key(account);
        let partition = usize::from(partition_of(&key.to_string(), self.plan.partitions));
        let inner = self.world.inner();
        let all = inner.outcomes[partition].iter().zip(&inner.outcome_writes[partition]).rev();
        let decoded = all.filter_map(|(body, write)| Some((Outcome::decode(body).ok()?, *write)));
        let mut own = decoded.filter(|(outcome, _)| outcome.key == key && outcome.code == code && outcome.command.id == command.id);
        own.next().map(|(outcome, write)| Refused { at_us: outcome.recorded_at.as_micros(), write })
    }

    /// Asks until the answer is one.
    async fn insist(&self, account: usize, command: &Command, way: Way) -> Result<Answer, String> {
        let published = if way == Way::Topic { message(&key(account), command, None) } else { None };
        if let Some((kind, body)) = published {
            return self.over_the_topic(account, command, kind, body).await;
        }
        loop {
            let outcome = if way == Way::Log { self.over_the_log(account, command).await } else { self.at_a_node(account, command).await };
            if let Some(outcome) = outcome {
                return outcome;
            }
            let ms = self.world.inner().rng.random_range(5..300);
            tokio::time::sleep(Duration::from_millis(ms)).await;
        }
    }

    async fn at_a_node(&self, account: usize, command: &Command) -> Option<Result<Answer, String>> {
        let node = self.world.inner().rng.random_range(0..self.plan.nodes);
        let service = self.with_node(node, |own| own.service.clone())?;
        // What the command would do, asked first of the same node.
        let snapshot = tokio::time::timeout(PATIENCE, service.snapshot(key(account), purchase_of(command))).await.ok()?.ok().flatten();
        match tokio::time::timeout(PATIENCE, service.submit(key(account), command.clone())).await.ok()? {
            Ok(answer) => {
                if let Some(snapshot) = snapshot {
                    self.as_simulated(&snapshot, command, &answer);
                }
                Some(Ok(answer))
            }
            Err(refusal) if refusal.is_passing() => None,
            Err(refusal) => Some(Err(refusal.code().to_owned())),
        }
    }

    /// Where nothing came between, what was simulated then happened.
    fn as_simulated(&self, snapshot: &Snapshot, command: &Command, answer: &Answer) {
        let record = &answer.record;
        // What was staged when the snapshot was made may have been thrown away since: then the record follows another.
        if answer.replayed || record.previous_hash != snapshot.account.last_hash || record.recorded_at != snapshot.now {
            return;
        }
        let wrong = match simulate(snapshot, command) {
            Ok(simulated) if simulated.events == record.events && simulated.after.balance_at(snapshot.now) == record.balance => return,
            Ok(simulated) => format!("{:?} was simulated, {:?} happened", simulated.events, record.events),
            Err(rejection) => format!("it was simulated to be refused ({rejection}), and granted"),
        };
        self.wrong.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(format!("{} of {}: {wrong}", command.id, record.key));
    }

    /// Published once; what becomes of it is seen in the book and in what intake keeps.
    async fn over_the_topic(&self, account: usize, command: &Command, kind: &str, body: Vec<u8>) -> Result<Answer, String> {
        let place = self.topic.publish(kind, body);
        if let Became::Rejected(code) | Became::Early(code) = self.topic.done(&place).await {
            return Err(code);
        }
        self.booked(&key(account), command).ok_or_else(|| "intake is done with it, and it is neither booked nor kept".to_owned())
    }

    /// The record that this command left in the book.
    pub fn booked(&self, key: &AccountKey, command: &Command) -> Option<Answer> {
        let partition = partition_of(&key.to_string(), self.plan.partitions);
        let inner = self.world.inner();
        let decoded = inner.records[usize::from(partition)].iter().filter_map(|entry| Some((entry.position, Record::decode(&entry.body).ok()?)));
        let mut own = decoded.filter(|(_, record)| record.key == *key && record.command_kind == command.action.kind() && record.command_id == command.id);
        own.next().map(|(position, record)| Answer { record: Arc::new(record), partition, position, replayed: false })
    }

    /// With which write the record of an answer came.
    pub fn write_of(&self, answer: &Answer) -> u64 {
        let writes = &self.world.inner().record_writes[usize::from(answer.partition)];
        usize::try_from(answer.position).ok().and_then(|position| writes.get(position)).copied().unwrap_or_default()
    }

    async fn over_the_log(&self, account: usize, command: &Command) -> Option<Result<Answer, String>> {
        let key = key(account);
        let partition = partition_of(&key.to_string(), self.plan.partitions);
        let program_entries = self.world.seen_programs() as u64;
        let body = Question { program_entries, what: Asked::Command(key, command.clone()) }.encode();
        let bytes = tokio::time::timeout(PATIENCE, self.world.ask(partition, body).ok()?).await.ok()?.ok()?;
        match Reply::decode(&*bytes).ok()?.kind? {
            Kind::Accepted(accepted) => {
                let position = accepted.position;
                let reader = self.reader();
                // It is booked, but may take its time to be seen.
                let entry = loop {
                    match reader.read(partition, position, 1).await.ok()?.into_iter().next() {
                        Some(entry) => break entry,
                        None => tokio::time::sleep(Duration::from_millis(20)).await,
                    }
                };
                let record = Record::decode(&entry.body).ok()?;
                Some(Ok(Answer { record: Arc::new(record), partition, position, replayed: accepted.replayed }))
            }
            Kind::Refused(refused) if ["outcome_unknown", "too_many_requests"].contains(&refused.code.as_str()) => None,
            Kind::Refused(refused) => Some(Err(refused.code)),
            _ => None,
        }
    }
}
