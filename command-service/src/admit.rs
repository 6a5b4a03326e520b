//! What can be told of a command without the account. Whoever asks has it done on its own thread, so that the loop, which goes through all
//! commands one after the other, has less to do.

use ledger_core::account::Command;
use ledger_core::account::command::Action;
use ledger_core::id::{AccountKey, Id};
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
    require_names(&key, &command)?;
    command.check()?;
    let name = key.name();
    let id = command_key(&name, command.action.kind(), &command.id);
    let content = content_hash(&name, &command, &mut Vec::with_capacity(CONTENT_BYTES));
    Ok(Admitted { key, name, command, id, content })
}

/// Whether clients take it for a step in a path (RFC 3986, 5.2.4), so that what it names can't be asked for.
pub(crate) fn is_path_step(id: &Id) -> bool {
    matches!(id.as_str(), "." | "..")
}

pub(crate) const NO_STEP: &str = "an id other than . and .., which are steps in a path";

/// Refuses ids under which nothing could be found; books of before may have some.
fn require_names(key: &AccountKey, command: &Command) -> Result<(), Invalid> {
    let pointer = match command.action {
        Action::Earn(_) => "/purchase_id",
        Action::Redeem { .. } | Action::Hold { .. } => "/redemption_id",
        Action::Capture { .. } => "/capture_id",
        Action::Return(_) | Action::ReturnRedemption { .. } => "/return_id",
        Action::Refund(_) => "/refund_id",
        Action::Adjust { .. } => "/adjustment_id",
        _ => "/command_id",
    };
    let ids = [("/program", &key.program), ("/account_id", &key.account), (pointer, &command.id)];
    match ids.into_iter().find(|(_, id)| is_path_step(id)) {
        Some((pointer, id)) => Err(Invalid::new(pointer, id, NO_STEP)),
        None => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_is_a_step_in_a_path_is_refused() {
        let id = |text: &str| Id::parse(text).unwrap();
        let told = |account: &str, command: &str| {
            let key = AccountKey { program: id("p"), account: id(account) };
            admit(key, Command { id: id(command), actor: "till".into(), action: Action::Open }).err().map(|invalid| invalid.pointer)
        };
        assert_eq!((told("..", "c"), told("a", "."), told("a..", "c.")), (Some("/account_id".into()), Some("/command_id".into()), None));
    }
}
