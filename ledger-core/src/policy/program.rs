//! A program: the versions of its rulebook, compiled.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cel::Env;

use super::condition::Condition;
use super::rulebook::{Exclude, Expiry, Level, Mode, Rulebook, Span, Window};
use crate::account::command::{Line, Purchase};
use crate::currency::minor_digits;
use crate::points::Amount;
use crate::time::{MINUTE_US, Moment, Zone};

/// One published version of a rulebook, compiled. It never changes.
pub struct Version {
    /// 1, 2, 3 … in the order of publishing.
    pub number: u32,
    /// The rules as written.
    pub rulebook: Rulebook,
    /// The program's wall clock.
    pub zone: Zone,
    pub(super) env: Arc<Env>,
    pub(super) conditions: Conditions,
    /// What earns nothing, to be looked up: each line of a purchase asks.
    pub(super) excluded: Excluded,
}

/// The conditions of the bonuses, in their order.
pub(super) struct Conditions {
    all: Vec<Condition>,
    /// The places of those that are about any stock-keeping unit.
    of_any_sku: Vec<usize>,
    /// The places of the others: an offer for one article is no work for lines of all others.
    by_sku: BTreeMap<String, Vec<usize>>,
}

impl Conditions {
    pub(super) fn of(all: Vec<Condition>) -> Self {
        let (mut of_any_sku, mut by_sku) = (Vec::new(), BTreeMap::<String, Vec<usize>>::new());
        for (place, condition) in all.iter().enumerate() {
            match condition.sku() {
                Some(sku) => by_sku.entry(sku.to_owned()).or_default().push(place),
                None => of_any_sku.push(place),
            }
        }
        Self { all, of_any_sku, by_sku }
    }

    /// Those that may hold for `line`, each with the place of its bonus, in order.
    pub(super) fn about(&self, line: &Line) -> impl Iterator<Item = (usize, &Condition)> {
        let places = match self.by_sku.get(line.sku.as_str()) {
            None => Cow::Borrowed(&self.of_any_sku),
            Some(own) if self.of_any_sku.is_empty() => Cow::Borrowed(own),
            Some(own) => {
                let mut places = [self.of_any_sku.as_slice(), own].concat();
                places.sort_unstable();
                Cow::Owned(places)
            }
        };
        (0..places.len()).map(move |i| (places[i], &self.all[places[i]]))
    }
}

/// Categories and stock-keeping units that earn nothing.
pub(super) struct Excluded {
    categories: BTreeSet<String>,
    skus: BTreeSet<String>,
}

impl Excluded {
    pub(super) fn of(exclude: &Exclude) -> Self {
        Self { categories: exclude.categories.iter().cloned().collect(), skus: exclude.skus.iter().cloned().collect() }
    }

    pub(super) fn has(&self, line: &Line) -> bool {
        self.skus.contains(line.sku.as_str()) || self.categories.contains(line.category.as_str())
    }
}

impl std::fmt::Debug for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} version {}", self.rulebook.program, self.number)
    }
}

impl Version {
    /// When points of a purchase at `occurred_at` expire; `last_activity` matters to inactivity alone.
    #[must_use]
    pub fn expires_at(&self, occurred_at: Moment, last_activity: Moment) -> Option<Moment> {
        match &self.rulebook.expiry {
            Expiry::Never => None,
            Expiry::Rolling { months, days } => Some(self.after(occurred_at, Span { months: *months, days: *days })),
            // What is bought after that day is lost as it comes.
            Expiry::FixedDate { date } => Some(self.zone.midnight(*date).max(occurred_at)),
            Expiry::Calendar { period, grace_days } => Some(self.zone.end_of(*period, occurred_at, *grace_days)),
            Expiry::Inactivity { months, days } => Some(self.after(last_activity, Span { months: *months, days: *days })),
        }
    }

    /// How many conditions of bonuses are asked when all goods of `purchase` are rated: each for each line, but where its comparison at the top
    /// (`line.sku == '…' && …`) answers for it. One of more than 100 characters counts as many times as it has begun a hundred.
    #[must_use]
    pub fn conditions_asked(&self, purchase: &Purchase) -> usize {
        let of_line = |line: &Line| self.conditions.about(line).map(|(_, condition)| condition.weight(purchase, line)).sum::<usize>();
        purchase.lines.iter().map(of_line).sum()
    }

    /// How many decimals money has that is paid out; a currency that ISO 4217 doesn't know, in rulebooks of before it was asked, has 6.
    #[must_use]
    pub fn money_digits(&self) -> u32 {
        minor_digits(&self.rulebook.currency).unwrap_or(6)
    }

    /// Whether somebody else than the program pays for any bonus.
    #[must_use]
    pub fn has_payers(&self) -> bool {
        self.rulebook.earn.bonus.iter().any(|bonus| bonus.paid_by.is_some())
    }

    /// Whether every activity moves the expiry of the lots earned by this version.
    #[must_use]
    pub fn expiry_moves(&self) -> bool {
        matches!(self.rulebook.expiry, Expiry::Inactivity { .. })
    }

    /// `at` plus `span` on the program's wall clock.
    #[must_use]
    pub fn after(&self, at: Moment, span: Span) -> Moment {
        let later = span.months.map_or(at, |months| self.zone.plus_months(at, months));
        span.days.map_or(later, |days| self.zone.plus_days(later, days))
    }

    /// The start of the qualifying window that ends at `at`; entries at or before it don't count (none for lifetime).
    #[must_use]
    pub fn window_start(&self, at: Moment) -> Option<Moment> {
        match self.rulebook.tiers.window {
            Window::Lifetime => None,
            // The window is open at its start, and 1 January 00:00 belongs to the year.
            Window::CalendarYear => Some(self.zone.start_of_year(at).plus_micros(-1)),
            Window::Rolling12Months => Some(self.zone.minus_months(at, 12)),
        }
    }

    /// The tiers from the entry tier up; there is at least one.
    #[must_use]
    pub fn levels(&self) -> &[Level] {
        &self.rulebook.tiers.levels
    }

    /// The position of the tier `name`; a name that this version has no more counts as the entry tier.
    #[must_use]
    pub fn level_index(&self, name: &str) -> usize {
        self.levels().iter().position(|level| level.name == name).unwrap_or(0)
    }

    /// The position of the highest tier that `qualifying` reaches.
    #[must_use]
    pub fn level_for(&self, qualifying: Amount) -> usize {
        self.levels().iter().rposition(|level| level.at <= qualifying).unwrap_or(0)
    }
}

impl InForce {
    fn start(&self) -> Moment {
        self.version.rulebook.effective_from
    }
}

/// All versions of one program's rulebook.
#[derive(Debug, Clone, Default)]
pub struct Program {
    versions: Vec<Arc<Version>>,
    /// By when they come into force: of those that do so at one moment the one published last.
    in_force: Vec<InForce>,
}

/// A version from when it is in force.
#[derive(Debug, Clone)]
struct InForce {
    version: Arc<Version>,
    /// The latest moment at which anything is booked that is lost by when this version comes into force.
    booked_until: Moment,
}

impl Program {
    /// Adds the next version.
    pub fn publish(&mut self, version: Arc<Version>) {
        self.versions.push(Arc::clone(&version));
        let next = InForce { version, booked_until: Moment::default() };
        match self.in_force.binary_search_by_key(&next.start(), InForce::start) {
            Ok(same) if self.in_force[same].version.number > next.version.number => {}
            Ok(same) => self.in_force[same] = next,
            Err(place) => self.in_force.insert(place, next),
        }
        // The last moments of every version until then: each allows as many minutes as it says.
        let told_until: Vec<Moment> = self.in_force.iter().map(|in_force| self.told_until(in_force.start())).collect();
        let mut latest: Option<Moment> = None;
        for (in_force, told_until) in self.in_force.iter_mut().zip(told_until) {
            in_force.booked_until = latest.map_or(told_until, |latest| latest.max(told_until));
            latest = Some(in_force.booked_until);
        }
    }

    /// Until when it can be told what occurred just before `end`.
    fn told_until(&self, end: Moment) -> Moment {
        let minutes = self.at_or_first(end.plus_micros(-1)).map_or(0, |version| version.rulebook.redeem.offline_minutes);
        end.plus_micros(i64::from(minutes) * MINUTE_US)
    }

    /// The version with this number.
    #[must_use]
    pub fn version(&self, number: u32) -> Option<&Arc<Version>> {
        // They are numbered from 1.
        let place = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
        let there = place.and_then(|place| self.versions.get(place)).filter(|version| version.number == number);
        there.or_else(|| self.versions.iter().find(|version| version.number == number))
    }

    /// The version in force at `at`: of those with the latest `effective_from` not after it, the one published last.
    #[must_use]
    pub fn at(&self, at: Moment) -> Option<&Arc<Version>> {
        let after = self.in_force.partition_point(|in_force| in_force.start() <= at);
        self.in_force[..after].last().map(|in_force| &in_force.version)
    }

    /// The version in force at `at`, or the first to come: for what needs some rule even before the program starts.
    #[must_use]
    pub fn at_or_first(&self, at: Moment) -> Option<&Arc<Version>> {
        self.at(at).or_else(|| self.versions.first())
    }

    /// When an account that was last used at `last_activity` falls asleep, by the versions that are in force from then on; none if never.
    #[must_use]
    pub fn sleeps_at(&self, last_activity: Moment) -> Option<Moment> {
        if self.versions.iter().all(|version| version.rulebook.accounts.inactive_after.is_none()) {
            return None;
        }
        let mut starts: Vec<Moment> = self.versions.iter().map(|version| version.rulebook.effective_from).filter(|at| *at > last_activity).collect();
        starts.sort_unstable();
        starts.insert(0, last_activity);
        let ends = starts.iter().skip(1).copied().map(Some).chain([None]);
        starts.iter().zip(ends).find_map(|(start, end)| {
            let version = self.at_or_first(*start)?;
            let at = version.after(last_activity, version.rulebook.accounts.inactive_after?).max(*start);
            end.is_none_or(|end| at < end).then_some(at)
        })
    }

    /// When what is lost at `lost_at` is booked: when no redemption of before can be told any more.
    #[must_use]
    pub fn booked_at(&self, lost_at: Moment) -> Moment {
        let before = self.in_force.partition_point(|in_force| in_force.start() < lost_at);
        let booked_until = self.in_force[..before].last().map_or(lost_at, |in_force| in_force.booked_until);
        self.told_until(lost_at).max(booked_until).max(lost_at)
    }

    /// Whether redemptions may be told later than they occur by any version.
    #[must_use]
    pub fn is_told_later(&self) -> bool {
        self.versions.iter().any(|version| version.rulebook.redeem.offline_minutes > 0)
    }

    /// The version published last.
    #[must_use]
    pub fn latest(&self) -> Option<&Arc<Version>> {
        self.versions.last()
    }

    /// Whether the program runs on a clock that its caller sets.
    #[must_use]
    pub fn is_sandbox(&self) -> bool {
        self.latest().is_some_and(|version| version.rulebook.mode == Mode::Sandbox)
    }
}
