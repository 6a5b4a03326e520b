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

/// Each value's distance from the median, in robust standard deviations: 0.6745 (x - median) / MAD, and where more than half are alike,
/// (x - median) / (1.2533 mean absolute deviation). Iglewicz, Hoaglin (1993), How to detect and handle outliers.
#[must_use]
pub fn scores(values: &[f64]) -> Vec<f64> {
    let Some(middle) = median(values) else { return Vec::new() };
    let distances: Vec<f64> = values.iter().map(|value| (value - middle).abs()).collect();
    let spread = median(&distances).unwrap_or(0.0) / 0.6745;
    #[allow(clippy::cast_precision_loss)]
    let mean = 1.2533 * distances.iter().sum::<f64>() / distances.len() as f64;
    let unit = if spread > 0.0 { spread } else { mean };
    values.iter().map(|value| if unit > 0.0 { (value - middle) / unit } else { 0.0 }).collect()
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
    fn alike_values_have_no_outlier() {
        assert_eq!(scores(&[2.0; 5]), vec![0.0; 5]);
        assert_eq!(scores(&[]), Vec::<f64>::new());
        assert_eq!(median(&[4.0, 1.0]), Some(2.5));
    }
}
