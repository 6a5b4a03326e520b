//! Editions: which deciding the records of a book were made by.
//!
//! Invariant: the same account, command, rules and moment come to the same events for as long as the edition is the same. Whatever changes
//! a decision raises [`EDITION`]: a correction of a rule, other time zone data, another version of CEL. Folding never changes by edition:
//! every release folds the records of all editions alike.

/// The edition that this code decides by.
pub const EDITION: u32 = 2;

/// The edition of records that state none: those of releases before 0.2.
pub const FIRST_EDITION: u32 = 1;

/// The release of the time zone database (IANA) that decides.
pub const TIME_ZONES: &str = "2026e";

/// The version of the CEL implementation that decides.
pub const CEL: &str = "0.15.0";

/// The releases of this program that decide by `edition`; none for an edition that this code does not know.
#[must_use]
pub fn releases(edition: u32) -> Option<&'static str> {
    match edition {
        1 => Some("0.1"),
        2 => Some("0.2"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_decides_is_what_the_edition_says() {
        let release = include_str!("time/zones.txt").lines().next();
        assert_eq!(release, Some(TIME_ZONES), "other time zone data is another edition");
        let lock = include_str!("../../Cargo.lock");
        assert!(lock.contains(&format!("name = \"cel\"\nversion = \"{CEL}\"\n")), "another version of CEL is another edition");
        assert!(releases(EDITION).is_some() && releases(EDITION + 1).is_none());
    }
}
