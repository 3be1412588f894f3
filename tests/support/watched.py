"""A seller's deployment whose metrics are watched, a quarter of an hour after the other."""

import io
from typing import Any

import pytest

from marketplace.platform.clock import HOUR, MINUTE
from marketplace_emulator import Purchase
from tests.support.alarms import Emitted, emitted, in_periods_of, is_raised
from tests.support.roles import FUNCTIONS
from tests.support.seller_days import PAY_AS_YOU_GO, Seller

QUARTER = 15 * MINUTE


class Watched:
    """A seller's deployment, and the metrics of each quarter of an hour."""

    def __init__(self, seller: Seller, capture: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.seller, self.patch = seller, monkeypatch
        self.time, self.faults = seller.time, seller.world.marketplace.faults
        self.quarters: list[list[Emitted]] = []
        self.log = io.StringIO()
        monkeypatch.setattr(FUNCTIONS["EntitlementCheckFunction"].logger.registered_handler, "stream", self.log)
        self._capture = capture
        seller.after_quarter = self.look

    def look(self) -> None:
        self.quarters.append(emitted(self._capture.readouterr().out))

    def raised(self, alarm: str) -> bool:
        return is_raised(alarm, in_periods_of(alarm, self.quarters))

    def buyer(self, account_id: str = "111122223333", product: str = PAY_AS_YOU_GO, **terms: Any) -> Purchase:
        return self.seller.purchases.subscribe(product, account_id, provision=True, **terms)

    def with_usage(self, account_id: str = "111122223333", dimension: str = "api_calls") -> str:
        """A buyer's usage, a minute before it is due."""
        subscription = self.seller.signs_up(self.buyer(account_id))
        self.seller.reports(subscription, 7, dimension=dimension)
        self.time.advance(HOUR + 9 * MINUTE)
        return subscription

    def runs(self, quarters: int = 1) -> None:
        self.seller.wait(quarters * QUARTER)
