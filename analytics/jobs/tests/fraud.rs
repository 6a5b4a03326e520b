//! The fraud watch over Postgres: what a look costs, what a case leaves behind, and freezes that wait for the ledger.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

use analytics::fraud::{PendingFreeze, Reference, Reported, Step, case, cases, is_pending, pending_freezes, report, settle_freeze, step, watch};
use chrono::{DateTime, Utc};
use event_log::postgres::{connect, migrate};
use ledger_core::policy::FraudRules;
use tokio_postgres::Client;

mod fraud_tables {
    refinery::embed_migrations!("../../migrations/fraud");
}
mod refusal_tables {
    refinery::embed_migrations!("../../migrations/refusal");
}

const NOON: &str = "2010-03-10T12:00:00Z";

async fn database(name: &str) -> Client {
    let url = embedded_postgres::testing::database(name).await;
    migrate(&url, "fraud", fraud_tables::migrations::runner()).await.unwrap();
    migrate(&url, "refusal", refusal_tables::migrations::runner()).await.unwrap();
    drop(analytics::open(&url).await.unwrap());
    let client = connect(&url, "analysis").await.unwrap();
    client.batch_execute("INSERT INTO fraud.checkpoint VALUES (0, 0)").await.unwrap();
    client
}

/// Signals of the accounts `format('m%s', n)` for n in 1 to `count`, at as many seconds after noon as `second` says (SQL over n).
async fn signals(client: &Client, count: i32, kind: &str, reference: &str, device: &str, second: &str) {
    let sql = format!(
        "INSERT INTO fraud.signal (program, account, account_seq, event, kind, at, actor, points, channel, store, cashier, till, device, card, reference, partition, position)
         SELECT 'shop', format('m%s', n), c.position, 0, $1, timestamptz '{NOON}' + make_interval(secs => {second}), 'till', 10, 'web', '', '', '', $3, '', $2, 0,
                c.position + n - 1
         FROM generate_series(1, $4::int) n, fraud.checkpoint c"
    );
    client.execute(&sql, &[&kind, &reference, &device, &count]).await.unwrap();
    client.execute("UPDATE fraud.checkpoint SET position = position + $1::int", &[&count]).await.unwrap();
}

fn rules(text: &str) -> FraudRules {
    FraudRules { rules: serde_json::from_str(text).unwrap(), ..FraudRules::default() }
}

/// Looks until nothing is new.
async fn look(client: &mut Client, rules: &FraudRules) {
    let now: DateTime<Utc> = NOON.parse().unwrap();
    while watch(client, |_| Some(rules.clone()), now).await.unwrap().signals > 0 {}
}

#[tokio::test]
async fn what_a_look_costs_depends_on_what_its_windows_count() {
    const MEMBERS: i32 = 20_600;
    let mut client = database("fraud_cost").await;
    // The same receipt on all accounts, told of in any order.
    signals(&client, MEMBERS, "earn", "a", "", "(n * 7919) % 20600").await;
    client.batch_execute("ANALYZE fraud.signal").await.unwrap();
    look(&mut client, &FraudRules::default()).await;
    client.batch_execute("SELECT pg_stat_force_next_flush()").await.unwrap();
    let sql = "SELECT coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) FROM pg_stat_user_tables WHERE schemaname = 'fraud' AND relname = 'signal'";
    let read: i64 = client.query_one(sql, &[]).await.unwrap().get(0);
    // 42 looks at 500 signals each, the window as it stands each time; each signal by itself would read 200 million rows.
    assert!(read < i64::from(MEMBERS) * 300, "{read} rows were read");
    let found = cases(&client, "shop", None, Some("same_receipt"), 0, 10).await.unwrap();
    let counted: Vec<(&str, i64, i64)> = found.iter().map(|case| (&*case.subject, case.measure, case.signals)).collect();
    // All but one that was the first when it was looked at.
    assert!(counted.len() == 1 && counted[0].1 == i64::from(MEMBERS), "{counted:?}");
    assert!((i64::from(MEMBERS) - 1..=i64::from(MEMBERS)).contains(&counted[0].2), "each signal counts once: {counted:?}");
}

const TWO_ON_A_DEVICE: &str = r#"[{"id": "many", "version": 1, "severity": "high", "on": ["earn"], "by": "device",
    "windows": {"purchases": {"kinds": ["earn"], "by": "device", "minutes": 60, "measure": "count"}}, "when": "window.purchases >= 2", "explanation": "two", "block": true}]"#;

#[tokio::test]
async fn a_freeze_waits_until_the_ledger_has_answered() {
    let (mut client, rules, now) = (database("fraud_freeze").await, rules(TWO_ON_A_DEVICE), NOON.parse().unwrap());
    signals(&client, 2, "earn", "p", "d", "n").await;
    look(&mut client, &rules).await;
    let waiting = async |client: &Client| pending_freezes(client).await.unwrap().into_iter().map(|freeze| freeze.account).collect::<Vec<_>>();
    let first: Vec<PendingFreeze> = pending_freezes(&client).await.unwrap();
    assert_eq!(first.iter().map(|freeze| (&*freeze.account, &*freeze.rule)).collect::<Vec<_>>(), [("m2", "many")]);
    // Not answered, it waits; answered, it does not, and the case says so once.
    assert_eq!(waiting(&client).await, ["m2"]);
    for _ in 0..2 {
        settle_freeze(&mut client, &first[0], "fraud-rules", "account m2 frozen", now).await.unwrap();
    }
    assert!(waiting(&client).await.is_empty());
    let (_, events) = case(&client, "shop", &first[0].case_id).await.unwrap().unwrap();
    assert_eq!(events.iter().map(|event| &*event.kind).collect::<Vec<_>>(), ["opened", "frozen"]);
    // The case is seen again: who is frozen already is not asked for again, who is new is.
    signals(&client, 3, "earn", "q", "d", "10 + n").await;
    look(&mut client, &rules).await;
    assert_eq!(waiting(&client).await, ["m1", "m3"]);
    // What turns out to be none freezes nobody any more, also where a round over those that waited has begun.
    let round = pending_freezes(&client).await.unwrap();
    assert!(is_pending(&client, &round[0]).await.unwrap() && !is_pending(&client, &first[0]).await.unwrap());
    step(&mut client, "shop", &first[0].case_id, "kim", Step::Dismiss, "a family", now).await.unwrap().unwrap();
    assert!(waiting(&client).await.is_empty() && !is_pending(&client, &round[0]).await.unwrap());
    // Where it is opened again, as twice as much is counted, who takes part is frozen, also who was frozen before.
    signals(&client, 4, "earn", "r", "d", "20 + n").await;
    signals(&client, 2, "earn", "s", "d", "30 + n").await;
    look(&mut client, &rules).await;
    assert_eq!(waiting(&client).await, ["m1", "m2"]);
    let again = pending_freezes(&client).await.unwrap();
    assert!(again.iter().all(|freeze| freeze.round == 1), "another command than before: {again:?}");
    settle_freeze(&mut client, &round[0], "fraud-rules", "told late", now).await.unwrap();
    assert_eq!(waiting(&client).await.len(), 2, "an answer of before ends nothing");
}

async fn confirmed(client: &Client) -> Vec<(String, String)> {
    let sql = "SELECT account, kind FROM analysis.fraud_confirmed ORDER BY 1, 2";
    client.query(sql, &[]).await.unwrap().iter().map(|row| (row.get(0), row.get(1))).collect()
}

#[tokio::test]
async fn evidence_follows_the_case() {
    let (mut client, rules, now) = (database("fraud_evidence").await, rules(TWO_ON_A_DEVICE), NOON.parse().unwrap());
    signals(&client, 2, "earn", "p", "d", "n").await;
    look(&mut client, &rules).await;
    let case_id = cases(&client, "shop", None, None, 0, 1).await.unwrap()[0].case_id.clone();
    let steps = [(Step::Confirm, 1), (Step::Assign("kim"), 0), (Step::Confirm, 1), (Step::Note, 1), (Step::Dismiss, 0)];
    for (one, rows) in steps {
        step(&mut client, "shop", &case_id, "lee", one, "", now).await.unwrap().unwrap();
        assert_eq!(confirmed(&client).await.len(), rows, "after {one:?}");
    }
}

#[tokio::test]
async fn a_report_marks_what_it_names_and_nothing_else() {
    let (mut client, now) = (database("fraud_report").await, NOON.parse().unwrap());
    signals(&client, 2, "earn", "1001", "", "n").await;
    signals(&client, 1, "adjust", "1001", "", "60 + n").await;
    let mut tell =
        async |account: Option<&str>, kind: Option<&str>| report(&mut client, "shop", Reference { id: "1001", account, kind }, "bank", "", now).await.unwrap();
    let Reported::Ambiguous(owners) = tell(None, None).await else { panic!("three things have the id") };
    let owners: Vec<(&str, &str)> = owners.iter().map(|(account, kind)| (&**account, *kind)).collect();
    assert_eq!(owners, [("m1", "adjustment"), ("m1", "purchase"), ("m2", "purchase")]);
    assert!(matches!(tell(Some("m1"), None).await, Reported::Ambiguous(_)));
    assert_eq!(tell(Some("m9"), None).await, Reported::NotFound);
    let Reported::Case(second) = tell(Some("m2"), None).await else { panic!("m2 has one") };
    assert_eq!(tell(Some("m2"), Some("purchase")).await, Reported::Case(second.clone()), "reported again, it is the same case");
    let Reported::Case(first) = tell(Some("m1"), Some("adjustment")).await else { panic!("m1 has one adjustment") };
    assert_ne!(first, second);
    let both = [("m1".to_owned(), "adjust".to_owned()), ("m2".to_owned(), "earn".to_owned())];
    assert_eq!(confirmed(&client).await, both);
    // Reported again after somebody decided otherwise, it is confirmed again, with the note.
    for otherwise in [Step::Dismiss, Step::Assign("kim")] {
        step(&mut client, "shop", &first, "lee", otherwise, "", now).await.unwrap().unwrap();
        assert_eq!(confirmed(&client).await, both[1..]);
        let reference = Reference { id: "1001", account: Some("m1"), kind: Some("adjustment") };
        assert_eq!(report(&mut client, "shop", reference, "bank", "once more", now).await.unwrap(), Reported::Case(first.clone()));
        assert_eq!(confirmed(&client).await, both);
        let (found, events) = case(&client, "shop", &first).await.unwrap().unwrap();
        let last = events.last().unwrap();
        assert_eq!((&*found.state, &*last.kind, &*last.note), ("confirmed", "confirmed", "once more"));
    }
}
