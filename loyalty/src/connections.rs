//! The connections of the API: how many there may be, and how long one may take to say what it wants.
//!
//! Invariant: whoever sends nothing, or half a request, holds a connection for [`HEADERS_WITHIN`] at most (bodies have their own time, in the API), and one
//! peer never holds all.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};

/// How many connections there may be.
const TOTAL_MAX: usize = 4096;
/// How many of them one address may have. A proxy that stands before the service may need most of them.
const PEER_MAX: usize = 3072;
/// How long the head of a request may take to come, from when the connection was made or the last answer was given.
const HEADERS_WITHIN: Duration = Duration::from_secs(30);
/// How long answers in hand may take when the service is told to stop.
const FINISH_WITHIN: Duration = Duration::from_secs(20);
/// Files that the process needs beside its connections: the state store's, the database's, Kafka's.
const OTHER_FILES: u64 = 4096;
const BUSY_WITHIN: Duration = Duration::from_secs(1);
const WARN_EVERY: Duration = Duration::from_secs(60);
/// What is answered where there are too many.
const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// Lets the process open as many files as it needs, as far as the system lets it.
pub fn allow_files() {
    let wanted = TOTAL_MAX as u64 + OTHER_FILES;
    match rlimit::increase_nofile_limit(wanted) {
        Ok(limit) if limit >= wanted => {}
        Ok(limit) => tracing::warn!(limit, wanted, "fewer files may be open than {TOTAL_MAX} connections need; raise the hard limit (ulimit -Hn)"),
        Err(error) => tracing::warn!(%error, wanted, "the limit of open files can't be raised"),
    }
}

/// How many connections each address has.
#[derive(Default)]
struct Peers {
    by_address: HashMap<IpAddr, usize>,
    total: usize,
    warned: Option<Instant>,
}

/// A place among the connections, given back when it is dropped.
struct Place {
    peers: Arc<Mutex<Peers>>,
    address: IpAddr,
}

impl Place {
    /// A place for a connection from `address`; none where there are too many.
    fn take(peers: &Arc<Mutex<Peers>>, address: IpAddr) -> Option<Self> {
        let mut held = peers.lock().unwrap_or_else(PoisonError::into_inner);
        let of_peer = held.by_address.get(&address).copied().unwrap_or_default();
        if held.total >= TOTAL_MAX || of_peer >= PEER_MAX {
            metrics::counter!("loyalty_connections_refused_total").increment(1);
            if held.warned.is_none_or(|at| at.elapsed() >= WARN_EVERY) {
                held.warned = Some(Instant::now());
                tracing::warn!(peer = %address, of_peer, total = held.total, "too many connections; more are refused");
            }
            return None;
        }
        held.total += 1;
        *held.by_address.entry(address).or_default() += 1;
        Some(Self { peers: Arc::clone(peers), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        held.total -= 1;
        if let Some(of_peer) = held.by_address.get_mut(&self.address) {
            *of_peer -= 1;
            if *of_peer == 0 {
                held.by_address.remove(&self.address);
            }
        }
    }
}

/// Serves `router` until `told` ends, then finishes what is in hand.
pub async fn serve(listener: TcpListener, router: Router, told: impl Future<Output = ()>) {
    let peers = Arc::default();
    let graceful = GracefulShutdown::new();
    tokio::pin!(told);
    loop {
        tokio::select! {
            () = &mut told => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, from)) => answer(stream, from, &router, &peers, &graceful),
                // Of one connection, or of the process, which may have too many files open: the next may do.
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be taken");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
        }
    }
    drop(listener);
    if tokio::time::timeout(FINISH_WITHIN, graceful.shutdown()).await.is_err() {
        tracing::warn!(seconds = FINISH_WITHIN.as_secs(), "some answers took too long and were given up");
    }
}

fn answer(stream: TcpStream, from: SocketAddr, router: &Router, peers: &Arc<Mutex<Peers>>, graceful: &GracefulShutdown) {
    let Some(place) = Place::take(peers, from.ip().to_canonical()) else {
        // Best effort: who does not read it at once sees the connection close.
        tokio::spawn(tokio::time::timeout(BUSY_WITHIN, async move {
            if stream.writable().await.is_ok() {
                let _ = stream.try_write(BUSY);
            }
        }));
        return;
    };
    let _ = stream.set_nodelay(true);
    // HTTP/1.1 alone: whoever may begin with another version may take any time to say with which.
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADERS_WITHIN);
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router.clone())).into_owned();
    let watched = graceful.watch(connection);
    tokio::spawn(async move {
        if let Err(error) = watched.await {
            tracing::debug!(peer = %from, error = &*error, "a connection ended before its answer");
        }
        drop(place);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_never_has_all_places() {
        let peers = Arc::default();
        let (first, second) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let mut places: Vec<Place> = (0..PEER_MAX).filter_map(|_| Place::take(&peers, first)).collect();
        assert_eq!((places.len(), Place::take(&peers, first).is_some()), (PEER_MAX, false));
        places.extend((PEER_MAX..TOTAL_MAX).filter_map(|_| Place::take(&peers, second)));
        assert_eq!((places.len(), Place::take(&peers, second).is_some()), (TOTAL_MAX, false));
        drop(places.pop());
        assert!(Place::take(&peers, second).is_some(), "a place that was given back is taken again");
        drop(places);
        let held = peers.lock().unwrap_or_else(PoisonError::into_inner);
        assert_eq!((held.total, held.by_address.len()), (0, 0));
    }
}
