//! From a message to what it asks: protobuf, CloudEvents (structured and binary), or Confluent's wire format.
//!
//! The forms: CloudEvents 1.0, Kafka protocol binding 1.0; Confluent wire format: a byte 0, four bytes of schema id, for protobuf the
//! path of the message within the schema, then the message.

use api::read_command;
use ledger_core::id::Id;
use ledger_schemas::{Published, Whose};
use serde_json::Value;

use crate::registry::Registry;
use crate::source::Message;

/// Under which name commands of shops are booked.
pub(crate) const ACTOR: &str = "intake";
/// The largest message that is read.
const BODY_MAX_BYTES: usize = 4 << 20;

/// Why a message can't be read.
#[derive(Debug)]
pub(crate) struct Unreadable {
    /// A stable code.
    pub(crate) code: &'static str,
    /// In words, with what would be right.
    pub(crate) reason: String,
}

fn unreadable(code: &'static str, reason: impl Into<String>) -> Unreadable {
    Unreadable { code, reason: reason.into() }
}

fn header<'a>(message: &'a Message, key: &str) -> Option<&'a str> {
    let (_, value) = message.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(key))?;
    std::str::from_utf8(value).ok()
}

/// What the message asks. With a registry, one that begins with a byte 0 is looked up there.
///
/// # Errors
/// `Ok(Err)` where the message is wrong for ever; `Err` where the registry does not answer.
pub(crate) async fn read(message: &Message, registry: Option<&Registry>) -> Result<Result<Published, Unreadable>, reqwest::Error> {
    let body = message.body.as_slice();
    if body.is_empty() || body.len() > BODY_MAX_BYTES {
        let reason = format!("the message has {} bytes; 1 to {BODY_MAX_BYTES} are read", body.len());
        return Ok(Err(unreadable("size", reason)));
    }
    let content = header(message, "content-type").unwrap_or_default();
    if content.starts_with("application/cloudevents+json") || (content.is_empty() && body.starts_with(b"{")) {
        return Ok(structured(body));
    }
    if let Some(kind) = header(message, "ce_type") {
        return Ok(data(kind, content, body));
    }
    if body[0] == 0 {
        let Some(registry) = registry else {
            let reason =
                "the message begins with Confluent's magic byte 0, but no schema registry is configured: set --schema-registry URL, or publish plain protobuf";
            return Ok(Err(unreadable("no_registry", reason)));
        };
        return confluent(body, registry).await;
    }
    let name = header(message, "message-type").unwrap_or("loyalty.v1.Purchase");
    Ok(protobuf(name, body))
}

fn protobuf(name: &str, body: &[u8]) -> Result<Published, Unreadable> {
    let code = if matches!(body.first(), Some(1..=7)) { "magic_byte" } else { "malformed" };
    Published::decode(name, body).map_err(|error| {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        unreadable(code, format!("as {name}: {error}{cause}"))
    })
}

async fn confluent(body: &[u8], registry: &Registry) -> Result<Result<Published, Unreadable>, reqwest::Error> {
    let Some((id, rest)) = body[1..].split_first_chunk::<4>() else {
        return Ok(Err(unreadable("malformed", "the message ends before its schema id")));
    };
    let id = u32::from_be_bytes(*id);
    let Some((path, rest)) = message_path(rest) else {
        return Ok(Err(unreadable("malformed", "the message ends before the path of its type")));
    };
    Ok(match registry.message_name(id, path).await? {
        Ok(name) => protobuf(&name, rest),
        Err(why) => Err(unreadable("unknown_schema", why)),
    })
}

/// The index of a message at the top of its schema: zigzag varints, their number first; a single 0 stands for the first message.
fn message_path(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (count, rest) = zigzag(bytes)?;
    match count {
        0 => Some((0, rest)),
        1 => {
            let (index, rest) = zigzag(rest)?;
            Some((usize::try_from(index).ok()?, rest))
        }
        // A type within a type: none of ours is.
        _ => None,
    }
}

fn zigzag(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let mut value = 0_u64;
    for (n, byte) in bytes.iter().take(9).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * n);
        if byte & 0x80 == 0 {
            let magnitude = i64::try_from(value >> 1).ok()?;
            return Some((if value & 1 == 0 { magnitude } else { -magnitude - 1 }, &bytes[n + 1..]));
        }
    }
    None
}

fn structured(body: &[u8]) -> Result<Published, Unreadable> {
    let event: Value = serde_json::from_slice(body).map_err(|error| unreadable("malformed", format!("not JSON: {error}")))?;
    let text = |name: &str| event.get(name).and_then(Value::as_str).unwrap_or_default();
    if text("specversion") != "1.0" {
        return Err(unreadable("malformed", format!("/specversion: {:?} is wrong: \"1.0\" (CloudEvents)", text("specversion"))));
    }
    let data = event.get("data").ok_or_else(|| unreadable("malformed", "/data is missing: the purchase or return"))?;
    json(text("type"), data.clone())
}

fn data(kind: &str, content: &str, body: &[u8]) -> Result<Published, Unreadable> {
    if content.starts_with("application/json") {
        let value = serde_json::from_slice(body).map_err(|error| unreadable("malformed", format!("not JSON: {error}")))?;
        return json(kind, value);
    }
    protobuf(kind, body)
}

/// The API's body of a purchase or return, with `program` and one of `account_id`, `card` and `member`.
fn json(kind: &str, mut data: Value) -> Result<Published, Unreadable> {
    let is_return = match kind {
        "loyalty.v1.Purchase" => false,
        "loyalty.v1.PurchaseReturn" => true,
        other => return Err(unreadable("malformed", format!("/type: {other:?} is wrong: loyalty.v1.Purchase or loyalty.v1.PurchaseReturn"))),
    };
    let Some(fields) = data.as_object_mut() else { return Err(unreadable("malformed", "/data is no object")) };
    if fields.contains_key("return_id") != is_return {
        return Err(unreadable("malformed", format!("/data/return_id does not fit type {kind}")));
    }
    if fields.contains_key("refund_id") {
        return Err(unreadable("malformed", format!("/data/refund_id does not fit type {kind}")));
    }
    let mut take = |name: &str| fields.remove(name).and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default();
    let (program, account, card, member) = (take("program"), take("account_id"), take("card"), take("member"));
    let wrong = |error: String| unreadable("malformed", error);
    let program = Id::parse(&program).map_err(|error| wrong(format!("/data/program: {error}")))?;
    let whose = Whose::one_of(&account, &card, &member).map_err(|error| wrong(error.to_string()))?;
    // The body is read as the API's; whose it is stands beside it.
    fields.insert("account_id".into(), Value::from("unknown"));
    let (_, command) = read_command(&serde_json::to_vec(&data).unwrap_or_default(), ACTOR).map_err(|invalid| wrong(invalid.to_string()))?;
    Ok(Published { program, whose, id: command.id, action: command.action })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_a_message_is_read_as_confluent_writes_it() {
        assert_eq!(message_path(&[0, 9]), Some((0, &[9][..])));
        assert_eq!(message_path(&[2, 4, 9]), Some((2, &[9][..])));
        assert_eq!(message_path(&[2, 0x80, 2, 9]), Some((128, &[9][..])));
        assert_eq!(message_path(&[4, 0, 0]), None, "a type within a type");
        assert_eq!(message_path(&[2]), None);
        assert_eq!(message_path(&[2, 1]), None, "no index is below 0");
    }
}

/// Messages that nobody meant: each is refused in words, or read as a command that can be checked; none ends the reader.
#[cfg(test)]
mod fuzz {
    use proptest::prelude::*;

    use ledger_core::account::command::Action;
    use ledger_core::points::Amount;

    use super::{data, message_path, protobuf, structured};

    const PURCHASE: &str = r#"{"specversion":"1.0","type":"loyalty.v1.Purchase","source":"s","id":"1","data":{"program":"shop","account_id":"m1","purchase_id":"p1",
        "occurred_at":"2010-01-01T00:00:00Z","currency":"GBP","channel":"web","store":"s1","lines":[{"line_id":"1","sku":"A","category":"c",
        "quantity":"1.5","unit_price":"2.50","discount":"0","tax":"0"}]}}"#;
    const RETURN: &str = r#"{"specversion":"1.0","type":"loyalty.v1.PurchaseReturn","source":"s","id":"2","data":{"program":"shop","card":"4711","return_id":"r1",
        "purchase_id":"p1","occurred_at":"2010-01-01T00:00:00Z","amount":"1.00"}}"#;
    const KINDS: [&str; 3] = ["loyalty.v1.Purchase", "loyalty.v1.PurchaseReturn", "other"];

    /// A good message with some bytes changed, left out, put in or cut off; or any bytes.
    fn mangled() -> impl Strategy<Value = Vec<u8>> {
        let edit = (any::<prop::sample::Index>(), 0..4_u8, prop_oneof![Just(b'"'), Just(b'{'), Just(b'9'), Just(b'-'), any::<u8>()]);
        let edited = (prop::sample::select(vec![PURCHASE, RETURN]), prop::collection::vec(edit, 0..4)).prop_map(|(text, edits)| {
            let mut bytes = text.as_bytes().to_vec();
            for (at, kind, byte) in edits {
                let at = at.index(bytes.len().max(1));
                match kind {
                    0 if !bytes.is_empty() => bytes[at] = byte,
                    1 if !bytes.is_empty() => drop(bytes.remove(at)),
                    2 => bytes.truncate(at),
                    _ => bytes.insert(at, byte),
                }
            }
            bytes
        });
        prop_oneof![4 => edited, 1 => prop::collection::vec(any::<u8>(), 0..300)]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_message_is_read_or_refused_in_words(body in mangled(), kind in prop::sample::select(KINDS.to_vec()), is_json in any::<bool>()) {
            let content = if is_json { "application/json" } else { "application/protobuf" };
            let of_kind = [data(kind, content, &body), protobuf(kind, &body)];
            prop_assert!(KINDS[..2].contains(&kind) || of_kind.iter().all(Result::is_err), "{of_kind:?}");
            for why in of_kind.into_iter().chain([structured(&body)]).filter_map(Result::err) {
                prop_assert!(!why.code.is_empty() && !why.reason.is_empty());
            }
            if let Some((_, rest)) = message_path(&body) {
                prop_assert!(rest.len() < body.len());
            }
        }
    }

    #[test]
    fn what_is_not_mangled_is_read() {
        assert!(structured(PURCHASE.as_bytes()).is_ok() && structured(RETURN.as_bytes()).is_ok());
        let amount = |text: &str| Amount::parse(text);
        let charged = structured(PURCHASE.replace(r#""tax":"0""#, r#""tax":"0","amount":"3.75""#).as_bytes()).unwrap().action;
        assert!(matches!(charged, Action::Earn(purchase) if purchase.lines[0].amount == amount("3.75")));
        let refund = structured(RETURN.replace(r#""amount":"1.00""#, r#""amount":"1.00","shipping":"0.40""#).as_bytes()).unwrap().action;
        assert!(matches!(refund, Action::Return(body) if body.shipping == amount("0.40")));
    }
}
