//! Return by amount: how its money divides between goods and shipping, and when it gives all of them back.

use std::sync::Arc;

use ledger_core::account::command::{Action, Return, Returned};
use ledger_core::account::event::Refunded;
use ledger_core::account::{Event, EventKind, Rejection};
use ledger_core::points::Amount;
use serde_json::json;

use crate::support::{Book, amount, id, purchase};

/// Lines: id, quantity, price, discount.
fn bought(lines: &[(&str, &str, &str, &str)], shipping: &str) -> Book {
    let mut book = Book::new(json!({}));
    let rows: Vec<_> = lines.iter().map(|(line, quantity, price, _)| (*line, "A", *quantity, *price)).collect();
    let mut body = (*purchase("p", book.now, &rows)).clone();
    body.shipping = amount(shipping);
    for (line, (.., discount)) in body.lines.iter_mut().zip(lines) {
        line.discount = amount(discount);
    }
    book.ask("p", Action::Earn(body.into())).unwrap();
    book
}

fn refunded(events: &[Event]) -> Refunded {
    let EventKind::PurchaseReturned(reversed) = &events[0].kind else { unreachable!("a return") };
    reversed.refunded.unwrap()
}

fn of(goods: &str, shipping: &str, all_goods: bool) -> Refunded {
    Refunded { goods: amount(goods), shipping: amount(shipping), all_goods }
}

fn exceeds(refunded: &str, shipping: &str, goods_left: &str, shipping_left: &str) -> Rejection {
    let (refunded, shipping) = (amount(refunded), amount(shipping));
    Rejection::RefundExceedsPurchase { refunded, shipping, goods_left: amount(goods_left), shipping_left: amount(shipping_left) }
}

#[test]
fn a_cent_more_than_is_left_gives_all_back() {
    let mut book = bought(&[("1", "10", "23.90", "59.75")], "0");
    assert_eq!(book.available(), 179);
    assert_eq!(book.refund("r", "p", "179.27", None).unwrap_err(), exceeds("179.27", "0", "179.25", "0"));
    assert_eq!(refunded(&book.refund("r", "p", "179.26", None).unwrap()), of("179.25", "0", true));
    assert_eq!(book.available(), 0);
    assert_eq!(book.refund("r2", "p", "0.01", None).unwrap_err(), exceeds("0.01", "0", "0", "0"), "once, not again and again");
    assert_eq!(book.give_back("r3", "p", &[("1", "1")]).unwrap_err(), Rejection::ReturnExceedsPurchase { returned: amount("1"), kept: amount("0") });
}

#[test]
fn the_last_of_several_refunds_may_be_a_cent_more() {
    let mut book = bought(&[("1", "10", "23.90", "59.75")], "0");
    book.refund("r1", "p", "100.00", None).unwrap();
    assert_eq!(book.available(), 79);
    assert_eq!(book.refund("r2", "p", "79.27", None).unwrap_err(), exceeds("79.27", "0", "79.25", "0"));
    assert_eq!(refunded(&book.refund("r2", "p", "79.26", None).unwrap()), of("79.25", "0", true));
    assert_eq!(book.available(), 0);
}

#[test]
fn half_a_cent_a_line_is_more_than_a_cent_from_three_lines_on() {
    let lines = [("1", "1", "1.00", "0"), ("2", "1", "1.00", "0"), ("3", "1", "1.00", "0"), ("4", "1", "1.00", "0"), ("5", "1", "1.00", "0")];
    let mut book = bought(&lines, "0");
    assert_eq!(book.refund("r", "p", "5.03", None).unwrap_err(), exceeds("5.03", "0", "5", "0"));
    let mut some = bought(&lines, "0");
    some.give_back("r", "p", &[("1", "1"), ("2", "1"), ("3", "1")]).unwrap();
    assert_eq!(some.refund("r2", "p", "2.02", None).unwrap_err(), exceeds("2.02", "0", "2", "0"), "two lines are left");
    some.refund("r2", "p", "2.01", None).unwrap();
    book.refund("r", "p", "5.02", None).unwrap();
    assert_eq!((book.available(), some.available()), (0, 0));
}

#[test]
fn the_minor_unit_is_that_of_the_currency() {
    let mut book = Book::new(json!({"currency": "VND"}));
    let mut body = (*purchase("p", book.now, &[("1", "A", "1", "90000")])).clone();
    body.currency = "VND".into();
    book.ask("p", Action::Earn(body.into())).unwrap();
    let too_fine = Rejection::AmountTooFine { amount: amount("10.5"), currency: "VND".into(), decimals: 0 };
    assert_eq!(book.refund("r", "p", "10.5", None).unwrap_err(), too_fine);
    assert_eq!(book.refund("r", "p", "90002", None).unwrap_err(), exceeds("90002", "0", "90000", "0"));
    book.refund("r", "p", "90001", None).unwrap();
    assert_eq!(book.available(), 0);
}

#[test]
fn goods_are_refunded_before_shipping_which_takes_no_points() {
    let mut book = bought(&[("1", "1", "40.00", "0")], "5.00");
    assert_eq!(refunded(&book.refund("r1", "p", "10.00", None).unwrap()), of("10.00", "0", false));
    assert_eq!(book.available(), 30);
    assert_eq!(book.refund("r2", "p", "35.02", None).unwrap_err(), exceeds("35.02", "5.00", "30", "5.00"));
    assert_eq!(refunded(&book.refund("r2", "p", "32.00", None).unwrap()), of("30", "2.00", true));
    assert_eq!(book.available(), 0);
    assert_eq!(refunded(&book.refund("r3", "p", "3.00", None).unwrap()), of("0", "3.00", false));
    assert_eq!(book.refund("r4", "p", "0.01", None).unwrap_err(), exceeds("0.01", "0.00", "0", "0.00"));
    let mut whole = bought(&[("1", "1", "40.00", "0")], "5.00");
    assert_eq!(refunded(&whole.refund("r", "p", "45.00", None).unwrap()), of("40", "5.00", true));
    assert_eq!(whole.available(), 0);
}

#[test]
fn shipping_that_is_named_is_not_taken_from_the_goods() {
    let mut book = bought(&[("1", "1", "40.00", "0")], "5.00");
    assert_eq!(refunded(&book.refund("r1", "p", "5.00", Some("5.00")).unwrap()), of("0", "5.00", false));
    assert_eq!(book.available(), 40);
    assert_eq!(book.refund("r2", "p", "1.00", Some("1.00")).unwrap_err(), exceeds("1.00", "1.00", "40", "0.00"));
    assert_eq!(book.refund("r2", "p", "40.02", Some("0")).unwrap_err(), exceeds("40.02", "0", "40", "0.00"));
    book.refund("r2", "p", "40.01", Some("0")).unwrap();
    assert_eq!(book.available(), 0);
    assert_eq!(book.refund("r3", "p", "0.01", Some("0")).unwrap_err(), exceeds("0.01", "0", "0", "0.00"));
    let too_fine = bought(&[("1", "1", "40.00", "0")], "5.00").refund("r", "p", "5", Some("0.005")).unwrap_err();
    assert_eq!(too_fine, Rejection::AmountTooFine { amount: amount("0.005"), currency: "GBP".into(), decimals: 2 });
}

#[test]
fn lines_and_their_shipping() {
    let mut book = bought(&[("1", "1", "30.00", "0"), ("2", "1", "10.00", "0")], "5.00");
    let back = |book: &mut Book, name: &str, line: &str, shipping: &str| {
        let what = Returned::Lines(vec![(id(line), Amount::ONE)]);
        let body = Return { purchase_id: id("p"), occurred_at: book.now, what, shipping: Some(amount(shipping)) };
        book.ask(name, Action::Return(Arc::new(body)))
    };
    assert_eq!(refunded(&back(&mut book, "r1", "1", "2.00").unwrap()), of("30", "2.00", false));
    assert_eq!(book.available(), 10);
    assert_eq!(back(&mut book, "r2", "2", "3.01").unwrap_err(), exceeds("3.01", "3.01", "10", "3.00"));
    assert_eq!(refunded(&back(&mut book, "r2", "2", "3.00").unwrap()), of("10", "3.00", false));
    assert_eq!(book.available(), 0);
}

#[test]
fn lines_after_a_refund_of_money_take_what_it_left_to_a_cent() {
    let lines = [("1", "1", "60.00", "0"), ("2", "1", "40.00", "0")];
    let mut book = bought(&lines, "0");
    book.refund("r1", "p", "40.01", None).unwrap();
    assert_eq!(refunded(&book.give_back("r2", "p", &[("1", "1")]).unwrap()), of("59.99", "0", true));
    assert_eq!(book.available(), 0);
    let mut more = bought(&lines, "0");
    more.refund("r1", "p", "40.02", None).unwrap();
    let over = more.give_back("r2", "p", &[("1", "1")]).unwrap_err();
    assert_eq!(over, Rejection::ReturnExceedsPurchase { returned: amount("60"), kept: amount("59.98") });
}

/// 3 × 1.00 − 1.00, two of them given back: 2/3 of a pound is left, which no amount of money is.
#[test]
fn what_is_left_in_parts_of_a_cent_comes_back_with_the_cent() {
    let mut book = bought(&[("1", "3", "1.00", "1.00")], "0");
    book.give_back("r1", "p", &[("1", "2")]).unwrap();
    let too_fine = Rejection::AmountTooFine { amount: amount("0.666667"), currency: "GBP".into(), decimals: 2 };
    assert_eq!(book.refund("r2", "p", "0.666667", None).unwrap_err(), too_fine);
    assert_eq!(refunded(&book.refund("r2", "p", "0.67", None).unwrap()), of("0.666667", "0", true));
    assert_eq!(book.account.purchase(&id("p")).unwrap().uncapped_points, 0);
    let mut shipped = bought(&[("1", "3", "1.00", "1.00")], "5.00");
    shipped.give_back("r1", "p", &[("1", "2")]).unwrap();
    assert_eq!(refunded(&shipped.refund("r2", "p", "0.67", None).unwrap()), of("0.666667", "0", true), "and not a part of the shipping instead");
}

/// What an older record booked beyond what was left shrinks the goods to nothing, not below.
#[test]
fn no_factor_is_negative() {
    let mut book = Book::new(json!({"earn": {"base": {"points": "1000000", "per": "1"}}}));
    let mut body = (*purchase("p", book.now, &[("1", "A", "3", "1.00")])).clone();
    body.lines[0].discount = amount("1.00");
    book.ask("p", Action::Earn(body.into())).unwrap();
    let state = book.account.purchase(&id("p")).unwrap();
    let mut kept = state.kept.clone();
    kept.give_back(&state.purchase, &Returned::Lines(vec![(id("1"), amount("2"))]), None);
    kept.give_back(&state.purchase, &Returned::Amount(amount("0.666667")), None);
    let rated = ledger_core::policy::rate(&state.purchase, &kept, book.program.version(1).unwrap(), &state.facts).unwrap();
    assert_eq!((rated.points, rated.spend), (0, Amount::ZERO));
}

/// A purchase of an older record was rated without rounding, and is so when it comes back.
#[test]
fn purchases_of_older_records_are_rated_as_they_were() {
    let mut book = Book::new(json!({"earn": {"base": {"points": "1000", "per": "1"}}}));
    let body = purchase("p", book.now, &[("1", "A", "0.5", "1.99"), ("2", "A", "0.5", "1.99")]);
    let mut events = book.ask("p", Action::Earn(body)).unwrap();
    assert_eq!(book.available(), 2000);
    let Some(EventKind::PointsEarned(earned)) = events.last_mut().map(|event| &mut event.kind) else { unreachable!("a purchase earns") };
    assert_eq!((earned.decimals, earned.charge()), (Some(2), amount("2.00")));
    (earned.decimals, earned.uncapped_points, earned.day_points) = (None, 1990, 1990);
    earned.lot.as_mut().unwrap().points = 1990;
    assert_eq!(earned.charge(), amount("1.99"));
    let mut old = Book::new(json!({"earn": {"base": {"points": "1000", "per": "1"}}}));
    events.iter().for_each(|event| old.account.evolve(event));
    old.account.seal(old.now, [0; 32]);
    old.give_back("r", "p", &[("1", "0.5")]).unwrap();
    assert_eq!(old.available(), 995, "and not 1000, though the line alone would be charged so today");
    old.give_back("r2", "p", &[("2", "0.25")]).unwrap();
    assert_eq!(old.available(), 497);
}

#[test]
fn shipping_alone_is_refunded_to_a_cent_more_where_no_goods_are_left() {
    let after_goods = || {
        let mut book = bought(&[("1", "1", "30.00", "0")], "5.00");
        book.give_back("r", "p", &[("1", "1")]).unwrap();
        book
    };
    assert_eq!(refunded(&after_goods().refund("s", "p", "5.00", None).unwrap()), of("0", "5.00", false));
    assert_eq!(refunded(&after_goods().refund("s", "p", "4.00", Some("4.00")).unwrap()), of("0", "4.00", false));
    assert_eq!(refunded(&after_goods().refund("s", "p", "5.01", None).unwrap()), of("0", "5.00", true), "what is rounded is rounded");
    assert_eq!(after_goods().refund("s", "p", "5.02", None).unwrap_err(), exceeds("5.02", "5.00", "0", "5.00"));
    assert_eq!(after_goods().refund("s", "p", "1.01", Some("1.00")).unwrap_err(), exceeds("1.01", "1.00", "0", "5.00"), "a part of it is named to the cent");
}
