"""An emulator's state as bytes: another one goes on with it, and nothing but state is loaded from it."""

from __future__ import annotations

import json
import os
import pickle
import random
from typing import Any

import pytest

from marketplace_emulator import Clock, Marketplace, Settings
from marketplace_emulator.snapshot import SnapshotError, dump, load

START = "2026-11-22T12:00:00Z"
METER = "AWSMPMeteringService.BatchMeterUsage"


def emulator(at: Any = START, **settings: Any) -> Marketplace:
    return Marketplace(Clock.frozen(at), Settings(**settings))


def usage(market: Marketplace, license_arn: str, quantity: int) -> str:
    record = {
        "Timestamp": market.clock.timestamp(),
        "CustomerAWSAccountId": "111122223333",
        "LicenseArn": license_arn,
        "Dimension": "api_calls",
        "Quantity": quantity,
    }
    answer = market.handle(METER, json.dumps({"UsageRecords": [record]}).encode())
    return str(answer.json()["Results"][0]["Status"])  # type: ignore[union-attr]


def test_another_emulator_goes_on_where_one_was() -> None:
    one = emulator(token_single_use=True, entitlement_delay_seconds=60)
    waits = one.purchases.subscribe("ca1contractandconsumption", "111122223333", entitlements={"seats": 5})
    runs = one.purchases.subscribe("ca2payasyougoproduct00000", "111122223333", provision=True)
    legacy = one.purchases.subscribe("legacysubscriptionproduct", "222233334444")
    one.purchases.request_cancellation(runs.id)
    token = one.registration_token(legacy.id)
    one.outbox.add_rules([{"do": "delay", "match": "License*", "seconds": 500}])
    one.faults.plan([{"operation": "GetEntitlements", "fault": "throttle", "times": 2}])
    assert usage(one, runs.license_arn, 5) == "Success"

    other = emulator(one.clock.timestamp())
    other.load(one.dump())

    assert other.settings == one.settings
    assert other.registry.describe(other.registry.get(waits.id), 0) == one.registry.describe(waits, 0)
    assert usage(other, runs.license_arn, 6) == "DuplicateRecord"  # what the first one has accepted is known
    assert [fault.as_dict() for fault in other.faults.planned()] == [fault.as_dict() for fault in one.faults.planned()]
    assert other.purchases.subscribe("ca2payasyougoproduct00000", "555566667777").id == "purchase-4"
    redeemed = other.handle("AWSMPMeteringService.ResolveCustomer", json.dumps({"RegistrationToken": token}).encode())
    assert redeemed.json()["CustomerAWSAccountId"] == "222233334444"  # type: ignore[union-attr]
    other.clock.advance(61)
    assert other.purchases.state(waits.id) == "active"
    other.clock.advance(60)
    assert other.purchases.get(waits.id).entitlements == {"seats": 5}
    names = [delivery.notification.name for delivery in other.outbox.deliveries()]
    other.clock.advance(1000)
    later = [delivery.notification.name for delivery in other.outbox.deliveries()][len(names) :]
    assert any(name.startswith("License Updated") for name in later)  # the rule's delay went on
    other.clock.advance(8 * 24 * 3600)
    assert other.purchases.state(runs.id) == "ended"
    assert one.purchases.state(waits.id) == "pending"  # the first one has heard nothing of it


class Evil:
    def __reduce__(self) -> Any:
        return os.getcwd, ()


class ByMethod:
    def __reduce__(self) -> Any:
        return getattr, (random.Random(1), "seed")  # noqa: S311 - an object to refuse


@pytest.mark.parametrize("content", [Evil(), ByMethod(), pickle.Unpickler, os.getcwd, [Evil()]])
def test_what_is_no_state_is_refused(content: Any) -> None:
    with pytest.raises(SnapshotError):
        load(dump(content, {}), {})


@pytest.mark.parametrize("data", [b"", b"x", dump({"a": 1}, {})[:-2], b"cos\nsystem\n(S'true'\ntR."])
def test_damaged_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(SnapshotError):
        load(data, {})


def test_a_purchase_may_name_its_licence() -> None:
    market = emulator()
    arn = "arn:aws:license-manager::294406891311:license:l-0123456789abcdef0123456789abcdef"

    assert market.purchases.subscribe(license_arn=arn).license_arn == arn
    with pytest.raises(Exception, match="there is a purchase with the licence"):
        market.purchases.subscribe(license_arn=arn)
    with pytest.raises(Exception, match="is not a licence ARN"):
        market.purchases.subscribe(license_arn="mine")
