//! What is staged for the log: one batch in the making, with the answers that wait for it.

use std::collections::BTreeMap;
use std::time::SystemTime;

use compact_str::CompactString;
use event_log::{Batch, NewReply, Partition, Position, ReplyTo};
use ledger_core::id::Id;
use ledger_core::time::Moment;
use ledger_schemas::v1;
use prost::Message;
use telemetry::{Part, Trace};
use tokio::sync::{mpsc, oneshot};

use crate::request::{Answer, Refusal, Reply, SourceOutcome};
use crate::wire::{accepted, told};

/// What a group may grow to before it goes to the log: more than as many ordinary records as it takes have, so that it ends the large ones' groups only.
const GROUP_BYTES: usize = 10 << 20;

/// What to answer when the staged batch is on the log.
pub(crate) enum Staged {
    /// The answer is known.
    Answer(Reply, Result<Answer, Refusal>),
    /// The first answer again, to be read from the log.
    Replay(Reply, Partition, Position),
    /// Booked before; the record is not asked for.
    Before(mpsc::UnboundedSender<(u64, SourceOutcome)>, u64),
    /// Somebody waits for the batch, not for a command.
    Run(Box<dyn FnOnce(bool) + Send>),
}

/// One batch in the making, with the answers that wait for it.
#[derive(Default)]
pub(crate) struct Group {
    pub(crate) batch: Batch,
    pub(crate) staged: Vec<Staged>,
    pub(crate) bytes: usize,
    /// The traces of what it books, where traces are sent.
    pub(crate) traces: Vec<(Trace, Part, SystemTime)>,
    /// How many commands came to what, by kind.
    pub(crate) decided: BTreeMap<(&'static str, &'static str), u64>,
    pub(crate) consumed: BTreeMap<Partition, u64>,
    pub(crate) clocks: BTreeMap<Id, (Moment, CompactString)>,
}

impl Group {
    pub(crate) fn is_empty(&self) -> bool {
        self.batch.is_empty() && self.staged.is_empty() && self.consumed.is_empty() && self.clocks.is_empty()
    }

    /// Whether it should take no more.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes >= GROUP_BYTES
    }

    /// Stages an answer. One that goes over the log comes with the batch itself.
    pub(crate) fn stage(&mut self, staged: Staged) {
        match staged {
            Staged::Answer(Reply::Log(to), outcome) => self.reply(to, told(&outcome)),
            Staged::Replay(Reply::Log(to), partition, position) => self.reply(to, accepted(partition, position, true)),
            staged => self.staged.push(staged),
        }
    }

    pub(crate) fn reply(&mut self, to: Option<ReplyTo>, reply: v1::reply::Kind) {
        let body = v1::Reply { kind: Some(reply) }.encode_to_vec();
        self.bytes += body.len();
        self.batch.replies.extend(to.map(|to| NewReply { to, body }));
    }

    pub(crate) fn consumed(&mut self, partition: Partition, next: u64) {
        self.consumed.insert(partition, next);
    }
}

/// Answers `reply` once all that is staged is on the log.
pub(crate) fn when_on_the_log<T: Send + 'static>(group: &mut Group, reply: oneshot::Sender<Result<T, Refusal>>, outcome: Result<T, Refusal>) {
    let answer = move |ok: bool| {
        let outcome = if ok { outcome } else { Err(Refusal::OutcomeUnknown) };
        let _ = reply.send(outcome);
    };
    group.staged.push(Staged::Run(Box::new(answer)));
}
