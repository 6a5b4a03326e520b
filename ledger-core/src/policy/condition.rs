//! Conditions of bonus rules, in CEL (the Common Expression Language; <https://cel.dev>).
//!
//! Invariants: a condition has no loops (macros such as `all` and `map` are refused), at most [`SOURCE_MAX`] characters and
//! [`DEPTH_MAX`] levels, so its time is bounded when it is published. Money and quantities are CEL doubles inside a condition, the
//! only place where they are: nothing of a condition reaches the points but its yes or no.

use std::sync::Arc;

use cel::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue, operators};
use cel::{Context, Env, Value};
use rust_decimal::prelude::ToPrimitive;
use serde::Serialize;

use super::rate::{Facts, Kept, gross, kept_line};
use crate::account::command::{Line, Purchase};
use crate::points::{Amount, Exact};

const SOURCE_MAX: usize = 1000;
pub(super) const DEPTH_MAX: usize = 32;
/// A condition counts as one for each so many characters that it has begun: the longest takes as long as ten short ones.
const WEIGHT_CHARS: usize = 100;
const PURCHASE_FIELDS: &[&str] = &["total", "currency", "channel", "store", "line_count"];
const LINE_FIELDS: &[&str] = &["sku", "category", "quantity", "unit_price", "discount", "tax", "amount"];
const ACCOUNT_FIELDS: &[&str] = &["tier", "lifetime_earned", "purchases", "age_days"];

/// Why a condition can't be published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConditionError {
    /// Longer or deeper than the limits.
    #[error("the condition is longer than {SOURCE_MAX} characters or nested deeper than {DEPTH_MAX} levels")]
    TooComplex,
    /// CEL can't read it.
    #[error("the condition is not CEL: {0}")]
    Syntax(String),
    /// It names something that does not exist.
    #[error("the condition names {name:?}; there are {known}")]
    Unknown {
        /// The name.
        name: String,
        /// What would be right.
        known: String,
    },
    /// A macro with a loop.
    #[error("the condition loops (all, exists, map, filter); conditions look at one line at a time")]
    Loop,
    /// It gives something else than yes or no, or compares what can't be compared.
    #[error("the condition is not true or false on a sample line: {0}")]
    NotBoolean(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Sku,
    Category,
    Channel,
    Store,
}

/// A compiled condition.
#[derive(Debug)]
pub(super) struct Condition {
    program: cel::Program,
    // `a && b` is false as soon as one side is, even where the other fails (CEL's `&&` is commutative), so a cheap
    // comparison found at the top of the expression can answer for the whole.
    guards: Vec<(Field, String)>,
    /// How many short conditions it takes as long as.
    weight: usize,
}

#[derive(Serialize)]
struct PurchaseView<'a> {
    total: f64,
    currency: &'a str,
    channel: &'a str,
    store: &'a str,
    line_count: i64,
}

#[derive(Serialize)]
struct LineView<'a> {
    sku: &'a str,
    category: &'a str,
    quantity: f64,
    unit_price: f64,
    discount: f64,
    tax: f64,
    amount: f64,
}

#[derive(Serialize)]
struct AccountView<'a> {
    tier: &'a str,
    lifetime_earned: i64,
    purchases: i64,
    age_days: i64,
}

fn double(amount: Amount) -> f64 {
    amount.0.to_f64().unwrap_or(f64::MAX)
}

/// What a purchase's conditions are asked over; the variables are made when the first condition passes its guards.
pub(super) struct Scope<'a> {
    env: &'a Arc<Env>,
    purchase: &'a Purchase,
    kept: &'a Kept,
    facts: &'a Facts,
    /// What money that was given back without a line leaves of every line.
    left: Exact,
    context: Option<Context<'a, 'a>>,
    /// The line that the variable `line` is of.
    line: Option<usize>,
}

impl<'a> Scope<'a> {
    pub(super) fn new(env: &'a Arc<Env>, purchase: &'a Purchase, kept: &'a Kept, facts: &'a Facts, left: Exact) -> Self {
        Self { env, purchase, kept, facts, left, context: None, line: None }
    }

    fn context(&mut self) -> Result<&mut Context<'a, 'a>, String> {
        if self.context.is_none() {
            let mut context = Context::with_env(Arc::clone(self.env));
            let kept_lines = self.purchase.lines.iter().enumerate().filter(|(i, line)| self.kept.quantity(*i, line) > Amount::ZERO).count();
            let total = gross(self.purchase, self.kept).and_then(Exact::to_amount).map_err(|e| e.to_string())?;
            let purchase = PurchaseView {
                total: double(total),
                currency: &self.purchase.currency,
                channel: &self.purchase.channel,
                store: &self.purchase.store,
                line_count: i64::try_from(kept_lines).unwrap_or(i64::MAX),
            };
            let account = AccountView {
                tier: &self.facts.tier,
                lifetime_earned: self.facts.lifetime_earned,
                purchases: i64::from(self.facts.purchases),
                age_days: i64::from(self.facts.age_days),
            };
            context.add_variable("purchase", cel::to_value(purchase).map_err(|e| e.to_string())?).map_err(|e| e.to_string())?;
            context.add_variable("account", cel::to_value(account).map_err(|e| e.to_string())?).map_err(|e| e.to_string())?;
            self.context = Some(context);
        }
        Ok(self.context.as_mut().expect("set just above"))
    }
}

impl Condition {
    /// Checks `source`, which is to be published.
    pub(super) fn check(source: &str) -> Result<(), ConditionError> {
        if source.len() > SOURCE_MAX || nesting(source) > DEPTH_MAX {
            return Err(ConditionError::TooComplex);
        }
        let env = Arc::new(Env::stdlib());
        let condition = Self::compile(&env, source)?;
        check(condition.program.expression(), 0)?;
        condition.try_on_sample(&env)
    }

    /// Compiles `source`, which was checked when it was published.
    pub(super) fn compile(env: &Arc<Env>, source: &str) -> Result<Self, ConditionError> {
        let program = env.compile(source).map_err(|e| ConditionError::Syntax(e.to_string().lines().take(2).collect::<Vec<_>>().join(" ")))?;
        let mut guards = Vec::new();
        find_guards(program.expression(), &mut guards);
        Ok(Self { program, guards, weight: source.len().div_ceil(WEIGHT_CHARS) })
    }

    fn try_on_sample(&self, env: &Arc<Env>) -> Result<(), ConditionError> {
        let (purchase, kept, facts) = (Purchase::sample(), Kept::default(), Facts::default());
        let mut scope = Scope::new(env, &purchase, &kept, &facts, Exact::ONE);
        // What fails only on some values (a division by zero) is for run time; what fails on its types is not.
        match self.evaluate(&mut scope, 0, &purchase.lines[0]) {
            Ok(_) => Ok(()),
            Err(error) if error.contains("zero") || error.contains("verflow") => Ok(()),
            Err(error) => Err(ConditionError::NotBoolean(error)),
        }
    }

    /// Whether it holds for `line`, the one at `index` of the purchase, as far as its goods are kept.
    ///
    /// # Errors
    /// What CEL says when it can't be evaluated; the caller records it and gives no bonus.
    pub(super) fn holds(&self, scope: &mut Scope<'_>, index: usize, line: &Line) -> Result<bool, String> {
        if self.is_asked(scope.purchase, line) { self.evaluate(scope, index, line) } else { Ok(false) }
    }

    /// The stock-keeping unit that it is about; it is false for lines of others.
    pub(super) fn sku(&self) -> Option<&str> {
        self.guards.iter().find_map(|(field, text)| (*field == Field::Sku).then_some(text.as_str()))
    }

    /// Whether no comparison at its top answers for it.
    fn is_asked(&self, purchase: &Purchase, line: &Line) -> bool {
        self.guards.iter().all(|(field, text)| {
            text.as_str()
                == match field {
                    Field::Sku => line.sku.as_str(),
                    Field::Category => line.category.as_str(),
                    Field::Channel => purchase.channel.as_str(),
                    Field::Store => purchase.store.as_str(),
                }
        })
    }

    /// How long it takes for `line` of `purchase`, in short conditions; nothing where a comparison at its top answers for it.
    pub(super) fn weight(&self, purchase: &Purchase, line: &Line) -> usize {
        if self.is_asked(purchase, line) { self.weight } else { 0 }
    }

    fn evaluate(&self, scope: &mut Scope<'_>, index: usize, line: &Line) -> Result<bool, String> {
        // Most of the time goes into making the variable, which is the same for all conditions.
        if scope.line != Some(index) {
            scope.show(index, line)?;
        }
        match self.program.execute(scope.context()?) {
            Ok(Value::Bool(holds)) => Ok(holds),
            Ok(other) => Err(format!("it gives {other:?}, not true or false")),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl Scope<'_> {
    /// Lets `line` be the one at `index`.
    fn show(&mut self, index: usize, line: &Line) -> Result<(), String> {
        let kept = kept_line(self.kept, index, line, self.left).map_err(|error| error.to_string())?;
        let view = LineView {
            sku: &line.sku,
            category: &line.category,
            quantity: double(kept.quantity),
            unit_price: double(line.unit_price),
            discount: double(kept.discount),
            tax: double(kept.tax),
            amount: double(kept.amount),
        };
        let view = cel::to_value(view).map_err(|e| e.to_string())?;
        self.context()?.add_variable("line", view).map_err(|e| e.to_string())?;
        self.line = Some(index);
        Ok(())
    }
}

/// How deep it may be nested, at most; so much can be told before it is read.
pub(super) fn nesting(source: &str) -> usize {
    source.bytes().filter(|b| matches!(b, b'(' | b'[' | b'{' | b'!' | b'-' | b'?')).count()
}

fn check(node: &IdedExpr, depth: usize) -> Result<(), ConditionError> {
    if depth > DEPTH_MAX {
        return Err(ConditionError::TooComplex);
    }
    match &node.expr {
        Expr::Comprehension(_) => Err(ConditionError::Loop),
        Expr::Ident(name) => Err(unknown(name, "purchase.FIELD, line.FIELD and account.FIELD")),
        Expr::Select(select) => match &select.operand.expr {
            Expr::Ident(root) => check_field(root, &select.field),
            _ => check(&select.operand, depth + 1),
        },
        Expr::Call(call) => call.target.iter().map(AsRef::as_ref).chain(&call.args).try_for_each(|arg| check(arg, depth + 1)),
        Expr::List(list) => list.elements.iter().try_for_each(|element| check(element, depth + 1)),
        Expr::Map(_) | Expr::Struct(_) => Err(ConditionError::NotBoolean("maps and messages are not used here".into())),
        _ => Ok(()),
    }
}

fn check_field(root: &str, field: &str) -> Result<(), ConditionError> {
    let fields = match root {
        "purchase" => PURCHASE_FIELDS,
        "line" => LINE_FIELDS,
        "account" => ACCOUNT_FIELDS,
        _ => return Err(unknown(root, "purchase, line and account")),
    };
    if fields.contains(&field) { Ok(()) } else { Err(unknown(&format!("{root}.{field}"), &format!("{root}.{{{}}}", fields.join(", ")))) }
}

fn unknown(name: &str, known: &str) -> ConditionError {
    ConditionError::Unknown { name: name.into(), known: known.into() }
}

fn find_guards(node: &IdedExpr, guards: &mut Vec<(Field, String)>) {
    let Expr::Call(CallExpr { func_name, args, .. }) = &node.expr else { return };
    match (func_name.as_str(), args.as_slice()) {
        (operators::LOGICAL_AND, sides) => sides.iter().for_each(|side| find_guards(side, guards)),
        (operators::EQUALS, [a, b]) => guards.extend(guard(a, b).or_else(|| guard(b, a))),
        _ => {}
    }
}

fn guard(field: &IdedExpr, text: &IdedExpr) -> Option<(Field, String)> {
    let (Expr::Select(select), Expr::Literal(LiteralValue::String(text))) = (&field.expr, &text.expr) else { return None };
    let Expr::Ident(root) = &select.operand.expr else { return None };
    let field = match (root.as_str(), select.field.as_str()) {
        ("line", "sku") => Field::Sku,
        ("line", "category") => Field::Category,
        ("purchase", "channel") => Field::Channel,
        ("purchase", "store") => Field::Store,
        _ => return None,
    };
    Some((field, text.inner().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compile(source: &str) -> Result<Condition, ConditionError> {
        Condition::check(source)?;
        Condition::compile(&Arc::new(Env::stdlib()), source)
    }

    #[test]
    fn a_condition_is_checked_when_it_is_published() {
        assert!(compile("line.sku == '21212' && purchase.total >= 50.0").is_ok());
        assert!(compile("account.tier in ['silver', 'gold'] || line.category.startsWith('toy')").is_ok());
        assert!(matches!(compile("line.sku == "), Err(ConditionError::Syntax(_))));
        assert!(matches!(compile("line.colour == 'red'"), Err(ConditionError::Unknown { name, .. }) if name == "line.colour"));
        assert!(matches!(compile("basket.total > 1.0"), Err(ConditionError::Unknown { name, .. }) if name == "basket"));
        assert!(matches!(compile("[1, 2].all(x, x > 0)"), Err(ConditionError::Loop)));
        assert!(matches!(compile("line.sku"), Err(ConditionError::NotBoolean(_))));
        assert!(matches!(compile("line.sku > 5"), Err(ConditionError::NotBoolean(_))));
        assert_eq!(compile(&"(".repeat(40)).unwrap_err(), ConditionError::TooComplex);
    }

    #[test]
    fn every_part_of_a_condition_is_checked_at_every_depth() {
        for source in ["shoes > 1", "[shoes] == [1]", "[1, [shoes]] == []", "size(shoes) > 1", "account.tier in ['a', shoes]"] {
            assert!(matches!(compile(source), Err(ConditionError::Unknown { name, .. }) if name == "shoes"), "{source}");
        }
        assert_eq!(compile("{'a': 1} == {'a': 1}").unwrap_err(), ConditionError::NotBoolean("maps and messages are not used here".into()));
        let sum = vec!["account.purchases"; 20].join(" + ");
        let listed = format!("{}{sum}{} == []", "[".repeat(16), "]".repeat(16));
        let selected = format!("line.sku{} == 1", ".a".repeat(40));
        for deep in [listed, selected, format!("size({sum} + {sum}) > 1")] {
            assert_eq!(compile(&deep).unwrap_err(), ConditionError::TooComplex, "{deep}");
        }
    }

    #[test]
    fn what_fails_on_some_values_alone_may_be_published() {
        assert!(compile("1 / account.purchases > 0").is_ok());
        assert!(compile("account.purchases + 9223372036854775807 + 1 > 0").is_ok());
    }

    #[test]
    fn every_cheap_comparison_is_a_guard() {
        let guarded = compile("line.sku == 'A' && 'B' == line.category && purchase.channel == 'C' && purchase.store == 'D' && account.tier == 'E'").unwrap();
        let guards = [(Field::Sku, "A"), (Field::Category, "B"), (Field::Channel, "C"), (Field::Store, "D")];
        assert_eq!(guarded.guards, guards.map(|(field, text)| (field, text.to_owned())));
    }

    #[test]
    fn a_guard_answers_only_what_the_whole_condition_would() {
        let guarded = compile("line.sku == 'A' && purchase.store == 'S' && line.quantity > 1.0").unwrap();
        assert_eq!(guarded.guards.len(), 2);
        assert!(compile("line.sku == 'A' || line.sku == 'B'").unwrap().guards.is_empty());
        assert!(compile("!(line.sku == 'A')").unwrap().guards.is_empty());
    }

    #[test]
    fn what_fails_at_run_time_says_so() {
        let (env, facts) = (Arc::new(Env::stdlib()), Facts::default());
        let condition = Condition::compile(&env, "1 / account.purchases > 0").unwrap();
        let purchase = Purchase::sample();
        let kept = Kept::default();
        let mut scope = Scope::new(&env, &purchase, &kept, &facts, Exact::ONE);
        assert!(condition.holds(&mut scope, 0, &purchase.lines[0]).unwrap_err().contains("zero"));
    }
}
