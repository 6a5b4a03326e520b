//! `loyalty report`: what there is to see, as a table for the terminal and as a page with charts.

mod page;
mod sections;

use anyhow::Context;
use comfy_table::{Table, presets};

use crate::args::ReportOptions;
use crate::ops::open_caught_up;

/// A part of a report: a table, and what of it is drawn.
pub struct Section {
    /// Its heading.
    pub heading: String,
    /// The columns' names.
    pub columns: Vec<&'static str>,
    /// The rows.
    pub rows: Vec<Vec<String>>,
    /// Bars: a label and a value each; none where there is nothing to draw.
    pub bars: Vec<(String, f64)>,
}

pub async fn run(options: ReportOptions) -> anyhow::Result<()> {
    let (database, log) = open_caught_up(&options.data).await?;
    let client = analysis::open(database.url()).await?;
    let sections = match options.name.as_str() {
        "clv" => sections::clv(&client, &options.program).await?,
        "decline" => sections::decline(&client, &options.program).await?,
        "fraud" => sections::fraud(&client, &options.program).await?,
        _ => sections::liability(&client, &*log, &options.program).await?,
    };
    for section in &sections {
        let mut table = Table::new();
        table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_header(&section.columns).add_rows(&section.rows);
        println!("{}\n{table}\n", section.heading);
    }
    let path = options.html.unwrap_or_else(|| format!("{}.html", options.name).into());
    let title = format!("{} of program {}", options.name, options.program);
    std::fs::write(&path, page::html(&title, &sections)?).with_context(|| format!("can't write {}", path.display()))?;
    println!("the page with charts is {}", path.display());
    Ok(())
}
