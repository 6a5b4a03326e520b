//! The rulebook as its authors write it: JSON, read strictly (an unknown field is an error), described by a JSON Schema that is
//! generated from these types.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::fraud::FraudRules;
use super::insight::InsightRules;
use crate::id::Id;
use crate::points::{Amount, Exact, Points, Rounding, TooLarge};
use crate::time::{Moment, Period};

/// A program's rules from `effective_from` on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rulebook {
    /// The program that these rules are for.
    pub program: Id,
    /// `live` runs on the real clock; `sandbox` on one that its caller sets. It can't change between versions.
    #[serde(default)]
    pub mode: Mode,
    /// ISO 4217 code of the money that purchases are in. It can't change between versions.
    #[schemars(regex(pattern = r"^[A-Z]{3}$"))]
    pub currency: String,
    /// IANA name of the program's wall clock, such as `Europe/London`.
    pub time_zone: String,
    /// From when these rules hold; purchases are rated by the version that was in force when they occurred.
    pub effective_from: Moment,
    /// Opening, activating, sleeping and closing.
    #[serde(default)]
    pub accounts: AccountRules,
    /// Changes of balances by hand.
    #[serde(default)]
    pub adjust: AdjustRules,
    /// How purchases become points.
    pub earn: EarnRules,
    /// When points are lost to time.
    #[serde(default)]
    pub expiry: Expiry,
    /// How points are spent and what they are worth.
    pub redeem: RedeemRules,
    /// How purchases are given back.
    #[serde(default, rename = "return")]
    pub returns: ReturnRules,
    /// The ladder of tiers; without it everybody is a `member`.
    #[serde(default)]
    pub tiers: TierRules,
    /// What analysts need to know; it decides no points.
    #[serde(default)]
    pub insight: InsightRules,
    /// What is watched for; it decides no points.
    #[serde(default)]
    pub fraud: FraudRules,
}

/// Whose clock a program runs on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The real clock.
    #[default]
    Live,
    /// A clock set by `PUT /v1/programs/{program}/clock`, only forwards.
    Sandbox,
}

/// Opening, activating, sleeping and closing of accounts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AccountRules {
    /// A purchase of an account not opened yet opens it.
    pub open_on_earn: bool,
    /// A new account is `pending` (it collects but can't spend) until it is activated.
    pub activation_required: bool,
    /// After this long without a purchase or redemption an account is `inactive`; the next one wakes it.
    pub inactive_after: Option<Span>,
    /// What closing does with the points left.
    pub on_close: OnClose,
}

impl Default for AccountRules {
    fn default() -> Self {
        Self { open_on_earn: true, activation_required: false, inactive_after: None, on_close: OnClose::Forfeit }
    }
}

/// What closing an account does with its points.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnClose {
    /// They are forfeited.
    #[default]
    Forfeit,
    /// They stay on the book, out of reach, until they expire.
    Keep,
    /// An account with points can't be closed.
    Refuse,
}

/// A stretch of time: `months` or `days`, exactly one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Span {
    /// Calendar months on the program's wall clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub months: Option<u32>,
    /// Calendar days on the program's wall clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub days: Option<u32>,
}

/// Changes of balances by hand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AdjustRules {
    /// Adjustments of this many points or more, up or down, take two people: one proposes, another approves. None do if this is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approval_from_points: Option<Points>,
}

/// How purchases become points.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EarnRules {
    /// `points` for each `per` of eligible spend.
    pub base: EarnBase,
    /// How fractions of a point become whole points.
    #[serde(default)]
    pub rounding: Rounding,
    /// Whether each line is rounded, or the order as a whole.
    #[serde(default)]
    pub round_per: RoundPer,
    /// Calendar days from the purchase until its points can be spent.
    #[serde(default)]
    pub pending_days: u32,
    /// What earns nothing.
    #[serde(default)]
    pub exclude: Exclude,
    /// Rules that give more on a line, tried in order; those that hold multiply.
    #[serde(default)]
    pub bonus: Vec<Bonus>,
    /// The most that can be earned.
    #[serde(default)]
    pub caps: Caps,
}

/// `points` for each `per` of eligible spend.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EarnBase {
    /// Points.
    pub points: Amount,
    /// Money in the program's currency.
    pub per: Amount,
    /// Points only for each full `per`: $2 → 10 points gives 30 for $7.
    #[serde(default)]
    pub whole_steps: bool,
}

/// What is rounded to whole points.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RoundPer {
    /// Each line.
    Line,
    /// The sum over the purchase's lines.
    #[default]
    Order,
}

/// What earns nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Exclude {
    /// Categories of lines.
    pub categories: Vec<String>,
    /// Stock-keeping units of lines.
    pub skus: Vec<String>,
}

/// A rule that gives more on the lines for which its condition holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bonus {
    /// Its name, in events and explanations.
    pub id: Id,
    /// A CEL expression over `purchase`, `line` and `account`.
    pub when: String,
    /// The factor on the line's points.
    pub multiply: Amount,
    /// Who pays for what it adds, such as a brand; the program, if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paid_by: Option<Id>,
}

/// The most that can be earned; a purchase over a cap earns up to it, in line order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Caps {
    /// By one purchase.
    pub per_purchase: Option<Points>,
    /// By one account on one day of the program's time zone.
    pub per_day: Option<Points>,
    /// By one account, ever.
    pub per_member: Option<Points>,
}

/// When points are lost to time. A lot that expires at T is gone at T.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "mode", rename_all = "snake_case", deny_unknown_fields)]
pub enum Expiry {
    /// Never.
    #[default]
    Never,
    /// A period after the purchase.
    Rolling {
        /// Calendar months.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        months: Option<u32>,
        /// Calendar days.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        days: Option<u32>,
    },
    /// All at the start of one day.
    FixedDate {
        /// The day, such as `2011-01-01`; points are gone as it begins.
        #[serde(with = "crate::time::date")]
        #[schemars(with = "String", extend("format" = "date"))]
        date: chrono::NaiveDate,
    },
    /// At the end of the calendar period of the purchase.
    Calendar {
        /// The period.
        period: Period,
        /// Calendar days added to its end.
        #[serde(default)]
        grace_days: u32,
    },
    /// A period after the account's last purchase or redemption: each one moves the expiry of every lot.
    Inactivity {
        /// Calendar months.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        months: Option<u32>,
        /// Calendar days.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        days: Option<u32>,
    },
}

/// How points are spent and what they are worth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RedeemRules {
    /// The fewest points that one redemption takes.
    #[serde(default = "one")]
    pub minimum: Points,
    /// Redemptions come in multiples of this.
    #[serde(default = "one")]
    pub multiple_of: Points,
    /// What the points are worth.
    pub value: PointValue,
    /// After this many minutes a hold lapses, unless the redemption names its own time.
    #[serde(default = "default_hold_minutes")]
    pub hold_minutes: u32,
    /// For so many minutes after it occurred a redemption may still be told, as by tills that were offline; so much later expiry is booked. None may be if this is left out.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub offline_minutes: u32,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

fn one() -> Points {
    1
}

fn default_hold_minutes() -> u32 {
    30
}

/// `points` are worth `amount`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PointValue {
    /// Points.
    pub points: Points,
    /// Money in the program's currency.
    pub amount: Amount,
}

impl PointValue {
    /// What `points` are worth, exactly.
    ///
    /// # Errors
    /// [`TooLarge`] when the fraction has more digits than 128 bits hold.
    pub fn exact(&self, points: Points) -> Result<Exact, TooLarge> {
        Exact::of(self.amount).over(Exact::from(self.points))?.times(Exact::from(points))
    }

    /// What `points` are worth, rounded to 6 decimals, half even; none where it is beyond all decimals.
    #[must_use]
    pub fn money(&self, points: Points) -> Option<Amount> {
        let money = Amount::from(points).0.checked_mul(self.amount.0)?.checked_div(Amount::from(self.points).0)?;
        Some(Amount(money.round_dp(6).normalize()))
    }
}

/// How purchases are given back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReturnRules {
    /// Calendar days from the purchase or redemption during which it can be returned.
    pub window_days: u32,
    /// What happens when the points to take back are spent.
    pub on_shortfall: OnShortfall,
    /// What becomes of refunds whose purchase the book does not have.
    pub unmatched: UnmatchedRefunds,
}

impl Default for ReturnRules {
    fn default() -> Self {
        Self { window_days: 365, on_shortfall: OnShortfall::Clamp, unmatched: UnmatchedRefunds::Reject }
    }
}

/// What becomes of refunds whose purchase the book does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnmatchedRefunds {
    /// They are refused.
    #[default]
    Reject,
    /// They lower what the member has spent, and take no points.
    ReduceSpend,
}

/// What happens when the points to take back are spent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnShortfall {
    /// The balance stops at zero and the shortfall is booked.
    #[default]
    Clamp,
    /// The account owes the points and pays them from what it earns next.
    Negative,
}

/// The ladder of tiers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TierRules {
    /// What counts towards a tier.
    #[serde(default)]
    pub qualify_by: QualifyBy,
    /// Over what time it counts.
    #[serde(default)]
    pub window: Window,
    /// What a review does with a tier that is not kept.
    #[serde(default)]
    pub downgrade: Downgrade,
    /// From the entry tier up; the entry tier is at 0.
    pub levels: Vec<Level>,
}

impl Default for TierRules {
    fn default() -> Self {
        let entry = Level { name: "member".into(), at: Amount::ZERO, multiplier: Amount::ONE, base: None };
        Self { qualify_by: QualifyBy::Points, window: Window::Lifetime, downgrade: Downgrade::Never, levels: vec![entry] }
    }
}

/// What counts towards a tier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum QualifyBy {
    /// Points earned, multipliers included.
    #[default]
    Points,
    /// Eligible spend.
    Spend,
    /// The number of purchases.
    Purchases,
}

/// Over what time qualifying counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Window {
    /// Ever.
    #[default]
    #[serde(rename = "lifetime")]
    Lifetime,
    /// Since 1 January.
    #[serde(rename = "calendar_year")]
    CalendarYear,
    /// The last 12 months.
    #[serde(rename = "rolling_12_months")]
    Rolling12Months,
}

/// What a review does with a tier that is not kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Downgrade {
    /// Nothing.
    Never,
    /// It goes down one level.
    #[default]
    OneLevel,
    /// It goes down to the level that is qualified for.
    ToLevel,
}

/// A tier.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Level {
    /// Its name.
    pub name: String,
    /// What it takes, in the unit of `qualify_by`.
    #[serde(with = "threshold")]
    #[schemars(with = "Threshold")]
    pub at: Amount,
    /// The factor on what its members earn.
    #[serde(default = "Level::plain")]
    pub multiplier: Amount,
    /// What its members earn by instead of `earn.base`: a rate that is no decimal multiple of it, such as 1 point for each 900.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<EarnBase>,
}

impl Level {
    fn plain() -> Amount {
        Amount::ONE
    }
}

/// A threshold: a whole number, or a decimal in a string.
#[derive(JsonSchema, Deserialize)]
#[serde(untagged)]
enum Threshold {
    /// Points or purchases.
    Whole(i64),
    /// Spend.
    Decimal(Amount),
}

mod threshold {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{Amount, Threshold};

    pub(super) fn serialize<S: Serializer>(at: &Amount, serializer: S) -> Result<S::Ok, S::Error> {
        if at.scale() == 0 { serializer.serialize_i64(at.units()) } else { at.serialize(serializer) }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Amount, D::Error> {
        Ok(match Threshold::deserialize(deserializer)? {
            Threshold::Whole(n) => Amount::from(n),
            Threshold::Decimal(amount) => amount,
        })
    }
}
