//! The allocator. Records are made on one thread and freed on another, where the C library's spends more than deciding does.

#![allow(unsafe_code, reason = "the allocator's settings are a C library's")]

use std::ffi::{c_int, c_long};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` in mimalloc 3's `mi_option_e`; its bindings do not name it.
const PURGE_DELAY: c_int = 15;

/// How long free memory is kept before the kernel gets it back. A checkpoint each ten seconds needs what the one before needed, and a page that comes
/// anew must be cleared, on a virtual machine at 0.3 GB/s: with mimalloc's second that was a quarter of the command loop's time.
const KEPT_MS: c_long = 60_000;

unsafe extern "C" {
    fn mi_option_set_default(option: c_int, value: c_long);
    #[cfg(test)]
    fn mi_option_get(option: c_int) -> c_long;
}

/// Keeps free memory for a while, unless `MIMALLOC_PURGE_DELAY` says how long.
pub fn keep() {
    // Safety: it takes two numbers and may be called at any time.
    unsafe { mi_option_set_default(PURGE_DELAY, KEPT_MS) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_is_the_one_that_is_meant() {
        // Safety: as above.
        let kept_ms = || unsafe { mi_option_get(PURGE_DELAY) };
        assert_eq!(kept_ms(), 1000, "mimalloc 3's own");
        keep();
        assert_eq!(kept_ms(), KEPT_MS);
    }
}
