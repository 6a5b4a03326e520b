//! Single fields, from what the wire has to the core's types: what is missing or out of range is named.

use ledger_core::id::Id;
use ledger_core::points::Amount;
use ledger_core::time::Moment;

use crate::closing::Month;
use crate::decode_error::{DecodeError, Decoded};
use crate::record::{Fingerprint, Hash};
use crate::schema_version::SCHEMA_VERSION;
use crate::v1;

pub(crate) fn bad(field: &'static str) -> DecodeError {
    DecodeError::Field { field }
}

pub(crate) fn id(text: &str, field: &'static str) -> Decoded<Id> {
    Id::parse(text).map_err(|_| bad(field))
}

pub(crate) fn moment(us: i64, field: &'static str) -> Decoded<Moment> {
    Moment::from_micros(us).ok_or_else(|| bad(field))
}

pub(crate) fn optional_moment(us: Option<i64>, field: &'static str) -> Decoded<Option<Moment>> {
    us.map(|us| moment(us, field)).transpose()
}

pub(crate) fn amount(amount: Option<v1::Amount>, field: &'static str) -> Decoded<Amount> {
    let amount = amount.ok_or_else(|| bad(field))?;
    Amount::from_wire(amount.units, amount.scale).ok_or_else(|| bad(field))
}

pub(crate) fn optional_amount(given: Option<v1::Amount>, field: &'static str) -> Decoded<Option<Amount>> {
    given.map(|given| amount(Some(given), field)).transpose()
}

pub(crate) fn fixed_hash(bytes: &[u8], field: &'static str) -> Decoded<Hash> {
    bytes.try_into().map_err(|_| bad(field))
}

pub(crate) fn check_version(found: u32) -> Decoded<()> {
    match found {
        0 => Err(bad("schema_version")),
        found if found > SCHEMA_VERSION => Err(DecodeError::NewerSchema { found }),
        _ => Ok(()),
    }
}

pub(crate) fn fingerprint(bytes: &[u8]) -> Decoded<Fingerprint> {
    bytes.try_into().map_err(|_| bad("fingerprint"))
}

pub(crate) fn month(text: &str, field: &'static str) -> Decoded<Month> {
    Month::parse(text).ok_or_else(|| bad(field))
}
