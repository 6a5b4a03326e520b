//! The server: made, started, watched and stopped.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::binaries::find_or_fetch;
use crate::child_process::{GUARD, free_port, last_lines};
use crate::error::{PostgresError, io};
use crate::user::{self, User};

/// Holds the URL of the running server.
const URL_FILE: &str = "postgres.url";
/// How long a start or stop may take; recovery after a crash replays what was not checkpointed.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long the children of a server that was killed may take to end.
const ENDING: Duration = Duration::from_secs(20);
const SETTINGS: &[&str] = &[
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "max_connections=100",
    "shared_buffers=256MB",
    "max_wal_size=4GB",
    "checkpoint_timeout=15min",
    "jit=off",
    "wal_compression=off",
    "log_min_messages=warning",
    "log_checkpoints=off",
];

/// A running server; dropping it stops it.
#[derive(Debug)]
pub struct Server {
    guard: Child,
    url: String,
    home: PathBuf,
    _lock: File,
}

impl Server {
    /// Starts the server that lives in `folder`, making it first if it is new.
    ///
    /// # Errors
    /// [`PostgresError`], each saying what to do or what the server said.
    pub async fn start(folder: &Path) -> Result<Self, PostgresError> {
        fs::create_dir_all(folder).map_err(io("create", folder))?;
        let lock = lock(folder)?;
        let binaries = find_or_fetch().await?;
        let run_as = user::run_as();
        let home = user::home(folder, run_as)?;
        let password = password(folder)?;
        let data = home.join("data");
        wait_for_the_last_one(&data).await;
        if !data.join("PG_VERSION").exists() {
            init(&binaries, &home, &data, &password, run_as)?;
        }
        let deadline = Instant::now() + ENDING;
        loop {
            match launch(&binaries, &home, &data, &password, run_as).await {
                Ok((guard, url)) => {
                    let path = folder.join(URL_FILE);
                    fs::write(&path, &url).and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o600))).map_err(io("write", &path))?;
                    return Ok(Self { guard, url, home, _lock: lock });
                }
                // Somebody may have taken the port between our finding it free and the server's asking for it; and where a server was killed,
                // its children end a moment after it.
                Err(PostgresError::Program { output, .. }) if is_passing(&output) && Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Where the server of another process that uses `folder` can be reached, if one has started.
    #[must_use]
    pub fn running(folder: &Path) -> Option<String> {
        fs::read_to_string(folder.join(URL_FILE)).ok()
    }

    /// Where to connect.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where the server keeps its log.
    #[must_use]
    pub fn log_file(&self) -> PathBuf {
        self.home.join("postgres.log")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        if let Err(error) = self.guard.wait() {
            tracing::warn!(%error, "could not wait for postgres to stop");
        }
    }
}

/// Whether what the server says is over soon.
fn is_passing(output: &str) -> bool {
    output.contains("Address already in use") || output.contains("pre-existing shared memory block")
}

fn lock(folder: &Path) -> Result<File, PostgresError> {
    let path = folder.join("postgres.lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(io("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(PostgresError::InUse { path: folder.to_owned() }),
        Err(fs::TryLockError::Error(source)) => Err(io("lock", &path)(source)),
    }
}

/// The password, made once and kept where only the folder's owner reads it.
fn password(folder: &Path) -> Result<String, PostgresError> {
    let path = folder.join("postgres.password");
    if let Ok(password) = fs::read_to_string(&path) {
        return Ok(password);
    }
    let mut seed = [0_u8; 32];
    let source = Path::new("/dev/urandom");
    File::open(source).and_then(|mut file| std::io::Read::read_exact(&mut file, &mut seed)).map_err(io("read", source))?;
    let password = blake3::hash(&seed).to_hex().to_string();
    let write = || {
        let partial = path.with_extension("partial");
        let mut file = File::options().create(true).truncate(true).write(true).mode(0o600).open(&partial)?;
        file.write_all(password.as_bytes())?;
        fs::rename(&partial, &path)
    };
    write().map_err(io("write", &path))?;
    Ok(password)
}

/// A server whose owner was killed is still stopping: its pid file names a process that lives.
async fn wait_for_the_last_one(data: &Path) {
    let pid_file = data.join("postmaster.pid");
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let pid = fs::read_to_string(&pid_file).ok().and_then(|text| text.lines().next().and_then(|line| line.trim().parse::<u32>().ok()));
        let command_line = pid.and_then(|pid| fs::read_to_string(format!("/proc/{pid}/cmdline")).ok());
        if !command_line.is_some_and(|line| line.contains(&*data.to_string_lossy())) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn command(program: &Path, run_as: Option<User>, home: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(home).env_clear().env("LC_ALL", "C").env("PATH", "/usr/bin:/bin").env("TZ", "UTC");
    if let Some(user) = run_as {
        command.uid(user.uid).gid(user.gid);
    }
    command
}

fn init(binaries: &Path, home: &Path, data: &Path, password: &str, run_as: Option<User>) -> Result<(), PostgresError> {
    // An init that was killed leaves half a cluster, which initdb refuses: make it elsewhere and rename it when it is whole.
    let partial = home.join("data.partial");
    if partial.exists() {
        fs::remove_dir_all(&partial).map_err(io("remove", &partial))?;
    }
    let password_file = tempfile::NamedTempFile::new_in(home).map_err(io("write into", home))?;
    fs::write(password_file.path(), password).map_err(io("write", password_file.path()))?;
    user::give(password_file.path(), run_as)?;
    let output = command(&binaries.join("initdb"), run_as, home)
        .arg("-D")
        .arg(&partial)
        .args(["--username=loyalty", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync", "--data-checksums"])
        .arg(format!("--pwfile={}", password_file.path().display()))
        .stdin(Stdio::null())
        .output()
        .map_err(io("run initdb in", binaries))?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        return Err(PostgresError::Program { program: "initdb", output: last_lines(&String::from_utf8_lossy(&said)) });
    }
    fs::rename(&partial, data).map_err(io("rename", &partial))
}

async fn launch(binaries: &Path, home: &Path, data: &Path, password: &str, run_as: Option<User>) -> Result<(Child, String), PostgresError> {
    let port = free_port().map_err(io("find a free port for", home))?;
    let log_path = home.join("postgres.log");
    // A file of its own: what a killed server's last processes still say goes into the old one, and hides nothing of what this one says.
    match fs::remove_file(&log_path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io("remove", &log_path)(error)),
        _ => {}
    }
    let log = File::create(&log_path).map_err(io("create", &log_path))?;
    user::give(&log_path, run_as)?;
    let mut shell = command(Path::new("/bin/sh"), run_as, home);
    shell.args(["-c", GUARD, "guard", "INT"]).arg(binaries.join("postgres")).arg("-D").arg(data).arg("-p").arg(port.to_string());
    for setting in SETTINGS {
        shell.args(["-c", setting]);
    }
    // Its own process group: Ctrl-C is for the owner, who stops the server when all else has stopped.
    let errors = log.try_clone().map_err(io("open", &log_path))?;
    shell.process_group(0).stdin(Stdio::piped()).stdout(log).stderr(errors);
    let mut guard = shell.spawn().map_err(io("start postgres in", binaries))?;
    let url = format!("postgres://loyalty:{password}@127.0.0.1:{port}/postgres");
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Ok((client, connection)) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await {
            drop((client, connection));
            return Ok((guard, url));
        }
        let ended = guard.try_wait().map_err(io("wait for postgres in", home))?.is_some();
        if ended || Instant::now() > deadline {
            drop(guard.stdin.take());
            let _ = guard.wait();
            let output = fs::read_to_string(&log_path).unwrap_or_default();
            return Err(PostgresError::Program { program: "postgres", output: last_lines(&output) });
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
