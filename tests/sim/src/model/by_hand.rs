//! What people change by hand: adjustments, alone and by two; and refunds without a purchase.

use serde_json::Value;

use super::{At, Deed, Lot, Model, Status};
use crate::plan::MINUTE_US;
use crate::rules::{expiry, in_force};

impl Model {
    /// What takes two people.
    pub(super) fn by_two(&mut self, deed: &Deed, now_us: i64, rules: &Value) -> Result<(), &'static str> {
        self.open_or()?;
        match deed {
            Deed::Propose { .. } if self.proposals.len() == 32 => return Err("too_many_proposals"),
            Deed::Propose { id, maker, points } => self.proposals.push((id.clone(), maker, *points)),
            Deed::Approve { proposal, checker } => {
                let i = self.proposal(proposal)?;
                let (_, maker, points) = self.proposals[i].clone();
                if maker == *checker {
                    return Err("approval_by_maker");
                }
                self.adjust(points, now_us, rules)?;
                self.proposals.remove(i);
            }
            Deed::Decline { proposal } => {
                let i = self.proposal(proposal)?;
                self.proposals.remove(i);
            }
            _ => {}
        }
        Ok(())
    }

    fn proposal(&self, id: &str) -> Result<usize, &'static str> {
        self.proposals.iter().position(|(other, ..)| other == id).ok_or("proposal_not_found")
    }

    pub(super) fn adjust(&mut self, points: i64, now_us: i64, rules: &Value) -> Result<(), &'static str> {
        self.open_or()?;
        if points > 0 {
            let expires_us = expiry(rules, now_us, self.last_activity_us.max(now_us));
            let moves = rules["expiry"]["mode"] == "inactivity";
            self.give(points, now_us, Lot { purchase: None, earned_us: now_us, matures_us: now_us, expires_us, is_pending: false, moves });
            self.pay(now_us, None);
        } else if -points > self.count(|point| point.at == At::Available) {
            return Err("insufficient_points");
        } else {
            self.take(-points, &At::Gone, 0);
        }
        Ok(())
    }

    /// It takes no points and no tier, and is no activity.
    pub(super) fn refund(&mut self, occurred_us: i64, thousandths: i64, now_us: i64, rules: &[Value]) -> Result<(), &'static str> {
        let current = &rules[in_force(rules, now_us).unwrap_or(0)];
        if self.status == Status::Unopened && current["accounts"]["open_on_earn"] == false {
            return Err("account_not_found");
        }
        let us = occurred_us.min(now_us);
        let version = in_force(rules, us).ok_or("no_rulebook_in_force")?;
        if self.status == Status::Closed {
            return Err("account_closed");
        }
        if occurred_us > now_us + 5 * MINUTE_US {
            return Err("occurred_in_future");
        }
        if thousandths % 10 != 0 {
            return Err("amount_too_fine");
        }
        if rules[version]["return"]["unmatched"] != "reduce_spend" {
            return Err("refund_unmatched");
        }
        if self.status == Status::Unopened {
            self.open(us, current);
        }
        Ok(())
    }
}
