//! Reading JSON bodies strictly: what is wrong is named by its JSON pointer.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use serde::de::DeserializeOwned;

use crate::problem::{FieldError, Problem};

/// The largest body that is read.
pub(crate) const BODY_MAX_BYTES: usize = 4 << 20;

/// How long a body may take to come.
const BODY_WITHIN: Duration = Duration::from_secs(30);

/// A JSON body.
pub(crate) struct Body<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let read = tokio::time::timeout(BODY_WITHIN, Bytes::from_request(request, state)).await;
        let read = read.map_err(|_| Problem::retry("too_slow", &format!("the body did not come within {} s", BODY_WITHIN.as_secs())))?;
        let bytes = read.map_err(|error| {
            let code = if error.status() == StatusCode::PAYLOAD_TOO_LARGE { "too_large" } else { "malformed" };
            let expected = format!("a JSON body of at most {BODY_MAX_BYTES} bytes");
            Problem::of_field(code, FieldError { pointer: String::new(), value: error.to_string(), expected })
        })?;
        parse(&bytes).map(Self)
    }
}

/// Reads JSON; an error names the field by its pointer.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    command_service::read_json(bytes).map_err(|invalid| Problem::malformed(vec![invalid.into()]))
}
