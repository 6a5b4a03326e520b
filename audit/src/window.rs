//! Records taken many at a time, account by account: an account's state is in the processor's cache for all of its records, not fetched from
//! memory for each.

use std::hash::{BuildHasher, RandomState};

use event_log::Entry;

/// How many records are taken at a time; with their bytes some fifty megabytes.
pub(crate) const WINDOW: usize = 100_000;

/// The indices of `entries`: each account's together, in the order in which they stand.
pub(crate) fn by_account(entries: &[Entry]) -> Vec<usize> {
    let hasher = RandomState::new();
    let mut order: Vec<(u64, usize)> = entries.iter().enumerate().map(|(i, entry)| (hasher.hash_one(&entry.account), i)).collect();
    order.sort_unstable();
    order.into_iter().map(|(_, i)| i).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_accounts_records_stay_in_their_order() {
        let entry = |n: u64| Entry { position: n, account: format!("p/a{}", n % 7), account_seq: n / 7 + 1, body: Vec::new() };
        let entries: Vec<Entry> = (0..100).map(entry).collect();
        let order = by_account(&entries);
        let mut last = std::collections::HashMap::new();
        let mut changes = 0;
        for pair in order.windows(2) {
            changes += usize::from(entries[pair[0]].account != entries[pair[1]].account);
        }
        for i in &order {
            let seq = last.insert(&entries[*i].account, entries[*i].account_seq).unwrap_or(0);
            assert_eq!(entries[*i].account_seq, seq + 1);
        }
        assert_eq!((order.len(), changes), (100, 6));
    }
}
