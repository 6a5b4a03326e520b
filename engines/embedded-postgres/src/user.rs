//! As whom the server runs, and where: Postgres refuses root, and another user needs a way to the folder.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use crate::error::{PostgresError, io};

/// A user of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// The user to run as where we are root: `postgres` if there is one, else `nobody`.
pub(crate) fn run_as() -> Option<User> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let find = |name: &str| {
        let fields = users.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields[0] == name)?;
        Some(User { uid: fields.get(2)?.parse().ok()?, gid: fields.get(3)?.parse().ok()? })
    };
    find("postgres").or_else(|| find("nobody")).or(Some(User { uid: 65534, gid: 65534 }))
}

/// Makes `path` the user's.
pub(crate) fn give(path: &Path, user: Option<User>) -> Result<(), PostgresError> {
    match user {
        Some(user) => chown(path, Some(user.uid), Some(user.gid)).map_err(io("change the owner of", path)),
        None => Ok(()),
    }
}

fn passable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.mode() & 0o001 != 0)
}

/// The server's home: inside `folder` where its user can get there, else beside the machine's temporary files, under a name that
/// `folder` alone has.
pub(crate) fn home(folder: &Path, user: Option<User>) -> Result<PathBuf, PostgresError> {
    let folder = folder.canonicalize().map_err(io("find", folder))?;
    let reachable = folder.ancestors().skip(1).all(passable);
    let home = if user.is_none() {
        folder.join("postgres")
    } else if reachable {
        let_pass(&folder)?;
        folder.join("postgres")
    } else {
        let name = blake3::hash(folder.as_os_str().as_encoded_bytes()).to_hex();
        Path::new("/var/tmp").join(format!("loyalty-{}", &name[..16]))
    };
    fs::create_dir_all(&home).map_err(io("create", &home))?;
    if user.is_some() && fs::metadata(&home).map_err(io("look at", &home))?.uid() == 0 {
        give(&home, user)?;
    }
    Ok(home)
}

/// Lets others pass through `path` (they still can't list it).
fn let_pass(path: &Path) -> Result<(), PostgresError> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o711)).map_err(io("open the way through", path))
}
