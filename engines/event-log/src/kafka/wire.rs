//! A connection to a broker that speaks Kafka's protocol: requests go out, answers come back in their order.
//!
//! Source: the protocol guide of Apache Kafka, "Network" and "Headers"; the messages are `kafka_protocol`'s.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use kafka_protocol::messages::{RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable as _, Encodable as _, HeaderVersion as _, Request, StrBytes};

use super::client::PATIENCE;

/// How long an address may be silent before the next one is tried.
const CONNECT: Duration = Duration::from_secs(5);
/// No answer to what the ledger asks is nearly as long: beyond it, this is no broker.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Why a broker was not heard.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    #[error("no connection to {address}")]
    Connect {
        address: String,
        #[source]
        source: io::Error,
    },
    #[error("the connection to {address} failed")]
    Lost {
        address: String,
        #[source]
        source: io::Error,
    },
    #[error("what {address} and the ledger say to each other is not Kafka's protocol")]
    Protocol {
        address: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

pub(super) struct Connection {
    address: String,
    client: StrBytes,
    stream: TcpStream,
    /// The number of the next request, and of those that were not answered yet.
    next: i32,
    awaited: VecDeque<i32>,
    out: BytesMut,
}

impl Connection {
    /// Connects to `HOST:PORT`.
    pub(super) fn open(address: &str, client: &StrBytes) -> Result<Self, WireError> {
        let connect = || {
            let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
            for resolved in address.to_socket_addrs()? {
                match TcpStream::connect_timeout(&resolved, CONNECT) {
                    Ok(stream) => {
                        stream.set_nodelay(true)?;
                        stream.set_read_timeout(Some(PATIENCE))?;
                        stream.set_write_timeout(Some(PATIENCE))?;
                        return Ok(stream);
                    }
                    Err(error) => last = error,
                }
            }
            Err(last)
        };
        let stream = connect().map_err(|source| WireError::Connect { address: address.to_owned(), source })?;
        let (client, awaited, out) = (client.clone(), VecDeque::new(), BytesMut::new());
        Ok(Self { address: address.to_owned(), client, stream, next: 0, awaited, out })
    }

    /// As a broker does with who was silent for long.
    #[cfg(test)]
    pub(super) fn hang_up(&self) -> io::Result<()> {
        self.stream.shutdown(std::net::Shutdown::Both)
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    fn lost(&self, source: io::Error) -> WireError {
        WireError::Lost { address: self.address.clone(), source }
    }

    fn protocol(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> WireError {
        WireError::Protocol { address: self.address.clone(), source: source.into() }
    }

    /// Sends a request; its answer is to be received after those of the requests before it.
    pub(super) fn send<R: Request>(&mut self, version: i16, request: &R) -> Result<(), WireError> {
        self.out.clear();
        self.out.put_i32(0);
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.next)
            .with_client_id(Some(self.client.clone()));
        header.encode(&mut self.out, R::header_version(version)).map_err(|error| self.protocol(error))?;
        request.encode(&mut self.out, version).map_err(|error| self.protocol(error))?;
        let length = i32::try_from(self.out.len() - 4).map_err(|error| self.protocol(error))?;
        self.out[..4].copy_from_slice(&length.to_be_bytes());
        self.stream.write_all(&self.out).map_err(|error| self.lost(error))?;
        self.awaited.push_back(self.next);
        self.next = self.next.wrapping_add(1);
        Ok(())
    }

    /// The answer to the first request of those that were not answered yet, which was an `R`.
    pub(super) fn receive<R: Request>(&mut self, version: i16) -> Result<R::Response, WireError> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).map_err(|error| self.lost(error))?;
        let length = usize::try_from(i32::from_be_bytes(length)).ok().filter(|length| *length <= ANSWER_BYTES_MAX);
        let length = length.ok_or_else(|| self.protocol("an answer has an impossible length"))?;
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).map_err(|error| self.lost(error))?;
        let mut body = Bytes::from(body);
        let header = ResponseHeader::decode(&mut body, R::Response::header_version(version)).map_err(|error| self.protocol(error))?;
        if self.awaited.pop_front() != Some(header.correlation_id) {
            return Err(self.protocol("an answer came to something that was not asked"));
        }
        R::Response::decode(&mut body, version).map_err(|error| self.protocol(error))
    }

    pub(super) fn call<R: Request>(&mut self, version: i16, request: &R) -> Result<R::Response, WireError> {
        self.send(version, request)?;
        self.receive::<R>(version)
    }
}
