//! `loyalty report`: what there is to see, as a table for the terminal and as a page with charts.

mod clv;
mod decline;
mod liability;
mod page;
mod sections;
mod words;

use anyhow::Context;
use comfy_table::{Table, presets};

use crate::args::ReportOptions;
use crate::ops::open_caught_up;

/// A part of a report: a table, and what of it is drawn.
#[derive(Default)]
pub struct Section {
    /// Its heading.
    pub heading: String,
    /// The columns' names.
    pub columns: Vec<&'static str>,
    /// The rows.
    pub rows: Vec<Vec<String>>,
    /// Bars: a label and a value each; none where there is nothing to draw.
    pub bars: Vec<(String, f64)>,
    /// How to read the table.
    pub note: Option<String>,
    /// What a table without rows says: what fills it.
    pub when_empty: Option<String>,
}

impl Section {
    /// What stands under the heading.
    fn remark(&self) -> Option<&str> {
        self.note.as_deref().or(self.when_empty.as_deref().filter(|_| self.rows.is_empty()))
    }
}

pub async fn run(options: ReportOptions) -> anyhow::Result<()> {
    let (database, log) = open_caught_up(&options.data).await?;
    let client = analytics::open(database.url()).await?;
    let sections = match options.name.as_str() {
        "clv" => clv::sections(&client, &*log, &options.program).await?,
        "decline" => decline::sections(&client, &*log, &options.program).await?,
        "fraud" => sections::fraud(&client, &*log, &options.program).await?,
        _ => liability::sections(&client, &*log, &options.program).await?,
    };
    for section in &sections {
        println!("{}", section.heading);
        if let Some(remark) = section.remark() {
            println!("{remark}");
        }
        if section.rows.is_empty() && section.when_empty.is_some() {
            println!();
            continue;
        }
        let mut table = Table::new();
        table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_header(&section.columns).add_rows(&section.rows);
        println!("{table}\n");
    }
    let path = options.html.unwrap_or_else(|| format!("{}.html", options.name).into());
    let title = format!("{} of program {}", options.name, options.program);
    std::fs::write(&path, page::html(&title, &sections)?).with_context(|| format!("can't write {}", path.display()))?;
    println!("the page with charts is {}", path.display());
    Ok(())
}
