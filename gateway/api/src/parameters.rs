//! Reading paths and queries strictly: what is wrong is named by its parameter, as in bodies.

use axum::extract::{self, FromRequestParts};
use axum::http::request::Parts;
use ledger_core::text::hidden;
use serde::de::DeserializeOwned;

use crate::problem::Problem;

/// What a path names.
pub(crate) struct Path<T>(pub(crate) T);

/// What is asked after the `?`.
pub(crate) struct Query<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match extract::Path::from_request_parts(parts, state).await {
            Ok(extract::Path(found)) => Ok(Self(found)),
            Err(rejection) => Err(Problem::parameter("path", parts.uri.path(), &rejection.body_text())),
        }
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        read(parts.uri.query().unwrap_or_default()).map(Self)
    }
}

fn read<T: DeserializeOwned>(query: &str) -> Result<T, Problem> {
    let pairs = form_urlencoded::parse(query.as_bytes());
    // Nothing that is kept has such a character, and the database takes no NUL in a text.
    if let Some((key, value)) = pairs.clone().find(|(key, value)| hidden(key).or_else(|| hidden(value)).is_some()) {
        return Err(Problem::parameter(&key, &value, "text without control characters (such as %00) or others that can't be seen"));
    }
    serde_path_to_error::deserialize(serde_urlencoded::Deserializer::new(pairs)).map_err(|error| {
        let (path, why) = (error.path().to_string(), error.inner().to_string());
        // What is missing has no path; serde quotes its name.
        let name = if path == "." { why.split('`').nth(1).unwrap_or("query") } else { &path };
        let value = pairs.filter(|(key, _)| key == name).last().map(|(_, value)| value.into_owned()).unwrap_or_default();
        let expected = if why.contains("invalid digit") || why.contains("number too large") { "a whole number in range" } else { &why };
        Problem::parameter(name, &value, expected)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Asked {
        from: String,
        limit: Option<u32>,
    }

    #[test]
    fn what_is_wrong_is_named_with_its_value_and_what_would_be_right() {
        assert_eq!(read::<Asked>("from=2010%2D01&limit=5").unwrap(), Asked { from: "2010-01".into(), limit: Some(5) });
        let told = |query: &str| {
            let problem = read::<Asked>(query).unwrap_err();
            let error = problem.errors[0].clone();
            (problem.code, error.pointer, error.value, error.expected)
        };
        let malformed = |pointer: &str, value: &str, expected: &str| ("malformed".to_owned(), pointer.to_owned(), value.to_owned(), expected.to_owned());
        assert_eq!(told("limit=5"), malformed("from", "", "missing field `from`"));
        assert_eq!(told("from=a&limit=many"), malformed("limit", "many", "a whole number in range"));
        assert_eq!(told("from=a&limit=99999999999"), malformed("limit", "99999999999", "a whole number in range"));
        assert_eq!(told("form=a"), malformed("form", "a", "unknown field `form`, expected `from` or `limit`"));
        let visible = "text without control characters (such as %00) or others that can't be seen";
        assert_eq!(told("from=a%00"), malformed("from", "a\0", visible));
        assert_eq!(told("from=a%E2%80%AEb"), malformed("from", "a\u{202e}b", visible));
        assert_eq!(told("from=a&from=b"), malformed("from", "b", "duplicate field `from`"));
    }
}
