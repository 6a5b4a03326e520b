//! Conditions in CEL over whatever variables their rule has; for rules that decide no points.
//!
//! Invariant: one that is published has no loops and is nested no deeper than a bonus's condition, so its time is bounded.

use cel::common::ast::{EntryExpr, Expr, IdedExpr};
use cel::{Context, Env, Value};
use serde::Serialize;

use super::condition::{DEPTH_MAX, nesting};

const SOURCE_MAX: usize = 1000;

/// A compiled condition.
#[derive(Debug)]
pub struct Predicate(cel::Program);

impl Predicate {
    /// Checks `source`, which is to be published, and tries it on `sample`.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(super) fn check(source: &str, sample: &impl Serialize) -> Result<(), String> {
        let too_deep = || format!("a CEL expression nested at most {DEPTH_MAX} levels deep");
        if nesting(source) > DEPTH_MAX {
            return Err(too_deep());
        }
        let predicate = Self::compile(source)?;
        match depth(predicate.0.expression()) {
            None => Err("a CEL expression without loops (all, exists, map, filter)".to_owned()),
            Some(depth) if depth > DEPTH_MAX => Err(too_deep()),
            Some(_) => predicate.holds(sample).map(drop),
        }
    }

    /// Compiles it, which was checked when it was published.
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
        // Not by way of JSON, whose positive numbers are unsigned, which CEL keeps apart from signed ones.
        let variables = cel::to_value(variables).map_err(|error| error.to_string())?;
        if let Value::Map(fields) = &variables {
            for (name, value) in &*fields.map {
                context.add_variable(name.to_string(), value.clone()).map_err(|error| error.to_string())?;
            }
        }
        match self.0.execute(&context) {
            Ok(Value::Bool(holds)) => Ok(holds),
            Ok(other) => Err(format!("it gives {other:?}, not true or false")),
            Err(error) => Err(format!("{error}; there are {}", names("", &variables).join(", "))),
        }
    }
}

/// How deep an expression is nested; none if it loops.
fn depth(node: &IdedExpr) -> Option<usize> {
    let below: Vec<&IdedExpr> = match &node.expr {
        Expr::Comprehension(_) => return None,
        Expr::Call(call) => call.target.iter().map(AsRef::as_ref).chain(&call.args).collect(),
        Expr::Select(select) => vec![&*select.operand],
        Expr::List(list) => list.elements.iter().collect(),
        Expr::Map(map) => map.entries.iter().flat_map(|entry| of_entry(&entry.expr)).collect(),
        Expr::Struct(fields) => fields.entries.iter().flat_map(|entry| of_entry(&entry.expr)).collect(),
        Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => Vec::new(),
    };
    below.into_iter().try_fold(0, |most: usize, node| Some(depth(node)?.max(most))).map(|deepest| deepest + 1)
}

fn of_entry(entry: &EntryExpr) -> Vec<&IdedExpr> {
    match entry {
        EntryExpr::StructField(field) => vec![&field.value],
        EntryExpr::MapEntry(entry) => vec![&entry.key, &entry.value],
    }
}

/// What an expression can name, below `path`.
fn names(path: &str, value: &Value) -> Vec<String> {
    let Value::Map(fields) = value else { return vec![path.to_owned()] };
    let mut all: Vec<String> =
        fields.map.iter().flat_map(|(name, value)| names(&format!("{path}{}{name}", if path.is_empty() { "" } else { "." }), value)).collect();
    all.sort_unstable();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Scope {
        points: i64,
        share: f64,
    }

    #[test]
    fn whole_numbers_are_signed_whatever_their_sign() {
        for points in [-7, 0, 7] {
            let scope = Scope { points, share: 0.5 };
            let holds = |source: &str| Predicate::compile(source).and_then(|predicate| predicate.holds(&scope));
            assert_eq!(holds("points * 10 >= -70 && points - 1 < 10 && share < 1.0"), Ok(true));
            assert!(holds("points + shoes > 1").is_err() && holds("points").is_err());
        }
    }

    #[test]
    fn a_name_that_is_not_there_is_told_with_those_that_are() {
        let member = Scope { points: 1, share: 0.5 };
        let scope = std::collections::BTreeMap::from([("member", &member)]);
        let error = Predicate::compile("member.shoes > 1").and_then(|predicate| predicate.holds(&scope));
        assert_eq!(error, Err("No such key: shoes; there are member.points, member.share".to_owned()));
    }
}
