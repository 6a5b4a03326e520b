//! From bytes to the core's types.

use std::sync::Arc;

use ledger_core::account::command::{Action, Line, Origin, Purchase, Reason, Refund, Return, Returned};
use ledger_core::account::event::{Lot, Part, Proposal, Refunded, Reversed, RunPoints, Spent, TierCause, TierMove};
use ledger_core::account::qualifying::Qualifying;
use ledger_core::account::state::Status;
use ledger_core::account::{Command, EventKind};
use ledger_core::id::{AccountKey, Alias};
use ledger_core::policy::{Paid, PointValue};
use prost::Message;

use crate::closing::Closing;
use crate::decode_error::Decoded;
use crate::fields::{amount, bad, check_version, fingerprint, fixed_hash, id, moment, month, optional_amount, optional_moment};
use crate::record::{EditionEntered, Outcome, ProgramChange, ProgramEntry};
use crate::v1;

impl Outcome {
    /// Reads an outcome.
    ///
    /// # Errors
    /// [`crate::DecodeError`] for anything but a whole outcome of a schema that this program knows.
    pub fn decode(bytes: &[u8]) -> Decoded<Self> {
        let message = v1::Outcome::decode(bytes)?;
        check_version(message.schema_version)?;
        let command = message.command.ok_or_else(|| bad("command"))?;
        Ok(Self {
            key: AccountKey { program: id(&message.program, "program")?, account: id(&message.account, "account")? },
            command: self::command(command)?,
            recorded_at: moment(message.recorded_at_us, "recorded_at_us")?,
            number: u8::try_from(message.number).map_err(|_| bad("number"))?,
            code: message.code,
            detail: message.detail,
        })
    }
}

impl ProgramEntry {
    /// Reads an entry of the program stream.
    ///
    /// # Errors
    /// [`crate::DecodeError`] for anything but a whole entry of a schema that this program knows.
    pub fn decode(bytes: &[u8]) -> Decoded<Self> {
        let message = v1::ProgramEntry::decode(bytes)?;
        check_version(message.schema_version)?;
        let program = || id(&message.program, "program");
        let change = match message.kind.ok_or_else(|| bad("kind"))? {
            v1::program_entry::Kind::RulebookPublished(published) => {
                ProgramChange::RulebookPublished { program: program()?, version: published.version, rulebook: published.rulebook }
            }
            v1::program_entry::Kind::ClockSet(set) => ProgramChange::ClockSet { program: program()?, now: moment(set.now_us, "now_us")? },
            v1::program_entry::Kind::EditionEntered(entered) => ProgramChange::EditionEntered(edition_entered(entered)?),
            v1::program_entry::Kind::AliasKeyNamed(named) => ProgramChange::AliasKeyNamed(fingerprint(&named.fingerprint)?),
            v1::program_entry::Kind::ClosingProposed(proposed) => {
                ProgramChange::ClosingProposed { program: program()?, closing: Box::new(Closing::decode(proposed)?) }
            }
            v1::program_entry::Kind::PeriodClosed(closed) => {
                ProgramChange::PeriodClosed { program: program()?, period: month(&closed.period, "period")?, proposed_in: closed.proposed_in }
            }
        };
        Ok(Self { recorded_at: moment(message.recorded_at_us, "recorded_at_us")?, actor: message.actor.into(), change })
    }
}

fn edition_entered(entered: v1::EditionEntered) -> Decoded<EditionEntered> {
    let mut first_positions = Vec::with_capacity(entered.first_positions.len());
    for (partition, first) in (0..).zip(entered.first_positions) {
        if first.partition != partition {
            return Err(bad("first_positions.partition"));
        }
        first_positions.push(first.position);
    }
    Ok(EditionEntered { edition: entered.edition, time_zones: entered.time_zones, cel: entered.cel, first_positions })
}

pub(crate) fn command(command: v1::Command) -> Decoded<Command> {
    Ok(Command { id: id(&command.id, "command.id")?, actor: command.actor.into(), action: action(command.action.ok_or_else(|| bad("command.action"))?)? })
}

fn reason(reason: v1::Reason) -> Reason {
    Reason { code: reason.code.into(), note: reason.note }
}

fn action(action: v1::command::Action) -> Decoded<Action> {
    use v1::command::Action as Wire;
    Ok(match action {
        Wire::Open(_) => Action::Open,
        Wire::Activate(_) => Action::Activate,
        Wire::Freeze(why) => Action::Freeze(reason(why)),
        Wire::Unfreeze(why) => Action::Unfreeze(reason(why)),
        Wire::Close(why) => Action::Close(reason(why)),
        Wire::Earn(body) => Action::Earn(Arc::new(purchase(body)?)),
        Wire::Redeem(redeem) => Action::Redeem { points: redeem.points, occurred_at: optional_moment(redeem.occurred_at_us, "occurred_at_us")? },
        Wire::Hold(hold) => Action::Hold { points: hold.points, minutes: hold.minutes, occurred_at: optional_moment(hold.occurred_at_us, "occurred_at_us")? },
        Wire::Capture(capture) => Action::Capture { redemption: id(&capture.redemption, "redemption")?, points: capture.points },
        Wire::Release(release) => Action::Release { redemption: id(&release.redemption, "redemption")? },
        Wire::ReturnRedemption(given) => Action::ReturnRedemption { redemption: id(&given.redemption, "redemption")?, points: given.points },
        Wire::Return(body) => Action::Return(Arc::new(purchase_return(body)?)),
        Wire::Refund(body) => Action::Refund(Box::new(refund(body)?)),
        Wire::Adjust(adjust) => Action::Adjust { points: adjust.points, reason: reason(adjust.reason.ok_or_else(|| bad("reason"))?) },
        Wire::Propose(adjust) => Action::Propose { points: adjust.points, reason: reason(adjust.reason.ok_or_else(|| bad("reason"))?) },
        Wire::Approve(approval) => Action::Approve { proposal: id(&approval.proposal, "proposal")? },
        Wire::Decline(decline) => {
            Action::Decline { proposal: id(&decline.proposal, "proposal")?, reason: reason(decline.reason.ok_or_else(|| bad("reason"))?) }
        }
        Wire::Expire(_) => Action::Expire,
        Wire::AddAlias(alias) => Action::AddAlias(Alias(fixed_hash(&alias.hash, "alias")?)),
        Wire::RemoveAlias(alias) => Action::RemoveAlias(Alias(fixed_hash(&alias.hash, "alias")?)),
    })
}

pub(crate) fn purchase(purchase: v1::Purchase) -> Decoded<Purchase> {
    Ok(Purchase {
        purchase_id: id(&purchase.purchase_id, "purchase_id")?,
        occurred_at: moment(purchase.occurred_at_us, "occurred_at_us")?,
        currency: purchase.currency.into(),
        channel: purchase.channel.into(),
        store: purchase.store.into(),
        lines: purchase.lines.into_iter().map(line).collect::<Decoded<_>>()?,
        shipping: amount(purchase.shipping, "shipping")?,
        origin: purchase.origin.map(|origin| {
            let v1::Origin { cashier, till, device, card_token } = origin;
            Box::new(Origin { cashier: cashier.into(), till: till.into(), device: device.into(), card_token: card_token.into() })
        }),
    })
}

fn line(line: v1::Line) -> Decoded<Line> {
    Ok(Line {
        line_id: id(&line.line_id, "line_id")?,
        sku: line.sku.into(),
        category: line.category.into(),
        quantity: amount(line.quantity, "quantity")?,
        unit_price: amount(line.unit_price, "unit_price")?,
        discount: amount(line.discount, "discount")?,
        tax: amount(line.tax, "tax")?,
        amount: optional_amount(line.amount, "line.amount")?,
    })
}

pub(crate) fn purchase_return(body: v1::PurchaseReturn) -> Decoded<Return> {
    let what = match body.amount {
        Some(given) => Returned::Amount(amount(Some(given), "amount")?),
        None => {
            let line = |line: v1::ReturnLine| Ok((id(&line.line_id, "line_id")?, amount(line.quantity, "quantity")?));
            Returned::Lines(body.lines.into_iter().map(line).collect::<Decoded<_>>()?)
        }
    };
    let purchase_id = id(&body.purchase_id, "purchase_id")?;
    let (occurred_at, shipping) = (moment(body.occurred_at_us, "occurred_at_us")?, optional_amount(body.shipping, "shipping")?);
    Ok(Return { purchase_id, occurred_at, what, shipping })
}

fn refund(body: v1::Refund) -> Decoded<Refund> {
    Ok(Refund { occurred_at: moment(body.occurred_at_us, "occurred_at_us")?, amount: amount(body.amount, "amount")?, reference: body.reference.into() })
}

/// What happened in an event, by the generated types; those that are read elsewhere have no place here.
pub(crate) fn rare_event(bytes: &[u8]) -> Decoded<EventKind> {
    use v1::event::Kind;
    Ok(match v1::Event::decode(bytes)?.kind.ok_or_else(|| bad("event.kind"))? {
        Kind::AccountOpened(opened) => EventKind::AccountOpened { pending: opened.pending, tier: opened.tier.into() },
        Kind::AccountActivated(_) => EventKind::AccountActivated,
        Kind::AccountFrozen(why) => EventKind::AccountFrozen(reason(why)),
        Kind::AccountUnfrozen(unfrozen) => EventKind::AccountUnfrozen {
            status: Status::parse(&unfrozen.status).ok_or_else(|| bad("status"))?,
            reason: reason(unfrozen.reason.ok_or_else(|| bad("reason"))?),
        },
        Kind::AccountClosed(why) => EventKind::AccountClosed(reason(why)),
        Kind::AccountLapsed(_) => EventKind::AccountLapsed,
        Kind::AccountWoken(_) => EventKind::AccountWoken,
        Kind::AliasAdded(alias) => EventKind::AliasAdded(Alias(fixed_hash(&alias.hash, "alias")?)),
        Kind::AliasRemoved(alias) => EventKind::AliasRemoved(Alias(fixed_hash(&alias.hash, "alias")?)),
        Kind::PointsMatured(matured) => EventKind::PointsMatured { lot: matured.lot, points: matured.points },
        Kind::PointsHeld(held) => EventKind::PointsHeld {
            redemption: id(&held.redemption, "redemption")?,
            parts: parts(held.parts),
            lapses_at: moment(held.lapses_at_us, "lapses_at_us")?,
        },
        Kind::HoldCaptured(given) => EventKind::HoldCaptured(spent(given)?),
        Kind::HoldReleased(released) => {
            EventKind::HoldReleased { redemption: id(&released.redemption, "redemption")?, parts: parts(released.parts), lapsed: released.lapsed }
        }
        Kind::RedemptionReturned(returned) => EventKind::RedemptionReturned {
            return_id: id(&returned.return_id, "return_id")?,
            redemption: id(&returned.redemption, "redemption")?,
            parts: parts(returned.parts),
            value: returned.value.map(|value| amount(Some(value), "value")).transpose()?,
        },
        Kind::PurchaseReturned(returned) => EventKind::PurchaseReturned(Box::new(purchase_returned(returned)?)),
        Kind::RefundBooked(booked) => {
            EventKind::RefundBooked { refund: id(&booked.refund, "refund")?, body: Box::new(refund(booked.body.ok_or_else(|| bad("body"))?)?) }
        }
        Kind::ExpiryMoved(moved) => EventKind::ExpiryMoved { expires_at: moment(moved.expires_at_us, "expires_at_us")? },
        Kind::PointsAdded(added) => EventKind::PointsAdded {
            adjustment: id(&added.adjustment, "adjustment")?,
            lot: lot(&added.lot.ok_or_else(|| bad("lot"))?)?,
            rule_version: added.rule_version,
            reason: reason(added.reason.ok_or_else(|| bad("reason"))?),
        },
        Kind::PointsTaken(taken) => EventKind::PointsTaken {
            adjustment: id(&taken.adjustment, "adjustment")?,
            parts: parts(taken.parts),
            reason: reason(taken.reason.ok_or_else(|| bad("reason"))?),
        },
        Kind::AdjustmentProposed(asked) => EventKind::AdjustmentProposed(Box::new(Proposal {
            proposal: id(&asked.proposal, "proposal")?,
            maker: asked.maker.into(),
            points: asked.points,
            reason: reason(asked.reason.ok_or_else(|| bad("reason"))?),
        })),
        Kind::AdjustmentApproved(approval) => EventKind::AdjustmentApproved { proposal: id(&approval.proposal, "proposal")? },
        Kind::AdjustmentDeclined(decline) => {
            EventKind::AdjustmentDeclined { proposal: id(&decline.proposal, "proposal")?, reason: reason(decline.reason.ok_or_else(|| bad("reason"))?) }
        }
        Kind::DebtPaid(paid) => EventKind::DebtPaid { parts: parts(paid.parts), owed: paid.owed },
        Kind::PointsForfeited(forfeited) => EventKind::PointsForfeited { parts: parts(forfeited.parts) },
        Kind::TierChanged(moved) => EventKind::TierChanged(tier_move(moved)?),
        Kind::TierKept(moved) => EventKind::TierKept(tier_move(moved)?),
        Kind::PointsEarned(_) | Kind::PointsRedeemed(_) | Kind::PointsExpired(_) => return Err(bad("event.kind")),
    })
}

fn part(part: &v1::Part) -> Part {
    Part { lot: part.lot, points: part.points, pending: part.pending }
}

fn parts(parts: Vec<v1::Part>) -> Vec<Part> {
    parts.iter().map(part).collect()
}

fn lot(lot: &v1::Lot) -> Decoded<Lot> {
    Ok(Lot {
        lot: lot.lot,
        points: lot.points,
        available_at: moment(lot.available_at_us, "available_at_us")?,
        expires_at: optional_moment(lot.expires_at_us, "expires_at_us")?,
        expiry_moves: lot.expiry_moves,
    })
}

fn spent(spent: v1::Spent) -> Decoded<Spent> {
    Ok(Spent {
        redemption: id(&spent.redemption, "redemption")?,
        parts: parts(spent.parts),
        value: amount(spent.value, "value")?,
        return_until: moment(spent.return_until_us, "return_until_us")?,
        rate: spent.rate.map(point_value).transpose()?,
    })
}

fn point_value(value: v1::PointValue) -> Decoded<PointValue> {
    Ok(PointValue { points: value.points, amount: amount(value.amount, "amount")? })
}

fn purchase_returned(returned: v1::PurchaseReturned) -> Decoded<Reversed> {
    Ok(Reversed {
        return_id: id(&returned.return_id, "return_id")?,
        body: Arc::new(purchase_return(returned.body.ok_or_else(|| bad("body"))?)?),
        points: returned.points,
        uncapped_points: returned.uncapped_points,
        day_points: returned.day_points,
        parts: parts(returned.parts),
        expired: returned.expired,
        shortfall: returned.shortfall,
        owed: returned.owed,
        qualifying: amount(returned.qualifying, "qualifying")?,
        paid_by: returned.paid_by.into_iter().map(paid).collect::<Decoded<_>>()?,
        counted: returned.counted.map(counted).transpose()?,
        day_points_by_run: returned.day_points_by_run.into_iter().map(|run| RunPoints { first_seq: run.first_seq, points: run.points }).collect(),
        refunded: returned.refunded.map(refunded).transpose()?,
    })
}

fn counted(counted: v1::Qualifying) -> Decoded<Qualifying> {
    Ok(Qualifying { points: counted.points, spend: amount(counted.spend, "counted.spend")?, purchases: counted.purchases })
}

fn refunded(refunded: v1::Refunded) -> Decoded<Refunded> {
    let (goods, shipping) = (amount(refunded.goods, "refunded.goods")?, amount(refunded.shipping, "refunded.shipping")?);
    Ok(Refunded { goods, shipping, all_goods: refunded.all_goods })
}

fn paid(paid: v1::Paid) -> Decoded<Paid> {
    Ok(Paid { lot: paid.lot, payer: id(&paid.payer, "payer")?, points: paid.points })
}

fn tier_move(moved: v1::TierMove) -> Decoded<TierMove> {
    let cause = match moved.cause() {
        v1::TierCause::Earned => TierCause::Earned,
        v1::TierCause::Returned => TierCause::Returned,
        v1::TierCause::Review => TierCause::Review,
        v1::TierCause::Unspecified => return Err(bad("cause")),
    };
    Ok(TierMove {
        qualifying: amount(moved.qualifying, "qualifying")?,
        earned: moved.earned,
        counted_from: optional_moment(moved.counted_from_us, "counted_from_us")?,
        review_at: optional_moment(moved.review_at_us, "review_at_us")?,
        counted: moved.counted.map(counted).transpose()?,
        from: moved.from.into(),
        to: moved.to.into(),
        cause,
    })
}
