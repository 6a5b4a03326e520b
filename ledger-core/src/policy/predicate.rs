//! Conditions in CEL over whatever variables their rule has; for rules that decide no points.

use cel::{Context, Env, Value};
use serde::Serialize;

const SOURCE_MAX: usize = 1000;

/// A compiled condition.
#[derive(Debug)]
pub struct Predicate(cel::Program);

impl Predicate {
    /// Compiles it.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn compile(source: &str) -> Result<Self, String> {
        if source.len() > SOURCE_MAX {
            return Err(format!("a CEL expression of at most {SOURCE_MAX} characters"));
        }
        Env::stdlib().compile(source).map(Self).map_err(|error| error.to_string().lines().take(2).collect::<Vec<_>>().join(" "))
    }

    /// Whether it holds, where the fields of `variables` are its variables.
    ///
    /// # Errors
    /// What CEL says.
    pub fn holds(&self, variables: &impl Serialize) -> Result<bool, String> {
        let mut context = Context::default();
        if let serde_json::Value::Object(fields) = serde_json::to_value(variables).map_err(|error| error.to_string())? {
            for (name, value) in fields {
                context.add_variable(name, cel::to_value(value).map_err(|error| error.to_string())?).map_err(|error| error.to_string())?;
            }
        }
        match self.0.execute(&context) {
            Ok(Value::Bool(holds)) => Ok(holds),
            Ok(other) => Err(format!("it gives {other:?}, not true or false")),
            Err(error) => Err(error.to_string()),
        }
    }
}
