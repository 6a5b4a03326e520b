//! The page: one file, nothing fetched.

use maud::{DOCTYPE, PreEscaped, html};
use plotters::prelude::*;

use super::Section;

const WIDTH: u32 = 900;
const HEIGHT: u32 = 280;
const STYLE: &str = "body{font:15px/1.4 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:.5rem 0 2rem}td,th{padding:.25rem .8rem;border-bottom:1px solid #ddd;text-align:left}
.n{text-align:right;font-variant-numeric:tabular-nums}svg{max-width:100%;height:auto}";

/// The report as HTML.
pub fn html(title: &str, sections: &[Section]) -> anyhow::Result<String> {
    let charts: Vec<Option<String>> =
        sections.iter().map(|section| (!section.bars.is_empty()).then(|| chart(&section.bars)).transpose()).collect::<Result<_, _>>()?;
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head { meta charset="utf-8"; meta name="viewport" content="width=device-width"; title { (title) } style { (PreEscaped(STYLE)) } }
            body {
                h1 { (title) }
                @for (section, chart) in sections.iter().zip(&charts) {
                    h2 { (section.heading) }
                    @if let Some(chart) = chart { figure role="img" aria-label=(section.heading) { (PreEscaped(chart)) } }
                    @if let Some(remark) = section.remark() { p { (remark) } }
                    table {
                        thead { tr { @for column in &section.columns { th { (column) } } } }
                        tbody { @for row in &section.rows { tr { @for cell in row { td class=[is_number(cell).then_some("n")] { (cell) } } } } }
                    }
                }
            }
        }
    };
    Ok(page.into_string())
}

/// Digits of numbers stand under each other.
fn is_number(cell: &str) -> bool {
    let digits: String = cell.chars().filter(|c| !matches!(c, ',' | '%' | ' ')).collect();
    digits.parse::<f64>().is_ok()
}

/// Bars as SVG.
#[allow(clippy::float_arithmetic, reason = "a drawing")]
fn chart(bars: &[(String, f64)]) -> anyhow::Result<String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, HEIGHT)).into_drawing_area();
        let top = bars.iter().map(|bar| bar.1).fold(0.0_f64, f64::max);
        let bottom = bars.iter().map(|bar| bar.1).fold(0.0_f64, f64::min);
        let room = ((top - bottom) * 0.05).max(1e-9);
        let count = i32::try_from(bars.len()).unwrap_or(i32::MAX);
        let mut chart = ChartBuilder::on(&area)
            .margin(10)
            .x_label_area_size(30)
            .y_label_area_size(80)
            .build_cartesian_2d((0..count - 1).into_segmented(), bottom - if bottom < 0.0 { room } else { 0.0 }..top + room)?;
        let label = |segment: &SegmentValue<i32>| match segment {
            SegmentValue::CenterOf(i) => usize::try_from(*i).ok().and_then(|i| bars.get(i)).map_or_else(String::new, |bar| bar.0.clone()),
            _ => String::new(),
        };
        let height = |value: &f64| if top < 10.0 { format!("{value:.2}") } else { format!("{value:.0}") };
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .x_labels(bars.len().min(12))
            .x_label_formatter(&label)
            .y_label_formatter(&height)
            .draw()?;
        chart.draw_series(bars.iter().zip(0..).map(|((_, value), i)| {
            let mut bar = Rectangle::new([(SegmentValue::Exact(i), 0.0), (SegmentValue::Exact(i + 1), *value)], RGBColor(60, 110, 170).filled());
            bar.set_margin(0, 0, 3, 3);
            bar
        }))?;
        area.present()?;
    }
    Ok(svg)
}
