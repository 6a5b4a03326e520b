//! The API's description: what its routes share, and the rulebook's schema as components.

use serde_json::{Map, Value, json};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{OpenApi as OpenApiDocument, RefOr};
use utoipa::{Modify, OpenApi};

use crate::answer::Accepted;
use crate::names::{BasisName, BucketName, CaseState, CommandKind, DeclineState, Format, Grouping};
use crate::problem::Problem;
use crate::responses::problem_responses;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Loyalty Ledger",
        description = "An event-sourced loyalty ledger: commands in, balances out that anyone can check.\n\n\
            Lists are pages: `items`, and `next_cursor` to give as `cursor` for the next page, null on the last. Points are whole numbers. Money is an \
            exact decimal in a string. Moments are RFC 3339, days `YYYY-MM-DD`. Every error is `application/problem+json` (RFC 9457) with a stable \
            `code`; `/problems/{code}` says what it means.\n\n\
            The id in a command's body is its idempotency key: sent again with the same content, it gets the first answer again.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    components(schemas(Accepted, Problem, BasisName, BucketName, CaseState, CommandKind, DeclineState, Format, Grouping)),
    modifiers(&Shared),
    security(("bearer" = [])),
    tags(
        (name = "Programs", description = "Rulebooks and the clocks of sandboxes."),
        (name = "Accounts", description = "Accounts: their life, their balance and why it is what it is."),
        (name = "Aliases", description = "Other names by which an account is found, such as its cards; only keyed hashes are kept."),
        (name = "Purchases", description = "Points are earned."),
        (name = "Returns", description = "Goods and money are given back."),
        (name = "Redemptions", description = "Points are spent, at once or held first."),
        (name = "Adjustments", description = "Points are given or taken by hand."),
        (name = "Proposals", description = "Adjustments that take two people."),
        (name = "Simulations", description = "What a command would do; nothing is booked."),
        (name = "Intake", description = "Messages of the topic of purchases that were not booked at once."),
        (name = "Audit", description = "Who did what, and the proof that it stands in the book."),
        (name = "Fraud", description = "Cases of suspected fraud."),
        (name = "Decline", description = "Members whose value falls, and what is done about it."),
        (name = "Lifetime value", description = "What members are worth."),
        (name = "Liability", description = "What points owe, and who pays."),
        (name = "Periods", description = "Months of the revenue journal, closed by two people."),
        (name = "Operations", description = "For those who run the service."),
    )
)]
pub(super) struct Document;

struct Shared;

impl Modify for Shared {
    fn modify(&self, document: &mut OpenApiDocument) {
        let Some(components) = &mut document.components else { return };
        components.responses.extend(problem_responses().map(|(name, response)| (name, RefOr::T(response))));
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("ll_…").description(Some(
            "A key of the key file (`loyalty key`). Reads and simulations take the scope `read`, commands `write`, rulebooks and clocks `admin`; each holds \
             those before it. Where the service runs without a key file, anybody may do anything.",
        ));
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer.build()));
    }
}

/// What the parameters of paths are.
const IN_PATH: [(&str, &str); 10] = [
    ("program", "The program's id."),
    ("account_id", "The account's id."),
    ("redemption_id", "The redemption's id."),
    ("proposal_id", "The proposal's id."),
    ("command_id", "The command's id: that of the purchase, redemption, return …"),
    ("case_id", "The case's id."),
    ("action", "The action, by the rulebook's `insight.actions`."),
    ("id", "Where the message stands: topic:partition:position."),
    ("period", "The month, `YYYY-MM` (UTC)."),
    ("code", "The problem's code."),
];

/// The document as it is served: with what can't be said at each route.
pub(super) fn complete(document: &OpenApiDocument) -> Value {
    let mut document = serde_json::to_value(document).unwrap_or_default();
    let paths = document["paths"].as_object_mut().into_iter().flat_map(Map::values_mut);
    for operation in paths.filter_map(Value::as_object_mut).flat_map(Map::values_mut) {
        let parameters = operation.get_mut("parameters").and_then(Value::as_array_mut);
        for parameter in parameters.into_iter().flatten().filter(|parameter| parameter["in"] == "path") {
            if let Some((_, what)) = IN_PATH.iter().find(|(name, _)| parameter["name"] == *name) {
                parameter["description"] = Value::from(*what);
            }
        }
    }
    if let Some(schemas) = document["components"]["schemas"].as_object_mut() {
        schemas.extend(rulebook_schemas());
        // What is on a page stands in it once more, without its name.
        for (name, page) in schemas {
            if let Some(item) = name.strip_prefix("Page_") {
                page["properties"]["items"]["items"] = json!({"$ref": format!("#/components/schemas/{item}")});
            }
        }
    }
    document
}

/// The rulebook's JSON Schema, as components.
fn rulebook_schemas() -> Map<String, Value> {
    let mut rulebook = Value::from(ledger_core::policy::json_schema());
    let mut schemas = match rulebook["$defs"].take() {
        Value::Object(definitions) => definitions,
        _ => Map::new(),
    };
    if let Some(rulebook) = rulebook.as_object_mut() {
        rulebook.retain(|key, _| !key.starts_with('$'));
        rulebook.insert("examples".into(), json!([example_rulebook()]));
    }
    schemas.insert("Rulebook".into(), rulebook);
    // Of moments a name has no use; amounts are described as those of the API, which are of the same form.
    schemas.retain(|name, _| !matches!(name.as_str(), "Moment" | "DateTime" | "Amount"));
    schemas.values_mut().for_each(adapt);
    schemas
}

fn example_rulebook() -> Value {
    json!({
        "program": "shop", "mode": "sandbox", "currency": "GBP", "time_zone": "Europe/London", "effective_from": "2026-01-01T00:00:00Z",
        "earn": {"base": {"points": "1", "per": "1.00"}, "pending_days": 14},
        "expiry": {"mode": "rolling", "months": 12},
        "redeem": {"minimum": 100, "value": {"points": 100, "amount": "1.00"}},
        "tiers": {"qualify_by": "points", "window": "rolling_12_months",
            "levels": [{"name": "member", "at": "0"}, {"name": "silver", "at": "1000", "multiplier": "1.25"}]}
    })
}

/// Definitions become components, and choices of constants, which generators make unions of, become enums.
fn adapt(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(adapt),
        Value::Object(fields) => {
            if let Some(name) = fields.get("$ref").and_then(Value::as_str).and_then(|path| path.strip_prefix("#/$defs/")).map(str::to_owned) {
                fields.remove("$ref");
                match name.as_str() {
                    "Moment" | "DateTime" => fields.extend([("type".into(), json!("string")), ("format".into(), json!("date-time"))]),
                    _ => drop(fields.insert("$ref".into(), json!(format!("#/components/schemas/{name}")))),
                }
            }
            if let Some(names) = fields.get("oneOf").and_then(constants) {
                let meanings = fields.remove("oneOf").map(|choices| meanings(&choices)).unwrap_or_default();
                let description = fields.get("description").and_then(Value::as_str).unwrap_or_default();
                fields.insert("description".into(), json!(format!("{description}\n\n{meanings}").trim()));
                fields.extend([("type".into(), json!("string")), ("enum".into(), json!(names))]);
            }
            fields.values_mut().for_each(adapt);
        }
        _ => {}
    }
}

fn constants(choices: &Value) -> Option<Vec<Value>> {
    choices.as_array()?.iter().map(|choice| choice.get("const").cloned()).collect()
}

fn meanings(choices: &Value) -> String {
    let told = |choice: &Value| Some(format!("- `{}`: {}\n", choice["const"].as_str()?, choice["description"].as_str()?));
    choices.as_array().into_iter().flatten().filter_map(told).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use std::collections::HashSet;

    use serde::de::DeserializeOwned;

    use super::*;
    use crate::http::{accounts, adjustments, aliases, fraud, intake, openapi, programs, proposals, purchases, redemptions, refunds, returns, submit};

    /// Name, where it stands, and the operation.
    fn operations(document: &Value) -> Vec<(String, &Value)> {
        let paths = document["paths"].as_object().unwrap();
        let of = |(path, item): (&String, &'_ Value)| item.as_object().unwrap().keys().map(|method| (path.clone(), method.clone())).collect::<Vec<_>>();
        paths.iter().flat_map(of).map(|(path, method)| (format!("{method} {path}"), &document["paths"][&path][&method])).collect()
    }

    /// What `reference` names, which must be there.
    fn resolve<'a>(document: &'a Value, reference: &str) -> &'a Value {
        document.pointer(reference.strip_prefix('#').unwrap()).unwrap_or_else(|| panic!("{reference} is not in the document"))
    }

    fn walk(value: &Value, visit: &mut impl FnMut(&Map<String, Value>)) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| walk(item, visit)),
            Value::Object(fields) => {
                visit(fields);
                fields.values().for_each(|field| walk(field, visit));
            }
            _ => {}
        }
    }

    #[test]
    fn every_operation_has_an_id_of_its_own_a_known_tag_and_words() {
        let document = openapi();
        let tags: Vec<&Value> = document["tags"].as_array().unwrap().iter().map(|tag| &tag["name"]).collect();
        let mut ids = HashSet::new();
        for (name, operation) in operations(&document) {
            assert!(ids.insert(operation["operationId"].as_str().unwrap()), "{name}: its id is that of another");
            assert!(tags.contains(&&operation["tags"][0]) && operation["tags"][1].is_null(), "{name}: {}", operation["tags"]);
            assert!(operation["summary"].as_str().is_some_and(|summary| !summary.is_empty()), "{name}");
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                assert!(parameter["description"].is_string() && !parameter["schema"].is_null(), "{name}: {parameter}");
            }
        }
    }

    #[test]
    fn every_response_has_a_description_and_a_schema_unless_it_has_no_body() {
        let document = openapi();
        for (name, operation) in operations(&document) {
            for (status, response) in operation["responses"].as_object().unwrap() {
                let response = response["$ref"].as_str().map_or(response, |reference| resolve(&document, reference));
                assert!(response["description"].as_str().is_some_and(|text| !text.is_empty()), "{name}: {status}");
                let contents: Vec<_> = response["content"].as_object().into_iter().flatten().collect();
                assert_eq!(contents.is_empty(), status == "204", "{name}: {status}");
                for (media_type, content) in contents {
                    let schema = &content["schema"];
                    let is_text = media_type.starts_with("text/") && schema["type"] == "string";
                    assert!(is_text || schema["$ref"].is_string(), "{name}: {status} {media_type}: {schema}");
                    assert_eq!(media_type == "application/problem+json", !status.starts_with('2'), "{name}: {status}");
                }
            }
        }
    }

    #[test]
    fn every_route_but_the_open_ones_takes_a_key_and_says_what_it_answers_without() {
        let document = openapi();
        assert_eq!(document["security"], json!([{"bearer": []}]));
        assert_eq!(document["components"]["securitySchemes"]["bearer"]["scheme"], "bearer");
        for (name, operation) in operations(&document) {
            let is_open = ["get /health", "get /health/live", "get /health/ready", "get /problems/{code}"].contains(&name.as_str());
            assert_eq!(is_open, operation["security"].as_array().is_some_and(|either| either.contains(&json!({}))), "{name}");
            for status in ["401", "403"] {
                assert!(is_open || operation["responses"][status].is_object(), "{name}: {status}");
            }
        }
    }

    #[test]
    fn every_reference_is_there_and_every_component_is_used() {
        let document = openapi();
        let mut used = HashSet::new();
        walk(&document, &mut |fields| {
            if let Some(Value::String(reference)) = fields.get("$ref") {
                resolve(&document, reference);
                used.insert(reference.clone());
            }
        });
        for name in document["components"]["schemas"].as_object().unwrap().keys() {
            assert!(used.contains(&format!("#/components/schemas/{name}")), "nothing is a {name}");
        }
    }

    #[test]
    fn every_field_has_a_type_and_no_object_is_without_a_shape() {
        let document = openapi();
        for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
            walk(schema, &mut |fields| {
                let is_empty =
                    fields.get("type") == Some(&json!("object")) && !["properties", "additionalProperties"].iter().any(|key| fields.contains_key(*key));
                assert!(!is_empty, "{name}: {fields:?}");
            });
            for (field, schema) in schema["properties"].as_object().into_iter().flatten() {
                let is_typed = ["type", "$ref", "oneOf", "anyOf", "allOf"].iter().any(|key| schema.get(key).is_some());
                assert!(is_typed, "{name}: {field}: {schema}");
            }
        }
    }

    fn reads<T: DeserializeOwned>(document: &Value, name: &str) {
        let examples = document["components"]["schemas"][name]["examples"].as_array().unwrap_or_else(|| panic!("{name} has no example"));
        for example in examples {
            let read = crate::body::parse::<T>(example.to_string().as_bytes());
            assert!(read.is_ok(), "{name}: {}", read.err().unwrap().detail);
        }
    }

    #[test]
    fn every_body_has_an_example_that_is_taken() {
        let document = openapi();
        reads::<ledger_core::policy::Rulebook>(&document, "Rulebook");
        reads::<accounts::OpenBody>(&document, "OpenBody");
        reads::<submit::ReasonBody>(&document, "ReasonBody");
        reads::<aliases::AliasBody>(&document, "AliasBody");
        reads::<intake::ClaimBody>(&document, "ClaimBody");
        reads::<programs::ClockBody>(&document, "ClockBody");
        reads::<purchases::PurchaseBody>(&document, "PurchaseBody");
        reads::<returns::ReturnBody>(&document, "ReturnBody");
        reads::<refunds::RefundBody>(&document, "RefundBody");
        reads::<redemptions::RedemptionBody>(&document, "RedemptionBody");
        reads::<redemptions::CaptureBody>(&document, "CaptureBody");
        reads::<redemptions::ReleaseBody>(&document, "ReleaseBody");
        reads::<redemptions::RedemptionReturnBody>(&document, "RedemptionReturnBody");
        reads::<adjustments::AdjustmentBody>(&document, "AdjustmentBody");
        reads::<proposals::ProposalBody>(&document, "ProposalBody");
        reads::<proposals::ApprovalBody>(&document, "ApprovalBody");
        reads::<proposals::DeclineBody>(&document, "DeclineBody");
        reads::<fraud::StepBody>(&document, "StepBody");
        reads::<fraud::ReportBody>(&document, "ReportBody");
        let bodies =
            operations(&document).into_iter().filter_map(|(_, operation)| operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].as_str());
        for body in bodies {
            assert!(resolve(&document, body)["examples"].is_array(), "{body} has no example");
        }
    }

    #[test]
    fn every_route_of_the_router_is_in_the_document() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http");
        let files = std::fs::read_dir(folder).unwrap().flatten().map(|entry| (entry.file_name(), std::fs::read_to_string(entry.path()).unwrap()));
        let mut described = 0;
        for (name, text) in files {
            // Only a process without an API has routes that are not described: `ops_router`.
            let plain = text.matches(concat!("Router::new()", ".route(")).count();
            assert_eq!(plain, usize::from(name == "ops.rs"), "{name:?} has a route that is not described");
            described += text.matches(concat!("#[utoipa", "::path(")).count();
        }
        assert_eq!(operations(&openapi()).len(), described, "a handler that is described has no route");
    }

    #[test]
    fn names_are_those_that_the_domain_gives() {
        let command = include_str!("../../../../ledger-core/src/account/command.rs").split("pub fn kind").nth(1).unwrap();
        let event = include_str!("../../../../projectors/src/statement/words.rs").split("pub fn kind").nth(1).unwrap();
        let given = |text: &'static str| {
            let body = text.split("\n    }\n").next().unwrap();
            body.lines().filter_map(|line| line.split_once("=> \"").and_then(|(_, rest)| rest.split('"').next())).collect::<Vec<_>>()
        };
        assert_eq!(given(command), crate::names::COMMANDS);
        assert_eq!(given(event), projectors::KINDS);
    }
}
