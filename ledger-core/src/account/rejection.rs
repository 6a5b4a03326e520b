//! Why a command is refused. The numbers are stable and stand in order of precedence: of several that apply, the lowest is the
//! answer.

use crate::id::Id;
use crate::points::{Amount, Points};
use crate::time::Moment;

/// Why a command is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// There is no such account, and the rulebook does not open it.
    #[error("the account does not exist")]
    AccountNotFound,
    /// The account exists already.
    #[error("the account exists already")]
    AccountExists,
    /// No version of the rulebook was in force then.
    #[error("no rulebook was in force at {at}")]
    NoRulebook {
        /// Then.
        at: Moment,
    },
    /// Closed accounts take nothing any more.
    #[error("the account is closed")]
    AccountClosed,
    /// Frozen accounts don't earn or redeem.
    #[error("the account is frozen")]
    AccountFrozen,
    /// Pending accounts can't spend.
    #[error("the account is not activated yet")]
    AccountPending,
    /// Only frozen accounts can be unfrozen.
    #[error("the account is not frozen")]
    AccountNotFrozen,
    /// Only pending accounts can be activated.
    #[error("the account is not pending")]
    AccountNotPending,
    /// It says that it happens in the future.
    #[error("occurred_at {occurred_at} lies in the future; it is {now}")]
    OccurredInFuture {
        /// What it says.
        occurred_at: Moment,
        /// The program's clock.
        now: Moment,
    },
    /// A redemption is told later than the rulebook allows.
    #[error("occurred_at {occurred_at} is too long ago: redemptions may be told {minutes} minutes after they occurred (redeem.offline_minutes)")]
    ToldTooLate {
        /// When it occurred.
        occurred_at: Moment,
        /// The rulebook's.
        minutes: u32,
    },
    /// The purchase is in another currency than the program.
    #[error("the purchase is in {currency}, the program's currency is {expected}")]
    CurrencyMismatch {
        /// The purchase's.
        currency: String,
        /// The program's.
        expected: String,
    },
    /// The amounts have more digits than can be rated exactly.
    #[error("the amounts of the purchase are too large to rate exactly")]
    AmountTooLarge,
    /// No such purchase in this account.
    #[error("the account has no purchase {purchase_id}")]
    PurchaseNotFound {
        /// Which.
        purchase_id: Id,
    },
    /// No such redemption in this account.
    #[error("the account has no redemption {redemption_id}")]
    RedemptionNotFound {
        /// Which.
        redemption_id: Id,
    },
    /// The redemption holds no points (any more).
    #[error("redemption {redemption_id} holds no points: it was captured, released, lapsed, or never was a hold")]
    HoldNotFound {
        /// Which.
        redemption_id: Id,
    },
    /// The time for returning it is over.
    #[error("the time for returning it ended at {until}")]
    OutsideReturnWindow {
        /// When.
        until: Moment,
    },
    /// The time for returning it is over, so long ago that only its id is kept at hand.
    #[error("the time for returning it is over")]
    ReturnWindowForgotten,
    /// Given back before it was bought.
    #[error("the return occurred at {occurred_at}, before the purchase at {purchased_at}")]
    ReturnBeforePurchase {
        /// The return.
        occurred_at: Moment,
        /// The purchase.
        purchased_at: Moment,
    },
    /// The purchase has no such line.
    #[error("purchase {purchase_id} has no line {line_id}")]
    LineNotFound {
        /// The purchase.
        purchase_id: Id,
        /// The line.
        line_id: Id,
    },
    /// More is given back than was bought and kept.
    #[error("{returned} is given back, but only {kept} is left of it")]
    ReturnExceedsPurchase {
        /// Given back.
        returned: Amount,
        /// Kept until now.
        kept: Amount,
    },
    /// More money is given back than was paid and kept.
    #[error("{refunded} is refunded, {shipping} of it for shipping, but only {goods_left} of the goods and {shipping_left} of the shipping are left")]
    RefundExceedsPurchase {
        /// The refund.
        refunded: Amount,
        /// Of it, what is for shipping.
        shipping: Amount,
        /// What the goods kept had cost.
        goods_left: Amount,
        /// What of the shipping was not given back.
        shipping_left: Amount,
    },
    /// More points are given back than the redemption spent.
    #[error("{points} points are given back, but only {left} are left of the redemption")]
    ReturnExceedsRedemption {
        /// Given back.
        points: Points,
        /// Left.
        left: Points,
    },
    /// All points of the redemption were given back, or none was spent yet.
    #[error("redemption {redemption_id} has no spent points left to give back")]
    NothingToReturn {
        /// Which.
        redemption_id: Id,
    },
    /// More is captured than is held.
    #[error("{points} points are captured, but only {held} are held")]
    CaptureExceedsHold {
        /// Captured.
        points: Points,
        /// Held.
        held: Points,
    },
    /// Fewer points than one redemption takes at least.
    #[error("{points} points are fewer than the minimum of {minimum}")]
    BelowMinimum {
        /// Asked.
        points: Points,
        /// The rulebook's.
        minimum: Points,
    },
    /// Not a multiple of what redemptions come in.
    #[error("{points} points are not a multiple of {multiple_of}")]
    NotAMultiple {
        /// Asked.
        points: Points,
        /// The rulebook's.
        multiple_of: Points,
    },
    /// More points than are available.
    #[error("{points} points are asked for, {available} are available")]
    InsufficientPoints {
        /// Asked.
        points: Points,
        /// Available.
        available: Points,
    },
    /// The rulebook lets no account with points be closed.
    #[error("the account still has {points} points, and the rulebook refuses to close it")]
    BalanceNotZero {
        /// What it has.
        points: Points,
    },
    /// The account has the alias already.
    #[error("the account has this alias already")]
    AliasExists,
    /// The account has no such alias.
    #[error("the account has no such alias")]
    AliasNotFound,
    /// More aliases than an account may have.
    #[error("the account has {most} aliases, the most it may have")]
    TooManyAliases {
        /// How many.
        most: usize,
    },
    /// No such proposal waits.
    #[error("the account has no proposal {proposal_id} that waits: it was approved, declined, or never made")]
    ProposalNotFound {
        /// Which.
        proposal_id: Id,
    },
    /// Who proposed it can't approve it.
    #[error("{actor} made the proposal; somebody else must approve it")]
    ApprovalByMaker {
        /// Who.
        actor: String,
    },
    /// The rulebook wants two people for so much.
    #[error("adjustments of {from} points or more need a second person: propose it, and let somebody else approve it")]
    ApprovalRequired {
        /// The rulebook's.
        from: Points,
    },
    /// More proposals than may wait.
    #[error("{most} proposals of the account wait, the most that may; approve or decline one")]
    TooManyProposals {
        /// How many.
        most: usize,
    },
    /// Money is given back in less than can be paid.
    #[error("{amount} can't be paid in {currency}, which has {decimals} decimals")]
    AmountTooFine {
        /// The amount.
        amount: Amount,
        /// The purchase's.
        currency: String,
        /// Of its minor unit.
        decimals: u32,
    },
    /// The id was used before, for something else.
    #[error("the id was used before with other content")]
    IdReused,
}

impl Rejection {
    /// The stable number; lower ones come first.
    #[must_use]
    pub fn number(&self) -> u8 {
        match self {
            Self::AccountNotFound => 10,
            Self::AccountExists => 11,
            Self::NoRulebook { .. } => 12,
            Self::AccountClosed => 20,
            Self::AccountFrozen => 21,
            Self::AccountPending => 22,
            Self::AccountNotFrozen => 23,
            Self::AccountNotPending => 24,
            Self::OccurredInFuture { .. } => 30,
            Self::CurrencyMismatch { .. } => 31,
            Self::AmountTooLarge => 32,
            Self::ProposalNotFound { .. } => 33,
            Self::ApprovalByMaker { .. } => 34,
            Self::ApprovalRequired { .. } => 35,
            Self::TooManyProposals { .. } => 36,
            Self::ToldTooLate { .. } => 37,
            Self::PurchaseNotFound { .. } => 40,
            Self::RedemptionNotFound { .. } => 41,
            Self::HoldNotFound { .. } => 42,
            Self::OutsideReturnWindow { .. } => 43,
            Self::ReturnWindowForgotten => 44,
            Self::ReturnBeforePurchase { .. } => 45,
            Self::LineNotFound { .. } => 46,
            Self::ReturnExceedsPurchase { .. } | Self::RefundExceedsPurchase { .. } => 47,
            Self::ReturnExceedsRedemption { .. } => 48,
            Self::CaptureExceedsHold { .. } => 49,
            Self::BelowMinimum { .. } => 50,
            Self::NotAMultiple { .. } => 51,
            Self::InsufficientPoints { .. } => 52,
            Self::BalanceNotZero { .. } => 53,
            Self::AliasExists => 54,
            Self::AliasNotFound => 55,
            Self::TooManyAliases { .. } => 56,
            Self::NothingToReturn { .. } => 57,
            Self::AmountTooFine { .. } => 58,
            Self::IdReused => 60,
        }
    }

    /// The stable code, as in the API's errors.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::AccountNotFound => "account_not_found",
            Self::AccountExists => "account_exists",
            Self::NoRulebook { .. } => "no_rulebook_in_force",
            Self::AccountClosed => "account_closed",
            Self::AccountFrozen => "account_frozen",
            Self::AccountPending => "account_pending",
            Self::AccountNotFrozen => "account_not_frozen",
            Self::AccountNotPending => "account_not_pending",
            Self::OccurredInFuture { .. } => "occurred_in_future",
            Self::ToldTooLate { .. } => "told_too_late",
            Self::CurrencyMismatch { .. } => "currency_mismatch",
            Self::AmountTooLarge => "amount_too_large",
            Self::PurchaseNotFound { .. } => "purchase_not_found",
            Self::RedemptionNotFound { .. } => "redemption_not_found",
            Self::HoldNotFound { .. } => "hold_not_found",
            Self::OutsideReturnWindow { .. } | Self::ReturnWindowForgotten => "outside_return_window",
            Self::ReturnBeforePurchase { .. } => "return_before_purchase",
            Self::LineNotFound { .. } => "line_not_found",
            Self::ReturnExceedsPurchase { .. } | Self::RefundExceedsPurchase { .. } => "return_exceeds_purchase",
            Self::ReturnExceedsRedemption { .. } | Self::NothingToReturn { .. } => "return_exceeds_redemption",
            Self::CaptureExceedsHold { .. } => "capture_exceeds_hold",
            Self::BelowMinimum { .. } => "below_minimum",
            Self::NotAMultiple { .. } => "not_a_multiple",
            Self::InsufficientPoints { .. } => "insufficient_points",
            Self::BalanceNotZero { .. } => "balance_not_zero",
            Self::AliasExists => "alias_exists",
            Self::AliasNotFound => "alias_not_found",
            Self::TooManyAliases { .. } => "too_many_aliases",
            Self::ProposalNotFound { .. } => "proposal_not_found",
            Self::ApprovalByMaker { .. } => "approval_by_maker",
            Self::ApprovalRequired { .. } => "approval_required",
            Self::TooManyProposals { .. } => "too_many_proposals",
            Self::AmountTooFine { .. } => "amount_too_fine",
            Self::IdReused => "id_reused",
        }
    }
}
