//! Corrections after a replay: one person proposes the differences, another approves them. Who may do what is decided in the ledger; the file
//! between the two is only a list to read.

use std::path::Path;

use anyhow::{Context, bail};
use indicatif::ProgressBar;
use ledger_core::edition::EDITION;
use ledger_core::id::Id;
use ledger_core::policy::Rulebook;
use ledger_core::time::Moment;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use transparency::{Difference, WhatIf};

use crate::args::ServerOptions;

/// A line of the file.
#[derive(Debug, Serialize, Deserialize)]
struct Correction {
    program: String,
    proposal_id: String,
    account_id: String,
    points: i64,
    evidence: String,
}

/// What a replay was asked for, and how its proposals name it.
pub struct Basis {
    /// By what the history is decided again.
    pub what_if: WhatIf,
    program: String,
    /// Such as `since T under rulebook H (BLAKE3)`.
    words: String,
}

impl Basis {
    /// From the command line: a rulebook's file and since when, or the program whose older editions are decided again.
    pub fn read(rulebook: Option<&Path>, since: Option<&str>, edition_of: Option<&str>) -> anyhow::Result<Self> {
        if let Some(program) = edition_of {
            let what_if = WhatIf::Edition { program: Id::parse(program).with_context(|| format!("--edition-of {program:?}"))? };
            return Ok(Self { what_if, program: program.to_owned(), words: format!("by edition {EDITION}") });
        }
        let (file, since) = (rulebook.context("--rulebook is missing")?, since.context("--since is missing")?);
        let bytes = std::fs::read(file).with_context(|| format!("can't read {}", file.display()))?;
        let since = Moment::parse(since).with_context(|| format!("--since {since:?}"))?;
        let rulebook: Rulebook = serde_json::from_slice(&bytes).with_context(|| format!("{} is not a rulebook", file.display()))?;
        let words = format!("since {since} under rulebook {} (BLAKE3)", &blake3::hash(&bytes).to_hex()[..16]);
        let program = rulebook.program.to_string();
        Ok(Self { what_if: WhatIf::Rulebook { rulebook: Box::new(rulebook), since }, program, words })
    }
}

/// Proposes what is different, each with its evidence, and lists it in `file`.
pub async fn propose(server: &ServerOptions, basis: &Basis, differences: &[Difference], file: &Path) -> anyhow::Result<()> {
    let Basis { program, words, .. } = basis;
    // The same replay proposes under the same ids, so that doing it twice proposes once.
    let proposal_id = format!("correct-{}", &blake3::hash(words.as_bytes()).to_hex()[..16]);
    let (client, mut list) = (Client::of(server)?, csv::Writer::from_path(file).with_context(|| format!("can't write {}", file.display()))?);
    let (mut proposed, mut refused) = (0_u64, Vec::new());
    let bar = ProgressBar::new(differences.len() as u64).with_message("proposing");
    for difference in differences.iter().filter(|difference| difference.is.points != difference.would_be.points) {
        bar.inc(1);
        let correction = Correction {
            program: program.clone(),
            proposal_id: proposal_id.clone(),
            account_id: difference.account.clone(),
            points: difference.would_be.points - difference.is.points,
            evidence: format!(
                "decided again {words}: {} points, would be {}; after record {} with hash {}",
                difference.is.points,
                difference.would_be.points,
                difference.account_seq,
                blake3::Hash::from_bytes(difference.last_hash)
            ),
        };
        let body = json!({"proposal_id": correction.proposal_id, "account_id": correction.account_id, "points": correction.points,
            "reason_code": "correction", "note": correction.evidence});
        match client.post(&format!("{program}/proposals"), &body).await? {
            Ok(()) => {
                proposed += 1;
                list.serialize(&correction)?;
            }
            Err(why) => refused.push(format!("{}: {why}", correction.account_id)),
        }
    }
    bar.finish_and_clear();
    list.flush()?;
    println!("{proposed} corrections proposed, listed in {}; somebody else approves them: loyalty audit approve {0}", file.display());
    told("proposed", &refused)
}

/// Approves what `file` lists.
pub async fn approve(server: &ServerOptions, file: &Path) -> anyhow::Result<()> {
    let client = Client::of(server)?;
    let mut reader = csv::Reader::from_path(file).with_context(|| format!("can't read {}", file.display()))?;
    let (mut approved, mut points, mut refused) = (0_u64, 0_i64, Vec::new());
    for correction in reader.deserialize() {
        let correction: Correction = correction.with_context(|| format!("{} is not a list that `audit replay --correct` wrote", file.display()))?;
        let path = format!("{}/proposals/{}/approve", correction.program, correction.proposal_id);
        match client.post(&path, &json!({"account_id": correction.account_id})).await? {
            Ok(()) => {
                approved += 1;
                points = points.checked_add(correction.points).context("the corrections' points are too many to sum")?;
            }
            Err(why) => refused.push(format!("{}: {why}", correction.account_id)),
        }
    }
    println!("{approved} corrections approved, {points:+} points in all");
    told("approved", &refused)
}

fn told(what: &str, refused: &[String]) -> anyhow::Result<()> {
    if refused.is_empty() {
        return Ok(());
    }
    bail!("{} were not {what}:\n  {}", refused.len(), refused.join("\n  "))
}

struct Client<'a> {
    http: reqwest::Client,
    server: &'a ServerOptions,
    base: String,
}

impl<'a> Client<'a> {
    fn of(server: &'a ServerOptions) -> anyhow::Result<Self> {
        let base = server.server.as_deref().context("--server URL names the running service")?;
        Ok(Self { http: reqwest::Client::new(), server, base: format!("{}/v1/programs", base.trim_end_matches('/')) })
    }

    /// What the ledger says against it, if it does.
    async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Result<(), String>> {
        let request = self.server.with_key(self.http.post(format!("{}/{path}", self.base)).json(body));
        let response = request.send().await?;
        if response.status().is_success() {
            return Ok(Ok(()));
        }
        let problem: Value = response.json().await.unwrap_or_default();
        Ok(Err(problem["detail"].as_str().unwrap_or("it was refused without a reason").to_owned()))
    }
}
