//! One look: new signals, every rule, and the cases that come of it, in one transaction.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use chrono::{DateTime, Utc};
use ledger_core::policy::{FraudRule, FraudRules, FraudScope, Predicate};
use tokio_postgres::{Client, Transaction};

use super::finding::{Hit, open};
use super::signal::{Seen, Signal, Stream, kind, seen, take, value};
use super::window::{Lately, count, later};
use crate::AnalysisError;

/// Positions of each partition that one look takes.
const LOOK_POSITIONS: i64 = 500;

/// A case that was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The program.
    pub program: String,
    /// The case.
    pub case_id: String,
    /// The account of the signal.
    pub account: String,
    /// The rule.
    pub rule: String,
}

/// What one look came to.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Look {
    /// How many signals were new.
    pub signals: usize,
    /// The cases that were opened.
    pub found: Vec<Found>,
    /// Rules whose condition failed on a signal, with why; the signal counts as looked at.
    pub failures: Vec<(String, String)>,
}

/// Looks at what is new by the rules that `rules` has for each program with news. While another one looks, it does nothing.
///
/// # Errors
/// What the database says; nothing counts as looked at then.
pub async fn watch(client: &mut Client, rules: impl Fn(&str) -> Option<FraudRules>, now: DateTime<Utc>) -> Result<Look, AnalysisError> {
    let transaction = client.transaction().await?;
    let sql = "SELECT pg_try_advisory_xact_lock(hashtext('analysis.watched'))";
    if !transaction.query_one(sql, &[]).await?.get::<_, bool>(0) {
        return Ok(Look::default());
    }
    let seen = seen(&transaction).await?;
    let mut signals = Vec::new();
    for stream in Stream::ALL {
        signals.extend(take(&transaction, stream, LOOK_POSITIONS).await?);
    }
    let mut done = Look { signals: signals.len(), ..Look::default() };
    let mut lately = Lately::default();
    let programs: BTreeSet<String> = signals.iter().map(|signal| signal.program.clone()).collect();
    for program in &programs {
        let Some(rules) = rules(program) else { continue };
        let mut mine: Vec<&mut Signal> = signals.iter_mut().filter(|signal| signal.program == *program).collect();
        mine.iter_mut().for_each(|signal| set_staff(signal, &rules));
        let news = News { program, seen: &seen, signals: mine.into_iter().map(|signal| &*signal).collect(), now };
        for rule in &rules.rules {
            look(&transaction, (&rules, rule), &news, &mut lately, &mut done).await?;
        }
    }
    transaction.commit().await?;
    Ok(done)
}

/// What a look has to look at of a program.
struct News<'a> {
    program: &'a str,
    seen: &'a Seen,
    signals: Vec<&'a Signal>,
    now: DateTime<Utc>,
}

fn set_staff(signal: &mut Signal, rules: &FraudRules) {
    let view = &mut signal.view;
    view.own = rules.is_own(&view.cashier, &view.account) || rules.is_own(&view.actor, &view.account);
    view.colleague = !view.own && rules.is_of_staff(&view.account);
}

/// Signals looked at before that `news` makes look at again.
async fn again(transaction: &Transaction<'_>, (rules, rule): (&FraudRules, &FraudRule), news: &News<'_>) -> Result<Vec<Signal>, AnalysisError> {
    let (mut all, mut places) = (Vec::new(), HashSet::new());
    for window in rule.windows.values() {
        for mut signal in later(transaction, (news.program, news.seen), window, &rule.on, &news.signals).await? {
            if places.insert((signal.partition, signal.position, signal.view.kind.clone())) {
                set_staff(&mut signal, rules);
                all.push(signal);
            }
        }
    }
    Ok(all)
}

async fn look(
    transaction: &Transaction<'_>,
    (rules, rule): (&FraudRules, &FraudRule),
    news: &News<'_>,
    lately: &mut Lately,
    done: &mut Look,
) -> Result<(), AnalysisError> {
    let about = |signal: &&&Signal| !value(&signal.view, rule.by).is_empty() && rule.on.iter().any(|on| kind(*on) == signal.view.kind);
    let seen_before = again(transaction, (rules, rule), news).await?;
    let new = news.signals.iter().filter(about).copied().map(|signal| (signal, false));
    let signals: Vec<(&Signal, bool)> = new.chain(seen_before.iter().filter(|signal| about(&signal)).map(|signal| (signal, true))).collect();
    if signals.is_empty() {
        return Ok(());
    }
    let condition = match Predicate::compile(&rule.when) {
        Ok(condition) => condition,
        Err(why) => {
            done.failures.push((rule.id.clone(), why));
            return Ok(());
        }
    };
    let mut counted: Vec<BTreeMap<String, i64>> = vec![BTreeMap::new(); signals.len()];
    let alone: Vec<&Signal> = signals.iter().map(|(signal, _)| *signal).collect();
    for (name, window) in &rule.windows {
        for (each, count) in counted.iter_mut().zip(count(transaction, news.program, window, &alone).await?) {
            each.insert(name.clone(), count);
        }
    }
    let mut hits = Vec::new();
    for ((signal, is_again), windows) in signals.into_iter().zip(counted) {
        let scope = FraudScope { signal: &signal.view, window: &windows, limit: rules.approval_limit };
        match condition.holds(&scope) {
            Ok(true) => hits.push(Hit { signal, windows, is_again }),
            Ok(false) => {}
            Err(why) => done.failures.push((rule.id.clone(), why)),
        }
    }
    done.found.extend(open(transaction, (news.program, rule), hits, news.now, lately).await?);
    Ok(())
}
