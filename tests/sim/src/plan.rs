//! What happens in one run, drawn from a seed before anything happens, so that steps can be left out when a failure is shrunk.

mod extras;
mod rulebook;

use jiff::civil::date;
use jiff::tz::TimeZone;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;

use crate::fault::Fault;
pub use rulebook::{CHANGES, changes};
use rulebook::{ZONES, next_rulebook};

pub const DAY_US: i64 = 86_400_000_000;
pub const MINUTE_US: i64 = 60_000_000;

/// A line of a purchase: quantity in thousandths, money in hundredths.
#[derive(Clone, Debug)]
pub struct LineSpec {
    pub sku: &'static str,
    pub category: &'static str,
    pub quantity: i64,
    pub price: i64,
    pub discount: i64,
    pub tax: i64,
    /// What the receipt says was charged, where the shop tells.
    pub amount: Option<i64>,
}

/// What goods are given back: lines with quantities in thousandths, or money in hundredths; and what of the shipping, where that is told.
#[derive(Clone, Debug)]
pub enum BackSpec {
    Lines(Vec<(usize, i64)>, Option<i64>),
    Money(i64, Option<i64>),
}

/// A command; those that refer to another name the step that asked it.
#[derive(Clone, Debug)]
pub enum Ask {
    Open,
    Activate,
    Freeze,
    Unfreeze,
    Close,
    Earn {
        occurred_us: i64,
        lines: Vec<LineSpec>,
        currency: &'static str,
        shipping: i64,
    },
    Redeem {
        points: i64,
        occurred_us: Option<i64>,
    },
    Hold {
        points: i64,
        minutes: u32,
        occurred_us: Option<i64>,
    },
    Capture {
        of: usize,
        points: Option<i64>,
    },
    Release {
        of: usize,
    },
    Undo {
        of: usize,
        points: Option<i64>,
    },
    Return {
        of: usize,
        occurred_us: i64,
        back: BackSpec,
    },
    /// Of a purchase that the book does not have; in thousandths.
    Refund {
        occurred_us: i64,
        amount: i64,
    },
    Adjust {
        points: i64,
    },
    Propose {
        points: i64,
    },
    Approve {
        of: usize,
    },
    Decline {
        of: usize,
    },
    AddAlias(u8),
    RemoveAlias(u8),
    /// The same as an earlier step, sent again.
    Again {
        of: usize,
    },
    /// The id of an earlier step, with other content.
    Changed {
        of: usize,
    },
}

/// Which way a command comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Node,
    Log,
    /// Published to the topic of purchases.
    Topic,
    /// As above, for whoever has this card.
    Card(u8),
}

#[derive(Clone, Debug)]
pub enum What {
    Ask { account: usize, ask: Ask, way: Way, twin: bool },
    Publish(usize),
    Wait { us: i64 },
    Fault(Fault),
}

#[derive(Clone, Debug)]
pub struct Step {
    /// Its number in the plan as it was drawn; ids are made of it.
    pub number: usize,
    pub pause_ms: u64,
    pub what: What,
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub nodes: usize,
    /// One node that has all, or several that share.
    pub shared: bool,
    pub follows: bool,
    pub partitions: u16,
    pub accounts: usize,
    pub accounts_in_memory: usize,
    pub begin_us: i64,
    /// Whether messages and accounts may be small only.
    pub is_small: bool,
    pub rulebooks: Vec<Value>,
    pub steps: Vec<Step>,
}

const SKUS: [(&str, &str); 4] = [("A", "food"), ("B", "toys"), ("C", "wine"), ("GIFT", "cards")];
/// Days around which calendars are hard.
const DATES: [(i16, i8, i8); 6] = [(2024, 1, 31), (2024, 2, 28), (2023, 12, 30), (2024, 3, 30), (2024, 10, 26), (2023, 6, 1)];

struct Draw {
    rng: SmallRng,
    now_us: i64,
    zone: &'static str,
    /// Where tiers are reviewed, and the clock goes so far that they are.
    reviews: Option<SmallRng>,
    /// What receipts say, and refunds to the cent: drawn apart, so that all else is as it was without them.
    receipts: SmallRng,
    /// Refunds without a purchase and markers that come late: drawn apart for the same reason.
    extras: SmallRng,
    /// Where messages may be small only: which purchases are large.
    large: Option<SmallRng>,
    /// Per account: the steps that asked for purchases, with their lines, and for redemptions.
    purchases: Vec<Vec<(usize, Vec<LineSpec>, i64)>>,
    redemptions: Vec<Vec<usize>>,
    proposals: Vec<Vec<usize>>,
    asked: Vec<Vec<usize>>,
}

impl Draw {
    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    fn of<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.rng.random_range(0..items.len())]
    }

    fn lines(&mut self) -> Vec<LineSpec> {
        if let Some(lines) = self.large_lines() {
            return lines;
        }
        let n = self.rng.random_range(1..4);
        (0..n).map(|_| self.line()).collect()
    }

    fn line(&mut self) -> LineSpec {
        let (sku, category) = self.of(&SKUS);
        let quantity = if self.chance(70) { 1000 * self.rng.random_range(1..5) } else { self.rng.random_range(1..4000) };
        let price = self.rng.random_range(1..4000);
        let value = quantity * price / 1000;
        let discount = if self.chance(25) { self.rng.random_range(0..=value / 3) } else { 0 };
        let tax = if self.chance(30) { self.rng.random_range(0..=value / 3) } else { 0 };
        let mut line = LineSpec { sku, category, quantity, price, discount, tax, amount: None };
        if self.receipts.random_bool(0.25) {
            // Up, down or to the nearer cent.
            let (floor, rest) = (quantity * price / 1000 - discount, quantity * price % 1000);
            line.amount = Some(floor + i64::from(rest > 0 && self.receipts.random_bool(0.6)));
        }
        line
    }

    /// Refunds to the cent: of all that the receipt says, with the shipping or without, a cent or three more or less.
    fn refund(&mut self, lines: &[LineSpec], shipping: i64) -> BackSpec {
        let goods: i64 = lines.iter().map(|line| line.amount.unwrap_or((line.quantity * line.price + 500) / 1000 - line.discount)).sum();
        let off = [-1, 0, 0, 1, 1, 2, 3][self.receipts.random_range(0..7)];
        match self.receipts.random_range(0..6) {
            0 => BackSpec::Money((goods + off).max(1), None),
            1 => BackSpec::Money((goods + shipping + off).max(1), None),
            2 => BackSpec::Money((goods + shipping + off).max(shipping).max(1), Some(shipping)),
            3 => BackSpec::Money((shipping + off).max(1), Some(shipping.min((shipping + off).max(1)))),
            4 => BackSpec::Money((goods / 2 + off).max(1), Some(0)),
            _ => BackSpec::Lines(vec![(0, lines[0].quantity)], Some((shipping + off.min(1)).max(0))),
        }
    }

    fn occurred(&mut self) -> i64 {
        match self.rng.random_range(0..20) {
            0..2 => self.now_us - DAY_US * self.rng.random_range(1..25),
            2 => self.now_us - self.rng.random_range(1..DAY_US),
            3 => self.now_us + 4 * MINUTE_US,
            4 => self.now_us + DAY_US,
            _ => self.now_us,
        }
    }

    /// When a redemption occurred that is told later, which a third are.
    fn told_later(&mut self) -> Option<i64> {
        let minutes = self.of(&[0, 1, 20, 29, 600, 1430, 2000, -4, -10]);
        self.chance(35).then_some(self.now_us - minutes * MINUTE_US)
    }

    fn back(&mut self, lines: &[LineSpec], shipping: i64) -> BackSpec {
        let back = self.back_of(lines);
        if self.receipts.random_bool(0.3) { self.refund(lines, shipping) } else { back }
    }

    fn back_of(&mut self, lines: &[LineSpec]) -> BackSpec {
        if self.chance(15) {
            return BackSpec::Money(self.rng.random_range(1..3000), None);
        }
        let mut back = Vec::new();
        for (i, line) in lines.iter().enumerate() {
            if self.chance(60) {
                let quantity = match self.rng.random_range(0..4) {
                    0 => line.quantity,
                    1 => (line.quantity / 2).max(1),
                    2 => (line.quantity / 3).max(1),
                    _ => self.rng.random_range(1..=line.quantity + 500),
                };
                back.push((i, quantity));
            }
        }
        if back.is_empty() { BackSpec::Lines(vec![(0, lines[0].quantity)], None) } else { BackSpec::Lines(back, None) }
    }

    fn ask(&mut self, step: usize, account: usize) -> Ask {
        let points = self.of(&[1, 5, 10, 20, 25, 40, 80]);
        let purchase = self.purchases[account].last().cloned().filter(|_| self.chance(60)).or_else(|| {
            let all = &self.purchases[account];
            let n = all.len();
            if n == 0 { None } else { Some(all[self.rng.random_range(0..n)].clone()) }
        });
        let redemption = (!self.redemptions[account].is_empty()).then(|| {
            let all = self.redemptions[account].clone();
            let last = all.len().saturating_sub(3);
            self.of(&all[last..])
        });
        let proposal = self.proposals[account].last().copied();
        let earlier = (!self.asked[account].is_empty()).then(|| {
            let all = self.asked[account].clone();
            self.of(&all)
        });
        let ask = match (self.rng.random_range(0..100), purchase, redemption, earlier) {
            (0..2, ..) => Ask::Open,
            (2..4, ..) => Ask::Activate,
            (4, ..) => Ask::Freeze,
            (5..7, ..) => Ask::Unfreeze,
            (7, ..) => {
                if self.chance(30) {
                    Ask::Close
                } else {
                    Ask::Unfreeze
                }
            }
            (8..20, Some((of, lines, shipping)), ..) => Ask::Return { of, occurred_us: self.now_us, back: self.back(&lines, shipping) },
            (20..32, ..) => Ask::Redeem { points, occurred_us: self.told_later() },
            (32..39, ..) => Ask::Hold { points, minutes: self.of(&[1, 30, 1440, 20_000]), occurred_us: self.told_later() },
            (39..46, _, Some(of), _) => Ask::Capture { of, points: self.of(&[Some(1), Some(5), Some(points), None]) },
            (46..49, _, Some(of), _) => Ask::Release { of },
            (49..56, _, Some(of), _) => Ask::Undo { of, points: self.of(&[Some(1), Some(5), Some(points), None]) },
            (56..61, ..) => Ask::Adjust { points: if self.chance(60) { points } else { -points } },
            (61..68, .., Some(of)) => Ask::Again { of },
            (68..70, .., Some(of)) => Ask::Changed { of },
            (72..74, ..) => Ask::Propose { points: if self.chance(60) { points } else { -points } },
            (74..76, ..) if proposal.is_some() => Ask::Approve { of: proposal.unwrap_or(step) },
            (76, ..) if proposal.is_some() => Ask::Decline { of: proposal.unwrap_or(step) },
            (70 | 77..80, ..) => Ask::AddAlias(self.of(&[1, 2])),
            (71 | 80..83, ..) => Ask::RemoveAlias(self.of(&[1, 2])),
            _ => {
                let lines = self.lines();
                let shipping = if self.receipts.random_bool(0.3) { self.receipts.random_range(1..1000) } else { 0 };
                self.purchases[account].push((step, lines.clone(), shipping));
                Ask::Earn { occurred_us: self.occurred(), lines, currency: if self.chance(3) { "USD" } else { "EUR" }, shipping }
            }
        };
        match &ask {
            Ask::Redeem { .. } | Ask::Hold { .. } => self.redemptions[account].push(step),
            Ask::Propose { .. } => self.proposals[account].push(step),
            _ => {}
        }
        if !matches!(ask, Ask::Again { .. } | Ask::Changed { .. }) {
            self.asked[account].push(step);
        }
        ask
    }

    fn way(&mut self, ask: &Ask, shared: bool) -> Way {
        let is_published = matches!(ask, Ask::Earn { .. } | Ask::Return { .. } | Ask::Again { .. } | Ask::Changed { .. });
        match (self.rng.random_range(0..100), shared) {
            (0..14, _) if is_published => Way::Card(self.of(&[1, 2])),
            (0..30, _) if is_published => Way::Topic,
            (60.., true) => Way::Log,
            _ => Way::Node,
        }
    }

    /// Intake is killed as it may have booked a purchase by `card`, which goes to another account before the purchase is read again.
    fn card_moves(&mut self, card: u8, accounts: usize, steps: &mut Vec<Step>) {
        let mut step = |pause_ms: u64, what: What| {
            // Beyond the numbers of all that is drawn one by one.
            let number = 1000 + steps.len();
            steps.push(Step { number, pause_ms, what });
        };
        step(self.of(&[0, 1, 2, 5]), What::Fault(Fault::IntakeCrash));
        for account in 0..accounts {
            step(0, What::Ask { account, ask: Ask::RemoveAlias(card), way: Way::Node, twin: false });
        }
        let account = self.rng.random_range(0..accounts);
        step(0, What::Ask { account, ask: Ask::AddAlias(card), way: Way::Node, twin: false });
    }

    fn wait(&mut self) -> i64 {
        if let Some(rng) = &mut self.reviews
            && rng.random_bool(0.4)
        {
            return DAY_US * rng.random_range(30..400);
        }
        match self.rng.random_range(0..6) {
            0 => MINUTE_US * self.of(&[1, 30, 1440]),
            1 => MINUTE_US * self.rng.random_range(1..600),
            2 => DAY_US * self.rng.random_range(1..5),
            3 => DAY_US * self.rng.random_range(5..60),
            // To the very midnight, where lots expire and days change.
            _ => {
                let zone = TimeZone::get(self.zone).expect("a zone");
                let now = jiff::Timestamp::from_microsecond(self.now_us).expect("a moment").to_zoned(zone);
                let midnight = now.tomorrow().and_then(|tomorrow| tomorrow.start_of_day()).expect("a day after");
                midnight.timestamp().as_microsecond() - self.now_us
            }
        }
    }

    fn fault(&mut self, nodes: usize) -> Fault {
        let node = self.rng.random_range(0..nodes);
        let ms = self.rng.random_range(1..3000);
        match self.rng.random_range(0..25) {
            0 => Fault::Crash { node },
            1 => Fault::Restart { node },
            2 => Fault::Pause { node, ms: self.of(&[500, 9000, 20_000]) },
            3 => Fault::Expel { node },
            4 => Fault::BothBelieve { node },
            5 => Fault::Rebalance,
            6 => Fault::AppendFailsBefore { node },
            7 => Fault::AppendFailsAfter { node },
            8 => Fault::AppendLandsLate { node, ms },
            9 => Fault::AppendTorn { ms },
            10 => Fault::LogUnavailable { ms },
            11 => Fault::ReadersBehind { ms },
            12 => Fault::QuestionLost,
            13 => Fault::QuestionRepeated,
            14 => Fault::QuestionLate { ms },
            15 => Fault::ClockJump { node, us: self.of(&[-2 * DAY_US, -MINUTE_US, MINUTE_US, 40 * MINUTE_US]) },
            16 => Fault::ProjectorSlow { ms },
            17 => Fault::ProjectorCrash,
            18 => Fault::RecordUnreadable,
            19 => Fault::StateDamaged { node },
            20 => Fault::StateFull { node },
            21 => Fault::IntakeCrash,
            22 => Fault::IntakeTwice { ms },
            23 => Fault::IntakeFails,
            _ => Fault::MessageUnreadable,
        }
    }
}

/// The plan of `seed`.
pub fn draw(seed: u64) -> Plan {
    let mut rng = SmallRng::seed_from_u64(seed);
    let (year, month, day) = DATES[rng.random_range(0..DATES.len())];
    let zone = ZONES[rng.random_range(0..ZONES.len())];
    let begin = date(year, month, day).at(rng.random_range(0..24), 0, 0, 0).to_zoned(TimeZone::UTC).expect("a moment");
    let begin_us = begin.timestamp().as_microsecond();
    let accounts = rng.random_range(1..5);
    let shared = rng.random_range(0..3) > 0;
    let nodes = if shared { rng.random_range(2..4) } else { 1 };
    let per_account = || vec![Vec::new(); accounts];
    let reviews = (seed % 3 == 1).then(|| SmallRng::seed_from_u64(!seed));
    let is_small = seed % 4 == 2;
    let mut draw = Draw {
        rng,
        now_us: begin_us,
        zone,
        reviews,
        receipts: SmallRng::seed_from_u64(seed.rotate_left(32)),
        extras: SmallRng::seed_from_u64(seed.rotate_left(16)),
        large: is_small.then(|| SmallRng::seed_from_u64(!seed.rotate_left(16))),
        purchases: vec![Vec::new(); accounts],
        redemptions: per_account(),
        proposals: per_account(),
        asked: per_account(),
    };
    let mut rulebooks = vec![draw.rulebook(begin_us)];
    let length = draw.rng.random_range(20..140);
    let mut steps = Vec::new();
    for number in 0..length {
        let pause_ms = draw.of(&[0, 0, 1, 5, 40, 300]);
        let what = match draw.rng.random_range(0..100) {
            0..14 => {
                let us = draw.wait();
                draw.now_us += us;
                What::Wait { us }
            }
            14..28 => What::Fault(draw.fault(nodes)),
            28..31 => {
                rulebooks.push(next_rulebook(&mut draw, &rulebooks));
                What::Publish(rulebooks.len() - 1)
            }
            _ => {
                let account = draw.rng.random_range(0..accounts);
                let ask = draw.ask(number, account);
                let way = draw.way(&ask, shared);
                What::Ask { account, ask, way, twin: draw.chance(12) }
            }
        };
        let card = if let What::Ask { way: Way::Card(card), .. } = &what { Some(*card) } else { None };
        steps.push(Step { number, pause_ms, what });
        if let Some(card) = card.filter(|_| draw.chance(25)) {
            draw.card_moves(card, accounts, &mut steps);
        }
        draw.extras(accounts, shared, &mut steps);
    }
    let accounts_in_memory = draw.of(&[0, 2, 100]);
    let (follows, partitions) = (draw.chance(60), draw.of(&[1, 3, 4]));
    Plan { seed, nodes, shared, follows, partitions, accounts, accounts_in_memory, begin_us, is_small, rulebooks, steps }
}
