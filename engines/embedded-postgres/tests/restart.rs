//! A server that was killed is started again at once.
#![allow(clippy::unwrap_used, missing_docs)]

use embedded_postgres::Server;

/// Each open connection is a process that outlives the killed server for a moment, keeps its shared memory, and complains in its log.
#[tokio::test]
async fn a_killed_server_with_many_connections_starts_again() {
    let folder = tempfile::TempDir::new().unwrap();
    let data = folder.path().join("postgres");
    for _ in 0..3 {
        let server = Server::start(&data).await.unwrap();
        let mut clients = Vec::new();
        for _ in 0..30 {
            let (client, connection) = tokio_postgres::connect(server.url(), tokio_postgres::NoTls).await.unwrap();
            tokio::spawn(connection);
            clients.push(client);
        }
        let pid = std::fs::read_to_string(server.log_file().with_file_name("data").join("postmaster.pid")).unwrap();
        let pid = pid.lines().next().unwrap().trim();
        assert!(std::process::Command::new("kill").args(["-9", pid]).status().unwrap().success());
        drop(server);
        let server = Server::start(&data).await.unwrap();
        drop((clients, server));
    }
}
