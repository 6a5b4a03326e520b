//! What is kept of a message that can't be booked: without the card or member number that it names, whatever form it has.

use std::sync::LazyLock;

use ledger_core::id::Id;
use ledger_schemas::v1;
use prost::Message as _;
use regex::bytes::{Captures, Regex};

/// What of a message may be kept and shown.
#[derive(Debug, PartialEq)]
pub(crate) struct Masked {
    /// Its bytes; as many as it had.
    pub(crate) body: Vec<u8>,
    /// Why it is kept.
    pub(crate) reason: String,
    /// Its program, as far as that can be read.
    pub(crate) program: Option<Id>,
}

/// The value of a JSON field that is called after a card or a member, to its end or the message's.
static NAMED: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r#"(?i-u)("[^"]*(?:card|member)[^"]*"\s*:\s*"?)((?:[^"\\,}]|\\.)+)"#).expect("the expression is right"));
/// What looks like a number of a payment card (ISO/IEC 7812): 12 to 19 digits, in groups or not.
static DIGITS: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(?-u)[0-9](?:[ -]?[0-9]){11,}").expect("the expression is right"));
static PROGRAM: LazyLock<Regex> = LazyLock::new(|| Regex::new(r#"(?-u)"program"\s*:\s*"([A-Za-z0-9._:-]{1,64})""#).expect("the expression is right"));

/// Where protobuf may begin: at once, or behind Confluent's magic byte, schema id and the path of the message.
const BEGINNINGS: [usize; 4] = [0, 6, 7, 8];
/// A shorter name is in too much else to be looked for everywhere.
const NAME_BYTES_MIN: usize = 3;

pub(crate) fn mask(body: &[u8], reason: &str) -> Masked {
    let (mut names, mut program) = (Vec::new(), None);
    if let Some(found) = PROGRAM.captures(body) {
        program = std::str::from_utf8(&found[1]).ok().and_then(|text| Id::parse(text).ok());
    }
    names.extend(NAMED.captures_iter(body).map(|found| found[2].to_vec()));
    for rest in BEGINNINGS.iter().filter_map(|at| body.get(*at..)) {
        let purchase = v1::Purchase::decode(rest).map(|message| (message.program, message.card, message.member));
        let back = v1::PurchaseReturn::decode(rest).map(|message| (message.program, message.card, message.member));
        for (of, card, member) in [purchase, back].into_iter().flatten() {
            program = program.or_else(|| Id::parse(&of).ok());
            names.extend([card.into_bytes(), member.into_bytes()]);
        }
    }
    names.retain(|name| name.len() >= NAME_BYTES_MIN);
    let hide = |text: &[u8]| {
        let stars = |found: &Captures<'_>| vec![b'*'; found[0].len()];
        let mut text = NAMED.replace_all(text, |found: &Captures<'_>| [&found[1], &vec![b'*'; found[2].len()]].concat()).into_owned();
        text = DIGITS.replace_all(&text, stars).into_owned();
        names.iter().for_each(|name| overwrite(&mut text, name));
        text
    };
    Masked { body: hide(body), reason: String::from_utf8_lossy(&hide(reason.as_bytes())).into_owned(), program }
}

/// Writes stars over each place where `name` is.
fn overwrite(text: &mut [u8], name: &[u8]) {
    let mut at = 0;
    while let Some(place) = text.get_mut(at..at + name.len()) {
        if place == name {
            place.fill(b'*');
        }
        at += 1;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;

    fn masked(body: &str) -> String {
        String::from_utf8(mask(body.as_bytes(), "").body).unwrap()
    }

    #[test]
    fn a_number_is_hidden_in_json_that_can_be_read_or_not() {
        assert_eq!(masked(r#"{"data":{"program":"shop","card":"4711-0815"}}"#), r#"{"data":{"program":"shop","card":"*********"}}"#);
        assert_eq!(masked(r#"{"card" : 4711, "a": 1}"#), r#"{"card" : ****, "a": 1}"#);
        assert_eq!(masked(r#"{"Member_no":"a\"b","x":"y"}"#), r#"{"Member_no":"****","x":"y"}"#);
        assert_eq!(masked(r#"{"card":"4711 08"#), r#"{"card":"*******"#);
        assert_eq!(masked("paid by 4111 1111-1111 1111, 2010-01-01"), "paid by *******************, 2010-01-01");
    }

    #[test]
    fn a_number_is_hidden_in_protobuf_and_in_the_reason() {
        let message = v1::Purchase { program: "shop".into(), card: "CARD-123".into(), purchase_id: "p1".into(), ..v1::Purchase::default() };
        for frame in [&[][..], &[0, 0, 0, 0, 9, 0], &[0, 0, 0, 0, 9, 2, 0]] {
            let body = [frame, &message.encode_to_vec()].concat();
            let masked = mask(&body, "the account of CARD-123 is closed");
            assert_eq!(masked.program.unwrap().as_str(), "shop");
            assert_eq!((masked.body.len(), masked.reason.as_str()), (body.len(), "the account of ******** is closed"));
            assert!(!masked.body.windows(8).any(|bytes| bytes == b"CARD-123") && masked.body.windows(2).any(|bytes| bytes == b"p1"));
        }
    }
}
