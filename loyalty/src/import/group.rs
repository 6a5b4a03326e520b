//! The first pass on disk: the rows of a purchase come together, wherever they stand in the file.
//!
//! Invariant: a purchase comes whole or not at all. A row that can't be read holds back every purchase that it may belong to, so that the
//! corrected file ends as if it had been correct at first: where its purchase can't be told, all purchases of its account, and where its
//! account can't be told either, all purchases of the file. Rows of a purchase may stand anywhere, so the rows beside it tell nothing.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::path::Path;

use anyhow::Context;
use ledger_core::account::command::LINES_MAX;
use ledger_core::id::Id;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Fault;
use super::sort::Sorter;
use super::table::Told;

/// So many accounts are held back by name, of one purchase id and of the file; more, and all are.
const HELD_MAX: usize = 10_000;

/// What comes of the first pass.
pub enum Grouped<T> {
    /// All rows of a purchase, with their lines: its id, whose it is, the rows.
    Purchase(Id, Id, Vec<(u64, T)>),
    /// A row that is held back: whose, its line, what it says, and why.
    HeldBack(Id, u64, T, Fault),
}

/// Takes rows in the order of the file.
pub struct Grouper<T> {
    rows: Sorter,
    /// The accounts of which every purchase is held back, and by which line.
    accounts: BTreeMap<Id, u64>,
    /// The line that holds back every purchase of the file.
    all: Option<u64>,
    row: PhantomData<T>,
}

const UNREADABLE: u8 = 0;
const ROW: u8 = 1;

impl<T: Serialize + DeserializeOwned> Grouper<T> {
    /// Its temporary files lie in `folder`.
    pub fn new(folder: &Path) -> Self {
        Self { rows: Sorter::new(folder), accounts: BTreeMap::new(), all: None, row: PhantomData }
    }

    /// A row of `purchase`.
    pub fn row(&mut self, purchase: &Id, account: &Id, line: u64, row: &T) -> anyhow::Result<()> {
        let value = postcard::to_extend(row, vec![ROW])?;
        Ok(self.rows.push(key(purchase, account.as_str(), line), value)?)
    }

    /// A row that can't be read, with what it tells of its purchase and of its account.
    pub fn unreadable(&mut self, line: u64, told: &Told) -> anyhow::Result<()> {
        let Told { purchases, accounts, accounts_alone } = told;
        for purchase in &purchases.ids {
            if !accounts.is_sure {
                self.hold(purchase, None, line)?;
                continue;
            }
            accounts.ids.iter().try_for_each(|account| self.hold(purchase, Some(account), line))?;
        }
        accounts_alone.iter().for_each(|account| self.hold_account(account, line));
        match (purchases.is_sure, accounts.is_sure) {
            (true, _) => {}
            (false, true) => accounts.ids.iter().for_each(|account| self.hold_account(account, line)),
            (false, false) => {
                self.all.get_or_insert(line);
            }
        }
        Ok(())
    }

    /// Holds back every purchase of `account`, as the row of this line may belong to any of them.
    fn hold_account(&mut self, account: &Id, line: u64) {
        if self.accounts.len() < HELD_MAX || self.accounts.contains_key(account) {
            self.accounts.entry(account.clone()).or_insert(line);
        } else {
            self.all.get_or_insert(line);
        }
    }

    fn hold(&mut self, purchase: &Id, account: Option<&Id>, line: u64) -> anyhow::Result<()> {
        let mut value = vec![UNREADABLE];
        value.extend_from_slice(account.map_or("", Id::as_str).as_bytes());
        // No account has an empty id, so these come before the rows.
        Ok(self.rows.push(key(purchase, "", line), value)?)
    }

    /// Gives each purchase, and each row that is held back, to `each`, in no order that means anything.
    pub fn groups(self, mut each: impl FnMut(Grouped<T>) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let Self { rows, accounts, all, .. } = self;
        let wide = Wide { accounts, all };
        let mut open: Option<Open<T>> = None;
        let mut held = Held::default();
        for entry in rows.sorted()? {
            let (key, value) = entry?;
            let (purchase, account, line) = parts(&key).context("a temporary file was damaged")?;
            if open.as_ref().is_some_and(|open| open.purchase.as_str() != purchase || open.account.as_str() != account) {
                open.take().into_iter().try_for_each(|open| open.close(&wide, &held, &mut each))?;
            }
            held.begin(purchase);
            match value.split_first() {
                Some((&UNREADABLE, account)) => held.put(account, line),
                Some((_, row)) => {
                    if open.is_none() {
                        open = Some(Open { purchase: Id::parse(purchase)?, account: Id::parse(account)?, rows: Vec::new(), is_too_long: false });
                    }
                    let open = open.as_mut().context("it was opened just above")?;
                    open.put(line, postcard::from_bytes(row)?, &mut each)?;
                }
                None => {}
            }
        }
        open.into_iter().try_for_each(|open| open.close(&wide, &held, &mut each))
    }
}

fn key(purchase: &Id, account: &str, line: u64) -> Vec<u8> {
    let mut key = [purchase.as_str(), "\0", account, "\0"].concat().into_bytes();
    key.extend_from_slice(&line.to_be_bytes());
    key
}

fn parts(key: &[u8]) -> Option<(&str, &str, u64)> {
    let (names, line) = key.split_last_chunk()?;
    let mut names = std::str::from_utf8(names).ok()?.split('\0');
    Some((names.next()?, names.next()?, u64::from_be_bytes(*line)))
}

/// The rows of one account's purchase that came so far.
struct Open<T> {
    purchase: Id,
    account: Id,
    rows: Vec<(u64, T)>,
    is_too_long: bool,
}

impl<T> Open<T> {
    fn put(&mut self, line: u64, row: T, each: &mut impl FnMut(Grouped<T>) -> anyhow::Result<()>) -> anyhow::Result<()> {
        self.rows.push((line, row));
        self.is_too_long |= self.rows.len() > LINES_MAX;
        if self.is_too_long {
            // They are not gathered, as a file may be one such purchase.
            for (line, row) in self.rows.drain(..) {
                let fault = Fault::new("", format!("belongs to a purchase with more than {LINES_MAX} rows"));
                each(Grouped::HeldBack(self.account.clone(), line, row, fault))?;
            }
        }
        Ok(())
    }

    fn close(self, wide: &Wide, held: &Held, each: &mut impl FnMut(Grouped<T>) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let Some(fault) = held.by(&self.account).map(Fault::beside).or_else(|| wide.fault(&self.account)) else {
            return if self.rows.is_empty() { Ok(()) } else { each(Grouped::Purchase(self.purchase, self.account, self.rows)) };
        };
        self.rows.into_iter().try_for_each(|(line, row)| each(Grouped::HeldBack(self.account.clone(), line, row, fault.clone())))
    }
}

/// What is held back whatever purchase it is, and by which line.
struct Wide {
    accounts: BTreeMap<Id, u64>,
    all: Option<u64>,
}

impl Wide {
    fn fault(&self, account: &Id) -> Option<Fault> {
        let by = |line: u64, which: &str| Fault::new("", format!("may belong together with line {line}, {which}: correct that line and import the file again"));
        let of_account = self.accounts.get(account).map(|line| by(*line, "which is rejected and does not tell its purchase; all of this account wait"));
        let of_any = || self.all.map(|line| by(line, "which is rejected and tells neither its purchase nor its account; all of the file wait"));
        of_account.or_else(of_any)
    }
}

/// By which line the purchases of one id are held back.
#[derive(Default)]
struct Held {
    purchase: String,
    all: Option<u64>,
    accounts: BTreeMap<Vec<u8>, u64>,
}

impl Held {
    fn begin(&mut self, purchase: &str) {
        if self.purchase != purchase {
            *self = Self { purchase: purchase.to_owned(), ..Self::default() };
        }
    }

    fn put(&mut self, account: &[u8], line: u64) {
        if account.is_empty() || self.accounts.len() >= HELD_MAX {
            self.all.get_or_insert(line);
        } else {
            self.accounts.entry(account.to_vec()).or_insert(line);
        }
    }

    fn by(&self, account: &Id) -> Option<u64> {
        self.accounts.get(account.as_str().as_bytes()).copied().or(self.all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::table::Candidates;

    fn id(text: &str) -> Id {
        Id::parse(text).unwrap()
    }

    /// Whose, and its lines.
    type Whole = (String, Vec<u64>);
    /// A line, and why it is held back.
    type Back = (u64, String);

    /// What became of rows: purchases, and what was held back.
    fn grouped(rows: &[(&str, &str)]) -> (Vec<Whole>, Vec<Back>) {
        let folder = tempfile::tempdir().unwrap();
        let mut grouper = Grouper::new(folder.path());
        for (line, (purchase, account)) in (2..).zip(rows) {
            let ids = |text: &str| Candidates { ids: Id::parse(text).into_iter().collect(), is_sure: !text.is_empty() };
            match (*purchase).strip_prefix('!') {
                Some(purchase) => {
                    let told = Told { purchases: ids(purchase), accounts: ids(account), accounts_alone: Vec::new() };
                    grouper.unreadable(line, &told).unwrap();
                }
                None => grouper.row(&id(purchase), &id(account), line, &line).unwrap(),
            }
        }
        let (mut whole, mut back) = (Vec::new(), Vec::new());
        grouper
            .groups(|grouped| {
                match grouped {
                    Grouped::Purchase(_, account, rows) => whole.push((account.to_string(), rows.into_iter().map(|(line, _)| line).collect())),
                    Grouped::HeldBack(_, line, _, fault) => back.push((line, fault.reason)),
                }
                Ok(())
            })
            .unwrap();
        (whole, back)
    }

    #[test]
    fn rows_of_a_purchase_come_together_and_accounts_stay_apart() {
        let (whole, back) = grouped(&[("1001", "alice"), ("1001", "bob"), ("7", "alice"), ("1001", "alice")]);
        assert_eq!(whole, [("alice".into(), vec![2, 5]), ("bob".into(), vec![3]), ("alice".into(), vec![4])]);
        assert!(back.is_empty());
    }

    #[test]
    fn a_row_that_can_not_be_read_holds_back_its_purchase_and_no_other() {
        let (whole, back) = grouped(&[("1", "a"), ("!1", "a"), ("1", "b"), ("2", "a"), ("1", "a")]);
        assert_eq!(whole, [("b".into(), vec![4]), ("a".into(), vec![5])]);
        assert_eq!(back.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [2, 6]);
        assert!(back[0].1.contains("line 3"), "{}", back[0].1);
    }

    #[test]
    fn where_the_account_or_the_purchase_can_not_be_read_all_that_it_may_be_are_held_back() {
        let (whole, back) = grouped(&[("1", "a"), ("1", "b"), ("!1", ""), ("2", "a")]);
        assert_eq!((whole, back.len()), (vec![("a".into(), vec![5])], 2));
        let (whole, back) = grouped(&[("1", "a"), ("2", "b"), ("!", "a"), ("3", "b"), ("4", "a")]);
        assert_eq!(whole, [("b".into(), vec![3]), ("b".into(), vec![5])], "every purchase of the account waits");
        assert!(back.len() == 2 && back[0].1.contains("line 4") && back[0].1.contains("all of this account wait"), "{back:?}");
        let (whole, back) = grouped(&[("1", "a"), ("2", "b"), ("!", ""), ("3", "a")]);
        assert!(whole.is_empty(), "it may be any purchase of the file");
        assert!(back.len() == 3 && back[0].1.contains("line 4") && back[0].1.contains("all of the file wait"), "{back:?}");
    }

    #[test]
    fn the_accounts_that_are_held_back_by_name_are_limited() {
        let accounts: Vec<String> = (0..=HELD_MAX).map(|n| format!("a{n}")).collect();
        let rows: Vec<(&str, &str)> = accounts.iter().map(|account| ("!", account.as_str())).chain([("1", "z")]).collect();
        let (whole, back) = grouped(&rows);
        assert!(whole.is_empty() && back.len() == 1 && back[0].1.contains("all of the file"), "{back:?}");
    }

    #[test]
    fn a_purchase_of_too_many_rows_is_not_gathered() {
        let rows = vec![("1", "a"); LINES_MAX + 3];
        let (whole, back) = grouped(&rows);
        assert!(whole.is_empty());
        assert_eq!(back.len(), rows.len());
        assert!(back[0].1.contains("more than 5000 rows"));
    }
}
