//! What is kept of a message that can't be booked: without the card or member number that it names, whatever form it has.
//!
//! Invariant: of a message in which nobody can tell where such a number stands, no byte is kept.

use ledger_core::id::Id;
use prost::Message as _;
use serde_json::Value;

/// What of a message may be kept and shown.
#[derive(Debug, PartialEq)]
pub(crate) struct Masked {
    /// Its bytes, with stars in place of the number; none where it can't be read.
    pub(crate) body: Vec<u8>,
    /// Why it is kept.
    pub(crate) reason: String,
    /// Its program, as far as that can be read.
    pub(crate) program: Option<Id>,
}

/// Where protobuf may begin: at once, or behind Confluent's magic byte, schema id and the path of the message.
const BEGINNINGS: [usize; 4] = [0, 6, 7, 8];
/// What a field of JSON is called whose value is not kept.
const NAMES: [&str; 2] = ["card", "member"];
/// More values than a message names for itself are not looked for in the reason.
const VALUES_MAX: usize = 16;

/// What `loyalty.v1.Purchase` and `loyalty.v1.PurchaseReturn` have alike.
#[derive(Clone, PartialEq, prost::Message)]
struct Named {
    #[prost(string, tag = "8")]
    program: String,
    #[prost(string, tag = "10")]
    card: String,
    #[prost(string, tag = "11")]
    member: String,
}

pub(crate) fn mask(body: &[u8], reason: &str) -> Masked {
    let mut values = Vec::new();
    let (body, program) = match serde_json::from_slice::<Value>(body) {
        Ok(mut document) => {
            hide(&mut document, false, &mut values);
            let program = ["/program", "/data/program"].iter().find_map(|place| Id::parse(document.pointer(place)?.as_str()?).ok());
            (serde_json::to_vec(&document).unwrap_or_default(), program)
        }
        Err(_) => protobuf(body, &mut values),
    };
    let mut reason = reason.to_owned();
    for value in values.iter().filter(|value| !value.is_empty()).take(VALUES_MAX) {
        reason = reason.replace(value.as_str(), "***");
    }
    Masked { body, reason, program }
}

/// Puts stars in place of all that stands in fields called after a card or a member.
fn hide(value: &mut Value, is_named: bool, values: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                let name = name.to_lowercase();
                hide(field, is_named || NAMES.iter().any(|wanted| name.contains(wanted)), values);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| hide(item, is_named, values)),
        Value::String(text) if is_named => values.push(std::mem::replace(text, "***".to_owned())),
        Value::Number(number) if is_named => {
            values.push(number.to_string());
            *value = Value::String("***".to_owned());
        }
        _ => {}
    }
}

/// The message with stars in place of its card and member, if it is one that shops publish.
fn protobuf(body: &[u8], values: &mut Vec<String>) -> (Vec<u8>, Option<Id>) {
    for at in BEGINNINGS {
        let Some((frame, rest)) = body.split_at_checked(at).filter(|(_, rest)| !rest.is_empty()) else { continue };
        let Ok(named) = Named::decode(rest) else { continue };
        let Ok(program) = Id::parse(&named.program) else { continue };
        let mut masked = body.to_vec();
        for value in [named.card, named.member] {
            overwrite(&mut masked[frame.len()..], value.as_bytes());
            values.push(value);
        }
        return (masked, Some(program));
    }
    (Vec::new(), None)
}

/// Writes stars over each place where `value` is.
fn overwrite(text: &mut [u8], value: &[u8]) {
    let mut at = 0;
    while let Some(place) = text.get_mut(at..at + value.len()).filter(|place| !place.is_empty()) {
        if place == value {
            place.fill(b'*');
        }
        at += 1;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use ledger_schemas::v1;

    use super::*;

    #[test]
    fn a_number_is_hidden_in_json_wherever_it_stands() {
        let masked = |body: &str| String::from_utf8(mask(body.as_bytes(), "").body).unwrap();
        assert_eq!(masked(r#"{"data":{"card":"4711","program":"shop"}}"#), r#"{"data":{"card":"***","program":"shop"}}"#);
        assert_eq!(masked(r#"{"a":1,"c\u0061rd":4711}"#), r#"{"a":1,"card":"***"}"#);
        assert_eq!(masked(r#"{"Member_no":{"first":"Doe, John","last":["x",7]}}"#), r#"{"Member_no":{"first":"***","last":["***","***"]}}"#);
        assert_eq!(mask(br#"{"data":{"program":"shop"}}"#, "").program.unwrap().as_str(), "shop");
    }

    #[test]
    fn a_number_is_hidden_in_protobuf_and_in_the_reason() {
        let purchase = v1::Purchase { program: "shop".into(), card: "CARD-123".into(), purchase_id: "p1".into(), ..v1::Purchase::default() };
        let back = v1::PurchaseReturn { program: "shop".into(), member: "CARD-123".into(), purchase_id: "p1".into(), ..v1::PurchaseReturn::default() };
        for frame in [&[][..], &[0, 0, 0, 0, 9, 0], &[0, 0, 0, 0, 9, 2, 0]] {
            for message in [purchase.encode_to_vec(), back.encode_to_vec()] {
                let body = [frame, &message].concat();
                let masked = mask(&body, "the account of CARD-123 is closed");
                assert_eq!(masked.program.unwrap().as_str(), "shop");
                assert_eq!((masked.body.len(), masked.reason.as_str()), (body.len(), "the account of *** is closed"));
                assert!(!masked.body.windows(8).any(|bytes| bytes == b"CARD-123") && masked.body.windows(2).any(|bytes| bytes == b"p1"));
            }
        }
    }

    #[test]
    fn of_what_cannot_be_read_nothing_is_kept() {
        for body in [&br#"{"card":"4711"#[..], b"4111 1111 1111 1111", b"\x0a\x30cut off"] {
            assert_eq!(mask(body, "not protobuf"), Masked { body: Vec::new(), reason: "not protobuf".into(), program: None });
        }
    }
}
