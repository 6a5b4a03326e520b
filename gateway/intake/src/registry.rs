//! A schema registry, as Confluent's: which message a schema id stands for.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use serde::Deserialize;

#[derive(Deserialize)]
struct Schema {
    schema: String,
    #[serde(default, rename = "schemaType")]
    kind: String,
}

/// A registry with what it said.
pub struct Registry {
    url: String,
    client: reqwest::Client,
    /// By schema id: the names of the messages at its top, in their order. Ids never change their meaning.
    known: Mutex<HashMap<u32, Vec<String>>>,
}

impl Registry {
    /// The one at `url`.
    #[must_use]
    pub fn new(url: &str) -> Self {
        Self { url: url.trim_end_matches('/').to_owned(), client: reqwest::Client::new(), known: Mutex::default() }
    }

    /// The full name of message number `index` of schema `id`.
    ///
    /// # Errors
    /// `Err` where the registry does not answer; `Ok(Err)` where it knows no such message.
    pub(crate) async fn message_name(&self, id: u32, index: usize) -> Result<Result<String, String>, reqwest::Error> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned();
        let names = match known {
            Some(names) => names,
            None => {
                let response = self.client.get(format!("{}/schemas/ids/{id}", self.url)).send().await?;
                if response.status() == reqwest::StatusCode::NOT_FOUND {
                    return Ok(Err(format!("the schema registry knows no schema {id}")));
                }
                let schema: Schema = response.error_for_status()?.json().await?;
                match names(&schema) {
                    Ok(names) => {
                        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(id, names.clone());
                        names
                    }
                    Err(why) => return Ok(Err(format!("schema {id}: {why}"))),
                }
            }
        };
        Ok(names.get(index).cloned().ok_or_else(|| format!("schema {id} has {} messages, none has index {index}", names.len())))
    }
}

fn names(schema: &Schema) -> Result<Vec<String>, String> {
    if schema.kind != "PROTOBUF" {
        return Err(format!("it is of type {:?}, only PROTOBUF is read", schema.kind));
    }
    let file = protox_parse::parse("schema.proto", &schema.schema).map_err(|error| error.to_string())?;
    let name = |name: &str| if file.package().is_empty() { name.to_owned() } else { format!("{}.{name}", file.package()) };
    Ok(file.message_type.iter().map(|message| name(message.name())).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;

    #[test]
    fn a_schema_tells_its_messages_in_their_order() {
        let book = include_str!("../../../schemas/proto/loyalty/v1/book.proto");
        let found = names(&Schema { schema: book.into(), kind: "PROTOBUF".into() }).unwrap();
        assert_eq!(found[0], "loyalty.v1.Amount");
        assert!(found.contains(&"loyalty.v1.PurchaseReturn".to_owned()));
        assert!(names(&Schema { schema: book.into(), kind: "AVRO".into() }).unwrap_err().contains("PROTOBUF"));
    }
}
