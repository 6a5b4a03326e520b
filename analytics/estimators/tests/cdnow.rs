//! The models on CDNOW's 1/10 sample, against reference values computed elsewhere. The data may not ship, so this runs only where the
//! shared data lie beside the checkout: `cargo test -p insight -- --ignored`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::float_arithmetic, missing_docs)]

use std::path::PathBuf;

use estimators::gamma_gamma::{GammaGamma, Spend};
use estimators::lifetime::{Buying, Terms, value};
use estimators::{Estimate, Histories, History, bgnbd, gamma_gamma, pareto_nbd};
use flate2::read::GzDecoder;

fn rows(file: &str) -> Vec<csv::StringRecord> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/cdnow").join(file);
    let file = std::fs::File::open(&path).unwrap_or_else(|error| panic!("{}: {error}; put the shared data beside the checkout", path.display()));
    csv::Reader::from_reader(GzDecoder::new(file)).records().map(Result::unwrap).collect()
}

fn history(row: &csv::StringRecord) -> History {
    History { repeats: row[1].parse().unwrap(), recency_days: row[2].parse().unwrap(), age_days: row[3].parse().unwrap() }
}

fn spend(row: &csv::StringRecord) -> Spend {
    Spend { purchases: row[1].parse().unwrap(), mean: row[4].parse().unwrap() }
}

/// To 4 significant digits.
fn assert_close<const N: usize>(fit: &Estimate<N>, values: [f64; N], log_likelihood: f64) {
    for (fitted, value) in fit.values.iter().zip(values).chain([(&fit.log_likelihood, log_likelihood)]) {
        assert!((fitted / value - 1.0).abs() < 5e-5, "{fitted} is not {value}");
    }
    assert!(fit.standard_errors.iter().zip(values).all(|(error, value)| *error > 0.0 && *error < value), "{:?}", fit.standard_errors);
}

#[test]
#[ignore = "reads ../shared/data, which may not ship; .ci/run runs it where they are"]
fn fits_and_expectations_are_the_reference_values() {
    let rows = rows("expected_sample.csv.gz");
    let histories: Histories = rows.iter().map(history).collect();
    let spends: Vec<Spend> = rows.iter().map(spend).collect();
    let (bg, pareto, money) = (bgnbd::fit(&histories).unwrap(), pareto_nbd::fit(&histories).unwrap(), gamma_gamma::fit(&spends).unwrap());
    assert_close(&bg, [0.242_595, 4.413_602, 0.792_922, 2.425_907], -9_582.429_21);
    assert_close(&pareto, [0.553_277, 10.577_684, 0.606_240, 11.668_730], -9_594.976_18);
    assert_close(&money, [6.249_572, 3.744_225, 15.443_523], -4_055.917_69);

    let (bg, pareto) = (Buying::BgNbd(bg.values.into()), Buying::ParetoNbd(pareto.values.into()));
    let money = GammaGamma::from(money.values);
    for row in &rows {
        let (history, number) = (history(row), |i: usize| row[i].parse::<f64>().unwrap());
        let near = |what: &str, got: f64, wanted: f64| assert!((got - wanted).abs() <= 1e-3 * wanted.abs(), "{row:?}: {what} {got} is not {wanted}");
        near("p alive", bg.alive(history), number(5));
        near("expected", bg.expected(history, 39.0), number(6));
        near("pareto p alive", pareto.alive(history), number(7));
        near("pareto expected", pareto.expected(history, 39.0), number(8));
        near("spend", money.mean_spend(spend(row)), number(9));
        near("value", value(&bg, history, number(9), &Terms { months: 12, margin: 1.0, monthly_discount: 0.01 }), number(10));
    }
}
