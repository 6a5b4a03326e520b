//! Decline and its actions over Postgres: who is counted, who wins, and what a look back knows.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

use std::collections::BTreeMap;

use analytics::clv::{AsOf, fit_for, refunded, scored};
use analytics::decline::{
    Asked, Choice, Contact, InForce, STATES, Standing, action_effect, assess, assessments, backtest, by_trend, list, put_in_force, take, transitions,
};
use chrono::{DateTime, NaiveDate};
use estimators::experiment::{Arm, effect};
use event_log::postgres::{connect, migrate};
use ledger_core::policy::{ActionRule, InsightRules};
use ledger_core::time::plus_days;
use tokio_postgres::Client;

macro_rules! tables {
    ($($name:ident $folder:literal $schema:literal),*) => {
        $(mod $name { refinery::embed_migrations!($folder); })*
        async fn database(name: &str) -> String {
            let url = embedded_postgres::testing::database(name).await;
            $(migrate(&url, $schema, $name::migrations::runner()).await.unwrap();)*
            drop(analytics::open(&url).await.unwrap());
            url
        }
    };
}
tables!(clv_tables "../../migrations/clv" "clv", balance_tables "../../migrations/balance" "balance", liability_tables "../../migrations/liability" "liability",
    tier_tables "../../migrations/tier" "tier");

const FIRST: NaiveDate = NaiveDate::from_ymd_opt(2010, 1, 4).unwrap();

fn day(n: i32) -> NaiveDate {
    plus_days(FIRST, n)
}

/// Purchases: account, day, spend. They are booked on their day.
async fn buy(client: &Client, purchases: &[(String, i32, f64)]) {
    let accounts: Vec<&str> = purchases.iter().map(|(account, ..)| account.as_str()).collect();
    let days: Vec<NaiveDate> = purchases.iter().map(|(_, n, _)| day(*n)).collect();
    let spends: Vec<f64> = purchases.iter().map(|(.., spend)| *spend).collect();
    let sql = "INSERT INTO clv.purchase (program, account, purchase_id, day, booked_on, occurred_at, channel, store, spend)
               SELECT 'shop', account, format('%s-%s', account, day), day, day, day, 'web', '', spend::numeric
               FROM unnest($1::text[], $2::date[], $3::float8[]) AS u(account, day, spend)";
    client.execute(sql, &[&accounts, &days, &spends]).await.unwrap();
}

async fn give_back(client: &Client, account: &str, bought: i32, returned: i32, booked: i32) {
    let sql = "WITH r AS (INSERT INTO clv.refund (program, account, account_seq, purchase_id, booked_on, returned_on, amount)
                   SELECT program, account, 1000 + $4::int, purchase_id, $3, $2, spend FROM clv.purchase WHERE account = $1 AND day = $5 RETURNING *)
               UPDATE clv.purchase p SET returned = p.returned + r.amount FROM r WHERE p.account = r.account AND p.purchase_id = r.purchase_id";
    assert_eq!(client.execute(sql, &[&account, &day(returned), &day(booked), &bought, &day(bought)]).await.unwrap(), 1);
}

/// A refund of a purchase that the book does not have.
async fn refund(client: &Client, account: &str, returned: i32, amount: f64) {
    let sql = "INSERT INTO clv.unmatched_refund (program, account, refund_id, account_seq, booked_on, returned_on, amount)
               VALUES ('shop', $1, format('r%s', $2::date), 500, $2, $2, $3::float8::numeric)";
    client.execute(sql, &[&account, &day(returned), &amount]).await.unwrap();
}

/// Members who buy every fortnight or so until the end of day 400, of whom a third leave one after the other.
fn shop() -> Vec<(String, i32, f64)> {
    let mut all = Vec::new();
    for member in 0..300 {
        let end = if member % 3 == 0 { 30 + (member * 7) % 380 } else { 400 };
        let mut n = member % 14;
        while n <= end {
            all.push((format!("m{member:03}"), n, f64::from(10 + (member + n) % 30)));
            n += 8 + (n * 7 + member * 5) % 13;
        }
    }
    all
}

fn action(id: &str, budget: Option<&str>) -> ActionRule {
    let budget = budget.map_or(serde_json::Value::Null, Into::into);
    serde_json::from_value(
        serde_json::json!({"id": id, "what": id, "cost": "1", "uplift": "0.1", "when": "true", "contact_days": 30, "holdout": "0.5", "budget": budget}),
    )
    .unwrap()
}

fn standing(account: &str) -> Standing {
    Standing {
        account_id: account.into(),
        as_of: day(0),
        state: "at_risk".into(),
        falls: 0.9,
        leaves: 0.8,
        value_at_stake: 10.0,
        recency_days: 50,
        orders: 3,
        reasons: Vec::new(),
        signals: Default::default(),
    }
}

#[tokio::test]
async fn members_are_counted_not_contacts() {
    let url = database("decline_effect").await;
    let client = connect(&url, "analysis").await.unwrap();
    // 200 members, contacted on six days, some of whom buy in the 90 days after the first contact, and later, when it does not count.
    let mut purchases = Vec::new();
    let (mut spends, mut arms) = (BTreeMap::<&str, Vec<f64>>::new(), BTreeMap::<&str, usize>::new());
    for member in 0..200 {
        let (account, arm) = (format!("m{member}"), if member % 2 == 0 { "treated" } else { "control" });
        for contact in 0..6 {
            let sql = "INSERT INTO analysis.contact VALUES ('shop', 'call', $1, $2, $3, 1, 10, 'x')";
            client.execute(sql, &[&account, &day(7 * contact), &arm]).await.unwrap();
        }
        let spend = f64::from((member * 37) % 23 + if arm == "treated" { 4 } else { 1 });
        purchases.extend([(account.clone(), 60, spend), (account, 92, 1000.0)]);
        spends.entry(arm).or_default().push(spend);
        *arms.entry(arm).or_default() += 1;
    }
    buy(&client, &purchases).await;
    // On day 90 the first window's last day is not over.
    let open = action_effect(&client, "shop", "call", day(90)).await.unwrap();
    assert_eq!((open.treated, open.control, open.treated_open, open.control_open, open.contacts_open), (0, 0, 100, 100, 1200));
    let told = action_effect(&client, "shop", "call", day(100)).await.unwrap();
    assert_eq!((told.treated, told.control, told.treated_open, told.control_open), (arms["treated"], arms["control"], 0, 0));
    assert_eq!(told.contacts_open, 800, "of days 14, 21, 28 and 35");
    let wanted = effect(&Arm::of(&spends["control"]).unwrap(), &Arm::of(&spends["treated"]).unwrap()).unwrap();
    let width = |interval: [f64; 2]| interval[1] - interval[0];
    let told = told.spend.unwrap();
    assert!((width(told.difference_interval) - width(wanted.difference_interval)).abs() < 1e-9, "the interval is that of 200 members: {told:?}");
    assert!((told.p - wanted.p).abs() < 1e-9, "{told:?}");
}

#[tokio::test]
async fn a_refund_lowers_what_an_action_brought_and_takes_no_buyer_away() {
    let url = database("decline_refund").await;
    let client = connect(&url, "analysis").await.unwrap();
    let (treated, control) = (["t0", "t1", "t2"], ["c0", "c1", "c2"]);
    for (arm, accounts) in [("treated", treated), ("control", control)] {
        for account in accounts {
            client.execute("INSERT INTO analysis.contact VALUES ('shop', 'call', $1, $2, $3, 1, 10, 'x')", &[&account, &day(0), &arm]).await.unwrap();
        }
    }
    // While control buys nothing, there is no comparison, and the answer says so.
    buy(&client, &[("t0".into(), 10, 40.0), ("t1".into(), 10, 30.0)]).await;
    let told = action_effect(&client, "shop", "call", day(100)).await.unwrap();
    let why = Some("no member of control bought anything, so there is nothing to compare with".to_owned());
    assert!(told.spend.is_none() && told.buyers.is_none() && told.why_no_spend == why && told.why_no_buyers == why, "{told:?}");
    // Two members of each arm buy; one of the treated is given back as much as was bought, for a purchase of before the book. One refund comes too late.
    buy(&client, &[("c0".into(), 20, 20.0), ("c1".into(), 20, 10.0)]).await;
    refund(&client, "t0", 50, 40.0).await;
    refund(&client, "t1", 91, 1000.0).await;
    let told = action_effect(&client, "shop", "call", day(100)).await.unwrap();
    let (spend, buyers) = (told.spend.unwrap(), told.buyers.unwrap());
    assert!(spend.difference.abs() < 1e-9, "30 of three members each: {spend:?}");
    assert!(buyers.difference.abs() < 1e-9, "two of three in each arm came: {buyers:?}");
    assert_eq!((told.why_no_spend, told.why_no_buyers), (None, None));
}

#[tokio::test]
async fn a_refund_lowers_a_window_and_is_no_visit() {
    let url = database("decline_window").await;
    let mut client = connect(&url, "analysis").await.unwrap();
    buy(&client, &shop()).await;
    let asked = Asked::day(day(400));
    let m001 = |standings: Vec<Standing>| standings.into_iter().find(|one| one.account_id == "m001").unwrap();
    assess(&mut client, "shop", &InsightRules::default(), &asked, DateTime::UNIX_EPOCH).await.unwrap();
    let without = m001(list(&client, "shop", &[], None, i64::MAX).await.unwrap());
    // When a member who stays is refunded more than all that was spent in the last 90 days.
    let ninety = |one: &Standing| one.signals.spend.iter().find(|slope| slope.days == 90).unwrap().last;
    refund(&client, "m001", 395, ninety(&without) + 50.0).await;
    assess(&mut client, "shop", &InsightRules::default(), &asked, DateTime::UNIX_EPOCH).await.unwrap();
    let with = m001(list(&client, "shop", &[], None, i64::MAX).await.unwrap());
    // Then the window is less by it, the days with a purchase are as before, and nobody takes the member for one who stays away.
    assert!((ninety(&with) + 50.0).abs() < 1e-6, "{with:?}");
    assert_eq!((with.orders, with.recency_days), (without.orders, without.recency_days));
    assert!(matches!(with.state.as_str(), "fallen" | "at_risk") && with.falls < 1.0, "{with:?}");
}

#[tokio::test]
async fn who_spends_more_is_told_apart_from_whose_value_falls() {
    let url = database("decline_trend").await;
    let mut client = connect(&url, "analysis").await.unwrap();
    buy(&client, &shop()).await;
    assess(&mut client, "shop", &InsightRules::default(), &Asked::day(day(400)), DateTime::UNIX_EPOCH).await.unwrap();
    let all = list(&client, "shop", &[], None, i64::MAX).await.unwrap();
    let of = async |rose: bool| by_trend(&client, "shop", &STATES, rose, i64::MAX).await.unwrap();
    let (rose, others) = (of(true).await, of(false).await);
    assert_eq!(rose.len() + others.len(), all.len());
    let is_more = |one: &Standing| one.signals.spend.iter().any(|slope| slope.days == 90 && slope.last > slope.before);
    assert!(!rose.is_empty() && rose.iter().all(is_more) && !others.iter().any(is_more), "{rose:?}");
}

#[tokio::test]
async fn a_refund_of_one_who_bought_nothing_is_spend_below_zero() {
    let url = database("decline_only_refunds").await;
    let client = connect(&url, "analysis").await.unwrap();
    buy(&client, &[("a".into(), 10, 30.0)]).await;
    refund(&client, "a", 20, 31.0).await;
    refund(&client, "b", 20, 1.0).await;
    let sql = "SELECT concat_ws(' ', account, repeats, orders, trim_scale(spend), order_value) FROM clv.member ORDER BY account";
    let members: Vec<String> = client.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    assert_eq!(members, ["a 0 1 -1 30.00", "b 0 0 -1"]);
    for (until, known_at, wanted) in [(20, None, 1.0), (19, None, 0.0), (20, Some(19), 0.0)] {
        let as_of = AsOf { day: day(until), known_at: known_at.map(day) };
        assert_eq!(refunded(&client, "shop", "b", as_of).await.unwrap(), wanted, "{as_of:?}");
    }
    // Without a fit everybody still has a place; refunds count in the spend of a rung and of the monetary score.
    let scored = scored(&client, "shop", None, &InsightRules::default(), AsOf::day(day(30)), None).await.unwrap();
    assert_eq!(scored.iter().map(|one| (one.account.as_str(), one.score.is_none())).collect::<Vec<_>>(), [("a", true)]);
    assert!(fit_for(&client, "shop", AsOf { day: day(30), known_at: Some(day(20)) }).await.unwrap().is_none());
}

#[tokio::test]
async fn of_actions_at_one_moment_one_is_granted_and_no_budget_is_overdrawn() {
    let url = database("decline_take").await;
    let ask = |rule: ActionRule, account: &str| {
        let (url, standing) = (url.clone(), standing(account));
        tokio::spawn(async move {
            let mut client = connect(&url, "analysis").await.unwrap();
            take(&mut client, "shop", &rule, &standing, day(0), "x").await.unwrap()
        })
    };
    let asked: Vec<_> = (0..16).map(|n| ask(action(if n % 2 == 0 { "call" } else { "mail" }, None), "m1")).collect();
    let mut granted = [0, 0];
    for (n, answer) in asked.into_iter().enumerate() {
        match answer.await.unwrap() {
            Contact::Treated | Contact::Control => granted[n % 2] += 1,
            Contact::TooSoon => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(granted == [8, 0] || granted == [0, 8], "one action wins, and is told so each time: {granted:?}");
    // A budget of three, asked for by forty at once.
    let asked: Vec<_> = (0..40).map(|n| ask(action("gift", Some("3")), &format!("b{n}"))).collect();
    let mut treated = 0;
    for answer in asked {
        treated += usize::from(answer.await.unwrap() == Contact::Treated);
    }
    assert_eq!(treated, 3);
}

fn states(standings: &[Standing]) -> BTreeMap<String, (String, i64)> {
    standings.iter().map(|s| (s.account_id.clone(), (s.state.clone(), s.orders))).collect()
}

#[tokio::test]
async fn a_look_back_knows_nothing_later_and_replaces_nothing() {
    let url = database("decline_back").await;
    let mut client = connect(&url, "analysis").await.unwrap();
    buy(&client, &shop()).await;
    let (rules, now) = (InsightRules::default(), DateTime::UNIX_EPOCH);
    let back = Asked { is_dry_run: true, ..Asked::day(day(250)) };
    // A dry run keeps nothing.
    let before = assess(&mut client, "shop", &rules, &back, now).await.unwrap();
    assert_eq!((before.version, assessments(&client, "shop", 10).await.unwrap().len()), (None, 0));
    assert!(list(&client, "shop", &[], None, 10).await.unwrap().is_empty());
    let measured = backtest(&client, "shop", day(200), day(400)).await.unwrap();
    let last_known = plus_days(*measured.days.last().unwrap(), 90);
    assert!(day(400) > last_known, "there are days after the last window");
    // The one of today is in force.
    let first = assess(&mut client, "shop", &rules, &Asked::day(day(390)), now).await.unwrap();
    assert!(first.in_force && first.version == Some(1), "{}", first.why);
    let then = states(&list(&client, "shop", &[], None, i64::MAX).await.unwrap());
    // What comes back later changes nothing that is said as of an earlier day, nor how good warnings were.
    for member in 0..100 {
        let account = format!("m{:03}", member * 3 + 1);
        let bought = shop().iter().filter(|(of, n, _)| *of == account && *n < 240).map(|(_, n, _)| *n).max().unwrap();
        give_back(&client, &account, bought, 400, 400).await;
    }
    assert_eq!(assess(&mut client, "shop", &rules, &back, now).await.unwrap().states, before.states);
    let again = backtest(&client, "shop", day(200), day(400)).await.unwrap();
    // As text: where nothing was rightly warned of, a median is no number.
    assert_eq!(format!("{again:?}"), format!("{measured:?}"));
    // A look back is kept, but not in force; nor is one that knows less.
    let kept = assess(&mut client, "shop", &rules, &Asked::day(day(250)), now).await.unwrap();
    assert!(!kept.in_force && kept.why.starts_with("it looks back"), "{}", kept.why);
    let known = Asked { as_of: AsOf { day: day(390), known_at: Some(day(300)) }, ..Asked::day(day(390)) };
    let less = assess(&mut client, "shop", &rules, &known, now).await.unwrap();
    assert!(!less.in_force && less.why.contains("only what was booked by"), "{}", less.why);
    assert_ne!(less.states, first.states, "what was booked after day 300 is not known");
    assert_eq!(states(&list(&client, "shop", &[], None, i64::MAX).await.unwrap()), then);
    // The next one of a later day is; and there is a way back, which a schedule leaves alone and the next assessment does not.
    assert!(assess(&mut client, "shop", &rules, &Asked::day(day(400)), now).await.unwrap().in_force);
    let later = states(&list(&client, "shop", &[], None, i64::MAX).await.unwrap());
    assert_ne!(later, then);
    put_in_force(&mut client, "shop", 1).await.unwrap();
    assert_eq!(states(&list(&client, "shop", &[], None, i64::MAX).await.unwrap()), then);
    let last = transitions(&client, "shop", None, 0, i64::MAX).await.unwrap().pop().unwrap();
    assert_eq!(last.reasons, ["assessment 1 was put in force by hand"]);
    let scheduled = Asked { is_scheduled: true, ..Asked::day(day(400)) };
    assert!(!assess(&mut client, "shop", &rules, &scheduled, now).await.unwrap().in_force);
    let earlier = assess(&mut client, "shop", &rules, &Asked::day(day(250)), now).await.unwrap();
    assert!(!earlier.in_force && earlier.why.starts_with("it looks back"), "one by hand is of a day like any other: {}", earlier.why);
    assert!(assess(&mut client, "shop", &rules, &Asked::day(day(400)), now).await.unwrap().in_force);
    assert_eq!(states(&list(&client, "shop", &[], None, i64::MAX).await.unwrap()), later);
    let in_force: Vec<i32> = assessments(&client, "shop", 10).await.unwrap().iter().filter(|one| one.in_force).map(|one| one.version).collect();
    assert_eq!(in_force, [6]);
    // No such assessment, and no day after the last purchase.
    assert!(put_in_force(&mut client, "shop", 99).await.unwrap_err().to_string().contains("1, 2, 3, 4, 5, 6"));
    assert!(assess(&mut client, "shop", &rules, &Asked::day(day(500)), now).await.unwrap_err().to_string().contains("the day of the last purchase"));
}

#[tokio::test]
async fn a_model_that_was_asked_for_and_loses_is_not_in_force() {
    let url = database("decline_model").await;
    let mut client = connect(&url, "analysis").await.unwrap();
    buy(&client, &shop()).await;
    let asked = |model| Asked { model, is_dry_run: true, ..Asked::day(day(400)) };
    for model in [Choice::Best, Choice::Logistic, Choice::Recency, Choice::Overdue] {
        let assessed = assess(&mut client, "shop", &InsightRules::default(), &asked(model), DateTime::UNIX_EPOCH).await.unwrap();
        for one in &assessed.models {
            let wins = one.auc.zip(one.recency_auc).is_some_and(|(model, recency)| model > recency);
            let wanted = match model {
                Choice::Recency => "recency",
                Choice::Overdue => "overdue",
                Choice::Best | Choice::Logistic if wins => "logistic",
                Choice::Best | Choice::Logistic => "recency",
            };
            assert_eq!(one.model, wanted, "{one:?}");
        }
        let loses = |one: &InForce| match model {
            Choice::Logistic => one.model != "logistic",
            Choice::Overdue => one.overdue_auc.zip(one.recency_auc).is_none_or(|(model, recency)| model <= recency),
            Choice::Best | Choice::Recency => false,
        };
        assert_eq!(assessed.in_force, !assessed.models.iter().any(loses), "{}", assessed.why);
    }
    // With an assessment in force, one by a named model that ranks worse says so and does not replace it.
    let best = assess(&mut client, "shop", &InsightRules::default(), &Asked::day(day(400)), DateTime::UNIX_EPOCH).await.unwrap();
    let current = assessments(&client, "shop", 1).await.unwrap().remove(0);
    assert_eq!((current.in_force, &current.models), (true, &best.models), "an assessment names its models");
    let recency = assess(&mut client, "shop", &InsightRules::default(), &asked(Choice::Recency), DateTime::UNIX_EPOCH).await.unwrap();
    let is_worse = best.models.iter().any(|one| one.model == "logistic");
    assert_eq!((recency.in_force, recency.why.contains("ranks worse than logistic")), (!is_worse, is_worse), "{}", recency.why);
}
