//! What can be told of a command without the account. Whoever asks has it done on its own thread, so that the loop, which goes through all
//! commands one after the other, has less to do.

use ledger_core::account::Command;
use ledger_core::id::AccountKey;
use ledger_core::policy::Invalid;
use ledger_schemas::{Hash, content_hash};

use crate::request::{CommandKey, command_key};

/// More than most have.
const CONTENT_BYTES: usize = 256;

/// A command whose form is right.
pub(crate) struct Admitted {
    pub(crate) key: AccountKey,
    /// The key as it is written.
    pub(crate) name: String,
    pub(crate) command: Command,
    pub(crate) id: CommandKey,
    pub(crate) content: Hash,
}

/// Admits a command, or tells what is wrong with its form.
pub(crate) fn admit(key: AccountKey, command: Command) -> Result<Admitted, Invalid> {
    command.check()?;
    let name = key.name();
    let id = command_key(&name, command.action.kind(), &command.id);
    let content = content_hash(&name, &command, &mut Vec::with_capacity(CONTENT_BYTES));
    Ok(Admitted { key, name, command, id, content })
}
