//! How many of the points given out will ever be spent: chain ladder over cohorts, with Mack's standard error.
//!
//! Mack (1993), Distribution-free calculation of the standard error of chain ladder reserve estimates, ASTIN Bulletin 23(2). Young cohorts,
//! which have hardly begun, take their rate from the older ones (Cape Cod: Stanard 1985, Bühlmann).

/// Below this share of its development a cohort's own figures are not gone by.
const YOUNG: f64 = 0.25;

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
        let (factors, bases) = self.factors()?;
        let noise = self.noise(&factors);
        let mut ultimates = Vec::new();
        let mut standard_errors = Vec::new();
        for row in &self.rows {
            let mut reached = Self::latest(row);
            let mut relative = 0.0;
            for k in row.len() - 1..factors.len() {
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
        for (i, row) in self.rows.iter().enumerate() {
            let later: f64 = ultimates[i + 1..].iter().sum();
            let shared: f64 = (row.len() - 1..factors.len()).map(|k| 2.0 * noise[k] / factors[k].powi(2) / bases[k]).sum();
            total += standard_errors[i].powi(2) + ultimates[i] * later * shared;
        }
        Ok(Ladder { factors, ultimates, standard_errors, total_standard_error: total.sqrt() })
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

/// What will be spent of points that were given out.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Redemption {
    /// By cohort: how many will be spent in the end.
    pub ultimates: Vec<f64>,
    /// Their standard errors; of young cohorts, those of the pooled rate.
    pub standard_errors: Vec<f64>,
    /// Of all points given out, the share that will be spent.
    pub ultimate_rate: f64,
    /// Its standard error.
    pub ultimate_rate_standard_error: f64,
}

/// The ultimate redemption of cohorts of which `issued` points were given out and `spent` is the triangle of those spent.
///
/// # Errors
/// [`ReserveError`]
pub fn redemption(issued: &[f64], spent: &Triangle) -> Result<Redemption, ReserveError> {
    let ladder = spent.ladder()?;
    let developed: Vec<f64> = spent.rows.iter().map(|row| ladder.factors[row.len() - 1..].iter().product::<f64>().recip()).collect();
    let (reached, used) = spent
        .rows
        .iter()
        .zip(issued)
        .zip(&developed)
        .fold((0.0, 0.0), |(reached, used), ((row, issued), developed)| (reached + Triangle::latest(row), used + issued * developed));
    let pooled = if used > 0.0 { (reached / used).min(1.0) } else { 0.0 };
    let all: f64 = issued.iter().sum();
    let relative = if ladder.ultimate() > 0.0 { ladder.total_standard_error / ladder.ultimate() } else { 0.0 };
    let mut ultimates = Vec::new();
    let mut standard_errors = Vec::new();
    for (i, (row, issued)) in spent.rows.iter().zip(issued).enumerate() {
        let latest = Triangle::latest(row);
        let own = developed[i] >= YOUNG && latest > 0.0;
        let ultimate = if own { ladder.ultimates[i] } else { latest + pooled * issued * (1.0 - developed[i]) };
        ultimates.push(ultimate.min(*issued).max(latest));
        standard_errors.push(if own { ladder.standard_errors[i] } else { relative * ultimate });
    }
    let ultimate_rate = if all > 0.0 { ultimates.iter().sum::<f64>() / all } else { 0.0 };
    Ok(Redemption { ultimates, standard_errors, ultimate_rate, ultimate_rate_standard_error: relative * ultimate_rate })
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
    fn what_is_no_triangle_is_refused() {
        assert_eq!(Triangle::new(vec![vec![1.0]]), Err(ReserveError::TooSmall { rows: 1 }));
        let rows = vec![vec![1.0, 2.0, 3.0], vec![1.0], vec![1.0, 2.0]];
        assert_eq!(Triangle::new(rows), Err(ReserveError::NotATriangle { cohort: 2, found: 2 }));
        let empty = Triangle::new(vec![vec![0.0, 2.0, 3.0], vec![0.0, 1.0], vec![0.0]]).unwrap();
        assert_eq!(empty.ladder(), Err(ReserveError::Empty { period: 0 }));
    }
}
