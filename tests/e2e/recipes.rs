//! The recipes of docs/auditing.md, run as they stand there: whoever follows the page gets what it says.

use std::path::Path;

use embedded_postgres::testing::database;
use tokio::process::Command;

use crate::objects;
use crate::support::rulebook;

const PAGE: &str = include_str!("../../docs/auditing.md");
/// Longer than all of them take together, in seconds.
const PATIENCE: &str = "300";

/// A fenced block: its language and why it is not run, the line of the page where it begins, and what is in it.
struct Recipe {
    info: &'static str,
    line: usize,
    text: String,
}

fn recipes() -> Vec<Recipe> {
    let (mut recipes, mut open): (Vec<Recipe>, Option<Recipe>) = (Vec::new(), None);
    for (line, text) in (1..).zip(PAGE.lines()) {
        match (open.take(), text.strip_prefix("```")) {
            (Some(recipe), Some(_)) => recipes.push(recipe),
            (Some(recipe), None) => open = Some(Recipe { text: recipe.text + text + "\n", ..recipe }),
            (None, Some(info)) => open = Some(Recipe { info, line: line + 1, text: String::new() }),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "the last block of docs/auditing.md does not end");
    recipes
}

/// What the page says that a reader has: programs, files and variables. Whatever a recipe needs besides is the page's mistake.
async fn reader(folder: &Path, buckets: &Path) -> Command {
    let programs = folder.join("bin");
    std::fs::create_dir(&programs).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_loyalty"), programs.join("loyalty")).unwrap();
    let postgres = embedded_postgres::find_or_fetch().await.unwrap();
    let inherited = std::env::var_os("PATH").unwrap();
    let path = [programs, postgres].into_iter().chain(std::env::split_paths(&inherited));
    let mut other = rulebook();
    other["earn"]["base"]["points"] = "3".into();
    std::fs::write(folder.join("rulebook.json"), rulebook().to_string()).unwrap();
    std::fs::write(folder.join("other.json"), other.to_string()).unwrap();
    std::fs::create_dir(buckets.join("audit")).unwrap();
    // Below those that the system gives to whoever asks for any, so that it stays free between one service and the next.
    let ports = (20_000..30_000).cycle().skip(usize::try_from(std::process::id()).unwrap() % 10_000);
    let port: u16 = ports.take(10_000).find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap();
    let listen = format!("127.0.0.1:{port}");
    let mut command = Command::new("timeout");
    command.args([PATIENCE, "bash"]).current_dir(folder).kill_on_drop(true);
    command.env("PATH", std::env::join_paths(path).unwrap());
    command.env("DATABASE_URL", database("recipes").await).env("COPY_URL", database("copy").await).env("RESTORED_URL", database("restored").await);
    command.env("SERVER", format!("http://{listen}")).env("LOYALTY_LISTEN", &listen).env("BUCKET", "s3://audit/books/shop");
    command.envs(objects::serve(buckets).await);
    // So that nobody waits a minute for a checkpoint.
    command.env("LOYALTY_SEAL_SECONDS", "1");
    command
}

#[tokio::test]
async fn every_recipe_for_auditors_works_as_written() {
    let recipes = recipes();
    let (run, others): (Vec<&Recipe>, Vec<&Recipe>) = recipes.iter().partition(|recipe| recipe.info == "sh");
    let others: Vec<&str> = others.into_iter().map(|recipe| recipe.info).collect();
    assert_eq!((run.len(), others), (10, vec!["sh kafka"]), "blocks that are run, and those that are not");
    for kept in ["loyalty-data/alias.key", "loyalty-data/seal", "backup/alias.key"] {
        assert!(run.iter().any(|recipe| recipe.text.contains(kept)), "a backup has {kept}");
    }
    let mut script = "set -euo pipefail\ntrap 'kill $(jobs -p) 2> /dev/null || true' EXIT\nexec 2>&1\n".to_owned();
    for recipe in run {
        script += &format!("echo '--- docs/auditing.md:{}'\n{}", recipe.line, recipe.text);
    }
    let (folder, buckets) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(folder.path().join("recipes.sh"), script).unwrap();
    let output = reader(folder.path(), buckets.path()).await.arg("recipes.sh").output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}: {said}", output.status);
    let mut rest = &*said;
    for words in [
        "purchase p1 of shop/m1 stands in book",
        "of 1 accounts, 0 refused commands",
        "the archive extends the checkpoint of ",
        "of 1 accounts, 1 refused commands",
        "of 1 accounts, 1 refused commands",
        "records archived in s3://audit/books/shop",
        "archive verified",
        "book copied and verified",
        "book verified",
        "book verified",
        "then: 0 available, 100 pending",
        "1 of 1 accounts would be different",
        "0 of 1 accounts would be different",
        "1 corrections proposed",
        "1 corrections approved, +200 points in all",
    ] {
        let (_, after) = rest.split_once(words).unwrap_or_else(|| panic!("{words:?} is not told, or too soon: {said}"));
        rest = after;
    }
}
