//! What is looked at before anything is started, so that a wrong flag is told in one line: the address, the key files, the data folder, the database.

use std::fs::{DirBuilder, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use api::{AliasKey, Keys, PublicUrls};
use event_log::postgres::connect;
use tokio::net::{TcpListener, TcpSocket};
use transparency::{AuditError, Sealer, Witnesses};

use crate::args::{ApiOptions, DataOptions, WitnessOptions};

/// How long the database may take to answer at first.
const DATABASE_WITHIN: Duration = Duration::from_secs(10);

/// An address that is ours, where nobody is answered yet.
pub struct Door {
    listen: SocketAddr,
    socket: TcpSocket,
}

impl Door {
    /// Takes the address.
    pub fn at(listen: SocketAddr) -> anyhow::Result<Self> {
        let take = || {
            let socket = if listen.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
            // As a server that was stopped a moment ago leaves it.
            socket.set_reuseaddr(true)?;
            socket.bind(listen)?;
            Ok::<_, std::io::Error>(socket)
        };
        Ok(Self { listen, socket: take().with_context(|| wrong(listen))? })
    }

    /// Answers from now on.
    pub fn open(self) -> anyhow::Result<TcpListener> {
        self.socket.listen(4096).with_context(|| wrong(self.listen))
    }
}

fn wrong(listen: SocketAddr) -> String {
    format!("can't listen on {listen}; --listen names another address")
}

/// What the API needs, found to be right.
pub struct ApiDoor {
    /// Where it answers.
    pub door: Door,
    /// Who may ask; anybody if there are none.
    pub keys: Option<Keys>,
    /// The key of the aliases' hashes.
    pub aliases: AliasKey,
    /// Under which addresses it is known.
    pub urls: PublicUrls,
}

impl ApiDoor {
    /// Refuses an address that is taken, or that others can reach without keys, and files that hold something else.
    pub fn at(options: &ApiOptions, data: &DataOptions) -> anyhow::Result<Self> {
        let (listen, api_keys) = (options.listen, options.api_keys.as_deref());
        if !listen.ip().is_loopback() && api_keys.is_none() {
            bail!("--listen {listen} can be reached by others: give --api-keys FILE (see `loyalty key`), or listen on loopback");
        }
        let door = Door::at(listen)?;
        let keys = api_keys.map(Keys::read).transpose()?;
        let urls = PublicUrls::read(&options.public_url).context("--public-url is wrong")?;
        folder(data)?;
        Ok(Self { door, keys, aliases: data.alias_key()?, urls })
    }
}

/// Makes the data folder where it is not there, and lets nobody else look into it.
pub fn folder(data: &DataOptions) -> anyhow::Result<()> {
    private(&data.data, true).with_context(|| format!("can't make the data folder {}; --data names another", data.data.display()))
}

/// Makes the folder at `path` its owner's alone. Where root owns it, the embedded Postgres, which runs as another user, needs a way through the
/// one that it lives in: that `is_way`.
pub fn private(path: &Path, is_way: bool) -> std::io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let found = std::fs::metadata(path)?;
    let allowed = if is_way && found.uid() == 0 { 0o711 } else { 0o700 };
    let mode = found.mode() & 0o777;
    if mode & !allowed == 0 {
        return Ok(());
    }
    match std::fs::set_permissions(path, Permissions::from_mode(mode & allowed)) {
        // Somebody else's, such as a volume of a cluster: they say who sees it.
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            tracing::warn!(path = %path.display(), mode = format!("{mode:o}"), "others may look into this folder, and this process can't change that");
            Ok(())
        }
        set => set,
    }
}

/// Connects to a database that is named, once.
pub async fn database(url: &str) -> anyhow::Result<()> {
    let config: tokio_postgres::Config = url.parse().context("--database-url (DATABASE_URL) is wrong: postgres://USER:PASSWORD@HOST:PORT/NAME is expected")?;
    let hosts = config.get_hosts().iter().zip(config.get_ports().iter().chain(std::iter::repeat(&5432)));
    let name = |(host, port): (&tokio_postgres::config::Host, &u16)| match host {
        tokio_postgres::config::Host::Tcp(host) => format!("{host}:{port}"),
        tokio_postgres::config::Host::Unix(path) => path.display().to_string(),
    };
    // Never the URL, which may hold a password.
    let hosts: Vec<String> = hosts.map(name).collect();
    let unreachable = || format!("the database at {} can't be reached; is --database-url (DATABASE_URL) right?", hosts.join(", "));
    let connected = tokio::time::timeout(DATABASE_WITHIN, connect(url, "public")).await;
    connected.with_context(unreachable)?.with_context(unreachable)?;
    Ok(())
}

/// Who seals the book, with a key that was found to be one.
pub struct Sealing {
    /// The secret key.
    pub secret: String,
    /// Where.
    pub folder: PathBuf,
    /// None while another process seals there.
    pub sealer: Option<Sealer>,
    /// Who cosigns.
    pub witnesses: Witnesses,
}

impl Sealing {
    /// Reads the key at `key`, to seal in `folder` with the cosignatures of `witnesses`.
    pub fn with(key: &Path, folder: PathBuf, witnesses: &WitnessOptions) -> anyhow::Result<Self> {
        let witnesses = crate::audit::witnesses(witnesses)?;
        let secret = crate::audit::secret(key)?;
        let sealer = match Sealer::open(&folder, &secret) {
            Err(taken @ AuditError::Taken { .. }) => {
                tracing::info!(%taken, "this one waits for its turn");
                None
            }
            opened => Some(opened.with_context(|| format!("the key {}", key.display()))?),
        };
        Ok(Self { secret, folder, sealer, witnesses })
    }
}
