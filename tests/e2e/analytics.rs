//! What analysts read: every table and column of theirs says what it is, and the page that lists them is what the database says.

use std::fmt::Write as _;
use std::path::PathBuf;

use tempfile::TempDir;

use super::support::{Up, postgres};

const SCHEMAS: [(&str, &str); 6] = [
    ("clv", "What members bought and gave back."),
    ("liability", "What the points owe."),
    ("fraud", "What fraud is seen by."),
    ("audit", "Who did what."),
    ("refusal", "What was refused."),
    ("analysis", "What was estimated, and the cases of suspected fraud. Not a fold of the log."),
];

const HEAD: &str = "# For analysts

Tables and views in Postgres that may be read at any time: names and columns are stable, changes only add. Read them with a role of your own
(`GRANT USAGE ON SCHEMA … ; GRANT SELECT ON ALL TABLES IN SCHEMA …`); nobody but their projector writes them, and a rebuild replaces a whole schema at once, so
keep views of your own in a schema of your own and make them anew after a rebuild. Money is in the program's currency, points in its smallest unit, times in UTC.

Written by `ANALYTICS=write cargo test -p loyalty --test e2e analytics` from the comments in the database.
";

#[tokio::test]
async fn every_column_says_what_it_is() {
    let data = TempDir::new().unwrap();
    let up = Up::start(data.path(), &[]).await;
    let client = postgres(data.path()).await;
    let mut page = HEAD.to_owned();
    for (schema, about) in SCHEMAS {
        write!(page, "\n## {schema}\n{about}\n").unwrap();
        let sql = "SELECT c.relname, coalesce(obj_description(c.oid), ''), a.attname, format_type(a.atttypid, a.atttypmod), coalesce(col_description(c.oid, a.attnum), '')
                   FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                   WHERE n.nspname = $1 AND c.relkind IN ('r', 'v') AND c.relname NOT IN ('checkpoint', 'cursor', 'refinery_schema_history')
                   ORDER BY c.relname, a.attnum";
        let mut last = String::new();
        for row in client.query(sql, &[&schema]).await.unwrap() {
            let (table, about, column, kind, what): (String, String, String, String, String) = (row.get(0), row.get(1), row.get(2), row.get(3), row.get(4));
            assert!(!about.is_empty() && !what.is_empty(), "{schema}.{table}.{column} does not say what it is");
            if table != last {
                write!(page, "\n### {schema}.{table}\n{about}.\n\n| column | type | what |\n|---|---|---|\n").unwrap();
                last = table;
            }
            writeln!(page, "| {column} | {kind} | {what} |").unwrap();
        }
    }
    panels_ask_what_there_is(&client).await;
    up.stop().await;
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/analytics.md");
    if std::env::var_os("ANALYTICS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), page, "docs/analytics.md is not what the database says: ANALYTICS=write writes it");
}

/// Every panel of the dashboard over Postgres is a query that the database answers.
async fn panels_ask_what_there_is(client: &tokio_postgres::Client) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy/grafana/dashboards/insight.json");
    let dashboard: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    assert!(!panels.is_empty());
    for panel in panels {
        let mut sql = panel["targets"][0]["rawSql"].as_str().unwrap().to_owned();
        // As Grafana writes it out.
        while let Some((before, rest)) = sql.split_once("$__timeFilter(") {
            let (column, after) = rest.split_once(')').unwrap();
            sql = format!("{before}{column} BETWEEN '2010-01-01T00:00:00Z' AND '2030-01-01T00:00:00Z'{after}");
        }
        if let Err(error) = client.query(&sql, &[]).await {
            panic!("{}: {error}: {sql}", panel["title"]);
        }
    }
}
