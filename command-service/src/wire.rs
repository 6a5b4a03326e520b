//! Answers as they go over the log, and back.

use event_log::{Partition, Position};
use ledger_core::id::Id;
use ledger_core::policy::Invalid;
use ledger_schemas::v1;

use crate::request::{Answer, Refusal};

pub(crate) fn accepted(partition: Partition, position: Position, replayed: bool) -> v1::reply::Kind {
    v1::reply::Kind::Accepted(v1::Accepted { partition: partition.into(), position, replayed })
}

pub(crate) fn told(outcome: &Result<Answer, Refusal>) -> v1::reply::Kind {
    match outcome {
        Ok(answer) => accepted(answer.partition, answer.position, answer.replayed),
        Err(refusal) => refused(refusal),
    }
}

/// How many things that are wrong are told, and how much of each: a document may be wrong in as many places as it has.
const ERRORS_MAX: usize = 100;
const ERROR_CHARS_MAX: usize = 500;

fn short(text: &str) -> String {
    text.chars().take(ERROR_CHARS_MAX).collect()
}

pub(crate) fn refused(refusal: &Refusal) -> v1::reply::Kind {
    let number = match refusal {
        Refusal::Rejected(rejection) => rejection.number(),
        Refusal::Told { number, .. } => *number,
        _ => 0,
    };
    let errors = match refusal {
        Refusal::Invalid(errors) => errors.as_slice(),
        _ => &[],
    };
    let error = |error: &Invalid| v1::FieldError { pointer: short(&error.pointer), value: short(&error.value), expected: short(&error.expected) };
    v1::reply::Kind::Refused(v1::Refused {
        code: refusal.code().to_owned(),
        number: number.into(),
        detail: refusal.to_string(),
        errors: errors.iter().take(ERRORS_MAX).map(error).collect(),
    })
}

/// What another process refused about `program`.
pub(crate) fn refusal(refused: v1::Refused, program: &Id) -> Refusal {
    let v1::Refused { code, number, detail, errors } = refused;
    match code.as_str() {
        "malformed" if errors.is_empty() => Refusal::Unusable(detail),
        "malformed" => Refusal::Invalid(errors.into_iter().map(|error| Invalid::new(error.pointer, error.value, error.expected)).collect()),
        "program_not_found" => Refusal::ProgramNotFound(program.clone()),
        "clock" => Refusal::Clock(detail),
        "too_many_requests" => Refusal::Busy,
        "outcome_unknown" => Refusal::OutcomeUnknown,
        "other_alias_key" => Refusal::OtherAliasKey,
        _ => Refusal::Told { number: u8::try_from(number).unwrap_or_default(), code, detail },
    }
}
