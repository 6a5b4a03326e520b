//! Earn.

use ledger_core::account::command::Action;
use ledger_core::account::{EventKind, Rejection};
use ledger_core::points::Amount;
use serde_json::{Value, json};

use crate::support::{Book, amount, at, earned, id, purchase, rules};

#[test]
fn points_table() {
    let step = json!({"earn": {"base": {"points": "10", "per": "2.00", "whole_steps": true}}});
    let step_line = json!({"earn": {"base": {"points": "10", "per": "2.00", "whole_steps": true}, "round_per": "line"}});
    let line = json!({"earn": {"round_per": "line"}});
    let round = |mode: &str| json!({"earn": {"rounding": mode}});
    let capped = json!({"earn": {"caps": {"per_purchase": 50}}});
    let bonus = json!({"earn": {"bonus": [{"id": "double", "when": "line.sku == 'A' && purchase.total >= 50.0", "multiply": "2"}]}});
    let excluded = json!({"earn": {"exclude": {"skus": ["A"], "categories": []}}});
    let category = |name: &str| json!({"earn": {"exclude": {"categories": [name]}}});
    let table: &[(&Value, &[(&str, &str, &str, &str)], i64)] = &[
        (&json!({}), &[("1", "A", "3", "1.25")], 3),
        (&step, &[("1", "A", "1", "7.00")], 30),
        (&step, &[("1", "A", "1", "1.00"), ("2", "B", "1", "1.00")], 10),
        (&step_line, &[("1", "A", "1", "1.00"), ("2", "B", "1", "1.00")], 0),
        (&json!({}), &[("1", "A", "1", "1.60"), ("2", "B", "1", "1.60")], 3),
        (&line, &[("1", "A", "1", "1.60"), ("2", "B", "1", "1.60")], 2),
        (&round("half_up"), &[("1", "A", "1", "2.50")], 3),
        (&round("half_even"), &[("1", "A", "1", "2.50")], 2),
        (&round("ceiling"), &[("1", "A", "1", "2.01")], 3),
        (&round("ceiling"), &[("1", "A", "1", "2.000001")], 2),
        (&capped, &[("1", "A", "1", "49.99")], 49),
        (&capped, &[("1", "A", "1", "60.00")], 50),
        (&bonus, &[("1", "A", "1", "10.00"), ("2", "B", "1", "40.00")], 60),
        (&bonus, &[("1", "A", "1", "10.00"), ("2", "B", "1", "39.99")], 49),
        (&excluded, &[("1", "A", "1", "10.00"), ("2", "B", "1", "5.00")], 5),
        (&category("goods"), &[("1", "A", "1", "10.00")], 0),
        (&category("other"), &[("1", "A", "1", "10.00")], 10),
        (&json!({}), &[("1", "A", "0.333", "3.003")], 1),
        (&json!({}), &[("1", "A", "0.5", "1.99")], 1),
        (&json!({}), &[("1", "A", "0.5", "1.98")], 0),
        (&json!({}), &[("1", "A", "0.333", "2.99"), ("2", "B", "0.5", "1.99")], 2),
    ];
    for (changes, lines, points) in table {
        let mut book = Book::new((*changes).clone());
        let events = book.ask("p", Action::Earn(purchase("p", book.now, lines))).unwrap();
        assert_eq!(earned(&events), *points, "{changes} {lines:?}");
        assert_eq!(book.available(), *points);
    }
}

#[test]
fn discount_and_tax_are_taken_off_and_shipping_earns_nothing() {
    let mut book = Book::new(json!({}));
    let mut body = (*purchase("p", book.now, &[("1", "A", "2", "10.00")])).clone();
    (body.lines[0].discount, body.lines[0].tax, body.shipping) = (amount("3.00"), amount("2.50"), amount("100.00"));
    let events = book.ask("p", Action::Earn(body.into())).unwrap();
    assert_eq!(earned(&events), 14);
}

#[test]
fn a_lines_amount_replaces_its_product() {
    let with = |amount: Option<&str>, tax: &str, changes: Value| {
        let mut book = Book::new(changes);
        let mut body = (*purchase("p", book.now, &[("1", "A", "0.5", "1.99")])).clone();
        (body.lines[0].amount, body.lines[0].tax) = (amount.map(crate::support::amount), crate::support::amount(tax));
        let points = earned(&book.ask("p", Action::Earn(body.into())).unwrap());
        (points, book)
    };
    let pence = json!({"earn": {"base": {"points": "100", "per": "1.00"}}});
    assert_eq!(with(None, "0", pence.clone()).0, 100);
    assert_eq!(with(Some("1.00"), "0", pence.clone()).0, 100);
    assert_eq!(with(Some("0.99"), "0", pence.clone()).0, 99, "the receipt cut it off");
    assert_eq!(with(Some("1.00"), "0.17", pence.clone()).0, 83, "tax is taken off as always");
    let seen = json!({"earn": {"base": {"points": "100", "per": "1.00"}, "bonus": [{"id": "x2", "when": "line.amount == 1.0 && purchase.total == 1.0", "multiply": "2"}]}});
    assert_eq!(with(Some("1.00"), "0", seen.clone()).0, 200, "conditions see what was charged");
    assert_eq!(with(Some("0.99"), "0", seen).0, 99);
    let (_, mut part) = with(Some("1.00"), "0.20", pence);
    part.give_back("r", "p", &[("1", "0.125")]).unwrap();
    assert_eq!(part.available(), 60, "three quarters of the charge less three quarters of the tax");
    let by_spend = json!({"tiers": {"qualify_by": "spend", "levels": [{"name": "m", "at": 0}, {"name": "g", "at": "1.00"}]}});
    assert_eq!(with(None, "0", by_spend).1.account.standing.tier, "g", "what was charged is what was spent");
}

#[test]
fn money_is_rounded_to_the_minor_unit_of_its_currency() {
    let points = |currency: &str, quantity: &str, price: &str| {
        let mut book = Book::new(json!({"currency": currency, "earn": {"base": {"points": "1000", "per": "1"}}}));
        let mut body = (*purchase("p", book.now, &[("1", "A", quantity, price)])).clone();
        body.currency = currency.into();
        earned(&book.ask("p", Action::Earn(body.into())).unwrap())
    };
    assert_eq!(points("GBP", "0.5", "0.25"), 130);
    assert_eq!(points("VND", "0.5", "0.99"), 0, "nothing is paid in hundredths");
    assert_eq!(points("VND", "0.5", "1.00"), 1000);
    assert_eq!(points("BHD", "0.5", "0.001"), 1);
}

#[test]
fn a_cap_per_day_ends_with_the_local_day() {
    let mut book = Book::new(json!({"time_zone": "America/New_York", "earn": {"caps": {"per_day": 100}}}));
    book.now = at("2010-06-02T03:00:00Z");
    assert_eq!(book.buy("a", "80.00"), 80);
    assert_eq!(book.buy("b", "80.00"), 20);
    assert_eq!(book.buy("c", "80.00"), 0);
    book.now = at("2010-06-02T04:00:00Z");
    assert_eq!(book.buy("d", "80.00"), 80, "midnight in New York");
}

#[test]
fn lines_that_share_a_cap_share_it_in_line_order() {
    let mut book = Book::new(json!({"earn": {"caps": {"per_purchase": 15}}}));
    let events = book.ask("p", Action::Earn(purchase("p", book.now, &[("1", "A", "1", "10"), ("2", "B", "1", "10"), ("3", "C", "1", "10")]))).unwrap();
    let EventKind::PointsEarned(earned) = &events.last().unwrap().kind else { unreachable!("a purchase earns") };
    assert_eq!(earned.lines.iter().map(|line| line.points).collect::<Vec<_>>(), [10, 5, 0]);
}

#[test]
fn the_points_of_lines_sum_to_those_of_the_purchase() {
    for (round_per, points) in [("order", [1, 2, 1]), ("line", [1, 1, 1])] {
        let mut book = Book::new(json!({"earn": {"round_per": round_per}}));
        let lines = [("1", "A", "1", "1.50"), ("2", "B", "1", "1.50"), ("3", "C", "1", "1.50")];
        let events = book.ask("p", Action::Earn(purchase("p", book.now, &lines))).unwrap();
        let EventKind::PointsEarned(first) = &events.last().unwrap().kind else { unreachable!("a purchase earns") };
        assert_eq!(first.lines.iter().map(|line| line.points).collect::<Vec<_>>(), points, "{round_per}");
        assert_eq!(earned(&events), points.iter().sum::<i64>());
    }
}

#[test]
fn a_condition_that_fails_gives_no_bonus_and_is_recorded() {
    let mut book = Book::new(json!({"earn": {"bonus": [{"id": "odd", "when": "10 / account.purchases > 0", "multiply": "3"}]}}));
    let events = book.ask("p", Action::Earn(purchase("p", book.now, &[("1", "A", "1", "10")]))).unwrap();
    let EventKind::PointsEarned(first) = &events.last().unwrap().kind else { unreachable!("a purchase earns") };
    assert_eq!((first.failures.len(), first.failures[0].bonus.as_str(), earned(&events)), (1, "odd", 10));
    assert_eq!(book.buy("q", "10"), 30, "with one purchase before, it holds");
}

#[test]
fn a_late_purchase_is_rated_by_the_rulebook_and_tier_of_its_time() {
    let tiers = json!({"levels": [{"name": "member", "at": 0}, {"name": "gold", "at": 100, "multiplier": "2"}]});
    let old = rules(json!({"tiers": tiers}));
    let new = rules(json!({"tiers": tiers, "effective_from": "2010-02-01T00:00:00Z", "earn": {"base": {"points": "5", "per": "1.00"}}}));
    let mut book = Book::versions(&[old, new]);
    book.now = at("2010-01-10");
    assert_eq!(book.buy("a", "100"), 100);
    book.now = at("2010-03-01");
    assert_eq!(book.buy("b", "10"), 100, "5 a pound, doubled for gold");
    let late = |name: &str, when: &str| Action::Earn(purchase(name, at(when), &[("1", "A", "1", "10")]));
    assert_eq!(earned(&book.ask("c", late("c", "2010-01-20")).unwrap()), 20, "the old rate, gold since 10 January");
    assert_eq!(earned(&book.ask("d", late("d", "2010-01-05")).unwrap()), 10, "the old rate, a member then");
    let early = book.ask("e", late("e", "2008-01-05")).unwrap_err();
    assert_eq!(early, Rejection::NoRulebook { at: at("2008-01-05") });
}

#[test]
fn refusals_in_order_of_precedence() {
    let mut book = Book::new(json!({}));
    book.now = at("2010-01-01T12:00:00Z");
    let mut body = (*purchase("p", at("2010-01-01T12:05:00Z"), &[("1", "A", "1", "10")])).clone();
    body.currency = "EUR".into();
    let wrong_currency = Rejection::CurrencyMismatch { currency: "EUR".into(), expected: "GBP".into() };
    assert_eq!(book.ask("p", Action::Earn(body.clone().into())).unwrap_err(), wrong_currency, "five minutes ahead are let pass");
    body.occurred_at = at("2010-01-01T12:05:00.000001Z");
    assert!(matches!(book.ask("p", Action::Earn(body.clone().into())).unwrap_err(), Rejection::OccurredInFuture { .. }));
    let mut closed_shop = Book::new(json!({"accounts": {"open_on_earn": false}}));
    assert_eq!(closed_shop.ask("p", Action::Earn(body.into())).unwrap_err(), Rejection::AccountNotFound);
    assert_eq!(closed_shop.account, Default::default(), "a refusal changes nothing");
}

#[test]
fn an_account_that_owes_pays_from_its_next_earnings() {
    let mut book = Book::new(json!({"return": {"on_shortfall": "negative"}}));
    book.buy("a", "100");
    book.redeem("r", 100).unwrap();
    book.give_back("ret", "a", &[("1", "1")]).unwrap();
    assert_eq!((book.balance().owed, book.available()), (100, 0));
    assert_eq!(book.buy("b", "60"), 60);
    assert_eq!((book.balance().owed, book.available()), (40, 0));
    book.buy("c", "60");
    assert_eq!((book.balance().owed, book.available()), (0, 20));
}

#[test]
fn amounts_that_cannot_be_rated_exactly_are_refused() {
    let mut book = Book::new(json!({}));
    let body = purchase("p", book.now, &[("1", "A", "999999999999.999999", "999999999999.999999")]);
    assert_eq!(book.ask("p", Action::Earn(body)).unwrap_err(), Rejection::AmountTooLarge);
}

#[test]
fn form_errors_name_the_field_the_value_and_what_would_be_right() {
    let base = (*purchase("p", at("2010-01-01"), &[("1", "A", "1", "10")])).clone();
    let check = |change: &dyn Fn(&mut ledger_core::account::command::Purchase)| {
        let mut body = base.clone();
        change(&mut body);
        let command = ledger_core::account::Command { id: id("p"), actor: "spec".into(), action: Action::Earn(body.into()) };
        command.check().unwrap_err().to_string()
    };
    assert_eq!(check(&|p| p.lines.clear()), "/lines: 0 lines is wrong: 1 to 5000 lines");
    assert_eq!(check(&|p| p.lines[0].quantity = Amount::ZERO), "/lines/0/quantity: 0 is wrong: a decimal above 0, with at most 6 decimals");
    let too_much = "/lines/0/discount: 11 is wrong: at most quantity × unit_price = 10";
    assert_eq!(check(&|p| p.lines[0].discount = amount("11")), too_much);
    let taxed = "/lines/0/tax: 9.01 is wrong: at most what was charged for the line, 9";
    assert_eq!(check(&|p| (p.lines[0].discount, p.lines[0].tax) = (amount("1"), amount("9.01"))), taxed);
    let off = "a decimal, 0 or more, with at most 6 decimals; what is taken off the bill goes into the discount of its lines";
    assert_eq!(check(&|p| p.lines[0].unit_price = amount("-10.00")), format!("/lines/0/unit_price: -10.00 is wrong: {off}"));
    assert_eq!(check(&|p| p.lines[0].amount = Some(amount("-10.00"))), format!("/lines/0/amount: -10.00 is wrong: {off}"));
    let back = "/lines/0/quantity: -1 is wrong: a decimal above 0, with at most 6 decimals; goods that come back are a return, \
                and what is taken off the bill goes into the discount of its lines";
    assert_eq!(check(&|p| p.lines[0].quantity = amount("-1")), back);
    let sign = "/lines/0/discount: -1 is wrong: a decimal, 0 or more, with at most 6 decimals; a discount is what is taken off the line, without a sign";
    assert_eq!(check(&|p| p.lines[0].discount = amount("-1")), sign);
    let wrong = "/lines/0/amount: 9.98 is wrong: 10.00, or 0.01 more or less: quantity × unit_price − discount = 9.995";
    assert_eq!(check(&|p| (p.lines[0].unit_price, p.lines[0].amount) = (amount("9.995"), Some(amount("9.98")))), wrong);
    let fine = |field: &str, value: &str| format!("/{field}: {value} is wrong: an amount that can be paid in GBP: at most 2 decimals");
    assert_eq!(check(&|p| p.lines[0].amount = Some(amount("9.995"))), fine("lines/0/amount", "9.995"));
    assert_eq!(check(&|p| p.shipping = amount("4.955")), fine("shipping", "4.955"));
    let dong = "/shipping: 0.50 is wrong: an amount that can be paid in VND: at most 0 decimals";
    assert_eq!(check(&|p| (p.currency, p.shipping) = ("VND".into(), amount("0.50"))), dong);
    assert_eq!(check(&|p| p.currency = "gbp".into()), "/currency: \"gbp\" is wrong: an ISO 4217 code of three capital letters");
    assert_eq!(check(&|p| p.lines.push(p.lines[0].clone())), "/lines: line_id \"1\" twice is wrong: a line_id of its own for each line");
}

#[test]
fn the_cap_of_a_day_holds_for_purchases_that_are_told_of_long_after() {
    let mut book = Book::new(json!({"earn": {"caps": {"per_day": 38}}, "return": {"window_days": 60}}));
    let day = book.now;
    book.now = day.plus_micros(120 * ledger_core::time::DAY_US);
    for (name, points) in [("p1", 38), ("p2", 0)] {
        let late = purchase(name, day, &[("1", "A", "1", "50")]);
        assert_eq!(earned(&book.ask(name, Action::Earn(late)).unwrap()), points, "{name}");
    }
}

/// 0.333 × 0.35 − 0.10 is 0.01655, which a receipt charges as 0.02.
#[test]
fn the_tax_of_a_line_may_be_all_that_was_charged_for_it_rounded() {
    let with = |tax: &str| {
        let mut body = (*purchase("p", at("2010-01-01"), &[("1", "A", "0.333", "0.35")])).clone();
        (body.lines[0].discount, body.lines[0].tax) = (amount("0.10"), amount(tax));
        ledger_core::account::Command { id: id("p"), actor: "spec".into(), action: Action::Earn(body.into()) }.check()
    };
    assert_eq!((with("0.02"), with("0.03").is_err()), (Ok(()), true));
}

fn times(events: &[ledger_core::account::Event]) -> Vec<ledger_core::time::Moment> {
    events.iter().map(|event| event.at).collect()
}

#[test]
fn what_a_late_purchase_makes_due_is_done_with_it() {
    // Given nothing but points that are pending for 5 days; when a purchase is told 19 days later; then they have matured.
    let mut pending = Book::new(json!({"earn": {"pending_days": 5}}));
    pending.until("2010-01-20");
    let events = pending.ask("p", Action::Earn(purchase("p", at("2010-01-01"), &[("1", "A", "1", "10")]))).unwrap();
    assert!(matches!(events.last().unwrap().kind, EventKind::PointsMatured { lot: 1, points: 10 }));
    assert_eq!((times(&events)[2], pending.available()), (at("2010-01-06"), 10));
    // Given nothing but a tier; when the purchase that reached it is told 17 months later; then it was reviewed once.
    let levels = json!([{"name": "member", "at": 0}, {"name": "silver", "at": 10}]);
    let mut tier = Book::new(json!({"tiers": {"window": "lifetime", "levels": levels}}));
    tier.until("2011-06-01");
    let events = tier.ask("p", Action::Earn(purchase("p", at("2010-01-01"), &[("1", "A", "1", "10")]))).unwrap();
    assert!(matches!(events.last().unwrap().kind, EventKind::TierKept(_)));
    assert_eq!((times(&events)[3], tier.account.standing.review_at), (at("2011-01-01"), Some(at("2012-01-01"))));
    // Given nothing but accounts that sleep after 3 months; when a purchase is told 5 months later; then its account sleeps.
    let mut asleep = Book::new(json!({"accounts": {"inactive_after": {"months": 3}}}));
    asleep.until("2010-06-01");
    let events = asleep.ask("p", Action::Earn(purchase("p", at("2010-01-01"), &[("1", "A", "1", "10")]))).unwrap();
    assert_eq!(events.last().unwrap().kind, EventKind::AccountLapsed);
    assert_eq!(times(&events)[2], at("2010-04-01T11:00:00Z"));
}

#[test]
fn a_debt_is_paid_with_points_that_are_lost_as_they_come() {
    // Given a debt of 100, and points that are lost from 5 January on,
    let mut book = Book::new(json!({"return": {"on_shortfall": "negative"}, "expiry": {"mode": "fixed_date", "date": "2010-01-05"}}));
    book.buy("a", "100");
    book.redeem("r", 100).unwrap();
    book.give_back("x", "a", &[("1", "1")]).unwrap();
    // When a purchase of after that day earns 60, and one 70,
    book.until("2010-01-08");
    book.buy("b", "60");
    assert_eq!((book.balance().owed, book.available()), (40, 0), "then they pay the debt before they are lost");
    book.buy("c", "70");
    assert_eq!((book.balance().owed, book.available()), (0, 0));
}

/// Not even with points that were still there when it occurred.
#[test]
fn a_purchase_that_earns_nothing_pays_no_debt() {
    for pending_days in [0, 1] {
        // Given 100 points that are lost, but not booked so yet, and a debt of 50,
        let expiry = json!({"mode": "rolling", "days": 31});
        let (told_later, negative) = (json!({"offline_minutes": 60}), json!({"on_shortfall": "negative"}));
        let mut book = Book::new(json!({"redeem": told_later, "return": negative, "expiry": expiry, "earn": {"pending_days": pending_days}}));
        book.buy("old", "100");
        book.until("2010-01-02").buy("new", "50");
        book.until("2010-02-01T12:10:00Z").redeem("r", 50).unwrap();
        book.give_back("x", "new", &[("1", "1")]).unwrap();
        assert_eq!((book.balance().owed, book.available()), (50, 100));
        // When a purchase of ten minutes before they were lost earns nothing, then nothing else happens.
        let free = purchase("free", at("2010-02-01T11:50:00Z"), &[("1", "A", "1", "0.10")]);
        let events = book.ask("free", Action::Earn(free)).unwrap();
        assert_eq!((events.len(), book.balance().owed), (1, 50));
    }
}

#[test]
fn the_version_that_rates_a_purchase_is_the_one_that_decides_it() {
    for later in [json!({}), json!({"accounts": {"inactive_after": {"days": 10}}})] {
        let mut later = rules(later);
        later["effective_from"] = json!("2010-02-01T00:00:00Z");
        let mut book = Book::versions(&[rules(json!({})), later]);
        book.until("2010-03-01");
        let late = purchase("late", at("2010-01-20"), &[("1", "A", "1", "10")]);
        assert_eq!(book.version_for("late", Action::Earn(late)), 1);
        let now = purchase("now", book.now, &[("1", "A", "1", "10")]);
        assert_eq!(book.version_for("now", Action::Earn(now)), 2);
    }
}

#[test]
fn conditions_and_events_know_for_how_many_whole_days_the_account_was_open() {
    for (when, days, points) in [("2010-01-11T11:59:59.999999Z", 9, 10), ("2010-01-11T12:00:00Z", 10, 20)] {
        let bonus = json!([{"id": "known", "when": "account.age_days >= 10", "multiply": "2"}]);
        let mut book = Book::new(json!({"earn": {"bonus": bonus}}));
        book.ask("o", Action::Open).unwrap();
        book.until(when);
        let events = book.ask("p", Action::Earn(purchase("p", book.now, &[("1", "A", "1", "10")]))).unwrap();
        let EventKind::PointsEarned(first) = &events[0].kind else { unreachable!("a purchase earns") };
        assert_eq!((first.facts.age_days, earned(&events)), (days, points), "{when}");
    }
}
