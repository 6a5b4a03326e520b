//! Records, read where they lie: audits and rebuilds read them by the million, and by way of the generated types each text would be copied twice.
//! Events that are rare go by those types.
//!
//! Invariant: what is encoded is read as it was (`tests/golden.rs`), and nothing is read that the generated types refuse (`tests/fuzz.rs`).

use std::sync::Arc;

use compact_str::CompactString;
use ledger_core::account::command::{Line, Origin, Purchase};
use ledger_core::account::event::{Earned, Lot, Part, Spent};
use ledger_core::account::qualifying::Qualifying;
use ledger_core::account::state::Balance;
use ledger_core::account::{Event, EventKind};
use ledger_core::edition::FIRST_EDITION;
use ledger_core::id::{AccountKey, Id};
use ledger_core::points::Amount;
use ledger_core::policy::{Facts, LinePoints, Paid, PointValue, RateFailure};

use crate::decode::rare_event;
use crate::decode_error::Decoded;
use crate::fields::{bad, check_version, fixed_hash, id, moment, optional_moment};
use crate::read::Fields;
use crate::record::Record;

/// Goes through the fields of a message; those with other numbers are passed over, as they may be of a later schema.
macro_rules! each_field {
    ($bytes:expr, $value:ident, { $($number:pat => $read:expr),* $(,)? }) => {
        let mut fields = Fields($bytes);
        while let Some((number, $value)) = fields.next()? {
            match number {
                $($number => $read,)*
                _ => {}
            }
        }
    };
}

impl Record {
    /// Reads a record.
    ///
    /// # Errors
    /// [`crate::DecodeError`] for anything but a whole record of a schema that this program knows.
    pub fn decode(bytes: &[u8]) -> Decoded<Self> {
        let (mut schema_version, mut account_seq, mut rule_version) = (0, 0, 0);
        let (mut program, mut account, mut command_id, mut command_kind, mut actor) = ("", "", "", "", "");
        let (mut content_hash, mut previous_hash): (&[u8], &[u8]) = (&[], &[]);
        let (mut recorded_at, mut effective_at, mut balance) = (0, 0, None);
        let (mut edition, mut program_entries) = (FIRST_EDITION, None);
        let mut events = Vec::with_capacity(2);
        each_field!(bytes, value, {
            1 => {
                schema_version = value.uint32()?;
                // What comes after may be of a kind that is not known here.
                check_version(schema_version)?;
            },
            2 => program = value.text()?,
            3 => account = value.text()?,
            4 => account_seq = value.uint()?,
            5 => command_id = value.text()?,
            6 => command_kind = value.text()?,
            7 => content_hash = value.bytes()?,
            8 => recorded_at = value.int()?,
            9 => effective_at = value.int()?,
            10 => actor = value.text()?,
            11 => rule_version = value.uint32()?,
            12 => previous_hash = value.bytes()?,
            13 => events.push(event(value.bytes()?)?),
            14 => balance = Some(self::balance(value.bytes()?)?),
            15 => edition = value.uint32()?,
            16 => program_entries = Some(value.uint()?),
        });
        check_version(schema_version)?;
        if edition < FIRST_EDITION || (edition == FIRST_EDITION) != (schema_version == 1) {
            return Err(bad("edition"));
        }
        Ok(Self {
            key: AccountKey { program: id(program, "program")?, account: id(account, "account")? },
            account_seq,
            command_id: id(command_id, "command_id")?,
            command_kind: command_kind.into(),
            content_hash: fixed_hash(content_hash, "content_hash")?,
            recorded_at: moment(recorded_at, "recorded_at_us")?,
            effective_at: moment(effective_at, "effective_at_us")?,
            actor: actor.into(),
            rule_version,
            previous_hash: fixed_hash(previous_hash, "previous_hash")?,
            events,
            balance: balance.ok_or_else(|| bad("balance"))?,
            edition,
            program_entries,
        })
    }
}

fn balance(bytes: &[u8]) -> Decoded<Balance> {
    let mut balance = Balance::default();
    each_field!(bytes, value, {
        1 => balance.available = value.sint()?,
        2 => balance.pending = value.sint()?,
        3 => balance.held = value.sint()?,
        4 => balance.owed = value.sint()?,
        5 => balance.lifetime_earned = value.sint()?,
        6 => balance.lapsed = value.sint()?,
    });
    Ok(balance)
}

/// An event, which is of one kind: where it names two, this program and the generated types could each believe another.
fn event(bytes: &[u8]) -> Decoded<Event> {
    let (mut at, mut kind, mut kinds) = (0, None, 0_usize);
    each_field!(bytes, value, {
        1 => at = value.int()?,
        9 => (kind, kinds) = (Some(EventKind::PointsEarned(Box::new(earned(value.bytes()?)?))), kinds + 1),
        11 => (kind, kinds) = (Some(EventKind::PointsRedeemed(spent(value.bytes()?)?)), kinds + 1),
        17 => (kind, kinds) = (Some(EventKind::PointsExpired(part(value.bytes()?)?)), kinds + 1),
        // The rare ones.
        2..=29 => kinds += 1,
    });
    if kinds > 1 {
        return Err(bad("event.kind"));
    }
    Ok(Event { at: moment(at, "at_us")?, kind: kind.map_or_else(|| rare_event(bytes), Ok)? })
}

fn earned(bytes: &[u8]) -> Decoded<Earned> {
    let (mut purchase, mut facts, mut lot, mut qualifying) = (None, None, None, None);
    let (mut rule_version, mut pending, mut day, mut return_until) = (0, false, 0, 0);
    let (mut uncapped_points, mut day_points, mut counted, mut decimals) = (0, 0, None, None);
    let (mut lines, mut failures, mut paid_by) = (Vec::new(), Vec::new(), Vec::new());
    each_field!(bytes, value, {
        1 => purchase = Some(self::purchase(value.bytes()?)?),
        2 => rule_version = value.uint32()?,
        3 => facts = Some(self::facts(value.bytes()?)?),
        4 => lot = Some(self::lot(value.bytes()?)?),
        5 => pending = value.bool()?,
        6 => uncapped_points = value.sint()?,
        7 => day_points = value.sint()?,
        8 => day = value.sint32()?,
        9 => qualifying = Some(amount(value.bytes()?, "qualifying")?),
        10 => lines.push(line_points(value.bytes()?)?),
        11 => failures.push(failure(value.bytes()?)?),
        12 => return_until = value.int()?,
        13 => paid_by.push(paid(value.bytes()?)?),
        14 => counted = Some(self::counted(value.bytes()?)?),
        20 => decimals = Some(value.uint32()?),
    });
    Ok(Earned {
        purchase: Arc::new(purchase.ok_or_else(|| bad("purchase"))?),
        rule_version,
        facts: facts.ok_or_else(|| bad("facts"))?,
        lot,
        pending,
        uncapped_points,
        day_points,
        day,
        qualifying: qualifying.ok_or_else(|| bad("qualifying"))?,
        lines,
        failures,
        return_until: moment(return_until, "return_until_us")?,
        paid_by,
        counted,
        decimals,
    })
}

fn counted(bytes: &[u8]) -> Decoded<Qualifying> {
    let (mut points, mut spend, mut purchases) = (0, None, 0);
    each_field!(bytes, value, {
        1 => points = value.sint()?,
        2 => spend = Some(amount(value.bytes()?, "counted.spend")?),
        3 => purchases = value.sint()?,
    });
    Ok(Qualifying { points, spend: spend.ok_or_else(|| bad("counted.spend"))?, purchases })
}

fn paid(bytes: &[u8]) -> Decoded<Paid> {
    let (mut lot, mut payer, mut points) = (0, "", 0);
    each_field!(bytes, value, {
        1 => lot = value.uint32()?,
        2 => payer = value.text()?,
        3 => points = value.sint()?,
    });
    Ok(Paid { lot, payer: id(payer, "payer")?, points })
}

fn purchase(bytes: &[u8]) -> Decoded<Purchase> {
    let (mut purchase_id, mut currency, mut channel, mut store) = ("", "", "", "");
    let (mut occurred_at, mut shipping, mut origin) = (0, None, None);
    let mut lines = Vec::new();
    each_field!(bytes, value, {
        1 => purchase_id = value.text()?,
        2 => occurred_at = value.int()?,
        3 => currency = value.text()?,
        4 => channel = value.text()?,
        5 => store = value.text()?,
        6 => lines.push(line(value.bytes()?)?),
        7 => shipping = Some(amount(value.bytes()?, "shipping")?),
        // Only on the topic of purchases: a record has its account elsewhere.
        8..=11 => _ = value.text()?,
        12 => origin = Some(Box::new(self::origin(value.bytes()?)?)),
    });
    Ok(Purchase {
        purchase_id: id(purchase_id, "purchase_id")?,
        occurred_at: moment(occurred_at, "occurred_at_us")?,
        currency: currency.into(),
        channel: channel.into(),
        store: store.into(),
        lines,
        shipping: shipping.ok_or_else(|| bad("shipping"))?,
        origin,
    })
}

fn origin(bytes: &[u8]) -> Decoded<Origin> {
    let mut origin = Origin::default();
    each_field!(bytes, value, {
        1 => origin.cashier = value.text()?.into(),
        2 => origin.till = value.text()?.into(),
        3 => origin.device = value.text()?.into(),
        4 => origin.card_token = value.text()?.into(),
    });
    Ok(origin)
}

fn line(bytes: &[u8]) -> Decoded<Line> {
    let (mut line_id, mut sku, mut category) = ("", "", "");
    let (mut quantity, mut unit_price, mut discount, mut tax, mut charged) = (None, None, None, None, None);
    each_field!(bytes, value, {
        1 => line_id = value.text()?,
        2 => sku = value.text()?,
        3 => category = value.text()?,
        4 => quantity = Some(amount(value.bytes()?, "quantity")?),
        5 => unit_price = Some(amount(value.bytes()?, "unit_price")?),
        6 => discount = Some(amount(value.bytes()?, "discount")?),
        7 => tax = Some(amount(value.bytes()?, "tax")?),
        8 => charged = Some(amount(value.bytes()?, "line.amount")?),
    });
    Ok(Line {
        line_id: id(line_id, "line_id")?,
        sku: sku.into(),
        category: category.into(),
        quantity: quantity.ok_or_else(|| bad("quantity"))?,
        unit_price: unit_price.ok_or_else(|| bad("unit_price"))?,
        discount: discount.ok_or_else(|| bad("discount"))?,
        tax: tax.ok_or_else(|| bad("tax"))?,
        amount: charged,
    })
}

fn amount(bytes: &[u8], field: &'static str) -> Decoded<Amount> {
    let (mut units, mut scale) = (0, 0);
    each_field!(bytes, value, {
        1 => units = value.sint()?,
        2 => scale = value.uint32()?,
    });
    Amount::from_wire(units, scale).ok_or_else(|| bad(field))
}

fn facts(bytes: &[u8]) -> Decoded<Facts> {
    let mut facts = Facts::default();
    each_field!(bytes, value, {
        1 => facts.tier = CompactString::from(value.text()?),
        2 => facts.lifetime_earned = value.sint()?,
        3 => facts.purchases = value.uint32()?,
        4 => facts.age_days = value.uint32()?,
    });
    Ok(facts)
}

fn lot(bytes: &[u8]) -> Decoded<Lot> {
    let (mut lot, mut points, mut available_at, mut expires_at, mut expiry_moves) = (0, 0, 0, None, false);
    each_field!(bytes, value, {
        1 => lot = value.uint32()?,
        2 => points = value.sint()?,
        3 => available_at = value.int()?,
        4 => expires_at = Some(value.int()?),
        5 => expiry_moves = value.bool()?,
    });
    let (available_at, expires_at) = (moment(available_at, "available_at_us")?, optional_moment(expires_at, "expires_at_us")?);
    Ok(Lot { lot, points, available_at, expires_at, expiry_moves })
}

fn line_points(bytes: &[u8]) -> Decoded<LinePoints> {
    let mut points = LinePoints { line: 0, points: 0, bonus: Vec::new() };
    each_field!(bytes, value, {
        1 => points.line = value.uint32()?,
        2 => points.points = value.sint()?,
        3 => points.bonus.push(id(value.text()?, "bonus")?),
    });
    Ok(points)
}

fn failure(bytes: &[u8]) -> Decoded<RateFailure> {
    let (mut line, mut bonus, mut error) = (0, "", "");
    each_field!(bytes, value, {
        1 => line = value.uint32()?,
        2 => bonus = value.text()?,
        3 => error = value.text()?,
    });
    let bonus: Id = id(bonus, "bonus")?;
    Ok(RateFailure { line, bonus, error: error.to_owned() })
}

fn spent(bytes: &[u8]) -> Decoded<Spent> {
    let (mut redemption, mut parts, mut worth, mut return_until, mut rate) = ("", Vec::new(), None, 0, None);
    each_field!(bytes, value, {
        1 => redemption = value.text()?,
        2 => parts.push(part(value.bytes()?)?),
        3 => worth = Some(amount(value.bytes()?, "value")?),
        4 => return_until = value.int()?,
        5 => rate = Some(point_value(value.bytes()?)?),
    });
    Ok(Spent {
        redemption: id(redemption, "redemption")?,
        parts,
        value: worth.ok_or_else(|| bad("value"))?,
        return_until: moment(return_until, "return_until_us")?,
        rate,
    })
}

fn point_value(bytes: &[u8]) -> Decoded<PointValue> {
    let (mut points, mut worth) = (0, None);
    each_field!(bytes, value, {
        1 => points = value.sint()?,
        2 => worth = Some(amount(value.bytes()?, "amount")?),
    });
    Ok(PointValue { points, amount: worth.ok_or_else(|| bad("amount"))? })
}

fn part(bytes: &[u8]) -> Decoded<Part> {
    let mut part = Part { lot: 0, points: 0, pending: false };
    each_field!(bytes, value, {
        1 => part.lot = value.uint32()?,
        2 => part.points = value.sint()?,
        3 => part.pending = value.bool()?,
    });
    Ok(part)
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::v1;

    #[test]
    fn what_is_only_on_the_topic_is_text_here_too() {
        let purchase_of = |account_id: &str| v1::Purchase { account_id: account_id.into(), ..v1::Purchase::default() }.encode_to_vec();
        let shipping = v1::Purchase { purchase_id: "p".into(), shipping: Some(v1::Amount::default()), ..v1::Purchase::default() }.encode_to_vec();
        let with = |more: &[u8]| purchase(&[&shipping, more].concat()).is_ok();
        assert!(with(&purchase_of("m1")));
        assert!(!with(&[9 << 3, 1]));
        assert!(!with(&[9 << 3 | 2, 1, 0xff]));
    }

    #[test]
    fn an_event_is_of_one_kind() {
        let event_of = |kind| v1::Event { at_us: 7, kind: Some(kind) }.encode_to_vec();
        let expired = event_of(v1::event::Kind::PointsExpired(v1::Part { lot: 1, points: 5, pending: false }));
        let with = |more: &[u8]| event(&[&expired, more].concat()).is_ok();
        assert!(with(&[]));
        assert!(!with(&expired));
        assert!(!with(&event_of(v1::event::Kind::AccountLapsed(v1::Empty {}))));
        assert!(!with(&[12 << 3, 1]), "what would be another kind, if it were a message");
        assert!(with(&[0xf0, 1, 1]), "a field that a later schema may have");
    }
}
