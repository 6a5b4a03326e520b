//! A receipt: what was booked, the record itself, and once it is sealed, the proof that it stands in the book; to be checked by anyone, offline.
//!
//! Invariant: whatever a receipt says that passed its check is what the record says, or is proven.

use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use event_log::{Partition, Position};
use ledger_schemas::{Hash, Record, hash};
use serde::{Deserialize, Serialize};
use tlog_tiles::{check_record, record_hash};

use crate::AuditError;
use crate::head::{Head, decode, encode};
use crate::seal::{Key, last_bundle, leaf_of_hash, signed};
use crate::tree::Tree;

/// What a member, partner or regulator gets of a command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Receipt {
    /// The program.
    pub program: String,
    /// The account.
    pub account_id: String,
    /// The kind of command.
    pub kind: String,
    /// Its id.
    pub command_id: String,
    /// The number of its record within the account.
    pub account_seq: u64,
    /// The account's partition.
    pub partition: Partition,
    /// The record's position in it.
    pub position: Position,
    /// BLAKE3 of the record as it is stored, in hexadecimal.
    pub record_hash: String,
    /// The record as it is stored, base64: what all the above is said of. Receipts of before have none; they can't be checked.
    #[serde(default)]
    pub record: String,
    /// The proof, once there is a checkpoint that covers it.
    pub sealed: Option<Sealed>,
}

/// The proof that the record stands in the book.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sealed {
    /// The signed checkpoint over all heads.
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

fn parse_hash(text: &str) -> Option<Hash> {
    let byte = |i: usize| u8::from_str_radix(text.get(2 * i..2 * i + 2)?, 16).ok();
    let bytes: Option<Vec<u8>> = (0..32).map(byte).collect();
    bytes.filter(|_| text.len() == 64)?.try_into().ok()
}

impl Sealed {
    /// The proof of the record at `position`, by the last checkpoint in `folder`; none where that does not cover it.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn of(folder: &Path, partition: Partition, position: Position) -> Result<Option<Self>, AuditError> {
        // While it is read, the sealer may write the next one and delete what that supersedes.
        Self::once(folder, partition, position).or_else(|_| Self::once(folder, partition, position))
    }

    fn once(folder: &Path, partition: Partition, position: Position) -> Result<Option<Self>, AuditError> {
        let (signed, checkpoint) = signed(folder)?;
        let bundle = last_bundle(folder, signed)?;
        let Some(text) = bundle.last() else { return Ok(None) };
        let size = Head::parse(text)?.covers(partition);
        if size <= position {
            return Ok(None);
        }
        let number = signed - 1;
        let texts = |proof: Vec<tlog_tiles::Hash>| proof.iter().map(encode).collect();
        let head_proof = texts(Tree::open(folder, signed).prove(number)?);
        let record_proof = texts(Tree::open(&folder.join(format!("records/{partition:03}")), size).prove(position)?);
        Ok(Some(Self { checkpoint, head: text.clone(), head_number: number, head_proof, record_proof }))
    }

    /// Checks with `key` that a record of hash `own` stands at `position` of `partition`; tells when it was sealed.
    ///
    /// # Errors
    /// [`AuditError::Wrong`] says what does not hold.
    pub fn check(&self, key: &Key, own: &Hash, partition: Partition, position: Position) -> Result<Head, AuditError> {
        let checkpoint = key.open(self.checkpoint.as_bytes())?;
        let proof = |texts: &[String]| texts.iter().map(|text| decode(text)).collect::<Option<Vec<_>>>().ok_or_else(|| wrong("a proof is not base64"));
        let head_leaf = record_hash(self.head.as_bytes());
        check_record(&proof(&self.head_proof)?, checkpoint.size(), *checkpoint.hash(), self.head_number, head_leaf)
            .map_err(|_| wrong("the head does not stand in the signed checkpoint"))?;
        let head = Head::parse(&self.head)?;
        let (size, root) = head.records.get(usize::from(partition)).copied().ok_or_else(|| wrong("the head has no such partition"))?;
        check_record(&proof(&self.record_proof)?, size, root, position, leaf_of_hash(own))
            .map_err(|_| wrong("the record does not stand in the book at this place"))?;
        Ok(head)
    }
}

/// As a receipt holds it.
#[must_use]
pub fn record_text(record: &[u8]) -> String {
    BASE64_STANDARD.encode(record)
}

impl Receipt {
    /// Checks with `key` that the receipt's record stands in the book, and that it says what the receipt says; tells the record and when it was sealed.
    ///
    /// # Errors
    /// [`AuditError::Wrong`] says what does not hold.
    pub fn check(&self, key: &Key) -> Result<(Record, Head), AuditError> {
        let own = parse_hash(&self.record_hash).ok_or_else(|| wrong("record_hash is not 64 hexadecimal digits"))?;
        if self.record.is_empty() {
            return Err(wrong("the receipt has no record, so what it says of one can't be checked; ask for it again"));
        }
        let record = BASE64_STANDARD.decode(&self.record).map_err(|_| wrong("record is not base64"))?;
        if hash(&record) != own {
            return Err(wrong("the record is not the one that record_hash names"));
        }
        let record = Record::decode(&record).map_err(|error| AuditError::Wrong(format!("the record can't be read: {error}")))?;
        let said = [
            ("program", self.program.as_str(), record.key.program.as_str()),
            ("account_id", self.account_id.as_str(), record.key.account.as_str()),
            ("kind", self.kind.as_str(), record.command_kind.as_str()),
            ("command_id", self.command_id.as_str(), record.command_id.as_str()),
            ("account_seq", &self.account_seq.to_string(), &record.account_seq.to_string()),
        ];
        if let Some((field, said, found)) = said.into_iter().find(|(_, said, found)| said != found) {
            return Err(AuditError::Wrong(format!("the receipt says {field} {said}, its record {found}")));
        }
        let sealed = self.sealed.as_ref().ok_or_else(|| wrong("the receipt has no proof: it was not sealed yet when it was made; ask for it again"))?;
        let head = sealed.check(key, &own, self.partition, self.position)?;
        Ok((record, head))
    }
}

fn wrong(what: &str) -> AuditError {
    AuditError::Wrong(what.to_owned())
}
