//! Signals that no rule has looked at yet.

use chrono::{DateTime, Utc};
use ledger_core::policy::{SignalField, SignalKind, SignalView};
use tokio_postgres::{Row, Transaction};

use crate::AnalysisError;

/// A signal with its place.
#[derive(Debug)]
pub(super) struct Signal {
    pub(super) program: String,
    pub(super) at: DateTime<Utc>,
    pub(super) partition: i16,
    pub(super) position: i64,
    pub(super) view: SignalView,
}

impl Signal {
    /// Where its record is, as evidence tells it.
    pub(super) fn place(&self) -> String {
        format!("{}:{}", self.partition, self.position)
    }
}

/// Where signals come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    /// Of records.
    Signal,
    /// Of refused commands.
    Refusal,
}

impl Stream {
    pub(super) const ALL: [Self; 2] = [Self::Signal, Self::Refusal];

    fn name(self) -> &'static str {
        match self {
            Self::Signal => "signal",
            Self::Refusal => "refusal",
        }
    }

    fn select(self) -> &'static str {
        match self {
            Self::Signal => {
                "SELECT program, at, partition, position, kind, account, actor, points, channel, store, cashier, till, device, card, reference, reason
                 FROM fraud.signal WHERE partition = $1 AND position >= $2 AND position < $2 + $3 ORDER BY position, event"
            }
            Self::Refusal => {
                "SELECT program, recorded_at, partition, position, 'refused', account, actor, 0::bigint, '', '', '', '', '', '', command_id, code
                 FROM refusal.refusal WHERE partition = $1 AND position >= $2 AND position < $2 + $3 ORDER BY position"
            }
        }
    }

    /// The read model's checkpoints.
    fn checkpoint(self) -> &'static str {
        match self {
            Self::Signal => "fraud.checkpoint",
            Self::Refusal => "refusal.checkpoint",
        }
    }
}

pub(super) fn read(row: &Row) -> Signal {
    Signal {
        program: row.get(0),
        at: row.get(1),
        partition: row.get(2),
        position: row.get(3),
        view: SignalView {
            kind: row.get(4),
            account: row.get(5),
            actor: row.get(6),
            points: row.get(7),
            channel: row.get(8),
            store: row.get(9),
            cashier: row.get(10),
            till: row.get(11),
            device: row.get(12),
            card: row.get(13),
            reference: row.get(14),
            code: row.get(15),
            own: false,
            colleague: false,
        },
    }
}

/// How far the signals of each partition had been looked at.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) partitions: Vec<i16>,
    pub(super) positions: Vec<i64>,
}

/// How far signals were looked at before this look.
pub(super) async fn seen(transaction: &Transaction<'_>) -> Result<Seen, AnalysisError> {
    let sql = "SELECT partition, position FROM watched WHERE stream = $1";
    let rows = transaction.query(sql, &[&Stream::Signal.name()]).await?;
    Ok(Seen { partitions: rows.iter().map(|row| row.get(0)).collect(), positions: rows.iter().map(|row| row.get(1)).collect() })
}

/// What `stream` has beyond what was looked at, at most `positions` positions of each partition; from here on it counts as looked at.
pub(super) async fn take(transaction: &Transaction<'_>, stream: Stream, positions: i64) -> Result<Vec<Signal>, AnalysisError> {
    let mut signals = Vec::new();
    let news = format!(
        "SELECT c.partition, coalesce(w.position, 0), c.position FROM {} c LEFT JOIN watched w ON w.stream = $1 AND w.partition = c.partition
         WHERE c.position > coalesce(w.position, 0) ORDER BY c.partition",
        stream.checkpoint()
    );
    for row in transaction.query(&news, &[&stream.name()]).await? {
        let (partition, seen, end): (i16, i64, i64) = (row.get(0), row.get(1), row.get(2));
        let next = end.min(seen + positions);
        let rows = transaction.query(stream.select(), &[&partition, &seen, &(next - seen)]).await?;
        signals.extend(rows.iter().map(read));
        let sql = "INSERT INTO watched VALUES ($1, $2, $3) ON CONFLICT (stream, partition) DO UPDATE SET position = excluded.position";
        transaction.execute(sql, &[&stream.name(), &partition, &next]).await?;
    }
    Ok(signals)
}

/// The value of `field`.
pub(super) fn value(view: &SignalView, field: SignalField) -> &str {
    match field {
        SignalField::Account => &view.account,
        SignalField::Actor => &view.actor,
        SignalField::Cashier => &view.cashier,
        SignalField::Till => &view.till,
        SignalField::Device => &view.device,
        SignalField::Card => &view.card,
        SignalField::Store => &view.store,
        SignalField::Reference => &view.reference,
    }
}

/// The column of `field`, and its name in a case.
pub(super) fn column(field: SignalField) -> &'static str {
    match field {
        SignalField::Account => "account",
        SignalField::Actor => "actor",
        SignalField::Cashier => "cashier",
        SignalField::Till => "till",
        SignalField::Device => "device",
        SignalField::Card => "card",
        SignalField::Store => "store",
        SignalField::Reference => "reference",
    }
}

/// As the rows name it.
pub(super) fn kind(kind: SignalKind) -> &'static str {
    match kind {
        SignalKind::Open => "open",
        SignalKind::Earn => "earn",
        SignalKind::Redeem => "redeem",
        SignalKind::Return => "return",
        SignalKind::Adjust => "adjust",
        SignalKind::Alias => "alias",
        SignalKind::Woken => "woken",
        SignalKind::Refused => "refused",
    }
}
