//! `loyalty demo`: a real shop's purchases become points.

use anyhow::Context;
use event_log::postgres::connect;
use ledger_core::account::Command;
use ledger_core::account::command::Action;
use ledger_core::id::{AccountKey, Id};

use crate::args::{DemoOptions, Encoding, Format, ImportOptions};
use crate::door::ApiDoor;
use crate::import::import;
use crate::node::{Node, Role};
use crate::{summary, up, verify};

const RULEBOOK: &[u8] = include_bytes!("../../data/demo-program.json");
const SAMPLE: &[u8] = include_bytes!("../../data/online-retail/sample.csv.gz");
/// Some members spend, so that the book shows it.
const REDEMPTIONS: i64 = 10;

/// Runs the demo.
pub async fn run(options: DemoOptions) -> anyhow::Result<()> {
    let door = ApiDoor::at(&options.up.api, &options.up.data)?;
    let begin = std::time::Instant::now();
    let metrics = up::metrics()?;
    let node = Node::start(&options.up.data, Role::ALONE).await?;
    let program = Id::parse("shop")?;
    let (version, new) = node.service.publish(program.clone(), RULEBOOK.to_vec(), "demo".into()).await?;
    println!("program {program}: rulebook version {version}{}", if new { " published" } else { ", published before" });
    println!("importing purchases of a British gift shop (Online Retail II, UCI, CC BY 4.0)");
    let file = options.up.data.data.join("online-retail-sample.csv.gz");
    std::fs::write(&file, SAMPLE).with_context(|| format!("can't write {}", file.display()))?;
    let import_options = ImportOptions {
        rejected: Some(options.up.data.data.join("online-retail-sample.rejected.csv")),
        file,
        program: program.to_string(),
        format: Format::OnlineRetail,
        encoding: Encoding::Utf8,
        drive_clock: true,
        data: options.up.data.clone(),
    };
    let imported = import(&node.service, &import_options).await?;
    println!("{}", imported.words());
    if let Some(rejected) = &import_options.rejected {
        println!("rejected rows, each with its reason: {}", rejected.display());
    }
    node.caught_up().await?;
    redeem(&node, &program).await?;
    node.caught_up().await?;
    let check = verify::all(node.log.clone(), node.url()).await?;
    let rules = node.service.programs().by_id.get(&program).and_then(|state| state.program.latest().cloned()).context("published just above")?;
    println!();
    summary::print(node.url(), &program, &rules, &check).await?;
    println!("book verified: {} records", check.records);
    println!("all of it took {:.1} s", begin.elapsed().as_secs_f64());
    if options.exit {
        return node.stop().await;
    }
    let member = top_member(node.url(), &program).await?;
    up::serve(node, &options.up.data, door, metrics, |address| {
        println!("try:");
        println!("  curl {address}/v1/programs/shop/accounts/{member}");
        println!("  curl {address}/v1/programs/shop/accounts/{member}/explain");
        println!("  curl '{address}/v1/programs/shop/accounts/{member}/balance?as_of=2010-07-01T00:00:00Z'");
    })
    .await
}

/// The members with most points spend a hundred each. The ids are always the same, so a second run redeems nothing.
async fn redeem(node: &Node, program: &Id) -> anyhow::Result<()> {
    let client = connect(node.url(), "balance").await?;
    let sql = "SELECT account FROM balance WHERE program = $1 AND lifetime_earned >= 500 ORDER BY account COLLATE \"C\" LIMIT $2";
    for row in client.query(sql, &[&program.as_str(), &REDEMPTIONS]).await? {
        let account = Id::parse(row.get(0))?;
        let id = Id::parse(&format!("demo-{account}"))?;
        let command = Command { id, actor: "demo".into(), action: Action::Redeem { points: 100, occurred_at: None } };
        // Whoever has too few is refused, as in a shop.
        let _ = node.service.submit(AccountKey { program: program.clone(), account }, command).await;
    }
    Ok(())
}

async fn top_member(url: &str, program: &Id) -> anyhow::Result<String> {
    let client = connect(url, "balance").await?;
    let sql = "SELECT account FROM balance WHERE program = $1 ORDER BY available + pending DESC, account LIMIT 1";
    Ok(client.query_one(sql, &[&program.as_str()]).await?.get(0))
}
