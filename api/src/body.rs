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
    command_service::read_json(bytes).map_err(|invalid| Problem::malformed(vec![invalid.into()]))
}
