//! What an auditor finds in the simulator's histories: sealed, archived and verified, every decision is made again and is the same; and
//! decided again by the rules that were in force, nothing is different.

use std::ops::Range;
use std::sync::Arc;

use event_log::EventLog;
use ledger_core::policy::Rulebook;
use ledger_core::time::Moment;
use ledger_schemas::{ProgramChange, ProgramEntry};
use transparency::{ArchiveLog, AuditError, Key, Sealer, WhatIf, export, make_key, replay, verify};

use crate::book::ReadLog;
use crate::fault::Fault;
use crate::plan::{self, Plan, What};
use crate::run::Findings;

/// Runs `seeds` and audits what they leave.
///
/// # Errors
/// Where a file can't be written or read.
pub async fn check(seeds: Range<u64>) -> Result<Findings, AuditError> {
    let mut findings = Vec::new();
    for seed in seeds {
        let plan = plan::draw(seed);
        let book = Arc::new(crate::outcome(&plan, None).book);
        let log = Arc::new(ReadLog { book, slices: None });
        let found = [verified(&log).await?, replayed(&log, &plan).await?].concat();
        findings.extend(found.into_iter().map(|finding| format!("seed {seed}: {finding}")));
    }
    Ok(findings)
}

async fn verified(log: &Arc<ReadLog>) -> Result<Findings, AuditError> {
    let folder = tempfile::tempdir().map_err(|source| AuditError::File { action: "make", path: std::env::temp_dir(), source })?;
    let (seal, archive) = (folder.path().join("seal"), folder.path().join("archive"));
    let (secret, public) = make_key("sim.example/book");
    Sealer::open(&seal, &secret)?.seal(&**log, Moment::default()).await?;
    let records = export(&**log, &archive, Some(&seal), |_| {}).await?;
    let verified = verify(&ArchiveLog::open(&archive)?, &Key::parse(&public)?, &|_| {})?;
    let mut findings = verified.findings;
    if (verified.records, verified.sealed) != (records, records) {
        findings.push(format!("of {records} records {} were verified, {} are sealed", verified.records, verified.sealed));
    }
    Ok(findings)
}

/// By the last rulebook, from when it came into force on, where all was decided by it from then on: it was published before that by clocks that
/// agree, and none comes into force later.
async fn replayed(log: &Arc<ReadLog>, plan: &Plan) -> Result<Findings, AuditError> {
    let mut rulebooks: Vec<(Moment, Rulebook)> = Vec::new();
    for entry in log.read_programs(0).await? {
        let wrong = |what: String| AuditError::Wrong(format!("the program stream: {what}"));
        let entry = ProgramEntry::decode(&entry).map_err(|error| wrong(error.to_string()))?;
        if let ProgramChange::RulebookPublished { rulebook, .. } = entry.change {
            rulebooks.push((entry.recorded_at, serde_json::from_slice(&rulebook).map_err(|error| wrong(error.to_string()))?));
        }
    }
    let Some((published_at, last)) = rulebooks.pop() else { return Ok(Vec::new()) };
    let since = last.effective_from;
    let clocks_agree = !plan.steps.iter().any(|step| matches!(step.what, What::Fault(Fault::ClockJump { .. })));
    if rulebooks.iter().any(|(_, before)| !clocks_agree || published_at >= since || before.effective_from >= since) {
        return Ok(Vec::new());
    }
    let replayed = replay(Arc::clone(log) as Arc<dyn EventLog>, WhatIf::Rulebook { rulebook: Box::new(last), since }, |_| {}).await?;
    Ok(replayed.differences.into_iter().map(|difference| format!("replayed since {since}: {difference:?}")).collect())
}
