//! `loyalty clv`: lifetime value.

use std::time::Instant;

use analytics::clv::{AsOf, Asked, Choice, Fit, Holdout, fit, last_day, list, put_in_force, score_all};
use anyhow::Context;
use api::real_now;
use chrono::NaiveDate;
use comfy_table::{Table, presets};

use crate::args::{BuyingModel, ClvAction, DataOptions};
use crate::decline::insight_rules;
use crate::ops::open_caught_up;

/// As many fits are listed.
const FITS_MAX: i64 = 50;

pub async fn run(action: ClvAction) -> anyhow::Result<()> {
    match action {
        ClvAction::Fit { program, until, known_at, holdout_days, model, dry_run, data } => {
            let choice = match model {
                BuyingModel::Best => Choice::Best,
                BuyingModel::BgNbd => Choice::BgNbd,
                BuyingModel::ParetoNbd => Choice::ParetoNbd,
            };
            let asked = |day| Asked { as_of: AsOf { day, known_at }, model: choice, is_dry_run: dry_run, ..Asked::until(day, holdout_days) };
            make(&program, until, known_at, asked, &data).await
        }
        ClvAction::Fits { program, data } => {
            let (database, _log) = open_caught_up(&data).await?;
            let client = analytics::open(database.url()).await?;
            let fits = list(&client, &program, i32::MAX, FITS_MAX).await?;
            if fits.is_empty() {
                println!("program {program} has no fit yet: `loyalty clv fit --program {program}` makes one");
            } else {
                println!("{}", overview(&fits));
            }
            Ok(())
        }
        ClvAction::Use { fit, program, data } => {
            let (database, log) = open_caught_up(&data).await?;
            let rules = insight_rules(&*log, &program).await?;
            let mut client = analytics::open(database.url()).await?;
            let day = last_day(&client, &program, None).await?.with_context(|| format!("program {program} has no purchases"))?;
            let chosen = put_in_force(&mut client, &program, fit, real_now().timestamp()).await?;
            let scored = score_all(&mut client, &program, &chosen, &rules, day).await?;
            println!("fit {fit} is in force, with data until {}; {scored} members scored as of {day}", chosen.until);
            Ok(())
        }
    }
}

async fn make(
    program: &str,
    until: Option<NaiveDate>,
    known_at: Option<NaiveDate>,
    asked: impl Fn(NaiveDate) -> Asked,
    data: &DataOptions,
) -> anyhow::Result<()> {
    let (database, log) = open_caught_up(data).await?;
    let rules = insight_rules(&*log, program).await?;
    let mut client = analytics::open(database.url()).await?;
    let until = until.or(last_day(&client, program, known_at).await?).with_context(|| format!("program {program} has no purchases"))?;
    let asked = asked(until);
    let begin = Instant::now();
    let fitted = fit(&mut client, program, &asked, real_now().timestamp()).await?;
    println!("{}", table(&fitted));
    let name = if asked.is_dry_run { "fit (dry run, not kept)".to_owned() } else { format!("fit {}", fitted.version) };
    println!("{name} of {} members, {} to {}, in {:.2} s", fitted.members, fitted.since, fitted.until, begin.elapsed().as_secs_f64());
    if !fitted.in_force {
        println!("not put in force: {}", fitted.why);
        if fitted.is_usable() && !asked.is_dry_run {
            println!("to put it in force all the same: loyalty clv use {} --program {program}", fitted.version);
        }
        return Ok(());
    }
    if asked.is_dry_run {
        println!("would be put in force: {}", fitted.why);
        return Ok(());
    }
    println!("in force: {}", fitted.why);
    let begin = Instant::now();
    let scored = score_all(&mut client, program, &fitted, &rules, until).await?;
    println!("{scored} members scored in {:.2} s", begin.elapsed().as_secs_f64());
    Ok(())
}

/// A row a fit, the newest first.
fn overview(fits: &[Fit]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_header(["fit", "in force", "model", "data until", "known at", "members", "why"]);
    for fit in fits {
        let model = fit.buying.as_ref().map_or("none", |buying| buying.model.as_str());
        let known_at = fit.known_at.map_or_else(String::new, |day| day.to_string());
        let in_force = if fit.in_force { "yes" } else { "" };
        table.add_row([&fit.version.to_string(), in_force, model, &fit.until.to_string(), &known_at, &fit.members.to_string(), &fit.why]);
    }
    table
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
