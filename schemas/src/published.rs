//! What shops publish: purchases and returns, with the account named as the shop knows it.

use std::sync::Arc;

use ledger_core::account::command::Action;
use ledger_core::id::Id;
use prost::Message;

use crate::decode::{purchase, purchase_return};
use crate::decode_error::DecodeError;
use crate::fields::{bad, id};
use crate::v1;

/// A purchase or return as it was published.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    /// The program.
    pub program: Id,
    /// Whose it is.
    pub whose: Whose,
    /// Its id, the idempotency key.
    pub id: Id,
    /// What it asks.
    pub action: Action,
}

/// How a shop names an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whose {
    /// By its id.
    Account(Id),
    /// By another name of it: the kind of name (`card`, `member`) and the name.
    Named(&'static str, String),
}

impl Whose {
    /// Of the three the one that is given; none, or more than one, is an error.
    ///
    /// # Errors
    /// [`DecodeError::Field`]
    pub fn one_of(account: &str, card: &str, member: &str) -> Result<Self, DecodeError> {
        match (account, card, member) {
            (account, "", "") if !account.is_empty() => Ok(Self::Account(id(account, "account_id")?)),
            ("", card, "") if !card.is_empty() => Ok(Self::Named("card", card.to_owned())),
            ("", "", member) if !member.is_empty() => Ok(Self::Named("member", member.to_owned())),
            _ => Err(bad("account_id, card or member: exactly one of them")),
        }
    }
}

impl Published {
    /// Reads the protobuf message with this full name, `loyalty.v1.Purchase` or `loyalty.v1.PurchaseReturn`.
    ///
    /// # Errors
    /// [`DecodeError`] naming the field that is wrong.
    pub fn decode(name: &str, bytes: &[u8]) -> Result<Self, DecodeError> {
        match name {
            "loyalty.v1.Purchase" => {
                let message = v1::Purchase::decode(bytes)?;
                let (program, whose) = (id(&message.program, "program")?, Whose::one_of(&message.account_id, &message.card, &message.member)?);
                let read = purchase(message)?;
                Ok(Self { program, whose, id: read.purchase_id.clone(), action: Action::Earn(Arc::new(read)) })
            }
            "loyalty.v1.PurchaseReturn" => {
                let message = v1::PurchaseReturn::decode(bytes)?;
                let (program, whose) = (id(&message.program, "program")?, Whose::one_of(&message.account_id, &message.card, &message.member)?);
                let return_id = id(&message.return_id, "return_id")?;
                Ok(Self { program, whose, id: return_id, action: Action::Return(Arc::new(purchase_return(message)?)) })
            }
            _ => Err(bad("message type: loyalty.v1.Purchase or loyalty.v1.PurchaseReturn")),
        }
    }
}
