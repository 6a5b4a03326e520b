//! Reading JSON from outside: what is wrong is named by its pointer, with its value and what would be right.

use ledger_core::policy::Invalid;
use serde::de::DeserializeOwned;

/// Reads one JSON document, whole.
///
/// # Errors
/// The first field that is wrong.
pub fn read_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Invalid> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| shape_error(bytes, &error))?;
    json.end().map_err(|error| Invalid::new("", "the document", error.to_string()))?;
    Ok(value)
}

fn shape_error(bytes: &[u8], error: &serde_path_to_error::Error<serde_json::Error>) -> Invalid {
    let mut pointer = String::new();
    for segment in error.path() {
        match segment {
            serde_path_to_error::Segment::Seq { index } => pointer.push_str(&format!("/{index}")),
            serde_path_to_error::Segment::Map { key } => pointer.push_str(&format!("/{}", key.replace('~', "~0").replace('/', "~1"))),
            serde_path_to_error::Segment::Enum { .. } | serde_path_to_error::Segment::Unknown => {}
        }
    }
    let document: Option<serde_json::Value> = serde_json::from_slice(bytes).ok();
    let value = document.as_ref().and_then(|document| document.pointer(&pointer));
    let value = value.map_or_else(|| "the document".to_owned(), |value| value.to_string().chars().take(120).collect());
    Invalid { pointer, value, expected: error.inner().to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_the_document_is_refused() {
        assert_eq!(read_json::<Vec<u8>>(b"[1, 2]").unwrap(), [1, 2]);
        let invalid = read_json::<Vec<u8>>(b"[1, 2] x").unwrap_err();
        assert!(invalid.to_string().contains("trailing characters"), "{invalid}");
        assert_eq!(read_json::<Vec<u8>>(b"[1, 900]").unwrap_err().pointer, "/1");
    }
}
