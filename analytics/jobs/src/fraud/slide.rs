//! Windows of one length that slide over the rows of one key: every row is added once and dropped once, however many windows hold it.

use std::collections::{BTreeMap, HashMap, VecDeque};

use estimators::robust::Usual;
use ledger_core::policy::Measure;

/// Fewer than this many values say nothing about what is usual.
const USUAL_MIN: usize = 5;
/// What is usual among peers is computed again when one in so many of the window's rows has changed.
const PEERS_CHANGED: usize = 100;

/// A row that windows count.
#[derive(Debug, Clone)]
pub(super) struct Counted {
    /// Microseconds since 1970.
    pub(super) at: i64,
    /// Whatever is counted as different: account, store, place of the record, or peer; empty where that is nothing.
    pub(super) group: String,
    pub(super) points: i64,
}

/// A window to count: it ends with `at`, included.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    /// Which of the caller's signals asks.
    pub(super) signal: usize,
    pub(super) at: i64,
    /// Of the signal, without sign.
    pub(super) points: i64,
    /// Of the window: the value that its rows have in common, or the peer.
    pub(super) key: String,
}

/// Windows that overlap, and so share rows.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) key: String,
    /// Rows after this moment …
    pub(super) after: i64,
    /// … until this one, included.
    pub(super) until: i64,
    /// In the order of their moments.
    asks: VecDeque<Ask>,
}

/// Groups `asks` into runs of windows of `length` microseconds. With `by_key`, those of different keys share no rows.
pub(super) fn runs(mut asks: Vec<Ask>, length: i64, by_key: bool) -> Vec<Run> {
    let key = |ask: &Ask| if by_key { ask.key.clone() } else { String::new() };
    asks.sort_by_cached_key(|ask| (key(ask), ask.at));
    let mut runs: Vec<Run> = Vec::new();
    for ask in asks {
        let shares = |run: &&mut Run| (!by_key || run.key == ask.key) && ask.at.saturating_sub(length) <= run.until;
        if let Some(run) = runs.last_mut().filter(shares) {
            run.until = ask.at;
            run.asks.push_back(ask);
        } else {
            runs.push(Run { key: ask.key.clone(), after: ask.at.saturating_sub(length), until: ask.at, asks: VecDeque::from([ask]) });
        }
    }
    runs
}

/// Counts the windows of runs as their rows come: run by run, in the order of time.
pub(super) struct Slider {
    measure: Measure,
    length: i64,
    runs: Vec<Run>,
    current: usize,
    held: Held,
    /// By signal.
    answers: Vec<i64>,
}

impl Slider {
    pub(super) fn new(measure: Measure, length: i64, runs: Vec<Run>, signals: usize) -> Self {
        Self { measure, length, runs, current: 0, held: Held::default(), answers: vec![0; signals] }
    }

    /// The next row, of run `run`.
    pub(super) fn push(&mut self, run: usize, row: Counted) {
        while self.current < run {
            self.end_run();
        }
        // What is usual is told by what came before; everything else counts the signal's own moment too.
        let is_due = |ask: &Ask, measure: Measure| if measure == Measure::OwnPercent { ask.at <= row.at } else { ask.at < row.at };
        while let Some(ask) = self.runs.get_mut(run).and_then(|run| run.asks.pop_front_if(|ask| is_due(ask, self.measure))) {
            self.answer(&ask);
        }
        self.held.add(self.measure, row);
    }

    /// By signal, in their order.
    pub(super) fn finish(mut self) -> Vec<i64> {
        while self.current < self.runs.len() {
            self.end_run();
        }
        self.answers
    }

    fn end_run(&mut self) {
        while let Some(ask) = self.runs.get_mut(self.current).and_then(|run| run.asks.pop_front()) {
            self.answer(&ask);
        }
        self.held = Held::default();
        self.current += 1;
    }

    fn answer(&mut self, ask: &Ask) {
        self.held.drop_until(self.measure, ask.at.saturating_sub(self.length));
        if let Some(answer) = self.answers.get_mut(ask.signal) {
            *answer = self.held.count(self.measure, ask);
        }
    }
}

/// What a window holds.
#[derive(Default)]
struct Held {
    rows: VecDeque<Counted>,
    /// Points without sign.
    sum: i64,
    /// Rows and points by group.
    groups: HashMap<String, (u64, i64)>,
    /// Points without sign, in order.
    sorted: Vec<i64>,
    peers: Peers,
}

/// What was usual among peers.
#[derive(Default)]
struct Peers {
    /// None while they are too few.
    usual: Option<Usual>,
    /// The sums that it knows, in order, so that the same peers give the same sums.
    sums: BTreeMap<String, f64>,
    /// How many rows have changed since it was computed.
    changed: usize,
}

impl Held {
    fn add(&mut self, measure: Measure, row: Counted) {
        let points = row.points.saturating_abs();
        self.sum = self.sum.saturating_add(points);
        if measure == Measure::OwnPercent {
            self.sorted.insert(self.sorted.partition_point(|other| *other < points), points);
        } else if !row.group.is_empty() {
            let group = self.groups.entry(row.group.clone()).or_default();
            *group = (group.0 + 1, group.1.saturating_add(points));
        }
        self.peers.changed += 1;
        self.rows.push_back(row);
    }

    /// Drops what came at `moment` or before.
    fn drop_until(&mut self, measure: Measure, moment: i64) {
        while let Some(row) = self.rows.pop_front_if(|row| row.at <= moment) {
            let points = row.points.saturating_abs();
            self.sum = self.sum.saturating_sub(points);
            self.peers.changed += 1;
            if measure == Measure::OwnPercent {
                self.sorted.remove(self.sorted.partition_point(|other| *other < points));
            } else if let Some(group) = self.groups.get_mut(&row.group) {
                *group = (group.0 - 1, group.1.saturating_sub(points));
                if group.0 == 0 {
                    self.groups.remove(&row.group);
                }
            }
        }
    }

    fn count(&mut self, measure: Measure, ask: &Ask) -> i64 {
        let whole = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        match measure {
            Measure::Count => whole(self.rows.len()),
            Measure::Points => self.sum,
            Measure::Accounts | Measure::Stores | Measure::Confirmed => whole(self.groups.len()),
            Measure::OwnPercent => self.own_percent(ask.points),
            Measure::PeerScore => self.peer_score(&ask.key),
        }
    }

    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "points far below 2^53; a percentage saturates")]
    fn own_percent(&self, points: i64) -> i64 {
        let middle = self.sorted.len() / 2;
        let median = match self.sorted.len() {
            len if len < USUAL_MIN => 0.0,
            len if len % 2 == 1 => self.sorted[middle] as f64,
            _ => f64::midpoint(self.sorted[middle - 1] as f64, self.sorted[middle] as f64),
        };
        if median > 0.0 { (100.0 * points.saturating_abs() as f64 / median).round_ties_even() as i64 } else { 0 }
    }

    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "points far below 2^53; a score saturates")]
    fn peer_score(&mut self, peer: &str) -> i64 {
        let Some(sum) = self.groups.get(peer).map(|(_, sum)| *sum as f64).filter(|_| self.groups.len() >= USUAL_MIN) else { return 0 };
        if self.peers.changed > self.rows.len() / PEERS_CHANGED || !self.peers.sums.contains_key(peer) {
            let sums: BTreeMap<String, f64> = self.groups.iter().map(|(group, (_, sum))| (group.clone(), *sum as f64)).collect();
            let values: Vec<f64> = sums.values().copied().collect();
            self.peers = Peers { usual: Usual::of(&values), sums, changed: 0 };
        }
        let Peers { usual: Some(usual), sums, .. } = &mut self.peers else { return 0 };
        // What is usual may be a little old; what the peer itself did must not be.
        if let Some(known) = sums.get_mut(peer) {
            usual.replace(*known, sum);
            *known = sum;
        }
        usual.score(sum).floor() as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(signal: usize, at: i64, key: &str) -> Ask {
        Ask { signal, at, points: 100, key: key.into() }
    }

    fn slide(measure: Measure, asks: Vec<Ask>, rows: &[(i64, &str, i64)]) -> Vec<i64> {
        let (signals, runs) = (asks.len(), runs(asks, 10, true));
        let bounds: Vec<(i64, i64)> = runs.iter().map(|run| (run.after, run.until)).collect();
        let mut slider = Slider::new(measure, 10, runs, signals);
        for (run, (after, until)) in bounds.into_iter().enumerate() {
            for (at, group, points) in rows.iter().filter(|row| row.0 > after && row.0 <= until) {
                slider.push(run, Counted { at: *at, group: (*group).into(), points: *points });
            }
        }
        slider.finish()
    }

    #[test]
    fn a_window_holds_its_end_and_not_its_beginning() {
        let rows = [(0, "a", 5), (10, "b", -7), (10, "a", 1), (20, "a", 1), (45, "c", 1)];
        let asks = || vec![ask(0, 20, "k"), ask(1, 10, "k"), ask(2, 9, "k"), ask(3, 45, "k"), ask(4, 60, "k")];
        assert_eq!(slide(Measure::Count, asks(), &rows), [1, 2, 1, 1, 0]);
        assert_eq!(slide(Measure::Points, asks(), &rows), [1, 8, 5, 1, 0]);
        assert_eq!(slide(Measure::Accounts, asks(), &rows), [1, 2, 1, 1, 0]);
    }

    #[test]
    fn windows_far_apart_share_no_rows() {
        let far = runs(vec![ask(0, 100, "k"), ask(1, 5, "k"), ask(2, 12, "k"), ask(3, 12, "other")], 10, true);
        let bounds: Vec<(&str, i64, i64)> = far.iter().map(|run| (&*run.key, run.after, run.until)).collect();
        assert_eq!(bounds, [("k", -5, 12), ("k", 90, 100), ("other", 2, 12)]);
    }

    #[test]
    fn what_is_usual_is_told_by_what_came_before() {
        let rows = [(1, "", 20), (2, "", 20), (3, "", 20), (4, "", 30), (5, "", 20), (6, "", 100)];
        assert_eq!(slide(Measure::OwnPercent, vec![ask(0, 6, "k"), ask(1, 5, "k")], &rows), [500, 0]);
        let even = [(1, "", 10), (2, "", 10), (3, "", 20), (4, "", 30), (5, "", 40), (6, "", 40)];
        assert_eq!(slide(Measure::OwnPercent, vec![ask(0, 7, "k")], &even), [400]);
    }

    #[test]
    fn a_peer_stands_out_of_the_others() {
        let rows = [(1, "a", 1), (2, "b", 2), (3, "c", 3), (4, "d", 4), (5, "e", 1000)];
        assert!(slide(Measure::PeerScore, vec![ask(0, 5, "e")], &rows)[0] > 100);
        assert_eq!(slide(Measure::PeerScore, vec![ask(0, 4, "d")], &rows), [0], "of four nobody stands out");
    }

    #[test]
    fn a_burst_of_one_peer_is_seen_at_once() {
        // Given ten clerks of 100 rows each, and a look at one of them.
        let clerks = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
        let mut rows: Vec<(i64, &str, i64)> = (0..100).flat_map(|_| (10..).zip(clerks).map(|(points, clerk)| (1, clerk, points))).collect();
        let before = slide(Measure::PeerScore, vec![ask(0, 2, "e")], &rows)[0];
        // When that one gives 5,000 points in five rows, which is less than one row in a hundred.
        rows.extend((0..5).map(|_| (3, "e", 1000)));
        let fresh = slide(Measure::PeerScore, vec![ask(0, 3, "e")], &rows)[0];
        // Then the next look says what a first one would, or nearly so.
        let after = slide(Measure::PeerScore, vec![ask(0, 2, "e"), ask(1, 3, "e")], &rows);
        assert!(after[0] == before && before <= 0 && after[1] >= 10 && (after[1] - fresh).abs() <= 5, "{before} {fresh} {after:?}");
    }
}
