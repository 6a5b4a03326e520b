//! Receipts: where a command stands in the book, with the proof that it does.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::names::CommandKind;
use crate::parameters::{Path, Query};
use crate::problem::Problem;
use crate::reads::wait_for;
use crate::responses::ReadProblems;
use crate::state::{ApiState, path_id};

/// Which of several commands with one id.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ReceiptParams {
    /// The kind of command, such as `purchase`; needed where an account used one id for several kinds.
    #[param(value_type = Option<CommandKind>)]
    pub kind: Option<String>,
    /// A position from an answer: the read waits (at most 2 s) until it has seen it, else 503 `not_yet_visible`.
    pub min_position: Option<String>,
}

/// A receipt.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReceiptView {
    /// The program.
    pub program: String,
    /// The account.
    pub account_id: String,
    /// The kind of command.
    #[schema(value_type = CommandKind)]
    pub kind: String,
    /// Its id.
    pub command_id: String,
    /// The number of its record within the account.
    pub account_seq: u64,
    /// The account's partition.
    pub partition: u16,
    /// The record's position in it.
    pub position: u64,
    /// BLAKE3 of the record as it is stored, in hexadecimal.
    pub record_hash: String,
    /// The record as it is stored (protobuf `loyalty.v1.Record`), base64.
    pub record: String,
    /// The proof, once a checkpoint covers the record; null before.
    pub sealed: Option<SealedView>,
}

/// The proof that the record stands in the book; `loyalty audit prove` checks it offline.
#[derive(Debug, Serialize, ToSchema)]
pub struct SealedView {
    /// The signed checkpoint over all heads (C2SP tlog-checkpoint).
    pub checkpoint: String,
    /// The head that covers the record.
    pub head: String,
    /// Its number among the heads, from 0.
    pub head_number: u64,
    /// From the head to the checkpoint's root, base64.
    pub head_proof: Vec<String>,
    /// From the record to the root of its partition that the head names, base64.
    pub record_proof: Vec<String>,
}

/// Where an accepted command stands in the book, and once it is sealed, the proof.
#[utoipa::path(get, path = "/programs/{program}/accounts/{account_id}/receipts/{command_id}", operation_id = "getReceipt", tag = "Audit",
    params(("program" = String, Path), ("account_id" = String, Path), ("command_id" = String, Path), ReceiptParams),
    responses((status = 200, description = "The receipt", body = ReceiptView), ReadProblems))]
pub(super) async fn get(
    State(state): State<ApiState>,
    Path((program, account, command)): Path<(String, String, String)>,
    Query(params): Query<ReceiptParams>,
) -> Result<axum::Json<ReceiptView>, Problem> {
    let (key, _) = state.key(&program, &account)?;
    let command = path_id("command_id", &command)?;
    wait_for(&state, "audit", params.min_position.as_deref()).await?;
    let database = state.database().await?;
    let sql = "SELECT kind, account_seq, partition, position, encode(record_hash, 'hex') FROM audit.command
               WHERE program = $1 AND account = $2 AND command_id = $3 AND ($4::text IS NULL OR kind = $4) ORDER BY account_seq";
    let rows = database.query(sql, &[&key.program.as_str(), &key.account.as_str(), &command.as_str(), &params.kind]).await?;
    let row = match &*rows {
        [] => return Err(Problem::new("command_not_found", format!("account {account} has no accepted command {command}"))),
        [row] => row,
        // An id is unique within its kind only, and none of them is more likely meant than another.
        several => {
            let kinds = several.iter().map(|row| row.get::<_, &str>(0)).collect::<Vec<_>>().join(", ");
            return Err(Problem::parameter("kind", "", &format!("one of {kinds}: the account used the id {command} for each")));
        }
    };
    let (partition, position) = (row.get::<_, i16>(2).unsigned_abs(), row.get::<_, i64>(3).unsigned_abs());
    let entries = state.log.read(partition, position, 1).await.map_err(|error| Problem::unavailable(&error))?;
    let record = entries.first().map(|entry| transparency::record_text(&entry.body)).unwrap_or_default();
    let folder = state.seal.clone();
    let sealed = tokio::task::spawn_blocking(move || transparency::Sealed::of(&folder, partition, position)).await;
    let sealed = sealed.map_err(|error| Problem::unavailable(&error))?.map_err(|error| Problem::unavailable(&error))?;
    let view = |sealed: transparency::Sealed| {
        let transparency::Sealed { checkpoint, head, head_number, head_proof, record_proof } = sealed;
        SealedView { checkpoint, head, head_number, head_proof, record_proof }
    };
    Ok(axum::Json(ReceiptView {
        program: key.program.to_string(),
        account_id: key.account.to_string(),
        kind: row.get(0),
        command_id: command.to_string(),
        account_seq: row.get::<_, i64>(1).unsigned_abs(),
        partition,
        position,
        record_hash: row.get(4),
        record,
        sealed: sealed.map(view),
    }))
}
