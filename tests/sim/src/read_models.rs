//! What the simulator's histories become in every read model, by the real projectors and a real Postgres. The log is cut into batches by chance,
//! and a projector is killed now and then in the middle of one. Then each read model equals a fold in one go, and tells of each account what the
//! core's own fold of its records says.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use event_log::postgres::connect;
use event_log::{Entry, EventLog, partition_of};
use ledger_core::account::qualifying::Qualifying;
use ledger_core::account::state::{LotState, Status};
use ledger_core::account::{Account, EventKind};
use ledger_core::id::Id;
use ledger_core::points::Amount;
use ledger_core::posting::Bucket;
use ledger_schemas::{Outcome, Record, encode_outcome, encode_record, hash};
use projectors::{Projector, ProjectorError, ReadModel, Refusals, read_models, verify};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::book::{Book, ReadLog};
use crate::plan;
use crate::run::Findings;

const PARTITIONS: u16 = 4;
/// How many accounts are dealt from at a time: few, so that a batch has several records of one.
const AT_ONCE: usize = 6;

/// Runs `seeds`, and what they leave through every read model of the database at `url`.
///
/// # Errors
/// What a projector or Postgres says.
pub async fn check(seeds: Range<u64>, url: &str) -> Result<Findings, Box<dyn std::error::Error + Send + Sync>> {
    let (book, accounts, spent) = histories(seeds.clone());
    let log = Arc::new(ReadLog { book: Arc::new(book), slices: None });
    let mut findings = Vec::new();
    for (n, model) in (0..).zip(read_models()) {
        project(&model, &log, seeds.start.wrapping_add(n), url).await?;
        let verified = verify(Arc::clone(&model), log.clone(), url).await?;
        findings.extend(verified.differences.into_iter().map(|difference| format!("read model {}: {difference}", model.name())));
    }
    refusals(&log, seeds.start, url).await?;
    let client = connect(url, "sim").await?;
    for Told { what, sql, expected } in told(&accounts).into_iter().chain([spend(&spent), refused(&log.book)]) {
        let rows = client.query(&sql, &[]).await?;
        let found: BTreeMap<String, String> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        let differs = |key: &&String| found.get(*key) != expected.get(*key);
        let keys: std::collections::BTreeSet<&String> = found.keys().chain(expected.keys()).filter(differs).collect();
        findings.extend(keys.into_iter().take(5).map(|key| format!("{what} of {key}: {:?}, the account says {:?}", found.get(key), expected.get(key))));
    }
    Ok(findings)
}

/// A projector from the beginning to the end of the log, killed now and then.
async fn project(model: &Arc<dyn ReadModel>, whole: &ReadLog, seed: u64, url: &str) -> Result<(), ProjectorError> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let (log, ends) = (sliced(whole, seed), whole.ends().await?);
    loop {
        let mut projector = Projector::open(Arc::clone(model), log.clone(), url).await?;
        loop {
            match tokio::time::timeout(patience(&mut rng), projector.step()).await {
                Ok(Ok(_)) if projector.positions() == ends => return Ok(()),
                Ok(Ok(_)) => {}
                // What one that was killed had committed, the next does not know yet.
                Ok(Err(ProjectorError::Overtaken { .. })) | Err(_) => break,
                Ok(Err(error)) => return Err(error),
            }
        }
    }
}

/// The same for what was refused.
async fn refusals(whole: &ReadLog, seed: u64, url: &str) -> Result<(), ProjectorError> {
    let (mut rng, log) = (SmallRng::seed_from_u64(seed), sliced(whole, seed));
    loop {
        let mut refusals = Refusals::open(log.clone(), url).await?;
        match tokio::time::timeout(patience(&mut rng), refusals.catch_up()).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(ProjectorError::Overtaken { .. })) | Err(_) => {}
            Ok(Err(error)) => return Err(error),
        }
    }
}

fn sliced(whole: &ReadLog, seed: u64) -> Arc<ReadLog> {
    Arc::new(ReadLog { book: Arc::clone(&whole.book), slices: Some(Mutex::new(SmallRng::seed_from_u64(seed))) })
}

/// How long one of them lives.
fn patience(rng: &mut SmallRng) -> Duration {
    if rng.random_bool(0.1) { Duration::from_micros(rng.random_range(200..20_000)) } else { Duration::from_secs(60) }
}

/// What the runs of `seeds` left, each under a program of its own, dealt together at random; every account as it is at the end, and what its member spent.
fn histories(seeds: Range<u64>) -> (Book, BTreeMap<String, Account>, BTreeMap<String, Amount>) {
    let mut rng = SmallRng::seed_from_u64(seeds.start);
    let mut queues: Vec<VecDeque<Entry>> = Vec::new();
    let (mut accounts, mut spent) = (BTreeMap::new(), BTreeMap::new());
    let mut outcomes = vec![Vec::new(); usize::from(PARTITIONS)];
    for seed in seeds {
        let book = crate::outcome(&plan::draw(seed), None).book;
        let program = Id::parse(&format!("s{seed}")).expect("letters and digits");
        for body in book.outcomes.iter().flatten() {
            let mut outcome = Outcome::decode(body).expect("the run has written it");
            outcome.key.program = program.clone();
            outcomes[usize::from(partition_of(&outcome.key.name(), PARTITIONS))].push(encode_outcome(&outcome));
        }
        for (name, entries) in of_a_program(&program, book) {
            let spent: &mut Amount = spent.entry(name.clone()).or_default();
            let account = accounts.entry(name).or_insert_with(Account::default);
            for (record, own) in entries.iter().map(|entry| (Record::decode(&entry.body).expect("just encoded"), hash(&entry.body))) {
                record.events.iter().for_each(|event| account.evolve(event));
                *spent = record.events.iter().fold(*spent, |spent, event| spent_after(spent, &event.kind));
                account.seal(record.recorded_at, own);
            }
            queues.push(entries);
        }
    }
    let mut records = vec![Vec::new(); usize::from(PARTITIONS)];
    while !queues.is_empty() {
        let next = rng.random_range(0..queues.len().min(AT_ONCE));
        let Some(mut entry) = queues[next].pop_front() else {
            queues.remove(next);
            continue;
        };
        let partition: &mut Vec<Entry> = &mut records[usize::from(partition_of(&entry.account, PARTITIONS))];
        entry.position = partition.len() as u64;
        partition.push(entry);
    }
    (Book { records, outcomes, programs: Vec::new() }, accounts, spent)
}

fn spent_after(spent: Amount, event: &EventKind) -> Amount {
    match event {
        EventKind::PointsEarned(earned) => spent.plus(earned.charge()),
        EventKind::PurchaseReturned(back) => spent.minus(back.refunded.map(|refunded| refunded.goods).unwrap_or_default()),
        EventKind::RefundBooked { body, .. } => spent.minus(body.amount),
        _ => spent,
    }
}

/// What each member paid for goods and was not given back, with a purchase or without.
fn spend(spent: &BTreeMap<String, Amount>) -> Told {
    let spent = spent.iter().filter(|(_, spent)| **spent != Amount::ZERO).map(|(name, spent)| (name.clone(), spent.0.normalize().to_string()));
    let sql = "SELECT program || '/' || account, trim_scale(spend)::text FROM clv.member WHERE spend <> 0";
    Told { what: "what the member spent", sql: sql.into(), expected: spent.collect() }
}

/// The records of a run by account, as if its program had another name.
fn of_a_program(program: &Id, book: Book) -> BTreeMap<String, VecDeque<Entry>> {
    let mut accounts: BTreeMap<String, VecDeque<Entry>> = BTreeMap::new();
    for entry in book.records.into_iter().flatten() {
        let mut record = Record::decode(&entry.body).expect("the run has read it");
        record.key.program = program.clone();
        let entries = accounts.entry(record.key.to_string()).or_default();
        record.previous_hash = entries.back().map_or([0; 32], |last| hash(&last.body));
        let mut body = Vec::new();
        encode_record(&record, &mut body);
        entries.push_back(Entry { account: record.key.to_string(), body, ..entry });
    }
    accounts
}

/// Something that a read model tells, and that the core's fold of the records tells too.
struct Told {
    what: &'static str,
    /// Of what, and in words.
    sql: String,
    expected: BTreeMap<String, String>,
}

fn told(accounts: &BTreeMap<String, Account>) -> Vec<Told> {
    let of_accounts = |what, rest: &str, words: &dyn Fn(&Account) -> Option<String>| {
        let expected = accounts.iter().filter_map(|(name, account)| Some((name.clone(), words(account)?))).collect();
        Told { what, sql: format!("SELECT program || '/' || account, {rest}"), expected }
    };
    let points = |account: &Account| {
        let balance = account.balance();
        format!("{} {} {} {}", balance.available, balance.pending, balance.held, balance.owed)
    };
    let us = |column: &str| format!("coalesce((extract(epoch FROM {column}) * 1000000)::bigint::text, '-')");
    let standing = |account: &Account| {
        let standing = &account.standing;
        let review = standing.review_at.map_or("-".into(), |at| at.as_micros().to_string());
        (account.status != Status::Unopened).then(|| format!("{} {} {review}", standing.tier, standing.since.as_micros()))
    };
    let qualifying = |account: &Account| {
        let sum = account.qualifying_recent.plus(account.qualifying_before);
        (sum != Qualifying::default()).then(|| format!("{} {} {}", sum.points, sum.spend.0.normalize(), sum.purchases))
    };
    vec![
        of_accounts("the balance", "concat_ws(' ', status, available, pending, held, owed, lifetime_earned) FROM balance.balance", &|account| {
            Some(format!("{} {} {}", account.status.name(), points(account), account.lifetime_earned))
        }),
        of_accounts(
            "the last line of the statement",
            "(array_agg(concat_ws(' ', available, pending, held, owed) ORDER BY account_seq DESC, event DESC))[1] FROM statement.movement GROUP BY program, account",
            &|account| Some(points(account)),
        ),
        of_accounts(
            "the sum of the statement",
            "concat_ws(' ', sum(available_delta), sum(pending_delta), sum(held_delta), sum(owed_delta), sum(earned_delta))
             FROM statement.movement GROUP BY program, account",
            &|account| Some(format!("{} {}", points(account), account.lifetime_earned)),
        ),
        of_accounts("the tier", &format!("concat_ws(' ', tier, {}, {}) FROM tier.standing", us("since"), us("review_at")), &standing),
        of_accounts(
            "what counts towards a tier",
            "concat_ws(' ', sum(points), trim_scale(sum(spend)), sum(purchases)) FROM tier.qualifying GROUP BY program, account
             HAVING (sum(points), sum(spend), sum(purchases)) <> (0, 0, 0)",
            &qualifying,
        ),
        of_accounts("the tier that points are owed under", "tier FROM liability.tier", &|account| standing(account).map(|_| account.standing.tier.to_string())),
        of_accounts("how many purchases there are", "count(*)::text FROM clv.purchase GROUP BY program, account", &|account| {
            (account.purchase_count > 0).then(|| account.purchase_count.to_string())
        }),
        of_accounts(
            "how many commands there were",
            "max(account_seq)::text FROM audit.command GROUP BY program, account HAVING max(account_seq) = count(*)",
            &|account| Some(account.seq.to_string()),
        ),
        of_accounts("how many other names there are", "count(*)::text FROM alias.alias GROUP BY program, account", &|account| {
            (!account.aliases.is_empty()).then(|| account.aliases.len().to_string())
        }),
        lots(accounts),
        trial_balance(accounts),
        Told {
            what: "goods given back",
            sql: "SELECT program || '/' || account || ' ' || purchase_id, concat_ws(' ', spend, returned, refunded) FROM clv.purchase
                  LEFT JOIN (SELECT program, account, purchase_id, sum(amount) AS refunded FROM clv.refund GROUP BY 1, 2, 3) r
                    USING (program, account, purchase_id) WHERE returned < 0 OR returned > spend OR returned <> coalesce(refunded, 0)"
                .into(),
            expected: BTreeMap::new(),
        },
    ]
}

/// Every refused command, in its place.
fn refused(book: &Book) -> Told {
    let place = |partition: usize, position: usize, body: &[u8]| {
        let outcome = Outcome::decode(body).expect("just encoded");
        let at_us = outcome.recorded_at.as_micros();
        let (account, kind, id) = (outcome.key.name(), outcome.command.action.kind(), &outcome.command.id);
        (format!("{partition} {position}"), format!("{account} {kind} {id} {} {at_us} {} {}", outcome.command.actor, outcome.code, outcome.detail))
    };
    let of_partition =
        |(partition, outcomes): (usize, &Vec<Vec<u8>>)| outcomes.iter().enumerate().map(move |(n, body)| place(partition, n, body)).collect::<Vec<_>>();
    let sql = "SELECT partition || ' ' || position, concat_ws(' ', program || '/' || account, kind, command_id, actor,
                 (extract(epoch FROM recorded_at) * 1000000)::bigint, code, detail) FROM refusal.refusal";
    Told { what: "the refused command", sql: sql.into(), expected: book.outcomes.iter().enumerate().flat_map(of_partition).collect() }
}

/// Each lot with points in it.
fn lots(accounts: &BTreeMap<String, Account>) -> Told {
    let words = |lot: &LotState| {
        let (pending, available) = if lot.pending { (lot.remaining, 0) } else { (0, lot.remaining) };
        format!("{pending} {available} {}", lot.held)
    };
    let of_account = |(name, account): (&String, &Account)| {
        let full = account.lots.iter().filter(|lot| lot.remaining > 0 || lot.held > 0);
        full.map(|lot| (format!("{name} {}", lot.lot), words(lot))).collect::<Vec<_>>()
    };
    let sql =
        "SELECT program || '/' || account || ' ' || lot_id, concat_ws(' ', pending, available, held) FROM liability.lot WHERE pending + available + held > 0";
    Told { what: "the lot", sql: sql.into(), expected: accounts.iter().flat_map(of_account).collect() }
}

/// What each bucket has in all, program by program.
fn trial_balance(accounts: &BTreeMap<String, Account>) -> Told {
    use Bucket::{Adjusted, Available, ClawedBack, Expired, Forfeited, Held, Issued, Owed, Pending, Redeemed, Shortfall, Uncollected};
    let mut sums: BTreeMap<String, i64> = BTreeMap::new();
    for (name, account) in accounts {
        let program = name.split_once('/').map_or(name.as_str(), |(program, _)| program);
        for bucket in [Issued, Pending, Available, Held, Redeemed, Expired, ClawedBack, Forfeited, Adjusted, Owed, Shortfall, Uncollected] {
            *sums.entry(format!("{program} {}", bucket.name())).or_default() += account.total(bucket);
        }
    }
    let sums = sums.into_iter().filter(|(_, points)| *points != 0).map(|(bucket, points)| (bucket, points.to_string()));
    let sql = "SELECT program || ' ' || bucket, points::text FROM liability.trial_balance WHERE points <> 0";
    Told { what: "the trial balance", sql: sql.into(), expected: sums.collect() }
}
