//! The answers that routes share, for the API's description. The problems stand in the document once, by status, with the codes that come with it.

use std::collections::BTreeMap;

use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{ContentBuilder, Ref, RefOr};
use utoipa::{IntoResponses, ToSchema};

use crate::answer::Accepted;
use crate::problem::{CODES, Problem};

/// Status and name of each problem response.
const PROBLEMS: [(u16, &str); 12] = [
    (400, "BadRequest"),
    (401, "Unauthorized"),
    (403, "Forbidden"),
    (404, "NotFound"),
    (408, "RequestTimeout"),
    (409, "Conflict"),
    (413, "ContentTooLarge"),
    (415, "UnsupportedMediaType"),
    (421, "MisdirectedRequest"),
    (422, "UnprocessableContent"),
    (429, "TooManyRequests"),
    (503, "ServiceUnavailable"),
];

/// Answers of a request that needs no key.
pub(crate) struct OpenProblems;

/// Answers of a request for what need not be there.
pub(crate) struct UnknownProblem;

/// What every read may answer beside 200.
pub(crate) struct ReadProblems;

/// What every request with a body may answer beside 200 and 201.
pub(crate) struct BodyProblems;

/// What every command may answer.
pub(crate) struct CommandResponses;

type Responses = BTreeMap<String, RefOr<Response>>;

fn problems(statuses: &[u16]) -> Responses {
    let of = |(status, name): &(u16, &str)| (status.to_string(), RefOr::Ref(Ref::from_response_name(*name)));
    PROBLEMS.iter().filter(|(status, _)| statuses.contains(status)).map(of).collect()
}

impl IntoResponses for OpenProblems {
    fn responses() -> Responses {
        problems(&[400, 403, 421, 503])
    }
}

impl IntoResponses for UnknownProblem {
    fn responses() -> Responses {
        problems(&[404])
    }
}

impl IntoResponses for ReadProblems {
    fn responses() -> Responses {
        problems(&[400, 401, 403, 404, 421, 503])
    }
}

impl IntoResponses for BodyProblems {
    fn responses() -> Responses {
        problems(&PROBLEMS.map(|(status, _)| status))
    }
}

impl IntoResponses for CommandResponses {
    fn responses() -> Responses {
        let text = || ObjectBuilder::new().schema_type(Type::String).enum_values(Some(["true"])).build();
        let accepted = |description: &str| {
            let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(Accepted::name()))).build();
            ResponseBuilder::new().description(description).content("application/json", content)
        };
        let again = accepted("The command was booked before under the same id with the same content: the first answer again.");
        let again = again.header("idempotent-replayed", HeaderBuilder::new().schema(Some(text())).description(Some("Always there.")).build());
        let booked = accepted("The command is booked: its record is on the log.");
        let mut responses = BodyProblems::responses();
        responses.extend([("200".into(), RefOr::T(again.build())), ("201".into(), RefOr::T(booked.build()))]);
        responses
    }
}

/// The problem responses, by name.
pub(crate) fn problem_responses() -> impl Iterator<Item = (String, Response)> {
    PROBLEMS.iter().map(|(status, name)| ((*name).to_owned(), problem_response(*status)))
}

fn problem_response(status: u16) -> Response {
    let codes: Vec<_> = CODES.iter().filter(|code| code.status == status).collect();
    let example = codes.first().map(|code| serde_json::to_value(Problem::new(code.code, code.meaning)).unwrap_or_default());
    let description = codes.iter().map(|code| format!("- `{}`: {}\n", code.code, code.meaning)).collect::<String>();
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(Problem::name()))).example(example).build();
    let response = ResponseBuilder::new().description(description.trim_end()).content("application/problem+json", content);
    if matches!(status, 408 | 429 | 503) {
        let seconds = ObjectBuilder::new().schema_type(Type::Integer).build();
        let retry = HeaderBuilder::new().schema(Some(seconds)).description(Some("After how many seconds to try again, where that helps.")).build();
        return response.header("Retry-After", retry).build();
    }
    response.build()
}
