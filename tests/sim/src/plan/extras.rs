//! What is drawn apart from all else, so that plans are as they were without it: refunds without a purchase, markers that come late, large purchases.

use rand::Rng;

use super::{Ask, DAY_US, Draw, LineSpec, MINUTE_US, Step, Way, What};
use crate::fault::Fault;

/// As long as labels may be; rulebooks know nothing of them.
const LONG_SKU: &str = "goods-with-a-name-as-long-as-labels-may-be-xxxxxxxxxxxxxxxxxxxxx";
const LONG_CATEGORY: &str = "category-of-them-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";

impl Draw {
    /// What comes between one step and the next.
    pub(super) fn extras(&mut self, accounts: usize, shared: bool, steps: &mut Vec<Step>) {
        match self.extras.random_range(0..1000) {
            0..35 => self.refund_without_purchase(accounts, shared, steps),
            35..45 => self.markers_late(steps),
            _ => {}
        }
    }

    fn refund_without_purchase(&mut self, accounts: usize, shared: bool, steps: &mut Vec<Step>) {
        let (account, now_us) = (self.extras.random_range(0..accounts), self.now_us);
        let occurred_us = match self.extras.random_range(0..12) {
            0 => now_us - DAY_US * self.extras.random_range(1..400),
            1 => now_us - 3000 * DAY_US,
            2 => now_us + 4 * MINUTE_US,
            3 => now_us + DAY_US,
            _ => now_us,
        };
        let cents = self.extras.random_range(1..20_000);
        let amount = 10 * cents + i64::from(self.extras.random_bool(0.1));
        let of = step_after(
            steps,
            0,
            What::Ask { account, ask: Ask::Refund { occurred_us, amount }, way: self.any_way(shared), twin: self.extras.random_bool(0.1) },
        );
        let again = match self.extras.random_range(0..8) {
            0 => Ask::Again { of },
            1 => Ask::Changed { of },
            _ => return,
        };
        step_after(steps, 0, What::Ask { account, ask: again, way: self.any_way(shared), twin: false });
    }

    fn any_way(&mut self, shared: bool) -> Way {
        if shared && self.extras.random_bool(0.4) { Way::Log } else { Way::Node }
    }

    /// Markers come late, and partitions are given to others meanwhile.
    fn markers_late(&mut self, steps: &mut Vec<Step>) {
        let ms = self.extras.random_range(50..3000);
        step_after(steps, 0, What::Fault(Fault::MarkersLate { ms }));
        step_after(steps, self.extras.random_range(0..200), What::Fault(Fault::Rebalance));
    }

    /// The lines of a purchase that is nearly as large as a message may be, or larger; none for others.
    pub(super) fn large_lines(&mut self) -> Option<Vec<LineSpec>> {
        let rng = self.large.as_mut()?;
        if !rng.random_bool(0.1) {
            return None;
        }
        let count = rng.random_range(20..32);
        let line = |_| LineSpec { sku: LONG_SKU, category: LONG_CATEGORY, quantity: 1000, price: rng.random_range(1..300), discount: 0, tax: 0, amount: None };
        Some((0..count).map(line).collect())
    }
}

/// Puts `what` next; tells its number, which is beyond those of all that is drawn one by one.
fn step_after(steps: &mut Vec<Step>, pause_ms: u64, what: What) -> usize {
    let number = 1000 + steps.len();
    steps.push(Step { number, pause_ms, what });
    number
}
