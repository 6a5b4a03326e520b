//! Lifetime value end to end: purchases into the ledger, a fit from the read model, figures over REST.

use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::support::{Up, loyalty, purchase, rulebook, run};

fn unpacked(path: &Path) -> String {
    let file = std::fs::File::open(path).unwrap_or_else(|error| panic!("{}: {error}; put the shared data beside the checkout", path.display()));
    let mut text = String::new();
    GzDecoder::new(file).read_to_string(&mut text).unwrap();
    text
}

#[track_caller]
fn near(got: &Value, wanted: f64, within: f64) {
    let got = got.as_f64().unwrap();
    assert!((got - wanted).abs() <= within * wanted.abs(), "{got} is not {wanted}");
}

/// CDNOW's rows, those of one customer's day together as they are: purchases of the same day are orders of one day.
fn cdnow_as_purchases(folder: &Path) -> String {
    let mut rows = csv::Writer::from_writer(Vec::new());
    let header =
        ["purchase_id", "account_id", "occurred_at", "currency", "channel", "store", "line_id", "sku", "category", "quantity", "unit_price", "discount", "tax"];
    rows.write_record(header).unwrap();
    for (i, row) in csv::Reader::from_reader(unpacked(&folder.join("cdnow_sample.csv.gz")).as_bytes()).records().enumerate() {
        let row = row.unwrap();
        let (id, at) = (format!("p{i}"), format!("{}T12:00:00Z", &row[2]));
        rows.write_record([&id, &row[1], &at, "USD", "web", "cdnow", "1", "cd", "music", "1", &row[4], "0", "0"]).unwrap();
    }
    String::from_utf8(rows.into_inner().unwrap()).unwrap()
}

#[tokio::test]
#[ignore = "reads ../shared/data, which may not ship; .ci/run runs it where they are"]
async fn cdnow_through_the_ledger_gives_the_reference_values() {
    let data = TempDir::new().unwrap();
    let cdnow = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/cdnow");
    let mut rules = rulebook();
    (rules["currency"], rules["effective_from"], rules["time_zone"]) = (json!("USD"), json!("1997-01-01T00:00:00Z"), json!("UTC"));
    let (rules_file, purchases) = (data.path().join("rules.json"), data.path().join("cdnow.csv"));
    std::fs::write(&rules_file, rules.to_string()).unwrap();
    std::fs::write(&purchases, cdnow_as_purchases(&cdnow)).unwrap();
    run(&["program", "publish", rules_file.to_str().unwrap()], data.path()).await;
    let imported = ["import", purchases.to_str().unwrap(), "--program", "shop", "--format", "purchases-csv", "--drive-clock"];
    run(&imported, data.path()).await;
    // The calibration of the references, then everything until their day, for the expectations.
    let said = run(&["clv", "fit", "--program", "shop", "--until", "1998-06-30", "--holdout-days", "273"], data.path()).await;
    assert!(said.contains("2357 members scored"), "{said}");
    run(&["clv", "fit", "--program", "shop", "--until", "1997-09-30", "--holdout-days", "91"], data.path()).await;

    let up = Up::start(data.path(), &[]).await;
    let (_, fits) = up.get("/v1/programs/shop/clv/fits").await;
    let first = &fits["items"][1];
    let parameters = |model: usize| &first["calibrations"][model]["fit"];
    let references = [([0.242_595, 4.413_602, 0.792_922, 2.425_907], -9_582.429_21), ([0.553_277, 10.577_684, 0.606_240, 11.668_730], -9_594.976_18)];
    for (model, (values, likelihood)) in references.iter().enumerate() {
        for (i, value) in values.iter().enumerate() {
            near(&parameters(model)["parameters"][i], *value, 5e-5);
        }
        near(&parameters(model)["log_likelihood"], *likelihood, 1e-8);
    }
    for (i, value) in [6.249_572, 3.744_225, 15.443_523].iter().enumerate() {
        near(&first["calibration_spend"]["parameters"][i], *value, 5e-5);
    }
    near(&first["calibration_spend"]["members"], 946.0, 0.0);
    let holdout = |model: usize| &first["calibrations"][model]["holdout"];
    near(&holdout(0)["expected"], 1_653.4, 1e-4);
    near(&holdout(1)["expected"], 1_665.5, 1e-4);
    near(&holdout(0)["actual"], 1_882.0, 0.0);
    near(&holdout(0)["rmse"], 1.608, 1e-3);
    near(&holdout(1)["rmse"], 1.603, 1e-3);
    near(&holdout(0)["decile_share"], 0.502, 5e-3);

    let model = fits["items"][0]["buying"]["model"].as_str().unwrap().to_owned();
    let (alive, expected) = if model == "bg_nbd" { (5, 6) } else { (7, 8) };
    for row in csv::Reader::from_reader(unpacked(&cdnow.join("expected_sample.csv.gz")).as_bytes()).records().map(Result::unwrap).step_by(29) {
        let (status, clv) = up.get(&format!("/v1/programs/shop/accounts/{}/clv?as_of=1997-09-30&weeks=39", &row[0])).await;
        assert_eq!((status, clv["forecast"]["fit_version"].as_i64()), (StatusCode::OK, Some(2)), "{clv} {}", fits["items"][0]);
        let number = |i: usize| row[i].parse::<f64>().unwrap();
        near(&clv["repeats"], number(1), 0.0);
        near(&clv["forecast"]["alive"], number(alive), 1e-3);
        near(&clv["forecast"]["expected_purchases"], number(expected), 1e-3);
        near(&clv["forecast"]["order_value"], number(9), 1e-3);
    }
    up.stop().await;
}

#[tokio::test]
async fn a_member_has_facts_at_once_and_a_forecast_once_one_is_in_force() {
    let data = TempDir::new().unwrap();
    let up = Up::start(data.path(), &[]).await;
    assert_eq!(up.put("/v1/programs/shop/rulebook", rulebook()).await.0, StatusCode::CREATED);
    let clv = "/v1/programs/shop/accounts/a/clv";
    assert_eq!(up.get(clv).await.0, StatusCode::NOT_FOUND);
    up.put("/v1/programs/shop/clock", json!({"now": "2010-03-01T00:00:00Z"})).await;
    for (id, at) in [("p1", "2010-02-01T10:00:00Z"), ("p2", "2010-02-01T15:00:00Z"), ("p3", "2010-02-15T10:00:00Z")] {
        up.post("/v1/programs/shop/purchases", purchase(id, "a", at, "mug", "10.00")).await;
    }
    let back =
        json!({"return_id": "r1", "account_id": "a", "purchase_id": "p2", "occurred_at": "2010-02-20T10:00:00Z", "lines": [{"line_id": "1", "quantity": "1"}]});
    let (status, answer) = up.post("/v1/programs/shop/returns", back).await;
    assert_eq!(status, StatusCode::CREATED, "{answer}");
    let view = up.read(clv, &answer).await;
    let wanted = json!({"account_id": "a", "as_of": "2010-03-01", "orders": 2, "repeats": 1, "age_days": 28, "recency_days": 14,
        "spend": 20.0, "repeat_day_spend": 10.0, "gap_days": 14.0,
        "forecast": null, "why_no_forecast": "no fit is in force: `loyalty clv fit --program shop` makes one",
        "categories": [{"name": "home", "orders": 3, "gross_spend": 30.0}], "channels": [{"name": "web", "orders": 3, "spend": 20.0}]});
    assert_eq!(view, wanted);
    let before = up.read(&format!("{clv}?as_of=2010-02-10"), &answer).await;
    assert_eq!((&before["repeats"], &before["age_days"]), (&json!(0), &json!(9)));

    let (status, problem) = up.get(&format!("{clv}?as_of=yesterday")).await;
    assert_eq!((status, &problem["errors"][0]["value"]), (StatusCode::BAD_REQUEST, &json!("yesterday")));
    let (status, problem) = up.get(&format!("{clv}?weeks=0")).await;
    assert_eq!((status, &problem["errors"][0]["expected"]), (StatusCode::BAD_REQUEST, &json!("more than 0 and up to 520, such as 39 or 4.5")));
    let (status, problem) = up.get(&format!("{clv}?as_of=2010-03-02")).await;
    assert_eq!((status, &problem["errors"][0]["expected"]), (StatusCode::BAD_REQUEST, &json!("a day up to 2010-03-01, which is today")));
    // What was given back on 20 February was not known on the 19th.
    let then = up.read(&format!("{clv}?as_of=2010-02-19"), &answer).await;
    assert_eq!((&then["orders"], &then["spend"], &then["channels"][0]["spend"]), (&json!(3), &json!(30.0), &json!(30.0)), "{then}");
    // Three purchases are no data; it says so and puts nothing in force.
    let said = run(&["clv", "fit", "--program", "shop", "--holdout-days", "7"], data.path()).await;
    assert!(said.contains("not put in force: bg_nbd: 0 members bought again, at least 20 are needed"), "{said}");
    let (_, members) = up.get("/v1/programs/shop/clv/members").await;
    assert_eq!(members["items"], json!([]));
    let (_, cohorts) = up.get("/v1/programs/shop/clv/cohorts").await;
    assert_eq!(cohorts["items"], json!([{"cohort": "2010-02-01", "month": 0, "members": 1, "orders": 2, "spend": "20"}]));
    let refused = loyalty(&["clv", "fit", "--program", "shop", "--holdout-days", "1"], data.path()).output().await.unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("holdout_days is 1: 7 to 3660"));
    let refused = loyalty(&["clv", "fit", "--program", "shop", "--until", "2010-02-16"], data.path()).output().await.unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("until is 2010-02-16: a day up to the last purchase, 2010-02-15"));
    up.stop().await;
}

/// Members who buy about each week, each month or seldom, and of whom every third leaves after a while: 300 of them, drawn without chance.
fn weekly_and_seldom() -> String {
    let mut rows = csv::Writer::from_writer(Vec::new());
    let header =
        ["purchase_id", "account_id", "occurred_at", "currency", "channel", "store", "line_id", "sku", "category", "quantity", "unit_price", "discount", "tax"];
    rows.write_record(header).unwrap();
    for member in 0_u32..300 {
        let (gap, begin) = ([9, 25, 60, 140][(member % 4) as usize], member * 7 % 60);
        let end = if member % 3 == 0 { begin + 40 + member % 90 } else { 360 };
        let mut day = begin;
        while day < end {
            let at = ledger_core::time::plus_days(chrono::NaiveDate::from_ymd_opt(2010, 1, 4).unwrap(), day);
            let price = 5 + (member * 37 + day * 11) % (20 + member % 50);
            let (id, account, at, price) = (format!("p{member}-{day}"), format!("m{member}"), format!("{at}T12:00:00Z"), price.to_string());
            rows.write_record([&id, &account, &at, "GBP", "web", "s1", "1", "x", "y", "1", &price, "0", "0"]).unwrap();
            day += gap / 2 + (day * 31 + member * 17) % gap + 1;
        }
    }
    String::from_utf8(rows.into_inner().unwrap()).unwrap()
}

#[tokio::test]
async fn a_shop_gets_a_fit_and_scores_by_value() {
    let data = TempDir::new().unwrap();
    let (rules, purchases) = (data.path().join("rules.json"), data.path().join("purchases.csv"));
    std::fs::write(&rules, rulebook().to_string()).unwrap();
    std::fs::write(&purchases, weekly_and_seldom()).unwrap();
    run(&["program", "publish", rules.to_str().unwrap()], data.path()).await;
    run(&["import", purchases.to_str().unwrap(), "--program", "shop", "--format", "purchases-csv", "--drive-clock"], data.path()).await;
    let said = run(&["clv", "fit", "--program", "shop"], data.path()).await;
    assert!(said.contains("in force: ") && said.contains("300 members scored"), "{said}");

    let up = Up::start(data.path(), &[]).await;
    let (_, fits) = up.get("/v1/programs/shop/clv/fits").await;
    assert_eq!((&fits["items"][0]["version"], &fits["items"][0]["in_force"]), (&json!(1), &json!(true)));
    let members = "/v1/programs/shop/clv/members";
    let (_, page) = up.get(&format!("{members}?limit=3")).await;
    let (_, next) = up.get(&format!("{members}?limit=3&cursor={}", page["next_cursor"].as_str().unwrap())).await;
    let (_, all) = up.get(&format!("{members}?limit=6")).await;
    let items: Vec<&Value> = [&page, &next].into_iter().flat_map(|page| page["items"].as_array().unwrap()).collect();
    assert_eq!(items, all["items"].as_array().unwrap().iter().collect::<Vec<_>>());
    let values: Vec<f64> = items.iter().map(|item| item["forecast"]["lifetime_value"].as_f64().unwrap()).collect();
    assert!(values.is_sorted_by(|one, other| one >= other) && values[5] > 0.0, "{values:?}");
    let best = &items[0];
    assert_eq!((&best["rung"], &best["rfm"][1]), (&json!("advocate"), &json!(5)));
    let (_, advocates) = up.get(&format!("{members}?rung=customer&limit=500")).await;
    assert!(advocates["items"].as_array().unwrap().iter().all(|member| member["rung"] == "customer"));
    let (_, one) = up.get(&format!("/v1/programs/shop/accounts/{}/clv?as_of={}", best["account_id"].as_str().unwrap(), best["as_of"].as_str().unwrap())).await;
    assert_eq!(one["forecast"], best["forecast"]);
    looking_back(&up, data.path()).await;
    up.stop().await;

    run(&["decline", "assess", "--program", "shop"], data.path()).await;
    for (name, heading) in
        [("clv", "Lifetime value by rung"), ("decline", "Value at stake by state"), ("fraud", "Cases by rule"), ("liability", "Roll-forward by month")]
    {
        let page = data.path().join(format!("{name}.html"));
        let said = run(&["report", name, "--program", "shop", "--html", page.to_str().unwrap()], data.path()).await;
        let page = std::fs::read_to_string(page).unwrap();
        assert!(said.contains(heading) && page.contains(heading), "{said}");
        let is_hinted = said.contains("No rule has found anything yet") && said.contains("/v1/programs/shop/fraud/rules");
        assert!(name != "fraud" || is_hinted || page.contains("<svg"), "an empty table says what fills it: {said}");
        assert!(page.contains("<svg") || name == "fraud", "{name} has something to draw");
    }

    // On a schedule, the first at once.
    let up = Up::start(data.path(), &["--estimate-hours", "1"]).await;
    let second = async {
        loop {
            let (_, fits) = up.get("/v1/programs/shop/clv/fits").await;
            if fits["items"][0]["version"] == 5 {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), second).await.expect("a fit is made by the schedule");
    // It does not replace the one that was chosen by hand.
    let (_, fits) = up.get("/v1/programs/shop/clv/fits").await;
    assert_eq!((&fits["items"][0]["in_force"], &fits["items"][4]["in_force"]), (&json!(false), &json!(true)), "{fits}");
    up.stop().await;
}

/// Of a day before all fits' data, and of what was known on such a day, there is no forecast: fit 1 knows the year's end, fit 2 the data until 1 December.
async fn nothing_is_told_by_what_followed(up: &Up, data: &Path) {
    let (members, one) = ("/v1/programs/shop/clv/members", "/v1/programs/shop/accounts/m1/clv");
    for (query, how) in [
        ("as_of=2010-11-01", "--as-of 2010-11-01`"),
        ("known_at=2010-11-01", "--as-of 2010-11-01 --known-at 2010-11-01`"),
        ("as_of=2010-12-10&known_at=2010-11-01", "--as-of 2010-11-01 --known-at 2010-11-01`"),
    ] {
        let (_, page) = up.get(&format!("{members}?{query}&limit=1")).await;
        let items = page["items"].as_array().unwrap();
        assert_eq!((items.len(), &items[0]["forecast"], &items[0]["rung"].is_string()), (1, &Value::Null, &true), "{page}");
        let why = items[0]["why_no_forecast"].as_str().unwrap();
        assert!(why.starts_with("no fit is of data until 2010-11-01 or earlier") && why.contains(how), "{why}");
        let (_, next) = up.get(&format!("{members}?{query}&limit=1&cursor={}", page["next_cursor"].as_str().unwrap())).await;
        assert!(items[0]["account_id"].as_str() < next["items"][0]["account_id"].as_str(), "{query}: {page} {next}");
        let (_, view) = up.get(&format!("{one}?{query}")).await;
        assert_eq!((&view["forecast"], view["why_no_forecast"].as_str()), (&Value::Null, Some(why)), "{view}");
        assert!(view["orders"].as_u64().unwrap() > 0, "{view}");
    }
    // What was known on a day is of days up to it, and of fits of data up to it.
    let (_, known) = up.get(&format!("{one}?known_at=2010-12-05")).await;
    assert_eq!((&known["as_of"], &known["forecast"]["fit_version"]), (&json!("2010-12-05"), &json!(2)), "{known}");
    let (_, both) = up.get(&format!("{one}?as_of=2010-12-20&known_at=2010-12-05")).await;
    assert_eq!(both["forecast"]["fit_version"], 2, "{both}");
    // A fit that is not there is named, with what lists them.
    let refused = loyalty(&["clv", "use", "99", "--program", "shop"], data).output().await.unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("there is no fit 99 of program shop; `loyalty clv fits --program shop` lists them"), "{said}");
}

/// Looks back from a book with fit 1 in force, and leaves it in force by hand.
async fn looking_back(up: &Up, data: &Path) {
    let fits = async || up.get("/v1/programs/shop/clv/fits").await.1["items"].clone();
    let in_force = |fits: &Value| fits.as_array().unwrap().iter().map(|fit| fit["in_force"].as_bool().unwrap()).collect::<Vec<bool>>();
    let until = fits().await[0]["until"].as_str().unwrap().to_owned();
    // A dry run keeps nothing.
    let said = run(&["clv", "fit", "--program", "shop", "--model", "pareto_nbd", "--dry-run"], data).await;
    assert!(said.contains("dry run, not kept") && said.contains("pareto_nbd, all days"), "{said}");
    assert_eq!(in_force(&fits().await), [true]);
    // A fit of a past day is kept, and does not replace the one in force; a look at that day uses it.
    let said = run(&["clv", "fit", "--program", "shop", "--as-of", "2010-12-01"], data).await;
    assert!(said.contains("not put in force: it looks back: fit 1") && said.contains("loyalty clv use 2 --program shop"), "{said}");
    assert_eq!(in_force(&fits().await), [false, true]);
    let members = "/v1/programs/shop/clv/members";
    let (_, then) = up.get(&format!("{members}?as_of=2010-12-01&limit=2")).await;
    assert_eq!((&then["items"][0]["as_of"], &then["items"][0]["forecast"]["fit_version"]), (&json!("2010-12-01"), &json!(2)), "{then}");
    nothing_is_told_by_what_followed(up, data).await;
    let (_, next) = up.get(&format!("{members}?as_of=2010-12-01&limit=2&cursor={}", then["next_cursor"].as_str().unwrap())).await;
    let (_, four) = up.get(&format!("{members}?as_of=2010-12-01&limit=4")).await;
    assert_eq!(four["items"][2], next["items"][0]);
    // Half a week is less than a week, and the last scores' day is looked at.
    let expected = async |weeks: &str| {
        let (status, page) = up.get(&format!("{members}?weeks={weeks}&limit=1")).await;
        assert_eq!((status, &page["items"][0]["as_of"]), (StatusCode::OK, &json!(until)), "{page}");
        page["items"][0]["forecast"]["expected_purchases"].as_f64().unwrap()
    };
    let (half, one) = (expected("0.5").await, expected("1").await);
    assert!(0.0 < half && half < one && one < 2.1 * half, "{half} {one}");
    let response = up.send(reqwest::Method::GET, &format!("{members}?as_of=2010-12-01&weeks=4.5&format=csv"), None).await.unwrap();
    let text = response.text().await.unwrap();
    let header = "account_id,as_of,rung,recency,frequency,monetary,fit_version,alive,expected_purchases,order_value,lifetime_value";
    assert_eq!((text.lines().next(), text.lines().count()), (Some(header), 301), "{text}");
    let (status, problem) = up.get(&format!("{members}?fit=9")).await;
    assert_eq!((status, &problem["errors"][0]["pointer"]), (StatusCode::BAD_REQUEST, &json!("fit")), "{problem}");
    // What was known on a day before everything was booked is nothing.
    let refused = loyalty(&["clv", "fit", "--program", "shop", "--known-at", "2009-01-01"], data).output().await.unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("program shop has no purchases"), "{refused:?}");
    // A newer fit, and the way back.
    let said = run(&["clv", "fit", "--program", "shop"], data).await;
    assert!(said.contains("in force: "), "{said}");
    assert_eq!(in_force(&fits().await), [true, false, false]);
    let said = run(&["clv", "use", "1", "--program", "shop"], data).await;
    assert!(said.contains("fit 1 is in force") && said.contains("300 members scored"), "{said}");
    assert_eq!(in_force(&fits().await), [false, false, true]);
    let listed = run(&["clv", "fits", "--program", "shop"], data).await;
    assert!(listed.contains("it looks back"), "{listed}");
    a_look_back_leaves_what_was_chosen(data).await;
}

/// The earlier fit 2 is chosen by hand; a fit of a past day that is after its data does not replace it. Fit 1 is chosen again in the end.
async fn a_look_back_leaves_what_was_chosen(data: &Path) {
    run(&["clv", "use", "2", "--program", "shop"], data).await;
    let said = run(&["clv", "fit", "--program", "shop", "--as-of", "2010-12-15"], data).await;
    assert!(said.contains("not put in force: it looks back, and fit 2 was chosen by hand"), "{said}");
    run(&["clv", "use", "1", "--program", "shop"], data).await;
}
