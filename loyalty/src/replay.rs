//! `loyalty audit replay`: what would be different under another rulebook, as tables and as a file.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use comfy_table::{Table, presets};
use event_log::EventLog;
use ledger_core::points::Amount;
use transparency::{Difference, Replayed, WhatIf, replay};

use crate::audit::bar;

/// How many accounts the table shows.
const ROWS_MAX: usize = 20;

/// Decides again and prints what would be different.
pub async fn run(log: Arc<dyn EventLog>, what_if: WhatIf) -> anyhow::Result<Replayed> {
    let bar = bar(log.ends().await?.iter().sum(), "deciding again");
    let shown = bar.clone();
    let begin = Instant::now();
    let replayed = replay(log, what_if, move |count| shown.set_position(count)).await?;
    let seconds = begin.elapsed().as_secs_f64();
    bar.finish_and_clear();
    accounts(&replayed.differences);
    in_all(&replayed);
    println!("{} records in {seconds:.1} s", replayed.records);
    Ok(replayed)
}

/// Those that differ most.
fn accounts(differences: &[Difference]) {
    let mut largest: Vec<&Difference> = differences.iter().collect();
    largest.sort_by_key(|difference| std::cmp::Reverse((difference.would_be.points - difference.is.points).abs()));
    let mut table = Table::new();
    let header = ["account", "points", "would be", "difference", "liability", "would be", "tier", "would be", "would be refused", "would be granted"];
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_header(header);
    for difference in largest.iter().take(ROWS_MAX) {
        table.add_row(row(difference));
    }
    println!("{table}");
}

fn row(Difference { account, is, would_be, refused, granted, .. }: &Difference) -> [String; 10] {
    let change = would_be.points - is.points;
    let [points, points_would_be, change, refused, granted] =
        [is.points, would_be.points, change, refused.cast_signed(), granted.cast_signed()].map(|n| n.to_string());
    let (tier, tier_would_be) = (is.tier.clone(), would_be.tier.clone());
    [account.clone(), points, points_would_be, change, money(is.liability), money(would_be.liability), tier, tier_would_be, refused, granted]
}

fn in_all(Replayed { accounts, currency, is, would_be, tiers, refused, granted, differences, .. }: &Replayed) {
    let change = would_be.points - is.points;
    println!("{} of {accounts} accounts would be different; points in all: {}, would be {} ({change:+})", differences.len(), is.points, would_be.points);
    println!("liability: {} {currency}, would be {} {currency}", money(is.liability), money(would_be.liability));
    let named = |tier: &str| if tier.is_empty() { "none".to_owned() } else { tier.to_owned() };
    let moves: Vec<String> = tiers.iter().map(|((from, to), count)| format!("{count} {} instead of {}", named(to), named(from))).collect();
    println!("tiers: {}", if moves.is_empty() { "nobody would be in another".to_owned() } else { moves.join(", ") });
    println!("commands: {refused} that were granted would be refused, {granted} that were refused would be granted");
}

fn money(amount: Option<Amount>) -> String {
    amount.map_or_else(|| "beyond all decimals".into(), |amount| amount.to_string())
}

/// Writes every account that would be different.
pub fn write(replayed: &Replayed, path: &Path) -> anyhow::Result<()> {
    let mut writer = csv::Writer::from_path(path).with_context(|| format!("can't write {}", path.display()))?;
    let header = ["account_id", "points", "points_would_be", "difference", "liability", "liability_would_be", "tier", "tier_would_be", "refused", "granted"];
    writer.write_record(header)?;
    replayed.differences.iter().try_for_each(|difference| writer.write_record(row(difference)))?;
    Ok(writer.flush()?)
}
