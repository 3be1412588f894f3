"""A month of a plausible seller, made the way it would have come about: purchases on AWS Marketplace, registrations and
claims, usage reported to the seller API, and the clock that moves through it all.
"""

import math
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.client import HTTPConnection
from typing import Any
from urllib.parse import parse_qs, urlencode, urljoin, urlsplit

from local.console.api import Api, ApiError
from local.options import StackError
from local.stack import Stack
from local.ticks import HOUR

DAYS = 30
STEP = 12 * HOUR
"""The usage of so many seconds is reported at a time, and metered by the first run after it."""
QUEUED_EVERY = 10 * 24 * HOUR
"""Schedules that put a message into a queue (reconciliation) are played so often: each costs a message a customer."""
PER_REQUEST = 500
BUSY_HOURS = (8, 11, 14, 17)
"""When the customers' batches run on working days; at QUIET_HOUR there is a smaller one every day."""
QUIET_HOUR = 2


@dataclass(frozen=True)
class Customer:
    """One buyer: when they come and go (days from the start), and how much they use in a busy hour, by dimension."""

    tenant: str
    account: str
    product: str
    uses: Mapping[str, int]
    comes: float
    leaves: float | None = None
    seats: int | None = None
    more_seats: tuple[float, int] | None = None
    registers: bool = True
    tags: tuple[str, ...] = ()


@dataclass
class _Bought:
    customer: Customer
    purchase_id: str
    subscription_id: str | None = None
    left: bool = False
    upgraded: bool = False
    usage: dict[str, float] = field(default_factory=dict)


PAY_AS_YOU_GO, CONTRACT, LEGACY = (
    "ca2payasyougoproduct00000",
    "ca1contractandconsumption",
    "legacysubscriptionproduct",
)
CUSTOMERS = (
    Customer("acme", "111111111111", PAY_AS_YOU_GO, {"api_calls": 900}, 0, tags=("search", "shop")),
    Customer("globex", "222222222222", CONTRACT, {"api_calls": 400}, 1, seats=25, more_seats=(15, 40)),
    Customer("initech", "333333333333", PAY_AS_YOU_GO, {"api_calls": 150}, 3, leaves=21),
    Customer("hooli", "444444444444", LEGACY, {"emails": 60}, 5),
    Customer("umbrella", "555555555555", PAY_AS_YOU_GO, {"api_calls": 300}, 18, tags=("lab",)),
    Customer("wonka", "666666666666", CONTRACT, {}, 29.5, seats=5, registers=False),
)


def play(stack: Stack, say: Callable[[str], object]) -> None:
    """Set the clock back by a month and play it, up to the present. `say` is told how far it is.

    Raises StackError when there is something already, or when the API refuses a call.
    """
    if stack.marketplace.registry.purchases:
        raise StackError("--demo begins with nothing; there are purchases already")
    end = stack.clock.timestamp()
    start = end - DAYS * 24 * HOUR
    stack.clock.set(start, force=True)
    stack.schedules.spacing = {
        one.name: STEP if one.function is not None else QUEUED_EVERY for one in stack.deployment.schedules
    }
    try:
        _Month(stack, start).play(end, say)
    except ApiError as error:
        raise StackError(f"the demo could not be played: {error}") from error
    finally:
        stack.schedules.spacing = {}


class _Month:
    def __init__(self, stack: Stack, start: float) -> None:
        self._stack = stack
        self._start = start
        self._api = Api(stack.api_url)
        self._random = random.Random(2026)  # noqa: S311 - the same month every time
        self._bought: dict[str, _Bought] = {}

    def play(self, end: float, say: Callable[[str], object]) -> None:
        step, records = self._start, 0
        say(f"Playing a month: {self._date(self._start)} to {self._date(end)}")
        while step < end:
            following = min(step + STEP, end)
            for moment in sorted({at for at in self._moments() if step < at <= following} | {following}):
                self._stack.clock.set(max(moment, self._stack.clock.timestamp()))
                self._act(moment)
            records += self._report(step, following)
            step = following
            if (step - self._start) % (5 * 24 * HOUR) < STEP:
                say(f"{self._date(step)}: {len(self._bought)} customers, {records:,} usage records")
        bill = sum(line.amount for line in self._stack.marketplace.ledger.bill())
        say(f"{len(self._bought)} customers, {records:,} usage records, ${bill:,.2f} on the bill")

    @staticmethod
    def _date(moment: float) -> str:
        return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d}"

    def _moments(self) -> Iterator[float]:
        """When a customer does something."""
        for one in CUSTOMERS:
            days = (one.comes, one.comes + 0.01, one.leaves, one.more_seats[0] if one.more_seats else None)
            yield from (self._start + day * 24 * HOUR for day in days if day is not None)

    def _act(self, now: float) -> None:
        day = (now - self._start) / (24 * HOUR)
        purchases = self._stack.marketplace.purchases
        for one in CUSTOMERS:
            bought = self._bought.get(one.tenant)
            if bought is None and day >= one.comes:
                granted: dict[str, Any] | None = {"seats": one.seats} if one.seats else None
                made = purchases.subscribe(one.product, account_id=one.account, entitlements=granted)
                self._bought[one.tenant] = _Bought(one, made.id)
            elif bought is not None and bought.subscription_id is None and one.registers:
                bought.subscription_id = self._register(bought)
            elif bought is not None and one.more_seats and not bought.upgraded and day >= one.more_seats[0]:
                purchases.amend(bought.purchase_id, entitlements={"seats": one.more_seats[1]})
                bought.upgraded = True
            elif bought is not None and one.leaves and not bought.left and day >= one.leaves:
                purchases.cancel(bought.purchase_id)
                bought.left = True

    def _register(self, bought: _Bought) -> str:
        """The buyer's browser brings the token, and the seller's application claims the registration."""
        token = self._stack.marketplace.registration_token(bought.purchase_id)
        location = self._browser(self._stack.deployment.fulfilment_path, {"x-amzn-marketplace-token": token})
        url = urlsplit(urljoin(self._stack.marketplace.settings.fulfilment_url, location))
        code = parse_qs(url.query).get("registration", [url.path.rpartition("/")[2]])[0]
        tenant = bought.customer.tenant
        if not url.query:
            self._browser(url.path, {"email": f"owner@{tenant}.example", "company": tenant.capitalize()})
        claimed = self._api.post(f"/registrations/{code}/claim", {"tenant_id": tenant})
        return str(claimed["subscription_id"])

    def _browser(self, path: str, form: Mapping[str, str]) -> str:
        """Post a form, and answer where it leads."""
        connection = HTTPConnection(urlsplit(self._stack.api_url).netloc, timeout=60)
        headers = {"content-type": "application/x-www-form-urlencoded", "host": urlsplit(self._stack.api_url).netloc}
        try:
            connection.request("POST", path, urlencode(form), headers)
            answer = connection.getresponse()
            answer.read()
        finally:
            connection.close()
        if answer.status != 303:
            raise ApiError(f"{path} answered {answer.status}")
        return answer.headers["location"]

    def _report(self, start: float, end: float) -> int:
        """Report what all customers used between two moments; answers how many records that were."""
        records = [record for bought in self._bought.values() for record in self._used(bought, start, end)]
        for first in range(0, len(records), PER_REQUEST):
            answer = self._api.post("/usage", {"records": records[first : first + PER_REQUEST]})
            for result in answer["results"]:
                if result["status"] != "recorded" and result.get("reason") not in ("ended", "not_active"):
                    raise ApiError(f"{result['id']} is {result['status']}: {result.get('reason')}")
        return len(records)

    def _used(self, bought: _Bought, start: float, end: float) -> Iterator[dict[str, Any]]:
        """The records of one customer: one for each busy hour, dimension and tag."""
        if bought.subscription_id is None or bought.left:
            return
        hour = math.ceil(start / HOUR) * HOUR
        while hour < end:
            at = datetime.fromtimestamp(hour, UTC)
            busy = at.hour in BUSY_HOURS and at.weekday() < 5
            if busy or at.hour == QUIET_HOUR:
                for dimension, most in bought.customer.uses.items():
                    for tag in bought.customer.tags or ("",):
                        quantity = int(most * (1 if busy else 0.1) * self._random.uniform(0.5, 1.2)) + 1
                        record = {
                            "id": f"{at:%Y-%m-%dT%H}/{bought.customer.tenant}/{dimension}/{tag or 'all'}",
                            "subscription_id": bought.subscription_id,
                            "dimension": dimension,
                            "quantity": quantity,
                            "timestamp": f"{at:%Y-%m-%dT%H:%M:%SZ}",
                        }
                        yield record | ({"tags": {"team": tag}} if tag else {})
            hour += HOUR
