//! The commands that hold up all others longest: the largest that are accepted, on accounts as large as they may be (docs/limits.md).

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use command_service::{CONDITIONS_MAX, HOLDS_MAX, LOTS_MAX};
use ledger_core::account::command::{Action, LINES_MAX, Line, Purchase, Reason, Return, Returned};
use ledger_core::account::decide::due_at;
use ledger_core::account::{Account, Command, Context, decide};
use ledger_core::edition::EDITION;
use ledger_core::id::{AccountKey, Id};
use ledger_core::points::{Amount, Points};
use ledger_core::policy::{BONUSES_MAX, Program, Rulebook, read_rulebook};
use ledger_core::time::{DAY_US, Moment};
use ledger_schemas::{Record, content_hash, encode_record, hash};
use serde_json::{Value, json};

use super::Figure;

/// The longest that others should wait for one command, in a release build.
const TARGET: Duration = Duration::from_millis(20);
const TIMES: usize = 11;
/// What each purchase of a large account gives.
const POINTS: Points = 10;
/// As many characters as the condition of a bonus may have; it counts as ten short ones.
const LONGEST: usize = 1000;

/// A command at its worst.
struct Worst {
    what: String,
    program: Arc<Program>,
    account: Account,
    now: Moment,
    command: Command,
}

/// Measures each some times, and tells how many were slower than they should be.
pub fn run() -> anyhow::Result<Vec<Figure>> {
    let (mut figures, mut slow) = (Vec::new(), 0);
    let all = [large_purchases()?, many_lots()?, many_holds()?];
    let target = format!("{} ms", TARGET.as_millis());
    for worst in all.into_iter().flatten() {
        let mut times = (0..TIMES).map(|_| worst.time()).collect::<anyhow::Result<Vec<_>>>().with_context(|| worst.what.clone())?;
        times.sort_unstable();
        let (median, most) = (times[times.len() / 2], times[times.len() - 1]);
        let is_slow = median > TARGET;
        slow += usize::from(is_slow);
        let missed = if is_slow { " **missed**" } else { "" };
        figures.push(Figure::new(&worst.what, format!("{}, at most {} ms{missed}", ms(median), ms(most)), &target));
    }
    figures.push(Figure::new("worst commands that hold up others longer than they should", slow.to_string(), "0"));
    Ok(figures)
}

fn ms(time: Duration) -> String {
    format!("{}.{}", time.as_millis(), time.subsec_micros() / 100 % 10)
}

impl Worst {
    fn new(what: impl Into<String>, program: &Arc<Program>, (account, now): (&Account, Moment), action: Action) -> anyhow::Result<Self> {
        let command = command("worst", "checker", action);
        command.check().map_err(|invalid| anyhow::anyhow!("{invalid}"))?;
        Ok(Self { what: what.into(), program: Arc::clone(program), account: account.clone(), now, command })
    }

    /// How long the command service's loop has to do with it: from the limits to what is due next.
    fn time(&self) -> anyhow::Result<Duration> {
        let (mut account, program, now) = (self.account.clone(), &*self.program, self.now);
        let content = content_hash("worst/a", &self.command, &mut Vec::new());
        let mut body = Vec::new();
        let clock = Instant::now();
        if let Action::Earn(purchase) = &self.command.action {
            let asked = program.at(now).map_or(0, |version| version.conditions_asked(purchase));
            anyhow::ensure!(asked <= CONDITIONS_MAX, "it asks {asked} conditions");
        }
        let decision = decide(&account, &self.command, &Context { program, now, target_known: false })?;
        anyhow::ensure!(!decision.events.is_empty(), "it does nothing");
        let mut record = Record {
            key: AccountKey { program: id("worst"), account: id("a") },
            account_seq: account.seq + 1,
            command_id: self.command.id.clone(),
            command_kind: self.command.action.kind().into(),
            content_hash: content,
            recorded_at: now,
            effective_at: now,
            actor: self.command.actor.clone(),
            rule_version: decision.rule_version,
            previous_hash: account.last_hash,
            events: decision.events,
            balance: account.balance_at(now),
            edition: EDITION,
            program_entries: Some(1),
        };
        record.events.iter().for_each(|event| account.evolve(event));
        record.balance = account.balance_at(now);
        encode_record(&record, &mut body);
        account.seal(now, hash(&body));
        std::hint::black_box(due_at(&account, program));
        Ok(clock.elapsed())
    }
}

fn id(text: &str) -> Id {
    Id::parse(text).expect("letters, digits and dashes are an id")
}

fn command(name: &str, actor: &str, action: Action) -> Command {
    Command { id: id(name), actor: actor.into(), action }
}

fn reason() -> Reason {
    Reason { code: "worst".into(), note: String::new() }
}

fn begin() -> Moment {
    Moment::parse("2010-01-01T12:00:00Z").expect("it is a time")
}

fn days_later(days: i64) -> Moment {
    begin().plus_micros(days * DAY_US)
}

/// A program whose bonuses are `bonus`, and whose points are pending for so many days.
fn program(bonus: Vec<Value>, pending_days: u32) -> anyhow::Result<Arc<Program>> {
    let rulebook: Rulebook = serde_json::from_value(json!({
        "program": "worst", "currency": "GBP", "time_zone": "Europe/London", "effective_from": "2009-01-01T00:00:00Z",
        "earn": {"base": {"points": "1", "per": "1.00"}, "pending_days": pending_days, "bonus": bonus, "caps": {"per_day": 1_000_000_000, "per_member": 1_000_000_000}},
        "expiry": {"mode": "rolling", "months": 12},
        "redeem": {"value": {"points": 100, "amount": "1.00"}},
        "tiers": {"qualify_by": "points", "window": "rolling_12_months", "levels": [{"name": "member", "at": 0}, {"name": "gold", "at": 5000, "multiplier": "1.5"}]}
    }))?;
    let mut program = Program::default();
    let version = read_rulebook(rulebook, &program).map_err(|invalid| anyhow::anyhow!("{:?}", invalid.first()))?;
    program.publish(Arc::new(version));
    Ok(Arc::new(program))
}

fn purchase(name: &str, lines: usize, price: Points, occurred_at: Moment) -> Arc<Purchase> {
    let line = |n: usize| Line {
        line_id: id(&format!("line-{n}")),
        sku: format!("A{}", n % (2 * BONUSES_MAX)).into(),
        category: "goods".into(),
        quantity: Amount::from(2),
        unit_price: Amount::from(price),
        discount: Amount::ZERO,
        tax: Amount::ONE,
        amount: None,
    };
    Arc::new(Purchase {
        purchase_id: id(name),
        occurred_at,
        currency: "GBP".into(),
        channel: "web".into(),
        store: "s1".into(),
        lines: (0..lines).map(line).collect(),
        shipping: Amount::ZERO,
        origin: None,
    })
}

/// The account after `action`.
fn after(program: &Program, mut account: Account, now: Moment, command: &Command) -> anyhow::Result<Account> {
    let decision = decide(&account, command, &Context { program, now, target_known: false }).with_context(|| command.id.to_string())?;
    decision.events.iter().for_each(|event| account.evolve(event));
    account.seal(now, [0; 32]);
    Ok(account)
}

/// Purchases of as many lines and conditions as one may have, and their returns.
fn large_purchases() -> anyhow::Result<Vec<Worst>> {
    let bonus = |n: usize, when: String| json!({"id": format!("bonus-{n}"), "when": when, "multiply": "1.1", "paid_by": format!("brand-{n}")});
    let short = |n: usize| bonus(n, format!("line.quantity >= 1.0 && purchase.total > {n}.0"));
    let guarded = |n: usize| bonus(n, format!("line.sku == 'A{n}' && purchase.total > 1.0"));
    let mut long = "line.tax<9.0".to_owned();
    while long.len() + "&&line.tax<9.0".len() <= LONGEST {
        long.push_str("&&line.tax<9.0");
    }
    let rules = [
        ("conditions for each", LINES_MAX, (0..CONDITIONS_MAX / LINES_MAX).map(short).collect::<Vec<_>>()),
        ("bonuses for one article each", LINES_MAX, (0..BONUSES_MAX).map(guarded).collect()),
        ("condition of 1,000 characters", CONDITIONS_MAX / 10, vec![bonus(0, long)]),
    ];
    let (now, mut all) = (begin(), Vec::new());
    for (what, lines, bonus) in rules {
        let what = format!("{lines} lines, {} {what}", bonus.len());
        let program = program(bonus, 0)?;
        let body = purchase("large", lines, 10, now);
        all.push(Worst::new(format!("worst purchase: {what}"), &program, (&Account::default(), now), Action::Earn(Arc::clone(&body)))?);
        let account = after(&program, Account::default(), now, &command("large", "till", Action::Earn(Arc::clone(&body))))?;
        let give_back = |what: Returned| Action::Return(Arc::new(Return { purchase_id: id("large"), occurred_at: now, what, shipping: None }));
        let of = |lines: &[Line]| give_back(Returned::Lines(lines.iter().rev().map(|line| (line.line_id.clone(), Amount::ONE)).collect()));
        all.push(Worst::new(format!("worst return: one line of {what}"), &program, (&account, now), of(&body.lines[..1]))?);
        all.push(Worst::new(format!("worst return: a part of every line of {what}"), &program, (&account, now), of(&body.lines))?);
        let account = after(&program, account, now, &command("part", "till", of(&body.lines)))?;
        all.push(Worst::new(
            format!("worst return: an amount, after a part of every line of {what}"),
            &program,
            (&account, now),
            give_back(Returned::Amount(Amount::ONE)),
        )?);
    }
    Ok(all)
}

/// An account with as many lots as it may have, each from a purchase of its own.
fn large_account(program: &Program, lots: usize) -> anyhow::Result<Account> {
    let mut account = Account::default();
    for n in 0..lots {
        let name = format!("purchase-{n}");
        let at = begin().plus_micros(i64::try_from(n)?);
        account = after(program, account, at, &command(&name, "till", Action::Earn(purchase(&name, 1, POINTS / 2, at))))?;
    }
    Ok(account)
}

fn many_lots() -> anyhow::Result<Vec<Worst>> {
    let (plain, pending) = (program(Vec::new(), 0)?, program(Vec::new(), 14)?);
    let (account, waiting) = (large_account(&plain, LOTS_MAX - 1)?, large_account(&pending, LOTS_MAX - 1)?);
    let now = days_later(1);
    let points = account.balance_at(now).available;
    let step = |account: &Account, name: &str, action: Action| after(&plain, account.clone(), now, &command(name, "maker", action));
    let spent = step(&account, "spent", Action::Redeem { points, occurred_at: None })?;
    let held = step(&account, "held", Action::Hold { points, minutes: None, occurred_at: None })?;
    let proposed = step(&account, "down", Action::Propose { points: -points, reason: reason() })?;
    let back = Return { purchase_id: id("purchase-0"), occurred_at: now, what: Returned::Amount(Amount::from(POINTS)), shipping: None };
    let lots = |what: &str| format!("worst {what}, {LOTS_MAX} lots");
    let on = |what: &str, account: &Account, action: Action| Worst::new(lots(what), &plain, (account, now), action);
    Ok(vec![
        on("purchase: one line", &account, Action::Earn(purchase("next", 1, POINTS, now)))?,
        on("redemption: all points", &account, Action::Redeem { points, occurred_at: None })?,
        on("hold: all points", &account, Action::Hold { points, minutes: None, occurred_at: None })?,
        on("capture: all points", &held, Action::Capture { redemption: id("held"), points: None })?,
        on("release: all points", &held, Action::Release { redemption: id("held") })?,
        on("return of a redemption: all points", &spent, Action::ReturnRedemption { redemption: id("spent"), points: None })?,
        on("return: the first purchase, whose points are there", &account, Action::Return(Arc::new(back.clone())))?,
        on("return: the first purchase, whose points are spent", &spent, Action::Return(Arc::new(back)))?,
        on("adjustment: all points", &account, Action::Adjust { points: -points, reason: reason() })?,
        on("approval: all points", &proposed, Action::Approve { proposal: id("down") })?,
        on("freeze", &account, Action::Freeze(reason()))?,
        on("closing", &account, Action::Close(reason()))?,
        Worst::new(lots("clock: all points expire"), &plain, (&account, days_later(400)), Action::Expire)?,
        Worst::new(lots("clock: all points can be spent"), &pending, (&waiting, days_later(20)), Action::Expire)?,
        Worst::new(lots("clock: all points can be spent, then expire"), &pending, (&waiting, days_later(400)), Action::Expire)?,
    ])
}

/// The same account, with all its points held by as many redemptions as there may be.
fn many_holds() -> anyhow::Result<Vec<Worst>> {
    let program = program(Vec::new(), 0)?;
    let mut account = large_account(&program, LOTS_MAX - 1)?;
    let now = days_later(1);
    let points = account.balance_at(now).available / Points::try_from(HOLDS_MAX)?;
    for n in 0..HOLDS_MAX {
        account = after(&program, account, now, &command(&format!("hold-{n}"), "till", Action::Hold { points, minutes: None, occurred_at: None }))?;
    }
    let holds = |what: &str| format!("worst {what}, {LOTS_MAX} lots, {HOLDS_MAX} holds");
    Ok(vec![
        Worst::new(holds("release: the last hold"), &program, (&account, now), Action::Release { redemption: id(&format!("hold-{}", HOLDS_MAX - 1)) })?,
        Worst::new(holds("closing"), &program, (&account, now), Action::Close(reason()))?,
        Worst::new(holds("clock: all holds lapse"), &program, (&account, days_later(2)), Action::Expire)?,
        Worst::new(holds("clock: all holds lapse, then all points expire"), &program, (&account, days_later(400)), Action::Expire)?,
    ])
}
