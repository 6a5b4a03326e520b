//! Tiers: reached by earning, lost by returning what had counted, reviewed 12 months after they were reached or kept.

use compact_str::CompactString;

use super::{Draft, happened_at};
use crate::account::event::{Earned, EventKind, TierCause, TierMove};
use crate::account::state::{Account, Status};
use crate::policy::{Downgrade, Version, Window};
use crate::time::{DAY_US, Moment};

const REVIEW_MONTHS: u32 = 12;
/// A year on average. Years are counted by dividing by it, which no change of the program's zone upsets.
const YEAR_US: i64 = DAY_US * 146_097 / 400;

/// The moment `years` whole years after `anchor`.
fn anniversary(version: &Version, anchor: Moment, years: i64) -> Moment {
    version.zone.plus_months(anchor, u32::try_from(years).unwrap_or(0).saturating_mul(REVIEW_MONTHS))
}

fn years_between(anchor: Moment, at: Moment) -> i64 {
    (at.as_micros() - anchor.as_micros() + YEAR_US / 2).div_euclid(YEAR_US)
}

/// The first review after `at`, when all of them come whole years after `anchor`; none where time ends before it: one that came no later would
/// come for ever.
fn review_at(version: &Version, level: usize, anchor: Moment, at: Moment) -> Option<Moment> {
    let reviewed = level > 0 && version.rulebook.tiers.downgrade != Downgrade::Never;
    let next = || anniversary(version, anchor, (years_between(anchor, at) + 1).max(1));
    reviewed.then(next).filter(|next| *next > at)
}

/// From where on purchases count at the review at `at`. Twelve months before 28 February are not always the anniversary of 29 February before it: what
/// reached the tier, or kept it at the last review, does not count again.
fn counted_from(version: &Version, anchor: Moment, at: Moment) -> Option<Moment> {
    let years = years_between(anchor, at);
    let is_anniversary = years > 0 && anniversary(version, anchor, years) == at;
    version.window_start(at).map(|start| match version.rulebook.tiers.window {
        Window::Rolling12Months if is_anniversary => start.max(anniversary(version, anchor, years - 1)),
        _ => start,
    })
}

fn name(version: &Version, level: usize) -> CompactString {
    CompactString::from(version.levels()[level].name.as_str())
}

/// The higher tier that `earned` leads to, and since when.
pub(super) fn after_earning(account: &Account, earned: &Earned, version: &Version, now: Moment) -> Option<(Moment, TierMove)> {
    if version.levels().len() < 2 {
        return None;
    }
    let occurred_at = earned.purchase.occurred_at;
    let opened = account.status != Status::Unopened;
    let current = if opened { version.level_index(&account.standing.tier) } else { 0 };
    let (unit, more) = (version.rulebook.tiers.qualify_by, earned.counted.unwrap_or_default());
    // No window holds more than all there is, which is known without looking at the calendar.
    if version.level_for(account.qualifying_after(None).plus(more).by(unit)) <= current {
        return None;
    }
    let counted_from = version.window_start(now);
    let counts = counted_from.is_none_or(|from| occurred_at > from);
    let before = account.qualifying_after(counted_from);
    let counted = if counts { before.plus(more) } else { before };
    let reached = version.level_for(counted.by(unit));
    if reached <= current {
        return None;
    }
    let happened_at = happened_at(occurred_at, now);
    let since = if opened { happened_at.max(account.standing.since) } else { happened_at };
    let moved = TierMove {
        from: name(version, current),
        to: name(version, reached),
        qualifying: counted.by(unit),
        earned: true,
        counted_from,
        review_at: review_at(version, reached, since, since),
        cause: TierCause::Earned,
        counted: Some(counted),
    };
    Some((since, moved))
}

/// Takes the tier that returned goods had reached, and no other: one held by grace stays.
pub(super) fn after_return(draft: &mut Draft<'_>, at: Moment) {
    let (account, version) = (&draft.account, draft.version);
    let Some(basis) = account.standing.basis else { return };
    let current = version.level_index(&account.standing.tier);
    let (unit, window) = (version.rulebook.tiers.qualify_by, account.qualifying_at(version, draft.context.now));
    let by_window = window.by(unit) > basis.by(unit);
    let counted = if by_window { window } else { basis };
    let supported = version.level_for(counted.by(unit));
    if supported >= current {
        return;
    }
    let since = at.max(account.standing.since);
    let moved = TierMove {
        from: account.standing.tier.clone(),
        to: name(version, supported),
        qualifying: counted.by(unit),
        earned: supported > 0,
        counted_from: if by_window { version.window_start(draft.context.now) } else { account.standing.counted_from },
        review_at: review_at(version, supported, since, since),
        cause: TierCause::Returned,
        counted: Some(counted),
    };
    draft.emit(since, EventKind::TierChanged(moved));
}

/// The review at `at`.
pub(super) fn review(draft: &mut Draft<'_>, at: Moment) {
    let version = draft.context.program.at(at).map_or(draft.version, AsRef::as_ref);
    let account = &draft.account;
    let current = version.level_index(&account.standing.tier);
    let counted_from = counted_from(version, account.standing.anchor, at);
    let counted = account.qualifying_after(counted_from);
    let qualifying = counted.by(version.rulebook.tiers.qualify_by);
    let reached = version.level_for(qualifying);
    let to = match version.rulebook.tiers.downgrade {
        _ if reached >= current => current,
        Downgrade::Never => current,
        Downgrade::OneLevel => current - 1,
        Downgrade::ToLevel => reached,
    };
    let moved = TierMove {
        from: account.standing.tier.clone(),
        to: name(version, to),
        qualifying,
        earned: to > 0 && reached >= to,
        counted_from,
        review_at: review_at(version, to, account.standing.anchor, at),
        cause: TierCause::Review,
        counted: Some(counted),
    };
    let kind = if moved.from == moved.to { EventKind::TierKept(moved) } else { EventKind::TierChanged(moved) };
    draft.emit(at, kind);
}
