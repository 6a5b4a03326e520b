//! Reading JSON bodies strictly: what is wrong is named by its JSON pointer.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use serde::de::DeserializeOwned;

use crate::problem::{FieldError, Problem};

/// The largest body that is read.
pub(crate) const BODY_MAX_BYTES: usize = 4 << 20;

/// A JSON body.
pub(crate) struct Body<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let bytes = Bytes::from_request(request, state).await.map_err(|error| {
            let expected = format!("a JSON body of at most {BODY_MAX_BYTES} bytes");
            Problem::malformed(vec![FieldError { pointer: String::new(), value: error.to_string(), expected }])
        })?;
        parse(&bytes).map(Self)
    }
}

/// Reads JSON; an error names the field by its pointer.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let mut pointer = String::new();
        for segment in error.path() {
            match segment {
                serde_path_to_error::Segment::Seq { index } => pointer.push_str(&format!("/{index}")),
                serde_path_to_error::Segment::Map { key } => pointer.push_str(&format!("/{}", key.replace('~', "~0").replace('/', "~1"))),
                serde_path_to_error::Segment::Enum { .. } | serde_path_to_error::Segment::Unknown => {}
            }
        }
        let document: Option<serde_json::Value> = serde_json::from_slice(bytes).ok();
        let value = document.as_ref().and_then(|document| document.pointer(&pointer)).map_or_else(String::new, ToString::to_string);
        let value = value.chars().take(120).collect();
        Problem::malformed(vec![FieldError { pointer, value, expected: error.inner().to_string() }])
    })?;
    json.end().map_err(|error| Problem::malformed(vec![FieldError { pointer: String::new(), value: "the body".into(), expected: error.to_string() }]))?;
    Ok(value)
}
