//! Errors, as RFC 9457 problem details with a stable `code`.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use command_service::Refusal;
use ledger_core::account::Rejection;
use ledger_core::id::Id;
use ledger_core::policy::Invalid;
use serde::Serialize;
use utoipa::ToSchema;

/// One field that is wrong.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct FieldError {
    /// JSON pointer (RFC 6901) into the body.
    pub pointer: String,
    /// What is there.
    pub value: String,
    /// What would be right.
    pub expected: String,
}

impl From<Invalid> for FieldError {
    fn from(invalid: Invalid) -> Self {
        Self { pointer: invalid.pointer, value: invalid.value, expected: invalid.expected }
    }
}

/// An error.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Problem {
    /// A page about the code, relative to the API.
    #[serde(rename = "type")]
    pub kind: String,
    /// The code in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// The stable code.
    pub code: String,
    /// What is wrong this time.
    pub detail: String,
    /// The rejection's number; of several that apply the lowest is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<u8>,
    /// The fields that are wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    #[serde(skip)]
    retry_after: Option<u32>,
}

/// A code and what it means.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub struct Code {
    /// The stable code.
    pub code: &'static str,
    /// The HTTP status it comes with.
    pub status: u16,
    /// What it means and what to do.
    pub meaning: &'static str,
}

/// All codes.
pub const CODES: &[Code] = &[
    Code {
        code: "malformed",
        status: 400,
        meaning: "The body or a parameter is not of the right form; errors names each field, its value and what would be right.",
    },
    Code {
        code: "too_large",
        status: 413,
        meaning: "The body, the record that would be made of it, or the answer has more bytes than it may have (docs/limits.md). Nothing was done.",
    },
    Code {
        code: "account_full",
        status: 422,
        meaning: "The account has as many lots, purchases, lines of purchases, redemptions or holds as it may have (docs/limits.md). Nothing was done; what takes away from it goes on.",
    },
    Code {
        code: "too_many_conditions",
        status: 422,
        meaning: "The purchase has so many lines, and the rulebook so many bonuses, that all others would wait for it (docs/limits.md). Nothing was done. Send it in parts, or let conditions begin with a comparison such as line.sku == '…' &&.",
    },
    Code {
        code: "unsupported_media_type",
        status: 415,
        meaning: "Bodies are JSON: send Content-Type: application/json. A form, which a page of somebody else could send, is not read.",
    },
    Code {
        code: "too_slow",
        status: 408,
        meaning: "The body did not come within the time that it may take. Nothing was done. Send it again with the same id.",
    },
    Code {
        code: "host_not_served",
        status: 421,
        meaning: "The service is not known under the host name that the request was sent to. Name its address when it is started: --public-url https://HOST.",
    },
    Code {
        code: "origin_refused",
        status: 403,
        meaning: "The request was sent by a web page of another origin. The service takes those of its own and of --public-url.",
    },
    Code { code: "unauthorized", status: 401, meaning: "The API key is missing or unknown. Send Authorization: Bearer KEY." },
    Code { code: "forbidden", status: 403, meaning: "The API key lacks the scope." },
    Code { code: "not_found", status: 404, meaning: "There is no such resource." },
    Code { code: "method_not_allowed", status: 405, meaning: "The path takes other methods; Allow names them." },
    Code { code: "program_not_found", status: 404, meaning: "No rulebook was published for the program." },
    Code { code: "account_not_found", status: 404, meaning: "The account was never opened." },
    Code { code: "command_not_found", status: 404, meaning: "The account has no accepted command with this id." },
    Code { code: "purchase_not_found", status: 404, meaning: "The account has no such purchase." },
    Code { code: "redemption_not_found", status: 404, meaning: "The account has no such redemption." },
    Code { code: "case_not_found", status: 404, meaning: "There is no such case of suspected fraud." },
    Code {
        code: "reference_not_found",
        status: 404,
        meaning: "No account has a purchase, redemption, return or adjustment of this id, or it is not in the read model `fraud` yet.",
    },
    Code {
        code: "reference_ambiguous",
        status: 409,
        meaning: "Several accounts, or several things of one account, have this id. Nothing was done. Send account_id, and kind where it is needed.",
    },
    Code { code: "not_assessed", status: 404, meaning: "The member has no standing yet: run `loyalty decline assess`, or wait for the next one." },
    Code { code: "action_not_found", status: 404, meaning: "The rulebook in force has no such action." },
    Code { code: "account_exists", status: 409, meaning: "The account was opened before." },
    Code {
        code: "id_reused",
        status: 409,
        meaning: "The id was used before with other content. Nothing was done. Choose an id of its own for each purchase, redemption, return and adjustment.",
    },
    Code { code: "clock", status: 409, meaning: "A clock can be set in a sandbox program only, and only forwards." },
    Code { code: "no_rulebook_in_force", status: 422, meaning: "No version of the rulebook was in force when it occurred." },
    Code { code: "account_closed", status: 422, meaning: "The account is closed; it takes nothing any more." },
    Code { code: "account_frozen", status: 422, meaning: "The account is frozen; unfreeze it first." },
    Code { code: "account_pending", status: 422, meaning: "The account can't spend before it is activated." },
    Code { code: "account_not_frozen", status: 422, meaning: "Only a frozen account can be unfrozen." },
    Code { code: "account_not_pending", status: 422, meaning: "Only a pending account can be activated." },
    Code { code: "occurred_in_future", status: 422, meaning: "occurred_at lies more than five minutes ahead of the program's clock." },
    Code {
        code: "told_too_late",
        status: 422,
        meaning: "The redemption occurred longer ago than the rulebook's redeem.offline_minutes; without that, none may be told later.",
    },
    Code { code: "currency_mismatch", status: 422, meaning: "The purchase is in another currency than the program." },
    Code { code: "amount_too_large", status: 422, meaning: "The amounts have more digits than can be rated exactly." },
    Code { code: "hold_not_found", status: 422, meaning: "The redemption holds no points: it was captured, released, lapsed, or never was a hold." },
    Code { code: "outside_return_window", status: 422, meaning: "The time for returning it is over." },
    Code { code: "return_before_purchase", status: 422, meaning: "The return occurred before the purchase." },
    Code { code: "line_not_found", status: 422, meaning: "The purchase has no such line." },
    Code { code: "return_exceeds_purchase", status: 422, meaning: "More is given back than was bought and kept, or paid for goods and shipping." },
    Code {
        code: "refund_unmatched",
        status: 422,
        meaning: "The refund names no purchase of the account, and the rulebook refuses such refunds (return.unmatched).",
    },
    Code { code: "amount_too_fine", status: 422, meaning: "The refund has more decimals than the purchase's currency can pay." },
    Code { code: "return_exceeds_redemption", status: 422, meaning: "More points are given back than the redemption spent." },
    Code { code: "capture_exceeds_hold", status: 422, meaning: "More points are captured than are held." },
    Code { code: "below_minimum", status: 422, meaning: "Fewer points than the rulebook lets one redemption take." },
    Code { code: "not_a_multiple", status: 422, meaning: "Redemptions come in multiples that the rulebook names." },
    Code { code: "insufficient_points", status: 422, meaning: "Fewer points are available." },
    Code { code: "balance_not_zero", status: 422, meaning: "The rulebook lets no account with points be closed." },
    Code { code: "proposal_not_found", status: 404, meaning: "The account has no such proposal that waits: it was approved or declined, or never made." },
    Code { code: "approval_by_maker", status: 403, meaning: "Who made a proposal can't approve it: somebody else must, with a key of their own." },
    Code { code: "approval_required", status: 422, meaning: "So many points take two people: propose the adjustment, and let somebody else approve it." },
    Code { code: "too_many_proposals", status: 422, meaning: "As many proposals of the account wait as may; approve or decline one first." },
    Code { code: "period_closed", status: 409, meaning: "The period is closed; a closed period never changes. What comes late goes into the next open one." },
    Code {
        code: "period_before_first",
        status: 409,
        meaning: "A later period was closed first, and its opening figures with it: those before it are never closed.",
    },
    Code { code: "period_not_next", status: 409, meaning: "Periods are closed in turn: close the one before it first." },
    Code { code: "period_not_over", status: 422, meaning: "The period is not over by the program's clock." },
    Code { code: "closing_not_found", status: 404, meaning: "Nobody has proposed to close the period." },
    Code {
        code: "figures_changed",
        status: 409,
        meaning: "The period's figures are no longer those that were proposed, since a rulebook was published or changed meanwhile: propose to close it again.",
    },
    Code { code: "alias_exists", status: 422, meaning: "The account has this alias already." },
    Code { code: "alias_not_found", status: 404, meaning: "The account has no such alias." },
    Code {
        code: "other_alias_key",
        status: 503,
        meaning: "This process hashes cards and member references by another key than the book's: it was started with the wrong alias.key. Nothing was done.",
    },
    Code { code: "too_many_aliases", status: 422, meaning: "The account has as many aliases as it may have; remove one first." },
    Code {
        code: "account_stopped",
        status: 503,
        meaning: "The account's record can't be read by this version, which may be older than the one that wrote it, or it does not follow the one before it. Nothing was done. Update the service, or have the book verified; until then all other accounts go on.",
    },
    Code { code: "too_many_requests", status: 429, meaning: "Too much is waiting; nothing was done. Try again after Retry-After." },
    Code { code: "unavailable", status: 503, meaning: "The database does not answer. Try again." },
    Code {
        code: "outcome_unknown",
        status: 503,
        meaning: "The log failed in the middle, or whoever has the account did not answer in time: whether the command was booked, or still will be, is unknown. Send it again with the same id; that is safe.",
    },
    Code { code: "not_yet_visible", status: 503, meaning: "The read model has not reached min_position yet. Try again after Retry-After." },
];

/// How much of a wrong value an answer says again.
const ECHO_MAX_CHARS: usize = 120;

fn status_of(code: &str) -> u16 {
    CODES.iter().find(|entry| entry.code == code).map_or(500, |entry| entry.status)
}

/// An answer need not say again all that was sent.
fn shortened(value: String) -> String {
    if value.chars().count() <= ECHO_MAX_CHARS { value } else { value.chars().take(ECHO_MAX_CHARS).chain(['…']).collect() }
}

impl Problem {
    pub(crate) fn new(code: &str, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("/problems/{code}"),
            title: code.replace('_', " "),
            status: status_of(code),
            code: code.to_owned(),
            detail: detail.into(),
            number: None,
            errors: Vec::new(),
            retry_after: None,
        }
    }

    pub(crate) fn malformed(errors: Vec<FieldError>) -> Self {
        let short = |error: FieldError| FieldError { value: shortened(error.value), ..error };
        let errors: Vec<FieldError> = errors.into_iter().map(short).collect();
        let detail = errors.first().map_or_else(String::new, |error| format!("{}: {} is wrong: {}", error.pointer, error.value, error.expected));
        Self { errors, ..Self::new("malformed", detail) }
    }

    /// One thing that is wrong with a request beside its body, such as a header.
    pub(crate) fn of_field(code: &str, error: FieldError) -> Self {
        let Self { detail, errors, .. } = Self::malformed(vec![error]);
        Self { errors, ..Self::new(code, detail) }
    }

    pub(crate) fn parameter(name: &str, value: &str, expected: &str) -> Self {
        let error = FieldError { pointer: shortened(name.to_owned()), value: value.to_owned(), expected: expected.to_owned() };
        Self { detail: format!("parameter {}: {expected}", error.pointer), ..Self::malformed(vec![error]) }
    }

    pub(crate) fn program_not_found(program: &Id) -> Self {
        Self::new("program_not_found", format!("there is no program {program}; publish its rulebook with PUT /v1/programs/{program}/rulebook"))
    }

    pub(crate) fn account_not_found() -> Self {
        Rejection::AccountNotFound.into()
    }

    pub(crate) fn unavailable(error: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error, "a read failed");
        Self { retry_after: Some(1), ..Self::new("unavailable", "the database does not answer") }
    }

    pub(crate) fn retry(code: &str, detail: &str) -> Self {
        Self { retry_after: Some(1), ..Self::new(code, detail) }
    }
}

impl From<Rejection> for Problem {
    fn from(rejection: Rejection) -> Self {
        Self { number: Some(rejection.number()), ..Self::new(rejection.code(), rejection.to_string()) }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let words = refusal.to_string();
        match refusal {
            Refusal::Invalid(invalid) => Self::malformed(invalid.into_iter().map(FieldError::from).collect()),
            Refusal::ProgramNotFound(program) => Self::program_not_found(&program),
            Refusal::Rejected(rejection) => rejection.into(),
            Refusal::Clock(why) => Self::new("clock", why),
            Refusal::Period(refusal) => Self::new(refusal.code(), words),
            Refusal::Unusable(why) => Self::new("malformed", why),
            Refusal::Stopped(_) => Self::new("account_stopped", words),
            Refusal::OtherAliasKey => Self::new("other_alias_key", words),
            Refusal::TooLarge { .. } => Self::new("too_large", words),
            Refusal::AccountFull { .. } => Self::new("account_full", words),
            Refusal::TooManyConditions { .. } => Self::new("too_many_conditions", words),
            Refusal::Busy => Self::retry("too_many_requests", &words),
            Refusal::OutcomeUnknown | Refusal::NoAnswer(_) | Refusal::NotHere => Self::retry("outcome_unknown", &words),
            // What is refused before it is decided has no number.
            Refusal::Told { number, code, detail } => Self { number: Some(number).filter(|number| *number > 0), ..Self::new(&code, detail) },
        }
    }
}

impl From<tokio_postgres::Error> for Problem {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::unavailable(&error)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let retry_after = self.retry_after;
        let mut response = (status, axum::Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
