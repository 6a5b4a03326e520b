//! A Postgres for a test process: one server, a database for each test. It ends with the process.

use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::OnceCell;

use crate::Server;

struct Shared {
    server: Server,
    _folder: tempfile::TempDir,
}

static SERVER: OnceCell<Shared> = OnceCell::const_new();
static COUNT: AtomicU32 = AtomicU32::new(0);

/// The URL of a new, empty database.
///
/// # Panics
/// When no server can be had; the message says what to install.
pub async fn database(name: &str) -> String {
    let shared = SERVER
        .get_or_init(|| async {
            let folder = tempfile::tempdir().expect("a folder for temporary files");
            let server = Server::start(folder.path()).await.expect("a postgres: install one (Debian: apt-get install postgresql) or let it be fetched");
            Shared { server, _folder: folder }
        })
        .await;
    let name = format!("{name}_{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let (client, connection) = tokio_postgres::connect(shared.server.url(), tokio_postgres::NoTls).await.expect("the server is up");
    let connection = tokio::spawn(connection);
    client.batch_execute(&format!("CREATE DATABASE {name}")).await.expect("a new database");
    drop(client);
    connection.await.expect("the connection ends").expect("the connection ends well");
    let (server, _) = shared.server.url().rsplit_once("/").expect("a URL with a database");
    format!("{server}/{name}")
}
