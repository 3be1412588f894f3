"""A fault schedule of the whole deployment: subscriptions live by AWS's notifications, which come through the queues,
late, repeated, in another order or never; contracts end, renew, grow and shrink under the usage."""

import contextlib
import json
import random
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from marketplace.dynamodb import keys
from marketplace.dynamodb.table import Table
from marketplace.entitlements.terms import AWAITED_FOR
from marketplace.lifecycle.store import SubscriptionStore
from marketplace.platform.clock import DAY, HOUR, MINUTE
from marketplace.platform.errors import AwsError
from marketplace.subscriptions.identity import LegacyIdentity, LicenseIdentity
from marketplace.subscriptions.model import Subscription
from marketplace.subscriptions.waiting import WaitingItems
from marketplace_emulator import AdminError, Purchase
from marketplace_emulator import Settings as EmulatorSettings
from tests.faults.contracts import FOREVER, Shown, Silence, charges, terms_of
from tests.faults.invariant import MAPPED, Buyer, must
from tests.faults.resolutions import CARRYING
from tests.faults.schedule import Schedule, tick_after
from tests.support.deployment import METERING, QUEUES, READ_BACK, Deployment
from tests.support.parameters import REGIONS
from tests.support.world import Bus, Timeline, World

KINDS = {
    "report": 8,
    "repeat": 4,
    "void": 2,
    "meter": 3,
    "together": 5,
    "minutes": 5,
    "hours": 4,
    "outage": 1,
    "aws_fault": 3,
    "question_fault": 2,
    "empty_answers": 1,
    "store_fault": 2,
    "store_partial": 1,
    "index_lag": 1,
    "hurry": 1,
    "subscribe": 1,
    "grow": 3,
    "shrink": 1,
    "extend": 1,
    "lapse": 2,
    "suspend": 1,
    "unsuspend": 2,
    "cancel": 2,
    "late_usage": 5,
    "poison": 1,
    "refusal": 1,
    "mend": 1,
    "skew": 1,
    "foreign": 1,
    "region": 1,
}
CLOSING_TIME = 3
"""Actors at once in a queue: Lambda handles several messages side by side."""
RECONCILIATION = 7 * HOUR + 40 * MINUTE
"""Seconds after midnight (UTC) at which the daily reconciliation begins (template.yaml)."""
LATEST = DAY
QUESTIONS = ("GetEntitlements", "SearchAgreements", "GetAgreementEntitlements", "GetAgreementTerms")
QUESTION_FAULTS = ("throttle", "internal_error", "unavailable", "timeout_before", "timeout_after", "access_denied")


class LifecycleSchedule(Schedule):
    """Plays steps in a deployment. `fates` decides how each notification travels."""

    world: Deployment
    timed = True
    voids_included = False  # what may be charged is judged by the usage in the order of its booking

    def _world(self, dynamodb: Any, time: Timeline, settings: EmulatorSettings) -> World:
        self.fates = random.Random(f"fates-{self.seed}")  # noqa: S311 - repeatable, not secret
        settings.update(
            {
                "pending_license": self.fates.choice(("not_subscribed", "invalid_license")),
                "entitlement_delay_seconds": self.fates.choice((0, 0, 240)),
                "deprovision_delay_seconds": self.fates.choice((31, 31, 3 * HOUR)),
                "closing_window": self.fates.choice(
                    ("after_later", "after_later", "after_ended", "until_deprovisioned")
                ),
                "usage_after_end": self.fates.choice(("accept", "invalid_license")),
                "renewal_events": self.fates.choice(("created_and_license", "license_only")),
                "event_license_form": self.fates.choice(("arn", "document")),
                "empty_pages": self.fates.choice((0, 0, 1)),
            }
        )
        self.lateness = self.fates.choice((0.0, 0.2, 0.5))
        self.running = self.draining = False
        self.reconciled = 0
        self.lapsing: dict[str, int] = {}
        self.extended: set[str] = set()
        self.outages: list[tuple[int, int]] = []
        self.silent_since: dict[str, int] = {}
        self.silences: dict[str, list[Silence]] = {}
        return Deployment.on(
            dynamodb,
            time=time,
            settings=settings,
            wrap=self._observed,
            bus=Bus(),
            parameters=self.parameters,
            calls_per_second=self.parameters.MeteringCallsPerSecond,
            overage_dimensions={MAPPED: "seats"} if self.parameters.OverageDimensions else {},
            fate=self._fate,
        )

    def _begin(self, dice: random.Random, start: int) -> None:
        self.buyers = []
        products = [product.code for product in self.world.marketplace.registry.products.values()]
        for number in range(dice.randint(1, 3)):
            self._buy(dice, products[number % len(products)])
        self.running = True
        self._pass_to(start + 10 * MINUTE)

    def _buy(self, dice: random.Random, product: str) -> None:
        contract = product == MAPPED[0]
        now = self.world.time.emulator.timestamp()
        purchase = self.world.marketplace.purchases.subscribe(
            product,
            f"{100000000000 + len(self.buyers)}",
            entitlements={"seats": dice.choice((1, 3, 20, 2500))} if contract else None,
            auto_renew=contract and (self.harmless or dice.random() < 0.7),
            end=now + dice.choice((3, 5, 9, 26, 300)) * HOUR + dice.choice((0, 61, 1800)) if contract else None,
        )
        if contract and not purchase.agreement.auto_renew:
            self.kinds.add("close")  # by itself, at the end of its term
        subscription = Subscription(
            id=_identity(purchase).subscription_id,
            integration=purchase.product.integration,
            product_code=product,
            license_arn=None if purchase.is_legacy else purchase.license_arn,
            customer_identifier=purchase.customer_identifier if purchase.is_legacy else None,
            account_id=purchase.account_id,
            status="pending",
        )
        self.buyers.append(Buyer(purchase, subscription))
        if self.parameters.HeartbeatDimension not in purchase.product.dimensions:
            self.ever_refused.add((subscription.id, self.parameters.HeartbeatDimension))
        self.world.time.advance(dice.choice((0, 30, 90)))
        for crash in (None, 0.0):
            self._act(dice, lambda: self._registration(purchase), crash=crash)

    def _registration(self, purchase: Purchase) -> None:
        with contextlib.suppress(AwsError):
            self.world.register(purchase)

    # -- notifications and queues -------------------------------------------------------------------------

    def _fate(self, notification: Any) -> Sequence[float]:
        """Now; in at most a day; twice; or never."""
        dice = self.fates
        if notification.purchase_id in self.lapsing:
            return self._late_renewal(notification)
        if dice.random() >= self.lateness:
            return (0,)
        late = dice.choice((70, 20 * MINUTE, 61 * MINUTE, 2 * HOUR, dice.randrange(LATEST)))
        return dice.choice(((late,), (late,), (0, late), (0, 0), ()))

    def _late_renewal(self, notification: Any) -> Sequence[float]:
        """The agreement has expired, is said first, and later that it was renewed."""
        if "Ended" in notification.name:
            notification.body["detail"]["agreement"]["status"] = "EXPIRED"
            return (0,)
        if "Created" in notification.name:
            return (self.lapsing[notification.purchase_id],)
        if "License Updated" in notification.name:
            return (self.lapsing.pop(notification.purchase_id),)
        return (0,)

    def _pass_to(self, moment: int) -> None:
        """Time passes; what comes to the queues meanwhile is handled when it comes."""
        while self.running and (event := self._next_event()) is not None and event < moment:
            super()._pass_to(max(self.world.time.seconds(), int(event) + 1))
            self._pump()
        super()._pass_to(moment)
        if self.running:
            self._pump()

    def _next_event(self) -> float | None:
        self.world.take_news()
        event = self.world.next_event()
        return None if event is None else event + self.world.time.skew

    def _pump(self, crash: float | None = None) -> None:
        """Handles what the queues hold, several messages at once."""
        for _ in range(500):
            self.world.take_news()
            work = self._messages(CLOSING_TIME)
            if not work:
                return
            self._act(self.fates, *work, crash=crash)
        raise AssertionError("the queues never empty")

    def _messages(self, most: int) -> list[Callable[[], None]]:
        found: list[Callable[[], None]] = []
        for queue in QUEUES:
            while len(found) < most and (record := self.world.sqs.receive(queue)) is not None:
                work = self._final_run if queue == METERING else self.world.handle
                found.append(partial(work, queue, record))
        return found

    def _final_run(self, queue: str, record: dict[str, Any]) -> None:
        """MeterUsage started by a message: it comes back when AWS or DynamoDB did not work."""
        self._meter_once()
        if not self.run_failed:
            self.world.sqs.delete(queue, record["receiptHandle"])

    def _business(self, dice: random.Random) -> list[Callable[[], None]]:
        buyer = dice.choice(self.buyers)
        self.world.take_news()
        return [*self._messages(CLOSING_TIME), lambda: self._retry(buyer)]

    def _meter_once(self, time_for_calls: int | None = None) -> None:
        super()._meter_once(time_for_calls)
        if not self.draining:
            with contextlib.suppress(AwsError):
                self.world.fill_heartbeat()

    def _timers(self, dice: random.Random, crash: float | None = None) -> None:
        """The daily reconciliation, and whatever the queues hold."""
        now = int(self.world.time.emulator.timestamp())
        day = (now - RECONCILIATION) // DAY
        if day > self.reconciled:
            self.reconciled = day
            self.world.sqs.arrive(READ_BACK, json.dumps({"marketplace_request": "reconcile"}), now)
        self._pump(crash)

    def _urgent(self) -> bool:
        return False

    def _next_tick(self) -> int:
        now = self.world.time.seconds()
        daily = (now - RECONCILIATION) // DAY * DAY + DAY + RECONCILIATION
        return min(super()._next_tick(), tick_after(daily))

    # -- the steps ----------------------------------------------------------------------------------------

    def _outage(self, dice: random.Random) -> None:
        self.running = False
        began = self.world.time.seconds()
        super()._outage(dice)
        if self.outages and began - self.outages[-1][1] < MINUTE:
            began, _ = self.outages.pop()  # nothing was read between the two
        self.outages.append((began, self.world.time.seconds()))
        self.running = True

    def _question_fault(self, dice: random.Random) -> None:
        """AWS doesn't answer what it is asked about contracts and agreements, for a while."""
        fault = {"operation": dice.choice(QUESTIONS), "fault": dice.choice(QUESTION_FAULTS)}
        self.world.marketplace.faults.plan([{**fault, "times": dice.choice((1, 3, 12))}])

    def _empty_answers(self, dice: random.Random) -> None:
        """From now on, or no more, GetEntitlements lists nothing of one buyer whose entitlements were read before."""
        read = {item["pk"] for item in self.world.subscription_items() if "terms" in item}
        buyer = dice.choice(self.buyers)
        if f"SUB#{buyer.subscription.id}" in read:
            self._silence(buyer.purchase.license_arn)

    def _silence(self, license_arn: str) -> None:
        now = self.world.time.seconds()
        since = self.silent_since.pop(license_arn, None)
        if since is None:
            self.silent_since[license_arn] = now
        else:
            self.silences.setdefault(license_arn, []).append(Silence(since, now))
        self.world.silent ^= {license_arn}

    def _subscribe(self, dice: random.Random) -> None:
        products = list(self.world.marketplace.registry.products)
        self._buy(dice, dice.choice(products))

    def _contract(self, dice: random.Random) -> Purchase | None:
        contracts = [
            buyer.purchase
            for buyer in self.buyers
            if buyer.purchase.product.code == MAPPED[0] and buyer.purchase.ended_at is None
        ]
        return dice.choice(contracts) if contracts else None

    def _amend(self, dice: random.Random, seats: Callable[[int], int]) -> None:
        purchase = self._contract(dice)
        if purchase is not None:
            bought = int(purchase.agreement.entitlements["seats"])
            self._amended(purchase, entitlements={"seats": seats(bought)})

    def _amended(self, purchase: Purchase, **changes: Any) -> None:
        # The contract may end at this very moment.
        with contextlib.suppress(AdminError):
            self.world.marketplace.purchases.amend(purchase.id, **changes)

    def _grow(self, dice: random.Random) -> None:
        self._amend(dice, lambda seats: seats + dice.choice((1, 5, 1000)))

    def _shrink(self, dice: random.Random) -> None:
        self._amend(dice, lambda seats: seats // 2)

    def _extend(self, dice: random.Random) -> None:
        """The end of a running term moves."""
        purchase = self._contract(dice)
        if purchase is not None and purchase.agreement.ends_at is not None:
            self.extended.add(purchase.id)
            self._amended(purchase, end=purchase.agreement.ends_at + dice.choice((1, DAY)))

    def _lapse(self, dice: random.Random) -> None:
        """A contract is renewed, but the news is first that it has expired; that it goes on comes later."""
        purchase = self._contract(dice)
        if purchase is None or purchase.provisioned_at is None or not purchase.agreement.auto_renew:
            return
        late = dice.choice((0, 30 * MINUTE, 2 * HOUR, 5 * HOUR))
        self.lapsing[purchase.id] = late

    def _cancel(self, dice: random.Random) -> None:
        purchase = dice.choice(self.buyers).purchase
        with contextlib.suppress(AdminError):
            self.world.marketplace.purchases.cancel(purchase.id)

    def _late_usage(self, dice: random.Random) -> None:
        """Usage from shortly before and after the start of each term of a contract."""
        purchase = self._contract(dice)
        if purchase is None:
            return
        now = self.world.time.seconds()
        starts = [int(agreement.starts_at) for agreement in purchase.agreements]
        moments = [
            start + offset for start in starts for offset in (-600, -1, 0, 1, 600) if now - DAY < start + offset <= now
        ]
        buyer = next(one for one in self.buyers if one.purchase is purchase)
        records = [
            self.world.usage(buyer.subscription, dice.choice((1, 2, 50)), dimension=MAPPED[1], at=moment)
            for moment in dice.sample(moments, min(4, len(moments)))
        ]
        if records:
            self._act(dice, lambda: self._submit(records))

    def _unsuspend(self, dice: random.Random) -> None:
        """AWS sends no notification about it."""
        self.world.marketplace.purchases.unsuspend(dice.choice(self.buyers).purchase.account_id)

    def _region(self, dice: random.Random) -> None:
        self.world.region = dice.choice(REGIONS)

    # -- the end ------------------------------------------------------------------------------------------

    def drain(self) -> None:
        self.draining = True
        self.lateness = 0.0
        for license_arn in list(self.silent_since):
            self._silence(license_arn)
        self.world.region = self.parameters.MeteringRegion
        for buyer in self.buyers:
            self.world.marketplace.purchases.unsuspend(buyer.purchase.account_id)
        self.world.sqs.redrive()
        super().drain()

    def check(self) -> None:
        super().check()
        must(not self.resolutions.unpublished(), "what was resolved stays in an outbox")
        self._check_waiting()
        for buyer in self.buyers:
            self._check_terms(buyer)

    def _check_waiting(self) -> None:
        """The gauge shows every pending subscription, and nobody else."""
        table = Table(self.world.dynamodb, self.world.tables.subscriptions)
        shown = {keys.subscription_id_of(one.key.pk) for one in WaitingItems(table).all("registration")}
        for buyer in self.buyers:
            stored = SubscriptionStore(table).read(buyer.subscription.id)
            status = None if stored is None else stored.subscription.status
            waits = buyer.subscription.id in shown
            must(waits == (status == "pending"), f"{buyer.subscription.id} is {status}; shown as waiting: {waits}")

    def _check_terms(self, buyer: Buyer) -> None:
        """No term includes more than AWS granted for it, and none was charged for what a good reading showed. What
        carries a conflict's missing units counts against no term."""
        if buyer.purchase.product.code != MAPPED[0] or not self.parameters.OverageDimensions:
            return
        moments = {
            (record["subscription_id"], record["id"]): datetime.fromisoformat(record["timestamp"]).timestamp()
            for record in self.sent
            if record["dimension"] == MAPPED[1]
        }
        records = [
            (moments[place], record)
            for place, record in self._usage_table()[0].items()
            if place[0] == buyer.subscription.id
            and record["dimension"] == MAPPED[1]
            and not place[1].startswith(CARRYING)
        ]
        terms = terms_of(buyer.purchase, "seats")
        # AWS shows what holds now: of a term that began and ended while nothing ran, nobody can know.
        read = self._terms_read(buyer)
        unseen = any(
            began <= term.until <= end and (began <= term.starts_at or term.until not in read)
            for term in terms
            for began, end in self.outages
        )
        silences = self.silences.get(buyer.purchase.license_arn, [])
        # Of a licence of which nothing was listed for so long, the product believes it.
        unknowable = unseen or any(silence.seconds >= AWAITED_FOR for silence in silences)
        ended_at, expires_at = buyer.purchase.ended_at, buyer.purchase.agreement.ends_at
        expired = FOREVER if ended_at is None or expires_at is None else expires_at
        shown = Shown(self.parameters.max_age + MINUTE, ended_at, silences, expired)
        included = 0
        for term, charged in charges(terms, records, shown):
            where = f"{buyer.subscription.id}, term from {term.starts_at} until {term.until}"
            counted = charged.included + charged.corrected
            included += counted
            if buyer.purchase.id not in self.extended and not self.clocks_stepped:
                must(counted <= term.largest, f"{where} includes {counted} of {term.largest}")
            if not self.clocks_stepped and not unknowable:
                most = charged.may_be_charged
                must(charged.charged <= most, f"{where}: {charged.charged} units are charged, {most} at most may be")
                stays, most = charged.charged - charged.corrected, charged.may_stay_charged
                must(stays <= most, f"{where}: {stays} units stay charged, {most} at most may")
            known = buyer.purchase.ended_at is None and not self.clocks_stepped and not unknowable
            if known and buyer.purchase.id not in self.extended and charged.first >= term.settled_at:
                least, most = (max(0, charged.usage - limit) for limit in (term.largest, term.last))
                stays = charged.charged - charged.corrected
                must(least <= stays <= most, f"{where}: {stays} units stay charged, {least} to {most} are right")
        # A clock that is hours wrong takes a renewal for an upgrade, so only the sum can be judged.
        granted = sum(term.largest for term in terms)
        if buyer.purchase.id not in self.extended:
            must(included <= granted, f"{buyer.subscription.id} includes {included} of {granted}")

    def _terms_read(self, buyer: Buyer) -> set[float]:
        """The ends of the contract's terms that the product has read."""
        place = keys.entitlement(buyer.subscription.id, "seats")
        stored = [item for item in self.world.subscription_items() if (item["pk"], item["sk"]) == place]
        return {term["first_end"] for item in stored for term in item.get("terms", ()) if "first_end" in term}


def _identity(purchase: Purchase) -> LicenseIdentity | LegacyIdentity:
    if purchase.is_legacy:
        return LegacyIdentity(purchase.product.code, purchase.customer_identifier)
    return LicenseIdentity(purchase.license_arn)
