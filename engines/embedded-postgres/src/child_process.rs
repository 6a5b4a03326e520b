//! Running a server as a child process: it ends with its owner, and what it said last is kept.

/// For `sh -c`, with a signal's name and a program with its arguments: runs the program until the pipe on standard input closes, then sends
/// it the signal. So a server ends with its owner, and not even kill -9 of the owner leaves it behind.
pub const GUARD: &str =
    r#"exec 3<&0; signal=$1; shift; "$@" </dev/null 3<&- & server=$!; { read -r _ <&3; kill -$signal $server 2>/dev/null; } & exec 3<&-; wait $server"#;

/// The end of what a program printed.
#[must_use]
pub fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.trim().lines().collect();
    lines[lines.len().saturating_sub(8)..].join("\n")
}

/// A port of loopback that nobody uses now.
///
/// # Errors
/// What the operating system says.
pub fn free_port() -> std::io::Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
