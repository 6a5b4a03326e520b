//! The first pass on disk: the rows of a purchase come together, wherever they stand in the file.
//!
//! Invariant: a purchase comes whole or not at all. A row that can't be read holds back every purchase that it may belong to, so that the
//! corrected file ends as if it had been correct at first.

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

/// So many accounts of one purchase id are held back by name; more, and all are.
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
    /// The purchase and the account of the row before.
    last: Option<(Id, Id)>,
    /// The last row before the next whose purchase can't be told, with the accounts that it may belong to; any, if there are none.
    unknown: Option<(u64, Vec<Id>)>,
    row: PhantomData<T>,
}

const UNREADABLE: u8 = 0;
const ROW: u8 = 1;

impl<T: Serialize + DeserializeOwned> Grouper<T> {
    /// Its temporary files lie in `folder`.
    pub fn new(folder: &Path) -> Self {
        Self { rows: Sorter::new(folder), last: None, unknown: None, row: PhantomData }
    }

    /// A row of `purchase`.
    pub fn row(&mut self, purchase: Id, account: Id, line: u64, row: &T) -> anyhow::Result<()> {
        if let Some((unreadable, accounts)) = self.unknown.take()
            && (accounts.is_empty() || accounts.contains(&account))
        {
            self.hold(&purchase, Some(&account), unreadable)?;
        }
        let value = postcard::to_extend(row, vec![ROW])?;
        self.rows.push(key(&purchase, account.as_str(), line), value)?;
        self.last = Some((purchase, account));
        Ok(())
    }

    /// A row that can't be read, of one of `purchases` and `accounts`; of any account if none is named. Where no purchase is, it may belong to
    /// those of the rows beside it.
    pub fn unreadable(&mut self, line: u64, purchases: &[Id], accounts: &[Id]) -> anyhow::Result<()> {
        for purchase in purchases {
            for account in accounts {
                self.hold(purchase, Some(account), line)?;
            }
            if accounts.is_empty() {
                self.hold(purchase, None, line)?;
            }
        }
        if !purchases.is_empty() {
            return Ok(());
        }
        if let Some((purchase, account)) = self.last.clone()
            && (accounts.is_empty() || accounts.contains(&account))
        {
            self.hold(&purchase, Some(&account), line)?;
        }
        let same = self.unknown.as_ref().is_none_or(|(_, before)| before == accounts);
        self.unknown = Some((line, if same { accounts.to_vec() } else { Vec::new() }));
        Ok(())
    }

    fn hold(&mut self, purchase: &Id, account: Option<&Id>, line: u64) -> anyhow::Result<()> {
        let mut value = vec![UNREADABLE];
        value.extend_from_slice(account.map_or("", Id::as_str).as_bytes());
        // No account has an empty id, so these come before the rows.
        Ok(self.rows.push(key(purchase, "", line), value)?)
    }

    /// Gives each purchase, and each row that is held back, to `each`, in no order that means anything.
    pub fn groups(self, mut each: impl FnMut(Grouped<T>) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let mut open: Option<Open<T>> = None;
        let mut held = Held::default();
        for entry in self.rows.sorted()? {
            let (key, value) = entry?;
            let (purchase, account, line) = parts(&key).context("a temporary file was damaged")?;
            if open.as_ref().is_some_and(|open| open.purchase.as_str() != purchase || open.account.as_str() != account) {
                open.take().into_iter().try_for_each(|open| open.close(&held, &mut each))?;
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
        open.into_iter().try_for_each(|open| open.close(&held, &mut each))
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

    fn close(self, held: &Held, each: &mut impl FnMut(Grouped<T>) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let Some(by) = held.by(&self.account) else {
            return if self.rows.is_empty() { Ok(()) } else { each(Grouped::Purchase(self.purchase, self.account, self.rows)) };
        };
        self.rows.into_iter().try_for_each(|(line, row)| each(Grouped::HeldBack(self.account.clone(), line, row, Fault::beside(by))))
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
            let ids = |text: &str| Id::parse(text).into_iter().collect::<Vec<_>>();
            match (*purchase).strip_prefix('!') {
                Some(purchase) => grouper.unreadable(line, &ids(purchase), &ids(account)).unwrap(),
                None => grouper.row(id(purchase), id(account), line, &line).unwrap(),
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
        let (whole, back) = grouped(&[("1", "a"), ("2", "a"), ("!", ""), ("3", "a"), ("4", "a")]);
        assert_eq!(whole, [("a".into(), vec![2]), ("a".into(), vec![6])]);
        assert_eq!(back.len(), 2, "its neighbours");
        let (whole, _) = grouped(&[("1", "a"), ("!", "b"), ("2", "b")]);
        assert_eq!(whole, [("a".into(), vec![2])], "whose account is another's");
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
