"""Buys, returns, redeems and reads with a client that is generated from the API's description, and prints what was answered."""

import importlib
import json
import pkgutil
import sys
from datetime import datetime

import loyalty_client
from loyalty_client import AuthenticatedClient, Client
from loyalty_client.api.accounts import get_account
from loyalty_client.api.liability import get_trial_balance
from loyalty_client.api.programs import list_programs
from loyalty_client.api.purchases import earn_purchase
from loyalty_client.api.redemptions import redeem_points
from loyalty_client.api.returns import return_purchase
from loyalty_client.models import (
    Accepted,
    AccountView,
    Basis,
    LineBody,
    Problem,
    PurchaseBody,
    RedemptionBody,
    ReturnBody,
    ReturnLineBody,
    TrialBalance,
)

PROGRAM = "shop"


def answered(kind, answer):
    """The answer, which is of this kind."""
    assert isinstance(answer, kind), answer
    return answer


def moment(text):
    return datetime.fromisoformat(text)


def main(base_url, key, account):
    for module in pkgutil.walk_packages(loyalty_client.__path__, "loyalty_client."):
        importlib.import_module(module.name)
    client = AuthenticatedClient(base_url=base_url, token=key)

    line = LineBody(line_id="1", sku="A", quantity="2", unit_price="150.00")
    purchase = PurchaseBody(
        purchase_id=f"{account}-P",
        account_id=account,
        occurred_at=moment("2010-02-01T12:00:00+00:00"),
        currency="GBP",
        lines=[line],
    )
    bought = answered(Accepted, earn_purchase.sync(PROGRAM, client=client, body=purchase))
    goods = ReturnBody(
        return_id=f"{account}-T",
        account_id=account,
        purchase_id=f"{account}-P",
        occurred_at=moment("2010-02-20T12:00:00+00:00"),
        lines=[ReturnLineBody(line_id="1", quantity="1")],
    )
    returned = answered(Accepted, return_purchase.sync(PROGRAM, client=client, body=goods))

    def redeem(id, points):
        body = RedemptionBody(redemption_id=f"{account}-{id}", account_id=account, points=points)
        return redeem_points.sync(PROGRAM, client=client, body=body)

    redeemed = answered(Accepted, redeem("R", 100))
    refused = answered(Problem, redeem("X", 1000))
    read = answered(AccountView, get_account.sync(PROGRAM, account, client=client, min_position=redeemed.position))
    books = answered(
        TrialBalance,
        get_trial_balance.sync(PROGRAM, client=client, min_position=redeemed.position, basis=Basis.BOOKED),
    )
    unknown = answered(Problem, list_programs.sync(client=Client(base_url=base_url)))
    told = {
        "earned": bought.points.earned,
        "clawed_back": returned.points.clawed_back,
        "redeemed": redeemed.points.redeemed,
        "event": redeemed.events[0].type_,
        "refused": refused.code,
        "unknown": unknown.code,
        "status": read.status,
        "qualifying": read.tier.qualifying,
        "since": read.tier.since.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "available": read.balance.available,
        "buckets": [held.bucket for held in books.buckets if held.points != 0],
        "sum": books.sum_,
    }
    print(json.dumps(told))


main(*sys.argv[1:])
