//! A till: asks one thing after the other, and asks again until it has an answer.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use command_service::{Answer, Refusal, Snapshot, simulate};
use event_log::{EventLog, partition_of};
use ledger_core::account::Command;
use ledger_schemas::v1::{Reply, reply::Kind};
use ledger_schemas::{Ask as Question, Outcome, Record, What as Asked};
use prost::Message;
use rand::Rng;
use tokio::sync::mpsc;

use crate::plan::What;
use crate::run::{Answered, PATIENCE, Site, key};
use crate::work::command;

impl Site {
    pub async fn till(self: Arc<Self>, account: usize, mut steps: mpsc::UnboundedReceiver<usize>) {
        while let Some(number) = steps.recv().await {
            let step = self.plan.steps.iter().find(|step| step.number == number).map(|step| step.what.clone());
            if let (Some((command, deed)), Some(What::Ask { over_the_log, twin, .. })) = (command(&self.plan, number), step) {
                let asked = self.insist(account, &command, over_the_log);
                // The same, sent twice at once.
                let (outcome, again) =
                    if twin { tokio::join!(biased; asked, async { Some(self.insist(account, &command, false).await) }) } else { (asked.await, None) };
                let mut outcomes: Vec<(Result<Answer, String>, Option<i64>)> = std::iter::once(outcome)
                    .chain(again)
                    .map(|outcome| {
                        let refused_us = outcome.as_ref().err().and_then(|code| self.refused_us(account, &command, code));
                        (outcome, refused_us)
                    })
                    .collect();
                // Of two at once the one that was refused was decided first, of two that were the one that was refused earlier.
                outcomes.sort_by_key(|(outcome, refused_us)| (outcome.is_ok(), *refused_us));
                for (outcome, refused_us) in outcomes {
                    let mut answered = self.answered.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    let rulebooks = self.published.lock().unwrap_or_else(std::sync::PoisonError::into_inner).len();
                    answered.push(Answered { step: number, account, command: command.clone(), deed: deed.clone(), outcome, refused_us, rulebooks });
                }
            }
            self.pending.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// When the last refusal of this command was decided, as the log tells.
    fn refused_us(&self, account: usize, command: &Command, code: &str) -> Option<i64> {
        let key = key(account);
        let inner = self.world.inner();
        let outcomes = inner.outcomes[usize::from(partition_of(&key.to_string(), self.plan.partitions))].iter().rev();
        let outcome = outcomes
            .filter_map(|refused| Outcome::decode(refused).ok())
            .find(|outcome| outcome.key == key && outcome.code == code && outcome.command.id == command.id);
        outcome.map(|outcome| outcome.recorded_at.as_micros())
    }

    /// Asks until the answer is one.
    async fn insist(&self, account: usize, command: &Command, over_the_log: bool) -> Result<Answer, String> {
        loop {
            let outcome = if over_the_log { self.over_the_log(account, command).await } else { self.at_a_node(account, command).await };
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
        let snapshot = tokio::time::timeout(PATIENCE, service.snapshot(key(account))).await.ok()?.ok().flatten();
        match tokio::time::timeout(PATIENCE, service.submit(key(account), command.clone())).await.ok()? {
            Ok(answer) => {
                if let Some(snapshot) = snapshot {
                    self.as_simulated(&snapshot, command, &answer);
                }
                Some(Ok(answer))
            }
            Err(Refusal::Busy | Refusal::OutcomeUnknown | Refusal::NoAnswer(_) | Refusal::NotHere) => None,
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
            Ok(simulated) if simulated.events == record.events && simulated.after.balance() == record.balance => return,
            Ok(simulated) => format!("{:?} was simulated, {:?} happened", simulated.events, record.events),
            Err(rejection) => format!("it was simulated to be refused ({rejection}), and granted"),
        };
        self.wrong.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(format!("{} of {}: {wrong}", command.id, record.key));
    }

    async fn over_the_log(&self, account: usize, command: &Command) -> Option<Result<Answer, String>> {
        let key = key(account);
        let partition = partition_of(&key.to_string(), self.plan.partitions);
        let program_entries = self.world.inner().programs.len() as u64;
        let body = Question { program_entries, what: Asked::Command(key, command.clone()) }.encode();
        let bytes = tokio::time::timeout(PATIENCE, self.world.ask(partition, body)).await.ok()?.ok()?;
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
