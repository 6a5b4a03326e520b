//! What is asked over the log, on the side of whoever has the account: decided like what is asked here, answered with what is booked.

use event_log::{Asked, ReplyTo};
use ledger_core::time::Moment;
use ledger_schemas::v1::reply::Kind;
use ledger_schemas::{Ask, What, v1};

use crate::admit::admit;
use crate::book::Book;
use crate::closings::ClosingStep;
use crate::engine::DUE_MAX;
use crate::limits;
use crate::request::{Refusal, Reply};
use crate::store::StoreError;
use crate::wire::refused;

impl Book {
    /// Decides what is asked and stages the answer, with how far it has read.
    pub(crate) fn asked(&mut self, asked: &Asked, ask: Ask, real_now: Moment) -> Result<(), StoreError> {
        self.group.consumed(asked.partition, asked.offset + 1);
        let to = asked.reply_to;
        let program = match ask.what {
            What::Command(key, command) => return self.command(admit(key, command), Reply::Log(to), real_now),
            What::Publish { program, rulebook, actor } => {
                let published = self.publish(&program, rulebook, actor, real_now);
                self.published(to, published, 0);
                return Ok(());
            }
            What::ProposeClosing { program, closing, actor } => {
                let proposed = self.closing(&program, ClosingStep::Propose(closing), actor, real_now);
                self.published(to, proposed.map(|()| (0, true)), 0);
                return Ok(());
            }
            What::ApproveClosing { program, period, proposed_in, actor } => {
                let closed = self.closing(&program, ClosingStep::Approve { period, proposed_in }, actor, real_now);
                self.published(to, closed.map(|()| (0, true)), 0);
                return Ok(());
            }
            What::NameAliasKey { fingerprint, actor } => {
                let named = self.name_alias_key(fingerprint, actor, real_now);
                self.published(to, named.map(|()| (0, true)), 0);
                return Ok(());
            }
            What::SetClock { program, now, actor } => {
                let set = self.set_clock(&program, now, actor, real_now);
                // Its entry is made when the group is sealed.
                self.published(to, set.map(|()| (0, true)), 1);
                program
            }
            What::Settle(program) => {
                // Booked below, in the same group as the answer.
                self.group.reply(to, Kind::Done(v1::Empty {}));
                program
            }
            What::Snapshot(key, purchase) => {
                let Some((program, now)) = self.program(&key.program, real_now) else {
                    self.group.reply(to, refused(&Refusal::ProgramNotFound(key.program)));
                    return Ok(());
                };
                let name = key.to_string();
                let stopped = self.accounts.stopped(&name).map(|why| Refusal::Stopped(why.clone()));
                // Whoever asked may have taken the wrong partition.
                if let Some(refusal) = if self.is_here(&name) { stopped } else { Some(Refusal::NotHere) } {
                    self.group.reply(to, refused(&refusal));
                    return Ok(());
                }
                let now = self.no_earlier(&key, &program, now)?;
                let account = self.accounts.get(&key, &program)?.account();
                let named = account.purchases.iter().find(|state| Some(&state.purchase.purchase_id) == purchase.as_ref());
                let account = postcard::to_stdvec(&(account, Vec::from_iter(named))).unwrap_or_default();
                let reply = match limits::require("answer", account.len(), self.limits.answer_bytes) {
                    Ok(()) => Kind::Snapshot(v1::Snapshot { account, now_us: now.as_micros() }),
                    Err(refusal) => refused(&refusal),
                };
                self.group.reply(to, reply);
                return Ok(());
            }
        };
        while self.due_work(&program, DUE_MAX, real_now)? {}
        Ok(())
    }

    /// Passes over what can't be read: whoever sent it hears of it, or nobody does.
    pub(crate) fn unreadable(&mut self, asked: &Asked, why: String) {
        tracing::error!(partition = asked.partition, offset = asked.offset, %why, "a question can't be read and is passed over");
        metrics::counter!("loyalty_unreadable_questions_total").increment(1);
        self.group.consumed(asked.partition, asked.offset + 1);
        self.group.reply(asked.reply_to, refused(&Refusal::Unusable(why)));
    }

    /// Answers with the length of the program stream, `more` than it has by now.
    fn published(&mut self, to: Option<ReplyTo>, published: Result<(u32, bool), Refusal>, more: u64) {
        let program_entries = self.programs.entries + more;
        let reply = match published {
            Ok((version, is_new)) => Kind::Published(v1::Published { version, is_new, program_entries }),
            Err(refusal) => refused(&refusal),
        };
        self.group.reply(to, reply);
    }
}
