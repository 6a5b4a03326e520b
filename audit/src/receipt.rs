//! A receipt: what was booked, its hash, and once it is sealed, the proof that it stands in the book; to be checked by anyone, offline.

use std::path::Path;

use event_log::{Partition, Position};
use ledger_schemas::{Hash, hash};
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
}

impl Receipt {
    /// Checks the proof with `key`, and that `record`, if it is at hand, is the one; tells when it was sealed.
    ///
    /// # Errors
    /// [`AuditError::Wrong`] says what does not hold.
    pub fn check(&self, key: &Key, record: Option<&[u8]>) -> Result<Head, AuditError> {
        let wrong = |what: &str| AuditError::Wrong(what.to_owned());
        let own = parse_hash(&self.record_hash).ok_or_else(|| wrong("record_hash is not 64 hexadecimal digits"))?;
        if record.is_some_and(|record| hash(record) != own) {
            return Err(wrong("the record is not the one that the receipt names"));
        }
        let sealed = self.sealed.as_ref().ok_or_else(|| wrong("the receipt has no proof: it was not sealed yet when it was made; ask for it again"))?;
        let checkpoint = key.open(sealed.checkpoint.as_bytes())?;
        let proof = |texts: &[String]| texts.iter().map(|text| decode(text)).collect::<Option<Vec<_>>>().ok_or_else(|| wrong("a proof is not base64"));
        let head_leaf = record_hash(sealed.head.as_bytes());
        check_record(&proof(&sealed.head_proof)?, checkpoint.size(), *checkpoint.hash(), sealed.head_number, head_leaf)
            .map_err(|_| wrong("the head does not stand in the signed checkpoint"))?;
        let head = Head::parse(&sealed.head)?;
        let (size, root) = head.records.get(usize::from(self.partition)).copied().ok_or_else(|| wrong("the head has no such partition"))?;
        check_record(&proof(&sealed.record_proof)?, size, root, self.position, leaf_of_hash(&own))
            .map_err(|_| wrong("the record does not stand in the book at this place"))?;
        Ok(head)
    }
}
