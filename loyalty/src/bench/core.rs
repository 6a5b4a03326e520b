//! decide + evolve on one core, bare and with protobuf and hash.

use std::time::{Duration, Instant};

use ledger_core::account::{Account, Context, decide};
use ledger_core::edition::EDITION;
use ledger_core::time::Moment;
use ledger_schemas::{Record, content_hash, encode_record, hash};

use super::workload::{earn, key, program};
use super::{Figure, rate};

const COMMANDS: u64 = 400_000;
/// The members of a shop at its busiest, whose accounts stay in the processor's cache.
const BUSY: u64 = 100;
/// So many that every account comes from memory.
const MANY: u64 = 10_000;
/// With so many purchases an account begins anew: as many as a member makes in the return window.
const PURCHASES: u64 = 20;
/// How many commands are made while the clock stands, as the loop finds them: just read, a group at a time.
const GROUP: u64 = 1_000;

/// Measures; no command is made while the clock runs.
pub fn run() -> anyhow::Result<Vec<Figure>> {
    let measured = |accounts: u64, with: bool, target: &'static str| {
        let how = if with { "with protobuf and both hashes" } else { "bare" };
        let what = format!("decide + evolve, Earn, {accounts} accounts with {PURCHASES} purchases, one core, {how}");
        Ok::<_, anyhow::Error>(Figure::new(&what, format!("{:.0}/s", measure(accounts, with)?), target))
    };
    Ok(vec![measured(BUSY, false, "1,000,000/s")?, measured(BUSY, true, "300,000/s")?, measured(MANY, false, "")?, measured(MANY, true, "")?])
}

fn measure(accounts: u64, with_protobuf_and_hashes: bool) -> anyhow::Result<f64> {
    let program = program()?;
    let begin = Moment::parse("2010-01-01T12:00:00Z")?;
    let at = |n: u64| begin.plus_micros(i64::try_from(n).unwrap_or(i64::MAX) * 1000);
    let now = at(COMMANDS);
    let context = Context { program: &program, now, target_known: false };
    let mut states = vec![Account::default(); usize::try_from(accounts)?];
    let (mut scratch, mut body) = (Vec::new(), Vec::new());
    let mut busy = Duration::ZERO;
    for group in 0..COMMANDS / GROUP {
        if (group * GROUP).is_multiple_of(accounts * PURCHASES) {
            states.fill_with(Account::default);
        }
        let mut commands = Vec::new();
        for n in group * GROUP..(group + 1) * GROUP {
            let key = key(n, accounts);
            let slot = key.account.as_str()[1..].parse::<usize>()?;
            commands.push((slot, key, earn(n, at(n))));
        }
        let clock = Instant::now();
        for (slot, key, command) in commands {
            let account = &mut states[slot];
            if !with_protobuf_and_hashes {
                let decision = decide(account, &command, &context)?;
                decision.events.iter().for_each(|event| account.evolve(event));
                account.seal(now, [0; 32]);
                continue;
            }
            let content = content_hash(key.account.as_str(), &command, &mut scratch);
            let decision = decide(account, &command, &context)?;
            decision.events.iter().for_each(|event| account.evolve(event));
            let record = Record {
                key,
                account_seq: account.seq + 1,
                command_kind: command.action.kind().into(),
                command_id: command.id,
                content_hash: content,
                recorded_at: now,
                effective_at: now,
                actor: command.actor,
                rule_version: decision.rule_version,
                previous_hash: account.last_hash,
                events: decision.events,
                balance: account.balance_at(now),
                edition: EDITION,
                program_entries: Some(1),
            };
            body.clear();
            encode_record(&record, &mut body);
            account.seal(now, hash(&body));
        }
        busy += clock.elapsed();
    }
    Ok(rate(COMMANDS, busy.as_secs_f64()))
}
