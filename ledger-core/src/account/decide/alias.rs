//! Aliases: other names by which an account can be found, such as its cards.

use super::life::one_event;
use super::{Context, Decision, require_open};
use crate::account::event::EventKind;
use crate::account::rejection::Rejection;
use crate::account::state::Account;
use crate::id::Alias;

/// How many an account may have.
const ALIASES_MAX: usize = 32;

pub(super) fn add(account: &Account, alias: Alias, context: &Context<'_>) -> Result<Decision, Rejection> {
    require_open(account)?;
    if account.aliases.contains(&alias) {
        return Err(Rejection::AliasExists);
    }
    if account.aliases.len() >= ALIASES_MAX {
        return Err(Rejection::TooManyAliases { most: ALIASES_MAX });
    }
    one_event(account, EventKind::AliasAdded(alias), context)
}

pub(super) fn remove(account: &Account, alias: Alias, context: &Context<'_>) -> Result<Decision, Rejection> {
    require_open(account)?;
    if !account.aliases.contains(&alias) {
        return Err(Rejection::AliasNotFound);
    }
    one_event(account, EventKind::AliasRemoved(alias), context)
}
