//! Sums of postings: by bucket, and from one day to another.

use chrono::NaiveDate;
use serde::Serialize;
use tokio_postgres::Client;
use utoipa::ToSchema;
use utoipa::openapi::Ref;

use crate::AnalysisError;

/// By which of a posting's days it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Basis {
    /// When it was booked: a closed day gets no more.
    Booked,
    /// When it took effect.
    Effective,
}

impl Basis {
    fn column(self) -> &'static str {
        match self {
            Self::Booked => "booked_on",
            Self::Effective => "effective_on",
        }
    }
}

/// How many points are in a bucket; negative where more went out of it than came in, as with `issued`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct BucketPoints {
    /// The bucket.
    #[schema(schema_with = buckets)]
    pub bucket: String,
    /// Points.
    pub points: i64,
}

fn buckets() -> Ref {
    Ref::from_schema_name("Bucket")
}

/// Where all points are at the end of a day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct TrialBalance {
    /// Every bucket that has had points, by name.
    pub buckets: Vec<BucketPoints>,
    /// Their sum, which is zero.
    pub sum: i64,
    /// What is owed: pending, available and held, less what members owe.
    pub liability_points: i64,
}

/// The trial balance at the end of `day`, of what was booked by the end of `known_on`, or until now if none.
///
/// # Errors
/// What the database says.
pub async fn trial_balance(client: &Client, program: &str, day: NaiveDate, known_on: Option<NaiveDate>, basis: Basis) -> Result<TrialBalance, AnalysisError> {
    let sql = format!(
        "SELECT bucket, sum(points)::bigint FROM liability.posting
         WHERE program = $1 AND {} <= $2 AND ($3::date IS NULL OR booked_on <= $3) GROUP BY bucket ORDER BY bucket",
        basis.column()
    );
    let rows = client.query(&sql, &[&program, &day, &known_on]).await?;
    let buckets: Vec<BucketPoints> = rows.iter().map(|row| BucketPoints { bucket: row.get(0), points: row.get(1) }).collect();
    let owing = |held: &&BucketPoints| matches!(held.bucket.as_str(), "pending" | "available" | "held" | "owed");
    let liability_points = buckets.iter().filter(owing).map(|held| held.points).sum();
    Ok(TrialBalance { sum: buckets.iter().map(|held| held.points).sum(), buckets, liability_points })
}

/// How what is owed went from the start of one day to the end of another.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Rolled {
    /// The tier or the issue month, where it is by one.
    pub group: Option<String>,
    /// Owed at the start.
    pub opening: i64,
    /// Earned.
    pub issued: i64,
    /// Became available; it moves nothing in or out.
    pub matured: i64,
    /// Spent, less what came back with returned redemptions.
    pub redeemed: i64,
    /// Lost to time.
    pub expired: i64,
    /// Taken back with returned goods.
    pub clawed_back: i64,
    /// Given and taken by hand.
    pub adjusted: i64,
    /// Lost by closing accounts.
    pub forfeited: i64,
    /// Owed at the end: the opening and all of the above but matured.
    pub closing: i64,
}

/// A roll-forward.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct RollForward {
    /// A row a group; one where it is by none.
    pub rows: Vec<Rolled>,
    /// Over all groups.
    pub total: Rolled,
}

/// From the start of `from` to the end of `to`, by `tier`, `cohort` or as one, of what was booked by the end of `known_on`, or until now if none.
///
/// # Errors
/// What the database says.
pub async fn roll_forward(
    client: &Client,
    program: &str,
    (from, to): (NaiveDate, NaiveDate),
    known_on: Option<NaiveDate>,
    basis: Basis,
    by: Option<&str>,
) -> Result<RollForward, AnalysisError> {
    let group = match by {
        Some("tier") => "tier",
        Some("cohort") => "to_char(cohort, 'YYYY-MM')",
        None => "''",
        Some(other) => return Err(AnalysisError::Invalid { field: "by", value: other.into(), expected: "tier or cohort".into() }),
    };
    let (day, owing) = (basis.column(), "bucket IN ('pending', 'available', 'held', 'owed')");
    let sql = format!(
        "SELECT {group}, CASE WHEN {day} < $2 THEN 'opening' ELSE kind END, coalesce(sum(points) FILTER (WHERE {owing}), 0)::bigint,
                coalesce(sum(points) FILTER (WHERE bucket = 'available'), 0)::bigint
         FROM liability.posting WHERE program = $1 AND {day} <= $3 AND ($4::date IS NULL OR booked_on <= $4) GROUP BY 1, 2 ORDER BY 1, 2"
    );
    let mut rows: Vec<Rolled> = Vec::new();
    let mut total = Rolled::default();
    for row in client.query(&sql, &[&program, &from, &to, &known_on]).await? {
        let name = by.map(|_| row.get::<_, String>(0));
        if rows.last().is_none_or(|last| last.group != name) {
            rows.push(Rolled { group: name, ..Rolled::default() });
        }
        let (kind, owed, available): (&str, i64, i64) = (row.get(1), row.get(2), row.get(3));
        if let Some(last) = rows.last_mut() {
            last.add(kind, owed, available);
        }
        total.add(kind, owed, available);
    }
    Ok(RollForward { rows, total })
}

impl Rolled {
    fn add(&mut self, kind: &str, owed: i64, available: i64) {
        match kind {
            "opening" => self.opening += owed,
            "issued" => self.issued += owed,
            "matured" => self.matured += available,
            "redeemed" | "redemption_returned" => self.redeemed += owed,
            "expired" => self.expired += owed,
            "clawed_back" => self.clawed_back += owed,
            "forfeited" => self.forfeited += owed,
            // Holds and releases move nothing in or out.
            _ => self.adjusted += owed,
        }
        self.closing += owed;
    }
}

/// Points that will be lost, day by day, as the lots stand now, if nobody spends any: the next `months` from `from` on.
///
/// # Errors
/// What the database says.
pub async fn expiry_forecast(client: &Client, program: &str, from: NaiveDate, months: i32) -> Result<Vec<(NaiveDate, i64)>, AnalysisError> {
    let sql = "SELECT (expires_at AT TIME ZONE 'UTC')::date, sum(remaining)::bigint FROM balance.lot
               WHERE program = $1 AND remaining > 0 AND expires_at >= $2::date AND expires_at < $2::date + make_interval(months => $3)
               GROUP BY 1 ORDER BY 1";
    let rows = client.query(sql, &[&program, &from, &months]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}
