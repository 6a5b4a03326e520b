//! Bugs for the simulator to find, each switched on for a run of its own. Without the feature `planted` none is compiled in.

/// What can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Bug {
    /// An id that was used is decided again.
    NoDedup = 1,
    /// Ids used before a restart are not kept.
    DedupForgottenAtRestart,
    /// A partition is taken over without its last record.
    LostTailOnTakeOver,
    /// A command is answered before it is on the log.
    AnswerBeforeCommit,
    /// After an append that failed the state goes on as if it had not.
    StateKeptAfterFailure,
    /// A projector's checkpoint moves before its rows are written.
    CheckpointOutsideTransaction,
    /// A record that can't be read is passed over, and its account goes on.
    PoisonSkipped,
    /// A lot is still there at the moment it expires.
    ExpiryOffByOneInstant,
    /// A return takes its own points, rounded, not the difference that it makes.
    RoundingPerPartOfReturn,
    /// A return takes from other lots before its purchase's own.
    ClawbackFromOtherLotsFirst,
    /// What was captured stays held.
    HoldCapturedTwice,
    /// A return is rated by the rulebook of today.
    TodaysRulebookForReturn,
    /// Messages of a topic are done with before they are booked.
    CommitBeforeBooking,
    /// A message that comes again goes to whoever has its card by then.
    MatchedAnew,
    /// What is larger than a message may be goes to the log all the same, and is tried again and again.
    TooLargeIsSent,
}

#[cfg(feature = "planted")]
static PLANTED: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(0);

/// Switches `bug` on, and any other off.
#[cfg(feature = "planted")]
pub fn plant(bug: Option<Bug>) {
    PLANTED.store(bug.map_or(0, |bug| bug as u8), std::sync::atomic::Ordering::SeqCst);
}

/// Whether `bug` is switched on.
#[cfg(feature = "planted")]
#[must_use]
pub fn is_planted(bug: Bug) -> bool {
    PLANTED.load(std::sync::atomic::Ordering::Relaxed) == bug as u8
}

/// Whether `bug` is switched on.
#[cfg(not(feature = "planted"))]
#[must_use]
#[inline]
pub const fn is_planted(_: Bug) -> bool {
    false
}
