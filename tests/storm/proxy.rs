//! A TCP proxy that can be cut: then nothing passes, and nobody is told.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

pub struct Proxy {
    pub port: u16,
    target: Arc<watch::Sender<String>>,
    open: watch::Sender<bool>,
}

impl Proxy {
    /// Begins with no target: connections wait.
    pub async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (target, open) = (Arc::new(watch::Sender::new(String::new())), watch::Sender::new(true));
        let (targets, opens) = (target.subscribe(), open.subscribe());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, targets.clone(), opens.clone()));
            }
        });
        Self { port, target, open }
    }

    /// Where new connections go.
    pub fn lead_to(&self, target: &str) {
        self.target.send_replace(target.to_owned());
    }

    pub fn cut(&self) {
        self.open.send_replace(false);
    }

    pub fn heal(&self) {
        self.open.send_replace(true);
    }
}

async fn pass(client: TcpStream, targets: watch::Receiver<String>, mut open: watch::Receiver<bool>) {
    if open.wait_for(|open| *open).await.is_err() {
        return;
    }
    let target = targets.borrow().clone();
    let Ok(server) = TcpStream::connect(&target).await else { return };
    let (client_reads, client_writes) = client.into_split();
    let (server_reads, server_writes) = server.into_split();
    tokio::join!(copy(client_reads, server_writes, open.clone()), copy(server_reads, client_writes, open));
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut open: watch::Receiver<bool>) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        // While it is cut, what was sent waits.
        if open.wait_for(|open| *open).await.is_err() || to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}
