//! Return: after it the member keeps exactly the points that the goods kept would have earned.

use ledger_core::account::command::{Action, Return, Returned};
use ledger_core::account::{EventKind, Rejection};
use ledger_core::posting::Bucket;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::payers::paid;
use crate::support::{Book, amount, at, id, purchase};

#[test]
fn a_bonus_threshold_missed_after_a_return_is_missed_for_the_goods_kept() {
    let mut book = Book::new(json!({"earn": {"bonus": [{"id": "x2", "when": "purchase.total >= 50.0", "multiply": "2"}]}}));
    book.ask("p", Action::Earn(purchase("p", book.now, &[("1", "A", "1", "30"), ("2", "B", "2", "10")]))).unwrap();
    assert_eq!(book.available(), 100);
    book.give_back("ret", "p", &[("2", "1")]).unwrap();
    assert_eq!(book.available(), 40, "40 pounds kept, below the threshold");
}

#[test]
fn returning_by_amount_lowers_every_line_in_proportion() {
    let mut book = Book::new(json!({"earn": {"exclude": {"skus": ["N"], "categories": []}}}));
    book.ask("p", Action::Earn(purchase("p", book.now, &[("1", "A", "1", "60"), ("2", "N", "1", "40")]))).unwrap();
    assert_eq!(book.available(), 60);
    book.give_back_amount("ret", "p", "50").unwrap();
    assert_eq!(book.available(), 30);
    let over = book.give_back_amount("ret2", "p", "50.02").unwrap_err();
    let (none, half) = (amount("0"), amount("50"));
    assert_eq!(over, Rejection::RefundExceedsPurchase { refunded: amount("50.02"), shipping: none, goods_left: half, shipping_left: none });
    book.give_back_amount("ret2", "p", "50").unwrap();
    assert_eq!(book.available(), 0);
}

#[test]
fn a_cap_frees_what_other_purchases_of_the_day_would_have_earned_without_the_goods() {
    let mut book = Book::new(json!({"earn": {"caps": {"per_day": 100}}}));
    book.buy("a", "80");
    book.buy("b", "50");
    assert_eq!(book.available(), 100);
    book.give_back("ret", "a", &[("1", "1")]).unwrap();
    assert_eq!(book.available(), 50, "b alone earns 50");
    book.give_back("ret2", "b", &[("1", "1")]).unwrap();
    assert_eq!(book.available(), 0);
}

#[test]
fn a_return_takes_its_own_lot_first_pending_or_not_then_the_oldest_expiry() {
    let mut book = Book::new(json!({"earn": {"pending_days": 14}, "expiry": {"mode": "rolling", "months": 12}}));
    book.buy("a", "100");
    book.until("2010-02-01");
    book.buy("b", "100");
    let events = book.give_back("ret", "b", &[("1", "1")]).unwrap();
    let EventKind::PurchaseReturned(reversed) = &events[0].kind else { unreachable!("a return") };
    assert_eq!(reversed.parts.iter().map(|part| (part.lot, part.points, part.pending)).collect::<Vec<_>>(), [(2, 100, true)]);
    book.buy("c", "50");
    book.redeem("r", 70).unwrap();
    let events = book.give_back("ret2", "a", &[("1", "1")]).unwrap();
    let EventKind::PurchaseReturned(reversed) = &events[0].kind else { unreachable!("a return") };
    assert_eq!(reversed.parts.iter().map(|part| (part.lot, part.points)).collect::<Vec<_>>(), [(1, 30), (3, 50)]);
    assert_eq!(reversed.shortfall, 20);
    assert_eq!((book.available(), book.account.total(Bucket::Shortfall)), (0, 20));
}

#[test]
fn goods_kept_that_earn_more_than_all_together_did_put_the_difference_into_their_lot() {
    let mut book = Book::new(json!({"earn": {"bonus": [{"id": "small", "when": "purchase.total < 50.0", "multiply": "3"}]}}));
    book.ask("p", Action::Earn(purchase("p", book.now, &[("1", "A", "1", "40"), ("2", "B", "1", "10")]))).unwrap();
    assert_eq!(book.available(), 50);
    book.redeem("r", 20).unwrap();
    let events = book.give_back("ret", "p", &[("2", "1")]).unwrap();
    let EventKind::PurchaseReturned(reversed) = &events[0].kind else { unreachable!("a return") };
    assert_eq!(reversed.parts.iter().map(|part| (part.lot, part.points)).collect::<Vec<_>>(), [(1, -70)], "3 x 40 instead of 50");
    assert_eq!((book.available(), book.account.lots.len()), (100, 1));
    book.give_back("ret2", "p", &[("1", "1")]).unwrap();
    assert_eq!((book.available(), book.account.total(Bucket::Shortfall)), (0, 20));
}

#[test]
fn points_that_expired_are_not_taken_twice() {
    let mut book = Book::new(json!({"expiry": {"mode": "rolling", "months": 1}}));
    book.buy("a", "100");
    book.until("2010-02-02");
    book.buy("b", "40");
    let events = book.give_back("ret", "a", &[("1", "1")]).unwrap();
    let EventKind::PurchaseReturned(reversed) = &events[0].kind else { unreachable!("a return") };
    assert_eq!((reversed.points, reversed.expired, reversed.shortfall), (100, 100, 0));
    assert_eq!(book.available(), 40);
}

#[test]
fn a_shortfall_is_paid_when_the_spent_points_come_back() {
    for order in [["goods", "points"], ["points", "goods"]] {
        let mut book = Book::new(json!({}));
        book.buy("a", "100");
        book.buy("b", "100");
        book.redeem("r", 200).unwrap();
        for what in order {
            match what {
                "goods" => book.give_back("ret", "a", &[("1", "1")]).unwrap(),
                _ => book.ask("x", Action::ReturnRedemption { redemption: id("r"), points: Some(200) }).unwrap(),
            };
        }
        assert_eq!((book.available(), book.account.total(Bucket::Shortfall)), (100, 0), "{order:?}");
    }
}

#[test]
fn refusals_in_order_of_precedence() {
    let mut book = Book::new(json!({"return": {"window_days": 30}}));
    book.buy("a", "10");
    let ask = |book: &mut Book, purchase: &str, when: &str, line: &str, quantity: &str| {
        let body = Return { purchase_id: id(purchase), occurred_at: at(when), what: Returned::Lines(vec![(id(line), amount(quantity))]), shipping: None };
        book.ask("ret", Action::Return(body.into())).unwrap_err()
    };
    book.now = at("2010-02-02");
    assert!(matches!(ask(&mut book, "zz", "2010-03-01", "1", "1"), Rejection::OccurredInFuture { .. }));
    assert_eq!(ask(&mut book, "zz", "2010-01-02", "1", "1"), Rejection::PurchaseNotFound { purchase_id: id("zz") });
    assert_eq!(ask(&mut book, "a", "2010-02-01", "9", "9"), Rejection::OutsideReturnWindow { until: at("2010-01-31") });
    assert!(matches!(ask(&mut book, "a", "2009-12-31", "1", "1"), Rejection::ReturnBeforePurchase { .. }));
    assert_eq!(ask(&mut book, "a", "2010-01-02", "9", "9"), Rejection::LineNotFound { purchase_id: id("a"), line_id: id("9") });
    assert_eq!(ask(&mut book, "a", "2010-01-02", "1", "2"), Rejection::ReturnExceedsPurchase { returned: amount("2"), kept: amount("1") });
}

#[test]
fn a_line_named_twice_in_one_return_counts_twice() {
    let mut book = Book::new(json!({}));
    book.ask("p", Action::Earn(purchase("p", book.now, &[("1", "A", "3", "10")]))).unwrap();
    let over = book.give_back("ret", "p", &[("1", "2"), ("1", "2")]).unwrap_err();
    assert_eq!(over, Rejection::ReturnExceedsPurchase { returned: amount("2"), kept: amount("1") });
    book.give_back("ret", "p", &[("1", "2"), ("1", "1")]).unwrap();
    assert_eq!(book.available(), 0);
}

fn rulebooks() -> impl Strategy<Value = Value> {
    let rounding = prop_oneof![Just("floor"), Just("half_up"), Just("half_even"), Just("ceiling")];
    let cap = prop_oneof![Just(Value::Null), (10_i64..200).prop_map(Value::from)];
    (rounding, any::<bool>(), any::<bool>(), cap.clone(), cap, 1_u32..4).prop_map(|(rounding, per_line, whole, purchase, day, points)| {
        json!({"earn": {
            "base": {"points": points.to_string(), "per": "1.70", "whole_steps": whole},
            "rounding": rounding, "round_per": if per_line { "line" } else { "order" },
            "caps": {"per_purchase": purchase, "per_day": day},
            "bonus": [{"id": "x", "when": "line.sku == 'A' && purchase.total >= 30.0", "multiply": "1.5", "paid_by": "acme"}, {"id": "y", "when": "line.sku != 'C'", "multiply": "1.2", "paid_by": "zeta"}]
        }})
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Returning in parts, in any order, ends as buying only what was kept.
    #[test]
    fn the_order_and_parts_of_returns_do_not_matter(
        changes in rulebooks(),
        lines in proptest::collection::vec((0_u8..3, 1_i64..6, 1_i64..4000), 1..5),
        other in 1_i64..9000,
        gone in proptest::collection::vec((0_usize..5, 1_i64..4), 1..8),
    ) {
        let price = |cents: i64| format!("{}.{:02}", cents / 100, cents % 100);
        let skus = ["A", "B", "C"];
        let names: Vec<String> = (0..lines.len()).map(|i| i.to_string()).collect();
        let mut kept: Vec<i64> = lines.iter().map(|(_, quantity, _)| *quantity).collect();
        let mut parts = Vec::new();
        for (line, quantity) in gone {
            let line = line % lines.len();
            let quantity = quantity.min(kept[line]);
            if quantity > 0 {
                kept[line] -= quantity;
                parts.push((line, quantity));
            }
        }
        let body = |quantities: &[i64]| {
            let texts: Vec<(String, String)> = lines.iter().zip(quantities).map(|((_, _, cents), quantity)| (quantity.to_string(), price(*cents))).collect();
            let rows: Vec<(&str, &str, &str, &str)> = (0..lines.len())
                .filter(|i| quantities[*i] > 0)
                .map(|i| (names[i].as_str(), skus[usize::from(lines[i].0)], texts[i].0.as_str(), texts[i].1.as_str()))
                .collect();
            (!rows.is_empty()).then(|| purchase("p", at("2010-01-01"), &rows))
        };
        let bought: Vec<i64> = lines.iter().map(|(_, quantity, _)| *quantity).collect();
        let mut returned = Book::new(changes.clone());
        returned.ask("p", Action::Earn(body(&bought).unwrap())).unwrap();
        returned.buy("other", &price(other));
        for (i, (line, quantity)) in parts.iter().enumerate() {
            returned.give_back(&format!("r{i}"), "p", &[(&names[*line], &quantity.to_string())]).unwrap();
        }
        let mut only_kept = Book::new(changes);
        if let Some(body) = body(&kept) {
            only_kept.ask("p", Action::Earn(body)).unwrap();
        }
        only_kept.buy("other", &price(other));
        prop_assert_eq!(returned.available(), only_kept.available());
        let qualifying = |book: &Book| book.account.qualifying_recent;
        prop_assert_eq!(qualifying(&returned), qualifying(&only_kept));
        let paid = |book: &Book| {
            let of_p = book.events.iter().filter(|event| match &event.kind {
                EventKind::PointsEarned(earned) => earned.purchase.purchase_id == id("p"),
                _ => true,
            });
            paid(&of_p.cloned().collect::<Vec<_>>())
        };
        prop_assert_eq!(paid(&returned), paid(&only_kept));
    }
}

#[test]
fn a_return_is_refused_when_its_time_is_long_over_whatever_else_the_account_did() {
    for busy in [false, true] {
        let mut book = Book::new(json!({"return": {"window_days": 60}}));
        let bought = book.now;
        book.buy("p", "10");
        // Given back in time, told of 31 days after the window.
        book.now = bought.plus_micros(91 * ledger_core::time::DAY_US + 1);
        if busy {
            book.buy("other", "1");
        }
        let body = Return { purchase_id: id("p"), occurred_at: bought, what: Returned::Lines(vec![(id("1"), amount("1"))]), shipping: None };
        let refused = book.ask("r", Action::Return(body.into())).unwrap_err();
        assert_eq!(refused.code(), if busy { "purchase_not_found" } else { "outside_return_window" });
    }
}

#[test]
fn a_return_names_the_runs_that_it_lowers_only_where_they_are_not_its_own_alone() {
    let mut book = Book::new(json!({"earn": {"caps": {"per_day": 100}}}));
    book.buy("a", "80");
    let events = book.give_back("r", "a", &[("1", "1")]).unwrap();
    let EventKind::PurchaseReturned(reversed) = &events[0].kind else { unreachable!("a return") };
    assert_eq!((reversed.day_points, reversed.day_points_by_run.len()), (80, 0));
}

fn told(book: &mut Book, name: &str, purchase: &str, occurred_at: &str) -> Result<Vec<ledger_core::account::Event>, Rejection> {
    let what = Returned::Lines(vec![(id("1"), amount("1"))]);
    book.ask(name, Action::Return(Return { purchase_id: id(purchase), occurred_at: at(occurred_at), what, shipping: None }.into()))
}

#[test]
fn goods_can_be_returned_and_told_of_to_the_last_moment() {
    let mut book = Book::new(json!({"return": {"window_days": 10}}));
    book.buy("a", "10");
    book.until("2010-02-10");
    let outside = Rejection::OutsideReturnWindow { until: at("2010-01-11") };
    assert_eq!(told(&mut book, "r", "a", "2010-01-11T12:00:00.000001Z").unwrap_err(), outside);
    told(&mut book, "r", "a", "2010-01-11").unwrap();
    assert_eq!(book.available(), 0);
    let body = Return { purchase_id: id("gone"), occurred_at: book.now, what: Returned::Lines(vec![(id("1"), amount("1"))]), shipping: None };
    assert_eq!(book.refused_of_known(Action::Return(body.into())), Rejection::ReturnWindowForgotten);
}

#[test]
fn the_version_that_rated_a_purchase_decides_its_return() {
    let mut later = crate::support::rules(json!({}));
    later["effective_from"] = json!("2010-02-01T00:00:00Z");
    let mut book = Book::versions(&[crate::support::rules(json!({})), later]);
    book.buy("a", "10");
    book.until("2010-02-02");
    let body = Return { purchase_id: id("a"), occurred_at: book.now, what: Returned::Lines(vec![(id("1"), amount("1"))]), shipping: None };
    assert_eq!(book.version_for("r", Action::Return(body.into())), 1);
}

fn parts(events: &[ledger_core::account::Event]) -> (Vec<(u32, i64)>, i64) {
    let reversed = events.iter().find_map(|event| match &event.kind {
        EventKind::PurchaseReturned(reversed) => Some(reversed),
        _ => None,
    });
    let reversed = reversed.unwrap();
    (reversed.parts.iter().map(|part| (part.lot, part.points)).collect(), reversed.expired)
}

#[test]
fn a_return_names_no_lot_that_it_takes_nothing_from() {
    let mut capped = Book::new(json!({"earn": {"caps": {"per_purchase": 10}}}));
    capped.ask("p", Action::Earn(purchase("p", capped.now, &[("1", "A", "2", "10")]))).unwrap();
    assert_eq!(parts(&capped.give_back("r", "p", &[("1", "1")]).unwrap()), (vec![], 0), "the cap is still reached");
    let mut spent = Book::new(json!({}));
    spent.buy("a", "10");
    spent.redeem("r", 10).unwrap();
    spent.buy("b", "10");
    assert_eq!(parts(&spent.give_back("x", "a", &[("1", "1")]).unwrap()), (vec![(2, 10)], 0));
}

/// Given 50 points for two lines, of which 20 are held and the others expired; 70 more are due for the first line alone.
fn half_expired() -> Book {
    let bonus = json!([{"id": "small", "when": "purchase.total < 50.0", "multiply": "3"}]);
    let mut book = Book::new(json!({"earn": {"bonus": bonus}, "expiry": {"mode": "inactivity", "days": 10}}));
    book.ask("p", Action::Earn(purchase("p", book.now, &[("1", "A", "1", "40"), ("2", "B", "1", "10")]))).unwrap();
    book.ask("h", Action::Hold { points: 20, minutes: Some(20 * 24 * 60), occurred_at: None }).unwrap();
    book.until("2010-01-11");
    book.ask("q", Action::Earn(purchase("q", book.now, &[("1", "A", "1", "0.10")]))).unwrap();
    assert_eq!((book.available(), book.account.lot(1).unwrap().expires_at), (0, Some(at("2010-01-21"))), "a hold lets its lot live on");
    book
}

#[test]
fn what_a_smaller_basket_earns_more_follows_what_is_left_of_its_lot() {
    let bonus = json!([{"id": "small", "when": "purchase.total < 50.0", "multiply": "3"}]);
    let mut spent = Book::new(json!({"earn": {"bonus": bonus}}));
    spent.ask("p", Action::Earn(purchase("p", spent.now, &[("1", "A", "1", "40"), ("2", "B", "1", "10")]))).unwrap();
    spent.redeem("r", 50).unwrap();
    assert_eq!(parts(&spent.give_back("x", "p", &[("2", "1")]).unwrap()), (vec![(1, -70)], 0), "all of it was spent, none expired");

    let mut gone = half_expired();
    assert_eq!(parts(&gone.give_back("x", "p", &[("2", "1")]).unwrap()), (vec![], -70), "what was left of it expired");
    assert_eq!(gone.available(), 0);

    let mut released = half_expired();
    released.ask("h", Action::Release { redemption: id("h") }).unwrap();
    assert_eq!(parts(&released.give_back("x", "p", &[("2", "1")]).unwrap()), (vec![(1, -70)], 0), "something is left of it");
    assert_eq!(released.available(), 90);
}

#[test]
fn what_expired_counts_as_taken_only_for_what_its_lot_has_no_more() {
    let mut book = Book::new(json!({"expiry": {"mode": "inactivity", "days": 10}}));
    book.ask("p", Action::Earn(purchase("p", book.now, &[("1", "A", "1", "15"), ("2", "B", "1", "35")]))).unwrap();
    book.ask("h", Action::Hold { points: 20, minutes: Some(20 * 24 * 60), occurred_at: None }).unwrap();
    book.until("2010-01-11").buy("q", "10");
    book.ask("h", Action::Release { redemption: id("h") }).unwrap();
    // 30 expired, 20 are left, and 10 of another purchase, which it leaves alone.
    assert_eq!(parts(&book.give_back("x", "p", &[("2", "1")]).unwrap()), (vec![(1, 20)], 15));
    assert_eq!(book.available(), 10);
}

#[test]
fn debts_are_paid_when_the_spent_points_come_back() {
    for order in [["goods", "points"], ["points", "goods"]] {
        let mut book = Book::new(json!({"return": {"on_shortfall": "negative"}}));
        book.buy("a", "100");
        book.buy("b", "100");
        book.redeem("r", 200).unwrap();
        for what in order {
            match what {
                "goods" => book.give_back("ret", "a", &[("1", "1")]).unwrap(),
                _ => book.ask("x", Action::ReturnRedemption { redemption: id("r"), points: Some(200) }).unwrap(),
            };
        }
        assert_eq!((book.available(), book.balance().owed), (100, 0), "{order:?}");
    }
}

fn paid_parts(events: &[ledger_core::account::Event]) -> Vec<(u32, i64)> {
    let paid = events.iter().find_map(|event| match &event.kind {
        EventKind::DebtPaid { parts, .. } => Some(parts.iter().map(|part| (part.lot, part.points)).collect()),
        _ => None,
    });
    paid.unwrap()
}

/// Given a shortfall of 50, points that come back to a lot which expires in February, and others.
#[test]
fn what_comes_back_pays_a_shortfall_with_the_points_that_expire_first() {
    let given = |others_at: &str| {
        let mut book = Book::new(json!({"expiry": {"mode": "rolling", "days": 31}}));
        book.buy("a", "100");
        book.redeem("r", 100).unwrap();
        book.give_back_amount("ret", "a", "50").unwrap();
        book.until("2010-01-20");
        book.ask("q", Action::Earn(purchase("q", at(others_at), &[("1", "A", "1", "30")]))).unwrap();
        assert_eq!((book.available(), book.account.total(Bucket::Shortfall)), (30, 50));
        book
    };
    let back = |book: &mut Book, points| book.ask("x", Action::ReturnRedemption { redemption: id("r"), points: Some(points) }).unwrap();
    assert_eq!(paid_parts(&back(&mut given("2009-12-31"), 40)), [(2, 30), (1, 10)], "the others expire first");
    assert_eq!(paid_parts(&back(&mut given("2010-01-02"), 40)), [(1, 40)], "the others expire later");
}

#[test]
fn what_comes_back_to_a_lost_lot_pays_before_it_is_lost() {
    for (points, then) in [(50, "paid"), (60, "expired")] {
        let mut book = Book::new(json!({"expiry": {"mode": "rolling", "days": 31}, "return": {"on_shortfall": "negative"}}));
        book.buy("a", "100");
        book.redeem("r", 100).unwrap();
        book.give_back_amount("ret", "a", "50").unwrap();
        book.until("2010-03-01").buy("b", "0.10");
        let events = book.ask("x", Action::ReturnRedemption { redemption: id("r"), points: Some(points) }).unwrap();
        assert_eq!((paid_parts(&events), book.balance().owed, book.available()), (vec![(1, 50)], 0, 0));
        let last = &events.last().unwrap().kind;
        assert!(if then == "paid" { matches!(last, EventKind::DebtPaid { .. }) } else { matches!(last, EventKind::PointsExpired(part) if part.points == 10) });
    }
}
