//! Schemas of texts that have a form or are one of a few names, for the API's description. The names are those of the domain.

use std::borrow::Cow;

use ledger_core::account::state::Status;
use ledger_core::posting::Bucket;
use utoipa::openapi::schema::{Object, ObjectBuilder, SchemaFormat, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

fn text(description: &str) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).description(Some(description))
}

fn one_of(description: &str, names: &[&'static str]) -> Object {
    text(description).enum_values(Some(names.iter().copied())).build()
}

/// A schema under a name of its own: `type` stands for it in the description, and is no value.
macro_rules! schema {
    ($type:ident, $name:literal, $schema:expr) => {
        #[doc = concat!("Stands for `", $name, "` in the API's description.")]
        pub enum $type {}

        impl PartialSchema for $type {
            fn schema() -> RefOr<Schema> {
                RefOr::T(Schema::Object($schema))
            }
        }

        impl ToSchema for $type {
            fn name() -> Cow<'static, str> {
                Cow::Borrowed($name)
            }
        }
    };
}

// Of the rulebook: `document` puts the rulebook's own JSON Schema in their places.
schema!(RulebookSchema, "Rulebook", Object::new());
schema!(FraudRuleSchema, "FraudRule", Object::new());
schema!(ModeSchema, "Mode", Object::new());
schema!(IdSchema, "Id", Object::new());

schema!(AmountSchema, "Amount", {
    let format = SchemaFormat::Custom("decimal".into());
    text("An exact decimal in a string, at most 12 digits before the point and 6 after it.").format(Some(format)).pattern(Some(DECIMAL)).build()
});

const DECIMAL: &str = "^-?[0-9]{1,12}([.][0-9]{1,6})?$";

schema!(AccountStatus, "AccountStatus", {
    let all = [Status::Pending, Status::Active, Status::Inactive, Status::Frozen, Status::Closed];
    one_of("How an account is: `pending` until it is activated, `inactive` when it was not used for the program's time.", &all.map(Status::name))
});
schema!(EventType, "EventType", one_of("What happened to an account.", &projectors::KINDS));
schema!(CommandKind, "CommandKind", one_of("What was asked of an account.", &COMMANDS));
schema!(BucketName, "Bucket", one_of("Where points are; the sum over all is zero.", &Bucket::ALL.map(Bucket::name)));
schema!(DeclineState, "DeclineState", one_of("How a member's spend goes.", &analytics::decline::STATES));
schema!(CaseState, "CaseState", one_of("How far a case of suspected fraud is.", &analytics::fraud::STATES));
schema!(CaseStep, "CaseStep", one_of("What is done about a case.", &["assign", "note", "confirm", "dismiss"]));
/// Every kind of command, as the ledger's core names it.
pub(crate) const COMMANDS: [&str; 19] = [
    "open",
    "activate",
    "freeze",
    "unfreeze",
    "close",
    "purchase",
    "redemption",
    "capture",
    "release",
    "redemption_return",
    "return",
    "refund",
    "adjustment",
    "proposal",
    "approval",
    "proposal_decline",
    "alias",
    "alias_removal",
    "expire",
];

/// Of what fraud can be reported.
pub(crate) const REPORTED: [&str; 4] = ["purchase", "redemption", "return", "adjustment"];

schema!(ReportedKind, "ReportedKind", one_of("Of what fraud is reported.", &REPORTED));
schema!(TierCause, "TierCause", one_of("Why a tier changed.", &["earned", "returned", "review"]));
schema!(BasisName, "Basis", one_of("By the day on which it was booked, or on which it took effect.", &["booked", "effective"]));
schema!(Grouping, "Grouping", one_of("A row for each tier, or for each issue month.", &["tier", "cohort"]));
schema!(Format, "Format", one_of("How the answer is written.", &["json", "csv"]));
schema!(PeriodStatus, "PeriodStatus", one_of("Whether a month is closed, or waits for a second person.", &["proposed", "closed"]));
schema!(HealthStatus, "HealthStatus", one_of("`degraded` where accounts are stopped.", &["ok", "degraded"]));
schema!(AcceptedOutcome, "AcceptedOutcome", one_of("The command was booked.", &["accepted"]));
schema!(SimulatedOutcome, "SimulatedOutcome", one_of("Nothing was booked.", &["simulated"]));
