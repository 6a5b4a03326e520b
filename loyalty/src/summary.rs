//! The book in a few tables.

use comfy_table::{Table, presets};
use event_log::postgres::connect;
use ledger_core::id::Id;
use ledger_core::points::Amount;
use ledger_core::policy::Version;
use ledger_core::posting::Bucket;

use crate::verify::BookCheck;

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_header(header.to_vec());
    table
}

/// Digits in groups of three.
pub fn grouped(points: i64) -> String {
    let digits = points.unsigned_abs().to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if points < 0 { format!("-{text}") } else { text }
}

/// What `points` are worth, exactly.
fn worth(points: i64, version: &Version) -> String {
    let value = &version.rulebook.redeem.value;
    let worth = value.amount.0 * Amount::from(points).0 / Amount::from(value.points).0;
    format!("{:.2} {}", worth, version.rulebook.currency)
}

/// Prints points, liability, tiers and the members with most points.
pub async fn print(url: &str, program: &Id, version: &Version, check: &BookCheck) -> anyhow::Result<()> {
    let client = connect(url, "balance").await?;
    let total = |bucket: Bucket| check.total(bucket);
    let outstanding = total(Bucket::Pending) + total(Bucket::Available) + total(Bucket::Held);
    let mut points = table(&["", "points"]);
    for (name, value) in [
        ("issued", -total(Bucket::Issued)),
        ("pending", total(Bucket::Pending)),
        ("available", total(Bucket::Available)),
        ("held", total(Bucket::Held)),
        ("redeemed", total(Bucket::Redeemed)),
        ("expired", total(Bucket::Expired)),
        ("clawed back", total(Bucket::ClawedBack)),
        ("adjusted down", total(Bucket::Adjusted)),
        ("forfeited", total(Bucket::Forfeited)),
        ("shortfall (spent before the goods came back)", total(Bucket::Shortfall)),
    ] {
        points.add_row([name, &grouped(value)]);
    }
    println!("{points}");
    println!("members: {}   liability: {} points, worth {}\n", check.accounts, grouped(outstanding), worth(outstanding, version));

    let mut tiers = table(&["tier", "members"]);
    let sql = "SELECT tier, count(*) FROM tier.standing WHERE program = $1 GROUP BY tier";
    let rows = client.query(sql, &[&program.as_str()]).await?;
    for level in version.levels() {
        let members = rows.iter().find(|row| row.get::<_, &str>(0) == level.name).map_or(0, |row| row.get::<_, i64>(1));
        tiers.add_row([level.name.clone(), grouped(members)]);
    }
    println!("{tiers}\n");

    let mut top = table(&["member", "tier", "available", "pending", "earned in all"]);
    let sql = "SELECT account, tier, available, pending, lifetime_earned FROM balance JOIN tier.standing USING (program, account)
               WHERE program = $1 ORDER BY lifetime_earned DESC, account LIMIT 5";
    for row in client.query(sql, &[&program.as_str()]).await? {
        let (account, tier): (&str, &str) = (row.get(0), row.get(1));
        top.add_row([account.to_owned(), tier.to_owned(), grouped(row.get(2)), grouped(row.get(3)), grouped(row.get(4))]);
    }
    println!("{top}\n");
    Ok(())
}
