//! The figures of a month, to bytes and back.

use crate::closing::{Closing, IssueMonth};
use crate::decode_error::Decoded;
use crate::fields::{amount, bad, month};
use crate::record::{Hash, hash};
use crate::v1;
use crate::wire::{Wire, amount as write_amount};

impl Closing {
    pub(crate) fn encode(&self, to: &mut Wire<'_>) {
        to.text(1, &self.period.to_string());
        for (partition, position) in (0_u32..).zip(&self.log_ends) {
            to.message(2, |to| {
                to.uint(1, partition);
                to.uint(2, *position);
            });
        }
        to.uint(3, self.program_entries);
        to.text(4, &self.currency);
        for (number, months) in [(5, &self.opening), (6, &self.figures)] {
            for month in months {
                to.message(number, |to| {
                    to.text(1, &month.issued_in.to_string());
                    write_amount(to, 2, month.deferred);
                    write_amount(to, 3, month.recognised);
                });
            }
        }
    }

    pub(crate) fn decode(message: v1::ClosingProposed) -> Decoded<Self> {
        let months = |months: Vec<v1::IssueMonth>| months.into_iter().map(issue_month).collect::<Decoded<Vec<_>>>();
        let mut log_ends = Vec::with_capacity(message.log_ends.len());
        for (partition, end) in (0..).zip(message.log_ends) {
            if end.partition != partition {
                return Err(bad("log_ends.partition"));
            }
            log_ends.push(end.position);
        }
        Ok(Self {
            period: month(&message.period, "period")?,
            log_ends,
            program_entries: message.program_entries,
            currency: message.currency,
            opening: months(message.opening)?,
            figures: months(message.figures)?,
        })
    }

    /// BLAKE3 of its bytes on the program stream: by which people name the figures that they approve.
    #[must_use]
    pub fn digest(&self) -> Hash {
        let mut bytes = Vec::new();
        self.encode(&mut Wire(&mut bytes));
        hash(&bytes)
    }
}

fn issue_month(message: v1::IssueMonth) -> Decoded<IssueMonth> {
    Ok(IssueMonth {
        issued_in: month(&message.issued_in, "issued_in")?,
        deferred: amount(message.deferred, "deferred")?,
        recognised: amount(message.recognised, "recognised")?,
    })
}
