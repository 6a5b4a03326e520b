//! `loyalty clv`: lifetime value.

use std::time::Instant;

use analysis::clv::{Fit, Holdout, fit, score_all};
use anyhow::Context;
use api::real_now;
use comfy_table::{Table, presets};

use crate::args::ClvAction;
use crate::decline::{insight_rules, last_day};
use crate::ops::open_caught_up;

pub async fn run(action: ClvAction) -> anyhow::Result<()> {
    let ClvAction::Fit { program, until, holdout_days, data } = action;
    let (database, log) = open_caught_up(&data).await?;
    let rules = insight_rules(&*log, &program).await?;
    let mut client = analysis::open(database.url()).await?;
    let until = until.or(last_day(&client, &program).await?).with_context(|| format!("program {program} has no purchases"))?;
    let begin = Instant::now();
    let fitted = fit(&mut client, &program, until, holdout_days, real_now().timestamp()).await?;
    println!("{}", table(&fitted));
    println!("fit {} of {} members, {} to {}, in {:.2} s", fitted.version, fitted.members, fitted.since, fitted.until, begin.elapsed().as_secs_f64());
    if !fitted.in_force {
        println!("not put in force: {}", fitted.why);
        return Ok(());
    }
    println!("in force: {}", fitted.why);
    let begin = Instant::now();
    let scored = score_all(&mut client, &program, &fitted, &rules, until).await?;
    println!("{scored} members scored in {:.2} s", begin.elapsed().as_secs_f64());
    Ok(())
}

/// A row a model on the days before the holdout, one for the naive forecast, and what is in force.
fn table(fit: &Fit) -> Table {
    let mut table = Table::new();
    let header = ["model", "parameters ± standard error", "log-likelihood", "expected", "actual", "RMSE", "top tenth's spend"];
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_header(header);
    let parameters =
        |values: &[f64], errors: &[f64]| values.iter().zip(errors).map(|(value, error)| format!("{value:.4} ± {error:.4}")).collect::<Vec<_>>().join(", ");
    #[allow(clippy::float_arithmetic, reason = "a share, shown in per cent")]
    let measured = |holdout: Option<&Holdout>| {
        holdout.map_or_else(Default::default, |h| {
            [format!("{:.1}", h.expected), format!("{:.0}", h.actual), format!("{:.3}", h.rmse), format!("{:.1} %", 100.0 * h.decile_share)]
        })
    };
    let mut add = |model: &str, parameters: String, likelihood: String, [expected, actual, rmse, share]: [String; 4]| {
        table.add_row([model.to_owned(), parameters, likelihood, expected, actual, rmse, share]);
    };
    for calibration in &fit.calibrations {
        match &calibration.fit {
            Some(one) => {
                let words = parameters(&one.parameters, &one.standard_errors);
                add(&calibration.model, words, format!("{:.5}", one.log_likelihood), measured(calibration.holdout.as_ref()));
            }
            None => add(&calibration.model, calibration.failure.clone().unwrap_or_default(), String::new(), Default::default()),
        }
    }
    add("as before", "repeats / age".into(), String::new(), measured(Some(&fit.naive)));
    for (when, spend) in [("gamma_gamma", fit.calibration_spend.as_ref()), ("gamma_gamma, all days", fit.spend.as_ref())] {
        if let Some(spend) = spend {
            let words = parameters(&spend.parameters, &spend.standard_errors);
            add(when, words, format!("{:.5}", spend.log_likelihood), Default::default());
        }
    }
    if let Some(buying) = &fit.buying {
        let words = parameters(&buying.parameters, &buying.standard_errors);
        add(&format!("{}, all days", buying.model), words, format!("{:.5}", buying.log_likelihood), Default::default());
    }
    table
}
