//! What is printed. Whoever reads it may stop reading (`loyalty … | head`): the rest is then for nobody, which is no fault; the standard macros panic.
//!
//! The macros here take the place of the standard ones in this whole crate.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};
use std::sync::{Mutex, PoisonError};

/// What went wrong first, other than that nobody reads.
static FAILED: Mutex<Option<io::Error>> = Mutex::new(None);

macro_rules! println {
    () => { $crate::output::line(format_args!("")) };
    ($($text:tt)*) => { $crate::output::line(format_args!($($text)*)) };
}

macro_rules! eprintln {
    ($($text:tt)*) => { $crate::output::note(format_args!($($text)*)) };
}

/// Prints a line on standard output.
pub fn line(text: Arguments<'_>) {
    if let Err(error) = write(&mut io::stdout().lock(), text) {
        FAILED.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }
}

/// Prints a line on standard error; where that fails, there is nobody to tell.
pub fn note(text: Arguments<'_>) {
    let _ = write(&mut io::stderr().lock(), text);
}

/// Why not all that was to be printed could be.
pub fn failed() -> Option<io::Error> {
    FAILED.lock().unwrap_or_else(PoisonError::into_inner).take()
}

fn write(to: &mut impl Write, text: Arguments<'_>) -> io::Result<()> {
    match writeln!(to, "{text}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;

    struct Broken(ErrorKind);

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn that_nobody_reads_is_no_fault_and_a_full_disk_is() {
        assert!(write(&mut Broken(ErrorKind::BrokenPipe), format_args!("x")).is_ok());
        assert_eq!(write(&mut Broken(ErrorKind::StorageFull), format_args!("x")).unwrap_err().kind(), ErrorKind::StorageFull);
    }
}
