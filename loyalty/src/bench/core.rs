//! decide + evolve on one core, bare and with protobuf and hash.

use std::time::Instant;

use ledger_core::account::{Account, Context, decide};
use ledger_core::time::Moment;
use ledger_schemas::{Record, content_hash, encode_record, hash};

use super::workload::{earn, key, program};
use super::{Figure, rate};

const COMMANDS: u64 = 400_000;
const ACCOUNTS: u64 = 1_000;
/// After so many commands the accounts begin anew, with some twenty purchases each: as many as a member makes in the return window.
const ROUND: usize = 20_000;

/// Measures; the commands are made before the clock runs.
pub fn run() -> anyhow::Result<Vec<Figure>> {
    let program = program()?;
    let begin = Moment::parse("2010-01-01T12:00:00Z")?;
    let micros = |n: u64| i64::try_from(n).unwrap_or(i64::MAX) * 1000;
    let commands: Vec<_> = (0..COMMANDS).map(|n| earn(n, begin.plus_micros(micros(n)))).collect();
    let keys: Vec<_> = (0..COMMANDS).map(|n| key(n, ACCOUNTS)).collect();
    let slot = |n: usize| keys[n].account.as_str()[1..].parse::<usize>();
    let slots: Vec<usize> = (0..keys.len()).map(slot).collect::<Result<_, _>>()?;
    let now = begin.plus_micros(micros(COMMANDS));
    let context = Context { program: &program, now, target_known: false };

    let mut accounts = vec![Account::default(); usize::try_from(ACCOUNTS)?];
    let clock = Instant::now();
    for (n, (command, slot)) in commands.iter().zip(&slots).enumerate() {
        if n % ROUND == 0 {
            accounts.fill_with(Account::default);
        }
        let account = &mut accounts[*slot];
        let decision = decide(account, command, &context)?;
        decision.events.iter().for_each(|event| account.evolve(event));
        account.seal(now, [0; 32]);
    }
    let bare = rate(COMMANDS, clock.elapsed().as_secs_f64());

    let mut accounts = vec![Account::default(); usize::try_from(ACCOUNTS)?];
    let (mut scratch, mut body) = (Vec::new(), Vec::new());
    let clock = Instant::now();
    for (n, ((command, slot), key)) in commands.iter().zip(&slots).zip(&keys).enumerate() {
        if n % ROUND == 0 {
            accounts.fill_with(Account::default);
        }
        let account = &mut accounts[*slot];
        let content = content_hash(key.account.as_str(), command, &mut scratch);
        let decision = decide(account, command, &context)?;
        decision.events.iter().for_each(|event| account.evolve(event));
        let record = Record {
            key: key.clone(),
            account_seq: account.seq + 1,
            command_id: command.id.clone(),
            command_kind: command.action.kind().into(),
            content_hash: content,
            recorded_at: now,
            effective_at: now,
            actor: command.actor.clone(),
            rule_version: decision.rule_version,
            previous_hash: account.last_hash,
            events: decision.events,
            balance: account.balance(),
        };
        body.clear();
        encode_record(&record, &mut body);
        account.seal(now, hash(&body));
    }
    let whole = rate(COMMANDS, clock.elapsed().as_secs_f64());
    Ok(vec![
        Figure::new("decide + evolve, Earn, 1,000 accounts with 20 purchases, one core, bare", format!("{bare:.0}/s"), "1,000,000/s"),
        Figure::new("decide + evolve, Earn, 1,000 accounts with 20 purchases, one core, with protobuf and both hashes", format!("{whole:.0}/s"), "300,000/s"),
    ])
}
