//! How many of the points given out will ever be spent: chain ladder over cohorts, with Mack's standard error.
//!
//! Mack (1993), Distribution-free calculation of the standard error of chain ladder reserve estimates, ASTIN Bulletin 23(2). Young cohorts,
//! which have hardly begun, take their rate from the older ones (Cape Cod: Stanard 1985, Bühlmann).

use crate::tail::Tail;

/// Below this share of its development a cohort's own figures are not gone by.
const YOUNG: f64 = 0.25;
/// Below this share of what its age lets expect, a cohort's own figures say nothing of how far they may be off.
const FAINT: f64 = 0.5;

/// Cumulative amounts: a row a cohort, the oldest first, each one column shorter than the one before or as long as it.
#[derive(Debug, Clone, PartialEq)]
pub struct Triangle {
    rows: Vec<Vec<f64>>,
}

/// Why there is no estimate.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ReserveError {
    /// Too little history.
    #[error("a triangle of {rows} cohorts: at least 3 are needed, the oldest with {rows} periods or more")]
    TooSmall {
        /// How many there are.
        rows: usize,
    },
    /// Not a triangle.
    #[error("cohort {cohort} has {found} periods, a younger one must not have more than an older one")]
    NotATriangle {
        /// Which, from 0.
        cohort: usize,
        /// How many.
        found: usize,
    },
    /// Nothing to develop from.
    #[error("nothing had happened to any cohort by period {period}")]
    Empty {
        /// Which, from 0.
        period: usize,
    },
    /// Nothing to say how the development ends by.
    #[error("the oldest cohort still has points to spend, and spending does not fade yet")]
    NoTail,
}

/// What becomes of a triangle.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Ladder {
    /// From each period to the next.
    pub factors: Vec<f64>,
    /// What each cohort comes to in the end.
    pub ultimates: Vec<f64>,
    /// Mack's standard error of each.
    pub standard_errors: Vec<f64>,
    /// Of the sum over the cohorts.
    pub total_standard_error: f64,
}

impl Ladder {
    /// What all come to in the end.
    #[must_use]
    pub fn ultimate(&self) -> f64 {
        self.ultimates.iter().sum()
    }
}

impl Triangle {
    /// From cumulative amounts.
    ///
    /// # Errors
    /// [`ReserveError`]
    pub fn new(rows: Vec<Vec<f64>>) -> Result<Self, ReserveError> {
        if rows.len() < 3 || rows[0].len() < 3 {
            return Err(ReserveError::TooSmall { rows: rows.len() });
        }
        for (cohort, pair) in rows.windows(2).enumerate() {
            if pair[1].len() > pair[0].len() || pair[1].is_empty() {
                return Err(ReserveError::NotATriangle { cohort: cohort + 1, found: pair[1].len() });
            }
        }
        Ok(Self { rows })
    }

    fn latest(row: &[f64]) -> f64 {
        row.last().copied().unwrap_or(0.0)
    }

    /// Factors, and what of each cohort was known to make the next from.
    fn factors(&self) -> Result<(Vec<f64>, Vec<f64>), ReserveError> {
        let mut factors = Vec::new();
        let mut bases = Vec::new();
        for k in 0..self.rows[0].len() - 1 {
            let known = self.rows.iter().filter(|row| row.len() > k + 1);
            let (before, after) = known.fold((0.0, 0.0), |(before, after), row| (before + row[k], after + row[k + 1]));
            if before <= 0.0 {
                return Err(ReserveError::Empty { period: k });
            }
            factors.push(after / before);
            bases.push(before);
        }
        Ok((factors, bases))
    }

    /// Chain ladder, with Mack's standard errors.
    ///
    /// # Errors
    /// [`ReserveError::Empty`]
    pub fn ladder(&self) -> Result<Ladder, ReserveError> {
        let rungs = self.rungs()?;
        let paths: Vec<Path> = self.rows.iter().map(|row| Path::from(Self::latest(row), row.len() - 1)).collect();
        let Errors { ultimates, standard_errors, total } = rungs.errors(&paths);
        Ok(Ladder { factors: rungs.factors, ultimates, standard_errors, total_standard_error: total })
    }

    fn rungs(&self) -> Result<Rungs, ReserveError> {
        let (factors, bases) = self.factors()?;
        let noise = self.noise(&factors);
        Ok(Rungs { factors, bases, noise })
    }

    /// Mack's σ² by period; the last, of which there is one cohort only, by his rule.
    fn noise(&self, factors: &[f64]) -> Vec<f64> {
        let mut noise: Vec<f64> = Vec::new();
        for (k, factor) in factors.iter().enumerate() {
            let known: Vec<&Vec<f64>> = self.rows.iter().filter(|row| row.len() > k + 1 && row[k] > 0.0).collect();
            #[allow(clippy::cast_precision_loss)]
            let spare = known.len() as f64 - 1.0;
            noise.push(if spare > 0.0 {
                known.iter().map(|row| row[k] * (row[k + 1] / row[k] - factor).powi(2)).sum::<f64>() / spare
            } else if let [.., two_before, before] = noise[..] {
                if two_before > 0.0 { (before.powi(2) / two_before).min(before.min(two_before)) } else { 0.0 }
            } else {
                0.0
            });
        }
        noise
    }
}

/// From each period to the next: the factor, the amounts that it was made from, and Mack's σ².
struct Rungs {
    factors: Vec<f64>,
    bases: Vec<f64>,
    noise: Vec<f64>,
}

/// Where a cohort's development begins.
#[derive(Clone, Copy)]
struct Path {
    reached: f64,
    column: usize,
    /// Relative variance of `reached`, of the cohort alone; none where it is known.
    own: f64,
    /// Relative variance of `reached` that it has in common with all cohorts that have one.
    common: f64,
}

impl Path {
    fn from(reached: f64, column: usize) -> Self {
        Self { reached, column, own: 0.0, common: 0.0 }
    }
}

/// What paths lead to.
struct Errors {
    ultimates: Vec<f64>,
    standard_errors: Vec<f64>,
    /// Of the sum.
    total: f64,
}

impl Rungs {
    /// With a rung more for what the oldest cohort, which has spent `reached` and has `left`, will spend beyond the oldest age. The tail's error is that of the
    /// oldest cohort; half of it is its own, as Mack's process error, and half is of the factor, which all cohorts share.
    fn with_tail(mut self, reached: f64, left: f64, tail: Tail) -> Self {
        let [to_come, error] = [tail.share, tail.standard_error].map(|share| share * left / reached);
        self.factors.push(1.0 + to_come);
        self.bases.push(reached);
        self.noise.push(error.powi(2) * reached / 2.0);
        self
    }

    /// The share of its ultimate that a cohort has reached by each column.
    fn developed(&self, column: usize) -> f64 {
        self.factors[column..].iter().product::<f64>().recip()
    }

    /// Mack's errors of cohorts, the oldest first.
    fn errors(&self, paths: &[Path]) -> Errors {
        let Self { factors, bases, noise } = self;
        let (mut ultimates, mut standard_errors) = (Vec::new(), Vec::new());
        for path in paths {
            let (mut reached, mut relative) = (path.reached, path.own + path.common);
            for k in path.column..factors.len() {
                if reached > 0.0 && factors[k] > 0.0 {
                    relative += noise[k] / factors[k].powi(2) * (1.0 / reached + 1.0 / bases[k]);
                }
                reached *= factors[k];
            }
            ultimates.push(reached);
            standard_errors.push(reached * relative.sqrt());
        }
        // Cohorts share the factors, so their errors go together.
        let mut total = 0.0;
        for (i, path) in paths.iter().enumerate() {
            let later: f64 = ultimates[i + 1..].iter().sum();
            let shared: f64 = (path.column..factors.len()).filter(|k| factors[*k] > 0.0).map(|k| noise[k] / factors[k].powi(2) / bases[k]).sum();
            total += standard_errors[i].powi(2) + 2.0 * ultimates[i] * later * (shared + path.common);
        }
        Errors { ultimates, standard_errors, total: total.sqrt() }
    }
}

/// What will be spent of points that were given out.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Redemption {
    /// By cohort: how many will be spent in the end.
    pub ultimates: Vec<f64>,
    /// Mack's standard errors of them.
    pub standard_errors: Vec<f64>,
    /// Of all points given out, the share that will be spent.
    pub ultimate_rate: f64,
    /// Its standard error.
    pub ultimate_rate_standard_error: f64,
}

/// The ultimate redemption of cohorts of which `issued` points were given out and `spent` is the triangle of those spent. Cohorts of `issued` beyond
/// the triangle have not begun to spend.
///
/// The errors are Mack's, from what a cohort has spent. Where that is next to nothing, which would make an error of next to nothing, they are from
/// what the pooled rate expects by its age; where the triangle has not begun, also by how differently cohorts have begun.
///
/// # Errors
/// [`ReserveError`]
pub fn redemption(issued: &[f64], spent: &Triangle) -> Result<Redemption, ReserveError> {
    Ok(forecast(issued, spent, &spent.rungs()?))
}

/// As [`redemption`], where the oldest cohort still has `left` points to spend: of those, `tail` will be. Without it, the oldest cohort would be certain to
/// spend nothing more.
///
/// # Errors
/// [`ReserveError`]
pub fn open_redemption(issued: &[f64], spent: &Triangle, left: f64, tail: Tail) -> Result<Redemption, ReserveError> {
    let (rungs, reached) = (spent.rungs()?, Triangle::latest(&spent.rows[0]));
    if reached <= 0.0 {
        return Err(ReserveError::Empty { period: spent.rows[0].len() - 1 });
    }
    Ok(forecast(issued, spent, &rungs.with_tail(reached, left, tail)))
}

fn forecast(issued: &[f64], spent: &Triangle, rungs: &Rungs) -> Redemption {
    let known = spent.rows.iter().zip(issued);
    let (reached, used) =
        known.clone().fold((0.0, 0.0), |(reached, used), (row, issued)| (reached + Triangle::latest(row), used + issued * rungs.developed(row.len() - 1)));
    let pooled = if used > 0.0 { (reached / used).min(1.0) } else { 0.0 };
    let (mut ultimates, mut paths) = (Vec::new(), Vec::new());
    for (row, issued) in known {
        let (latest, column) = (Triangle::latest(row), row.len() - 1);
        let developed = rungs.developed(column);
        let expected = pooled * issued * developed;
        let has_begun = developed >= YOUNG && latest > 0.0;
        let ultimate = if has_begun { latest / developed } else { latest + pooled * issued * (1.0 - developed) };
        ultimates.push(ultimate.min(*issued).max(latest));
        paths.push(Path::from(if latest < FAINT * expected { expected } else { latest }, column));
    }
    let (own, common) = beginnings(issued, spent);
    for issued in issued.iter().skip(spent.rows.len()) {
        ultimates.push(pooled * issued);
        let own = if *issued > 0.0 { own / issued } else { 0.0 };
        paths.push(Path { reached: pooled * issued * rungs.developed(0), column: 0, own, common });
    }
    let all: f64 = issued.iter().sum();
    let of_all = |sum: f64| if all > 0.0 { sum / all } else { 0.0 };
    let Errors { standard_errors, total, .. } = rungs.errors(&paths);
    let ultimate_rate = of_all(ultimates.iter().sum());
    Redemption { ultimates, standard_errors, ultimate_rate, ultimate_rate_standard_error: of_all(total) }
}

/// How differently cohorts spend in the triangle's first column: the relative variance of one of them, times the points that it was given, and that
/// of the pooled share.
fn beginnings(issued: &[f64], spent: &Triangle) -> (f64, f64) {
    let known = || spent.rows.iter().zip(issued).filter(|(_, issued)| **issued > 0.0);
    let (begun, of) = known().fold((0.0, 0.0), |(begun, of), (row, issued)| (begun + row[0], of + issued));
    #[allow(clippy::cast_precision_loss)]
    let spare = known().count() as f64 - 1.0;
    if begun <= 0.0 || spare <= 0.0 {
        return (0.0, 0.0);
    }
    let mean = begun / of;
    let squares: f64 = known().map(|(row, issued)| issued * (row[0] / issued - mean).powi(2)).sum();
    let relative = squares / spare / mean.powi(2);
    (relative, relative / of)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn triangle(rows: &[&[u32]], cumulative: bool) -> Triangle {
        let row = |row: &&[u32]| {
            let mut sum = 0.0;
            let mut add = |value: &u32| {
                sum = if cumulative { f64::from(*value) } else { sum + f64::from(*value) };
                sum
            };
            row.iter().map(&mut add).collect()
        };
        Triangle::new(rows.iter().map(row).collect()).unwrap()
    }

    fn near(got: f64, wanted: f64, within: f64) {
        assert!((got - wanted).abs() < within, "{got} is not {wanted}");
    }

    /// Taylor, Ashe (1983), incremental.
    const TAYLOR_ASHE: &[&[u32]] = &[
        &[357_848, 766_940, 610_542, 482_940, 527_326, 574_398, 146_342, 139_950, 227_229, 67_948],
        &[352_118, 884_021, 933_894, 1_183_289, 445_745, 320_996, 527_804, 266_172, 425_046],
        &[290_507, 1_001_799, 926_219, 1_016_654, 750_816, 146_923, 495_992, 280_405],
        &[310_608, 1_108_250, 776_189, 1_562_400, 272_482, 352_053, 206_286],
        &[443_160, 693_190, 991_983, 769_488, 504_851, 470_639],
        &[396_132, 937_085, 847_498, 805_037, 705_960],
        &[440_832, 847_631, 1_131_398, 1_063_269],
        &[359_480, 1_061_648, 1_443_370],
        &[376_686, 986_608],
        &[344_014],
    ];

    /// Reinsurance Association of America, cumulative, in Mack (1994).
    const RAA: &[&[u32]] = &[
        &[5012, 8269, 10907, 11805, 13539, 16181, 18009, 18608, 18662, 18834],
        &[106, 4285, 5396, 10666, 13782, 15599, 15496, 16169, 16704],
        &[3410, 8992, 13873, 16141, 18735, 22214, 22863, 23466],
        &[5655, 11555, 15766, 21266, 23425, 26083, 27067],
        &[1092, 9565, 15836, 22169, 25955, 26180],
        &[1513, 6445, 11702, 12935, 15852],
        &[557, 4020, 10946, 12314],
        &[1351, 6947, 13112],
        &[3133, 5395],
        &[2063],
    ];

    #[test]
    fn taylor_and_ashe() {
        let ladder = triangle(TAYLOR_ASHE, false).ladder().unwrap();
        near(ladder.ultimate(), 53_038_945.61, 0.005);
        near(ladder.total_standard_error, 2_447_095.0, 1.0);
    }

    /// Mack (1993), table 2: standard errors by accident year, rounded to thousands there.
    #[test]
    fn taylor_and_ashe_by_cohort() {
        let wanted = [0.0, 75_535.0, 121_699.0, 133_549.0, 261_406.0, 411_010.0, 558_317.0, 875_328.0, 971_258.0, 1_363_155.0];
        let spent = triangle(TAYLOR_ASHE, false);
        let ladder = spent.ladder().unwrap();
        // Young cohorts have the errors of their own amounts, though their ultimates come from the pooled rate.
        let redemption = redemption(&[10_000_000.0; 10], &spent).unwrap();
        for errors in [&ladder.standard_errors, &redemption.standard_errors] {
            errors.iter().zip(wanted).for_each(|(error, wanted)| near(*error, wanted, 1.0));
        }
        near(redemption.ultimate_rate_standard_error * 1e8, 2_447_095.0, 1.0);
    }

    #[test]
    fn a_cohort_that_has_spent_nothing_yet_is_less_certain_than_older_ones() {
        let spent = triangle(TAYLOR_ASHE, false);
        let mut rows = spent.rows.clone();
        rows[9] = vec![0.0];
        let issued = vec![10_000_000.0; 11];
        let redemption = redemption(&issued, &Triangle::new(rows).unwrap()).unwrap();
        // The last has not begun at all, so it may begin in any way.
        let errors = &redemption.standard_errors;
        assert!(errors[9] > 1_200_000.0 && errors[10] > errors[9], "{errors:?}");
        near(redemption.ultimates[10], redemption.ultimates[9] / (1.0 - 1.0 / 14.446_577), 1.0);
    }

    #[test]
    fn raa() {
        let ladder = triangle(RAA, true).ladder().unwrap();
        near(ladder.ultimate(), 213_122.23, 0.005);
        near(ladder.total_standard_error, 26_909.0, 1.0);
    }

    #[test]
    fn a_young_cohort_takes_the_rate_of_the_older_ones() {
        let spent = triangle(&[&[100, 300, 400], &[100, 300], &[0]], true);
        let redemption = redemption(&[1000.0, 1000.0, 1000.0], &spent).unwrap();
        near(redemption.ultimates[0], 400.0, 1e-9);
        near(redemption.ultimates[1], 400.0, 1e-9);
        // 700 were spent of the 1000 + 750 + 250 that would have come by now at one rate: 0.35, of which three quarters are to come.
        near(redemption.ultimates[2], 0.35 * 1000.0 * 0.75, 1e-9);
    }

    #[test]
    fn where_points_are_left_the_oldest_cohort_is_not_certain() {
        // Given cohorts of 1,000 points, of which the oldest has spent 400 and has 500 left; the rest is lost.
        let spent = triangle(&[&[100, 300, 400], &[100, 300], &[100]], true);
        let closed = redemption(&[1000.0; 3], &spent).unwrap();
        assert_eq!((closed.ultimates[0], closed.standard_errors[0]), (400.0, 0.0));
        // When a tenth of what is left is expected to be spent, give or take a fifth of it.
        let open = open_redemption(&[1000.0; 3], &spent, 500.0, Tail { share: 0.1, standard_error: 0.2 }).unwrap();
        // Then each comes to 450 give or take 100, and the errors of all go together, as half of each is of the factor that they share.
        for cohort in 0..3 {
            near(open.ultimates[cohort], 450.0, 1e-9);
            near(open.standard_errors[cohort], 100.0, 1e-9);
        }
        near(open.ultimate_rate_standard_error * 3000.0, 60_000.0_f64.sqrt(), 1e-6);
    }

    #[test]
    fn what_is_no_triangle_is_refused() {
        assert_eq!(Triangle::new(vec![vec![1.0]]), Err(ReserveError::TooSmall { rows: 1 }));
        let rows = vec![vec![1.0, 2.0, 3.0], vec![1.0], vec![1.0, 2.0]];
        assert_eq!(Triangle::new(rows), Err(ReserveError::NotATriangle { cohort: 2, found: 2 }));
        let empty = Triangle::new(vec![vec![0.0, 2.0, 3.0], vec![0.0, 1.0], vec![0.0]]).unwrap();
        assert_eq!(empty.ladder(), Err(ReserveError::Empty { period: 0 }));
    }
}
