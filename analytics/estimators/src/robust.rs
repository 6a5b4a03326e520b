//! How far one stands out of its peers, measured so that those who stand out don't hide each other.

/// The median; none of nothing.
#[must_use]
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        len if len % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

/// What is usual among peers.
#[derive(Debug, Clone)]
pub struct Usual {
    middle: f64,
    /// The median distance from it.
    spread: f64,
    /// The sum of all distances from it.
    distances: f64,
    peers: usize,
}

#[allow(clippy::cast_precision_loss, reason = "peers are far fewer than 2^53")]
impl Usual {
    /// Of the peers' values; none of nobody.
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Self> {
        let middle = median(values)?;
        let distances: Vec<f64> = values.iter().map(|value| (value - middle).abs()).collect();
        Some(Self { middle, spread: median(&distances).unwrap_or(0.0), distances: distances.iter().sum(), peers: values.len() })
    }

    /// One peer's value was `was` and is `now`. The medians stay: one among many hardly moves them.
    pub fn replace(&mut self, was: f64, now: f64) {
        self.distances += (now - self.middle).abs() - (was - self.middle).abs();
    }

    /// A value's distance from the median, in robust standard deviations: 0.6745 (x - median) / MAD, and where more than half are alike,
    /// (x - median) / (1.2533 mean absolute deviation). Iglewicz, Hoaglin (1993), How to detect and handle outliers.
    #[must_use]
    pub fn score(&self, value: f64) -> f64 {
        let unit = if self.spread > 0.0 { self.spread / 0.6745 } else { 1.2533 * self.distances / self.peers as f64 };
        if unit > 0.0 { (value - self.middle) / unit } else { 0.0 }
    }
}

/// Each value's distance from what is usual among all: see [`Usual::score`].
#[must_use]
pub fn scores(values: &[f64]) -> Vec<f64> {
    let Some(usual) = Usual::of(values) else { return Vec::new() };
    values.iter().map(|value| usual.score(*value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_who_stands_out_is_seen_however_far() {
        let scores = scores(&[1.0, 2.0, 3.0, 4.0, 1000.0]);
        assert!(scores[4] > 100.0 && scores[..4].iter().all(|score| score.abs() < 2.0), "{scores:?}");
    }

    #[test]
    fn what_one_does_meanwhile_counts_where_all_were_alike() {
        let mut usual = Usual::of(&[2.0; 10]).expect("ten are somebody");
        usual.replace(2.0, 102.0);
        let again = Usual::of(&[[2.0; 9].as_slice(), &[102.0]].concat()).expect("ten are somebody");
        assert!((usual.score(102.0) - again.score(102.0)).abs() < 1e-9 && usual.score(102.0) > 7.0, "{usual:?}");
    }

    #[test]
    fn alike_values_have_no_outlier() {
        assert_eq!(scores(&[2.0; 5]), vec![0.0; 5]);
        assert_eq!(scores(&[]), Vec::<f64>::new());
        assert_eq!(median(&[4.0, 1.0]), Some(2.5));
    }
}
