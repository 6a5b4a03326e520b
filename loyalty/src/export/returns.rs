//! What was given back and what was refused.

use ledger_core::account::EventKind;
use ledger_core::account::command::Returned;
use ledger_schemas::{Outcome, Record};
use rust_decimal::Decimal;

use super::table::{Column, Rows, decimal, money, text};

/// Every return of a purchase.
#[derive(Default)]
pub struct Returns {
    texts: [Vec<String>; 4],
    longs: [Vec<i64>; 4],
    amounts: Vec<Option<Decimal>>,
}

impl Returns {
    pub fn add(&mut self, record: &Record) {
        for event in &record.events {
            if let EventKind::PurchaseReturned(reversed) = &event.kind {
                let texts = [&record.key.program, &record.key.account, &reversed.return_id, &reversed.body.purchase_id].map(ToString::to_string);
                self.texts.iter_mut().zip(texts).for_each(|(column, text)| column.push(text));
                let seq = i64::try_from(record.account_seq).unwrap_or(i64::MAX);
                let longs = [seq, record.recorded_at.as_micros(), event.at.as_micros(), reversed.points];
                self.longs.iter_mut().zip(longs).for_each(|(column, long)| column.push(long));
            }
        }
    }

    /// Program and account of each row, and its record within the account.
    pub fn keys(&self) -> (&[String], &[String], &[i64]) {
        (&self.texts[0], &self.texts[1], &self.longs[0])
    }

    /// What each row gave back, for goods.
    pub fn set_amounts(&mut self, amounts: Vec<Option<Decimal>>) {
        self.amounts = amounts;
    }
}

impl Rows for Returns {
    const SCHEMA: &'static str = "message return {
        required binary program (STRING); required binary account_id (STRING); required binary return_id (STRING); required binary purchase_id (STRING);
        required int64 account_seq; required int64 recorded_at (TIMESTAMP(MICROS,true)); required int64 returned_at (TIMESTAMP(MICROS,true));
        required int64 points; optional fixed_len_byte_array(16) amount (DECIMAL(38,12));
    }";

    fn columns(self) -> Vec<Column> {
        let known = self.texts.into_iter().map(text).chain(self.longs.into_iter().map(Column::Long));
        known.chain([money(&self.amounts)]).collect()
    }
}

/// Every refund of a purchase that the book does not have. Its record says how much it was, so no read model is asked.
#[derive(Default)]
pub struct Refunds {
    texts: [Vec<String>; 4],
    longs: [Vec<i64>; 3],
    amounts: Vec<Option<Decimal>>,
}

impl Refunds {
    pub fn add(&mut self, record: &Record) {
        for event in &record.events {
            let EventKind::RefundBooked { refund, body } = &event.kind else { continue };
            let texts = [record.key.program.to_string(), record.key.account.to_string(), refund.to_string(), body.reference.to_string()];
            self.texts.iter_mut().zip(texts).for_each(|(column, text)| column.push(text));
            let seq = i64::try_from(record.account_seq).unwrap_or(i64::MAX);
            let longs = [seq, record.recorded_at.as_micros(), event.at.as_micros()];
            self.longs.iter_mut().zip(longs).for_each(|(column, long)| column.push(long));
            self.amounts.push(Some(body.amount.0));
        }
    }
}

impl Rows for Refunds {
    const SCHEMA: &'static str = "message refund {
        required binary program (STRING); required binary account_id (STRING); required binary refund_id (STRING); required binary reference (STRING);
        required int64 account_seq; required int64 recorded_at (TIMESTAMP(MICROS,true)); required int64 returned_at (TIMESTAMP(MICROS,true));
        optional fixed_len_byte_array(16) amount (DECIMAL(38,12));
    }";

    fn columns(self) -> Vec<Column> {
        let known = self.texts.into_iter().map(text).chain(self.longs.into_iter().map(Column::Long));
        known.chain([money(&self.amounts)]).collect()
    }
}

/// Every line that a return names, with how much of it came back.
#[derive(Default)]
pub struct ReturnLines {
    texts: [Vec<String>; 5],
    longs: [Vec<i64>; 2],
}

impl ReturnLines {
    pub fn add(&mut self, record: &Record) {
        for event in &record.events {
            let EventKind::PurchaseReturned(reversed) = &event.kind else { continue };
            let Returned::Lines(lines) = &reversed.body.what else { continue };
            for (line, quantity) in lines {
                let texts = [&record.key.program, &record.key.account, &reversed.return_id, &reversed.body.purchase_id, line].map(ToString::to_string);
                self.texts.iter_mut().zip(texts).for_each(|(column, text)| column.push(text));
                let longs = [record.recorded_at.as_micros(), decimal(*quantity)];
                self.longs.iter_mut().zip(longs).for_each(|(column, long)| column.push(long));
            }
        }
    }
}

impl Rows for ReturnLines {
    const SCHEMA: &'static str = "message return_line {
        required binary program (STRING); required binary account_id (STRING); required binary return_id (STRING); required binary purchase_id (STRING);
        required binary line_id (STRING); required int64 recorded_at (TIMESTAMP(MICROS,true)); required int64 quantity (DECIMAL(18,6));
    }";

    fn columns(self) -> Vec<Column> {
        self.texts.into_iter().map(text).chain(self.longs.into_iter().map(Column::Long)).collect()
    }
}

/// Every command that was refused.
#[derive(Default)]
pub struct Refused {
    texts: [Vec<String>; 7],
    longs: [Vec<i64>; 2],
    partitions: Vec<i32>,
}

impl Refused {
    pub fn add(&mut self, outcome: &Outcome, partition: u16, position: u64) {
        let Outcome { key, command, code, detail, .. } = outcome;
        let texts = [
            key.program.to_string(),
            key.account.to_string(),
            command.action.kind().to_string(),
            command.id.to_string(),
            command.actor.to_string(),
            code.clone(),
            detail.clone(),
        ];
        self.texts.iter_mut().zip(texts).for_each(|(column, text)| column.push(text));
        let longs = [i64::try_from(position).unwrap_or(i64::MAX), outcome.recorded_at.as_micros()];
        self.longs.iter_mut().zip(longs).for_each(|(column, long)| column.push(long));
        self.partitions.push(i32::from(partition));
    }
}

impl Rows for Refused {
    const SCHEMA: &'static str = "message refusal {
        required binary program (STRING); required binary account_id (STRING); required binary command_kind (STRING);
        required binary command_id (STRING); required binary actor (STRING); required binary code (STRING); required binary detail (STRING);
        required int64 position; required int64 recorded_at (TIMESTAMP(MICROS,true)); required int32 partition;
    }";

    fn columns(self) -> Vec<Column> {
        let known = self.texts.into_iter().map(text).chain(self.longs.into_iter().map(Column::Long));
        known.chain([Column::Int(self.partitions)]).collect()
    }
}
