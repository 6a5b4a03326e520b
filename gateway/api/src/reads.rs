//! What reads share: positions to wait for, times, pages.

use std::time::Duration;

use ledger_core::time::Moment;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::problem::Problem;
use crate::state::ApiState;

const PATIENCE: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// What every read of an account takes.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ReadParams {
    /// A position from an answer: the read waits (at most 2 s) until it has seen it, else 503 `not_yet_visible`.
    pub min_position: Option<String>,
}

/// A page.
#[derive(Debug, Serialize, ToSchema)]
pub struct Page<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// Give it as `cursor` for the next page; null on the last.
    pub next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// Of `items`, which are at most `limit`: where they are as many, the cursor that `after` makes of the last leads on.
    pub(crate) fn of(items: Vec<T>, limit: i64, after: impl Fn(&T) -> String) -> Self {
        let full = i64::try_from(items.len()).is_ok_and(|len| len == limit);
        let next_cursor = items.last().filter(|_| full).map(after);
        Self { items, next_cursor }
    }

    /// The same page of what `view` shows of each.
    pub(crate) fn map<U>(self, view: impl Fn(&T) -> U) -> Page<U> {
        Page { items: self.items.iter().map(view).collect(), next_cursor: self.next_cursor }
    }
}

/// A cursor, as `parse` reads it.
pub(crate) fn cursor<T>(text: Option<&str>, parse: impl Fn(&str) -> Option<T>) -> Result<Option<T>, Problem> {
    let wrong = |text: &str| Problem::parameter("cursor", text, "the next_cursor of a page before");
    text.map(|text| parse(text).ok_or_else(|| wrong(text))).transpose()
}

/// A cursor of a value and the account that has it.
pub(crate) fn by_value(text: Option<&str>) -> Result<Option<(f64, String)>, Problem> {
    cursor(text, |text| text.split_once(':').and_then(|(value, account)| Some((value.parse().ok()?, account.to_owned()))))
}

/// Waits until the read model `schema` has seen `min_position`.
pub(crate) async fn wait_for(state: &ApiState, schema: &str, min_position: Option<&str>) -> Result<(), Problem> {
    let Some(text) = min_position else { return Ok(()) };
    let parsed = text.split_once(':').and_then(|(partition, position)| Some((partition.parse::<i16>().ok()?, position.parse::<i64>().ok()?)));
    let Some((partition, position)) = parsed else {
        return Err(Problem::parameter("min_position", text, "partition:position, as an answer gives it"));
    };
    let database = state.database().await?;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let sql = format!("SELECT position FROM {schema}.checkpoint WHERE partition = $1");
    loop {
        let row = database.query_opt(&sql, &[&partition]).await?;
        if row.is_some_and(|row| row.get::<_, i64>(0) > position) {
            return Ok(());
        }
        if tokio::time::Instant::now() >= deadline {
            return Err(Problem::retry("not_yet_visible", "the read model has not reached min_position yet"));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Waits until every read model has seen what is on the log now, or patience ends: for those who look at once.
pub(crate) async fn wait_for_all(state: &ApiState) -> Result<(), Problem> {
    let ends = state.log.ends().await.map_err(|error| Problem::unavailable(&error))?;
    for model in projectors::read_models() {
        for (partition, end) in (0..).zip(&ends) {
            let last = end.checked_sub(1).map(|last| crate::answer::position(partition, last));
            match wait_for(state, model.name(), last.as_deref()).await {
                Err(problem) if problem.code == "not_yet_visible" => return Ok(()),
                waited => waited?,
            }
        }
    }
    Ok(())
}

/// A time in a query.
pub(crate) fn moment(name: &str, text: &str) -> Result<Moment, Problem> {
    // In a query an unescaped + is a space.
    Moment::parse(&text.replace(' ', "+")).map_err(|error| Problem::parameter(name, text, &error.to_string()))
}

/// A page's length.
pub(crate) fn limit(limit: Option<u32>) -> Result<i64, Problem> {
    match limit {
        None => Ok(50),
        Some(limit @ 1..=500) => Ok(i64::from(limit)),
        Some(limit) => Err(Problem::parameter("limit", &limit.to_string(), "1 to 500")),
    }
}
