//! The tables of the export: their columns, and how they are written.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use ledger_core::account::EventKind;
use ledger_core::account::event::Earned;
use ledger_core::points::Amount;
use ledger_core::posting::postings;
use ledger_schemas::Record;
use parquet::basic::{Compression, ZstdLevel};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::{ByteArray, FixedLenByteArray};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use rust_decimal::Decimal;

/// Prices and quantities are written with as many decimals.
const DECIMALS: u32 = 6;
/// What is paid is written with as many: a product of a price and a quantity has all of theirs.
const WIDE_DECIMALS: u32 = 12;

/// The values of a column.
pub enum Column {
    Text(Vec<ByteArray>),
    Long(Vec<i64>),
    Int(Vec<i32>),
    /// With gaps: the values that are there, and for each row whether there is one.
    OptionalInt(Vec<i32>, Vec<i16>),
    /// Money at [`WIDE_DECIMALS`], with gaps.
    OptionalMoney(Vec<FixedLenByteArray>, Vec<i16>),
    /// Estimates.
    Double(Vec<f64>),
}

/// Rows that become a file.
pub trait Rows {
    /// The columns, in Parquet's own schema language.
    const SCHEMA: &'static str;

    /// The columns' values, in the order of the schema.
    fn columns(self) -> Vec<Column>;

    /// Writes the file whole or not at all.
    fn write(self, path: &Path) -> anyhow::Result<()>
    where
        Self: Sized,
    {
        let columns = self.columns();
        let failed = || format!("can't write {}", path.display());
        let folder = path.parent().with_context(failed)?;
        std::fs::create_dir_all(folder).with_context(failed)?;
        let partial = path.with_extension("partial");
        let file = std::fs::File::create(&partial).with_context(failed)?;
        let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
        let mut writer = SerializedFileWriter::new(file, Arc::new(parse_message_type(Self::SCHEMA)?), Arc::new(properties))?;
        let mut group = writer.next_row_group()?;
        for column in columns {
            let mut to = group.next_column()?.context("the schema has a column for each")?;
            match (to.untyped(), &column) {
                (ColumnWriter::ByteArrayColumnWriter(to), Column::Text(values)) => to.write_batch(values, None, None)?,
                (ColumnWriter::Int64ColumnWriter(to), Column::Long(values)) => to.write_batch(values, None, None)?,
                (ColumnWriter::Int32ColumnWriter(to), Column::Int(values)) => to.write_batch(values, None, None)?,
                (ColumnWriter::Int32ColumnWriter(to), Column::OptionalInt(values, there)) => to.write_batch(values, Some(there), None)?,
                (ColumnWriter::FixedLenByteArrayColumnWriter(to), Column::OptionalMoney(values, there)) => to.write_batch(values, Some(there), None)?,
                (ColumnWriter::DoubleColumnWriter(to), Column::Double(values)) => to.write_batch(values, None, None)?,
                _ => anyhow::bail!("a column of {} is not of its schema's type", path.display()),
            };
            to.close()?;
        }
        group.close()?;
        writer.close()?;
        std::fs::rename(&partial, path).with_context(failed)
    }
}

pub fn text(values: Vec<String>) -> Column {
    Column::Text(values.into_iter().map(|value| ByteArray::from(value.into_bytes())).collect())
}

/// Money, where it is known.
pub fn money(values: &[Option<Decimal>]) -> Column {
    let wide = |value: &Decimal| {
        let mut value = *value;
        value.rescale(WIDE_DECIMALS);
        // A decimal has 28 digits at most; one so large that it has no room for twelve after the point keeps those that it has room for.
        let units = value.mantissa().saturating_mul(10_i128.saturating_pow(WIDE_DECIMALS.saturating_sub(value.scale())));
        FixedLenByteArray::from(ByteArray::from(units.to_be_bytes().to_vec()))
    };
    Column::OptionalMoney(values.iter().flatten().map(wide).collect(), values.iter().map(|value| i16::from(value.is_some())).collect())
}

pub fn decimal(amount: Amount) -> i64 {
    amount.units().saturating_mul(10_i64.saturating_pow(DECIMALS.saturating_sub(amount.scale())))
}

/// Every posting of every event: what moved from where to where.
#[derive(Default)]
pub struct Movements {
    texts: [Vec<String>; 7],
    longs: [Vec<i64>; 5],
    ints: [Vec<i32>; 2],
    lots: Vec<i32>,
    has_lot: Vec<i16>,
}

impl Movements {
    pub fn add(&mut self, record: &Record, partition: u16, position: u64) {
        let long = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        for event in &record.events {
            postings(event, |posting| {
                let texts = [
                    record.key.program.to_string(),
                    record.key.account.to_string(),
                    record.command_kind.to_string(),
                    record.command_id.to_string(),
                    record.actor.to_string(),
                    projectors::kind(&event.kind).to_owned(),
                    posting.bucket.name().to_owned(),
                ];
                self.texts.iter_mut().zip(texts).for_each(|(column, text)| column.push(text));
                let longs = [long(position), long(record.account_seq), record.recorded_at.as_micros(), event.at.as_micros(), posting.points];
                self.longs.iter_mut().zip(longs).for_each(|(column, long)| column.push(long));
                let ints = [i32::from(partition), i32::try_from(record.rule_version).unwrap_or(i32::MAX)];
                self.ints.iter_mut().zip(ints).for_each(|(column, int)| column.push(int));
                self.lots.extend(posting.lot.map(|lot| i32::try_from(lot).unwrap_or(i32::MAX)));
                self.has_lot.push(i16::from(posting.lot.is_some()));
            });
        }
    }
}

impl Rows for Movements {
    const SCHEMA: &'static str = "message movement {
        required binary program (STRING); required binary account_id (STRING); required binary command_kind (STRING);
        required binary command_id (STRING); required binary actor (STRING); required binary event (STRING); required binary bucket (STRING);
        required int64 position; required int64 account_seq;
        required int64 recorded_at (TIMESTAMP(MICROS,true)); required int64 effective_at (TIMESTAMP(MICROS,true)); required int64 points;
        required int32 partition; required int32 rule_version; optional int32 lot;
    }";

    fn columns(self) -> Vec<Column> {
        let mut columns: Vec<Column> = self.texts.into_iter().map(text).collect();
        columns.extend(self.longs.map(Column::Long));
        columns.extend(self.ints.map(Column::Int));
        columns.push(Column::OptionalInt(self.lots, self.has_lot));
        columns
    }
}

/// Every line of every purchase, with the points that it earned.
#[derive(Default)]
pub struct Lines {
    texts: [Vec<String>; 9],
    longs: [Vec<i64>; 8],
    spends: Vec<Option<Decimal>>,
}

impl Lines {
    /// Program, account, purchase and line of each row.
    pub fn keys(&self) -> [&[String]; 4] {
        [&self.texts[0], &self.texts[1], &self.texts[2], &self.texts[6]]
    }

    /// What was paid for each row.
    pub fn set_spends(&mut self, spends: Vec<Option<Decimal>>) {
        self.spends = spends;
    }

    pub fn add(&mut self, record: &Record) {
        for event in &record.events {
            if let EventKind::PointsEarned(earned) = &event.kind {
                self.purchase(record, earned);
            }
        }
    }

    fn purchase(&mut self, record: &Record, earned: &Earned) {
        let purchase = &earned.purchase;
        for (n, line) in (0_u32..).zip(&purchase.lines) {
            let texts = [
                record.key.program.to_string(),
                record.key.account.to_string(),
                purchase.purchase_id.to_string(),
                purchase.currency.to_string(),
                purchase.channel.to_string(),
                purchase.store.to_string(),
                line.line_id.to_string(),
                line.sku.to_string(),
                line.category.to_string(),
            ];
            self.texts.iter_mut().zip(texts).for_each(|(column, text)| column.push(text));
            let points = earned.lines.iter().find(|points| points.line == n).map_or(0, |points| points.points);
            let money = [line.quantity, line.unit_price, line.discount, line.tax].map(decimal);
            let charged = decimal(Amount(line.charge(earned.decimals).0.round_dp(DECIMALS)));
            let longs = [record.recorded_at.as_micros(), purchase.occurred_at.as_micros(), money[0], money[1], money[2], money[3], charged, points];
            self.longs.iter_mut().zip(longs).for_each(|(column, long)| column.push(long));
        }
    }
}

impl Rows for Lines {
    const SCHEMA: &'static str = "message purchase_line {
        required binary program (STRING); required binary account_id (STRING); required binary purchase_id (STRING);
        required binary currency (STRING); required binary channel (STRING); required binary store (STRING);
        required binary line_id (STRING); required binary sku (STRING); required binary category (STRING);
        required int64 recorded_at (TIMESTAMP(MICROS,true)); required int64 occurred_at (TIMESTAMP(MICROS,true));
        required int64 quantity (DECIMAL(18,6)); required int64 unit_price (DECIMAL(18,6));
        required int64 discount (DECIMAL(18,6)); required int64 tax (DECIMAL(18,6)); required int64 amount (DECIMAL(18,6)); required int64 points;
        optional fixed_len_byte_array(16) spend (DECIMAL(38,12));
    }";

    fn columns(self) -> Vec<Column> {
        let texts = self.texts.into_iter().map(text);
        let known = texts.chain(self.longs.into_iter().map(Column::Long));
        known.chain([money(&self.spends)]).collect()
    }
}
