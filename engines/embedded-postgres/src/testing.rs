//! A Postgres for a test process: one server, a database for each test. It ends with the process.

use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::OnceCell;

use crate::server::Server;

static SERVER: OnceCell<Server> = OnceCell::const_new();
static COUNT: AtomicU32 = AtomicU32::new(0);

/// A folder named after this process; those of processes that have ended are removed, as a static is not dropped.
#[must_use]
pub fn folder() -> std::path::PathBuf {
    let temporary = std::env::temp_dir();
    for entry in std::fs::read_dir(&temporary).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix("loyalty-test-"));
        if pid.is_some_and(|pid| !std::path::Path::new("/proc").join(pid).exists()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    temporary.join(format!("loyalty-test-{}", std::process::id()))
}

async fn start() -> Server {
    Server::start(&folder()).await.expect("a postgres: install one (Debian: apt-get install postgresql) or let it be fetched")
}

/// The URL of a new, empty database.
///
/// # Panics
/// When no server can be had; the message says what to install.
pub async fn database(name: &str) -> String {
    let server = SERVER.get_or_init(start).await;
    let name = format!("{name}_{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let (client, connection) = tokio_postgres::connect(server.url(), tokio_postgres::NoTls).await.expect("the server is up");
    let connection = tokio::spawn(connection);
    client.batch_execute(&format!("CREATE DATABASE {name}")).await.expect("a new database");
    drop(client);
    connection.await.expect("the connection ends").expect("the connection ends well");
    let (base, _) = server.url().rsplit_once('/').expect("a URL with a database");
    format!("{base}/{name}")
}
