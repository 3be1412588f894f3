"""AWS Marketplace in memory: no sockets, one lock, the clock injected. The server and tests both drive this."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from threading import Condition, RLock
from typing import Any

from marketplace_emulator.agenda import Agenda
from marketplace_emulator.agreements import AgreementService
from marketplace_emulator.catalog import Product, default_products, parse_product
from marketplace_emulator.clock import Clock, iso_millis, parse_time
from marketplace_emulator.entitlements import EntitlementService
from marketplace_emulator.errors import AdminError, ServiceError
from marketplace_emulator.events import Announcer
from marketplace_emulator.faults import AFTERWARDS, Fault, Faults, denied, refusal, throttled
from marketplace_emulator.ids import Ids
from marketplace_emulator.ledger import Ledger, Line, MeteringRecord, lines
from marketplace_emulator.metering import Meter
from marketplace_emulator.outbox import Delivery, Outbox, Rule, parse_rule
from marketplace_emulator.purchases import Agreement, Entitlements, Purchase, Registry, purchase_dict
from marketplace_emulator.settings import Settings
from marketplace_emulator.throttle import Buckets
from marketplace_emulator.tokens import Tokens
from marketplace_emulator.wire import (
    TARGETS,
    Answer,
    Drop,
    Reply,
    failure,
    parse_body,
    success,
)

CALLS_KEPT = 1000
BODY_KEPT = 16_384
ONE_REGION = "us-east-1"
METERING_OPERATIONS = frozenset({"ResolveCustomer", "BatchMeterUsage"})

type Moment = str | float | datetime


@dataclass(frozen=True, slots=True)
class Call:
    """One call of an AWS API, as the call log keeps it."""

    seq: int
    at: float
    operation: str
    region: str
    outcome: str
    fault: str
    records: int
    body: bytes

    def as_dict(self) -> dict[str, Any]:
        """The form of `GET /admin/calls`."""
        return {
            "seq": self.seq,
            "at": iso_millis(self.at),
            "operation": self.operation,
            "region": self.region,
            "outcome": self.outcome,
            "fault": self.fault,
            "records": self.records,
        }


@dataclass(slots=True)
class _Request:
    operation: str
    target: str
    body: bytes
    region: str
    now: float
    id: str
    fault: Fault | None = None


class Marketplace:
    """The emulator: what buyers do, what sellers call, and the bill that comes of it.

    `Marketplace()` follows real time, has three products and no rate limit. Thread-safe.
    """

    def __init__(
        self,
        clock: Clock | None = None,
        settings: Settings | None = None,
        products: list[Product] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.clock = clock or Clock()
        self.settings = settings or Settings()
        self.lock = RLock()
        self.changed = Condition(self.lock)
        self._monotonic = monotonic
        self._products = products if products is not None else default_products()
        self.generation = 0
        self._start()

    def _start(self) -> None:
        settings = self.settings
        self._ids = Ids(settings.seed)
        self._agenda = Agenda()
        self.outbox = Outbox(self._agenda, self.changed)
        self.announcer = Announcer(settings, self._ids, self.outbox, self.clock.timestamp)
        self.registry = Registry(
            settings=settings,
            ids=self._ids,
            agenda=self._agenda,
            announcer=self.announcer,
            now=self.clock.timestamp,
        )
        self.registry.products = {item.code: item for item in self._products}
        self.tokens = Tokens()
        self.bill_book = Ledger()
        self.faults = Faults()
        self._buckets = Buckets(self._monotonic)
        self._meter = Meter(settings=settings, registry=self.registry, ledger=self.bill_book, new_id=self._ids.uuid)
        self._entitlements = EntitlementService(settings, self.registry)
        agreements = AgreementService(self.registry, self._agreement_token)
        self._operations: dict[str, Callable[[_Request, dict[str, Any]], dict[str, Any]]] = {
            "ResolveCustomer": self._resolve_customer,
            "BatchMeterUsage": self._batch_meter_usage,
            "GetEntitlements": lambda _, data: self._entitlements.get_entitlements(data),
            "SearchAgreements": lambda _, data: agreements.search_agreements(data),
            "DescribeAgreement": lambda _, data: agreements.describe_agreement(data),
            "GetAgreementTerms": lambda _, data: agreements.get_agreement_terms(data),
            "GetAgreementEntitlements": lambda request, data: agreements.get_agreement_entitlements(data, request.now),
        }
        self._calls: deque[Call] = deque(maxlen=CALLS_KEPT)
        self._call_count = 0

    def reset(self) -> None:
        """Forget purchases, bill, notifications, faults and calls; keep clock, settings and products."""
        with self.lock:
            self.generation += 1
            self._start()

    # -- what sellers call --------------------------------------------------------------------------------

    def handle(self, target: str, body: bytes, region: str = ONE_REGION) -> Answer:
        """Answer one AWS call. `target` is the X-Amz-Target header, `region` the one the call was signed for."""
        with self.lock:
            now = self.clock.timestamp()
            self._agenda.run_due(now)
            request = _Request(TARGETS.get(target, ""), target, body, region, now, self._ids.uuid())
            try:
                return self._answer(request)
            except ServiceError as error:
                self._log(request, error.code)
                return failure(target, request.id, error)

    def _answer(self, request: "_Request") -> Answer:
        operation = request.operation
        if not operation:
            raise ServiceError("UnknownOperationException", f"There is no operation {request.target!r} here", 404)
        if request.region != ONE_REGION and operation not in METERING_OPERATIONS:
            self._log(request, "no endpoint in this region")
            return Drop(accepted=False)
        fault = request.fault = self.faults.next(operation, request.region)
        afterwards = fault is not None and fault.fault in AFTERWARDS
        if fault is not None and not afterwards:
            instead = self._instead(fault, operation)
            if instead is not None:
                self._log(request, instead.kind if isinstance(instead, Drop) else str(instead.status))
                return instead
        self._admit(operation, request.region)
        answer = self._operations[operation](request, parse_body(request.body))
        self._log(request, "ok", len(answer.get("Results", ())) + len(answer.get("UnprocessedRecords", ())))
        reply = success(request.target, request.id, answer)
        return self._afterwards(fault, request, reply) if fault is not None and afterwards else reply

    def _admit(self, operation: str, region: str) -> None:
        settings = self.settings
        if operation in settings.access_denied:
            raise denied(operation)
        rates = {"BatchMeterUsage": settings.metering_rate, "GetEntitlements": settings.entitlement_rate}
        if not self._buckets.take(operation, region, rates.get(operation)):
            raise throttled(operation)
        regions = settings.metering_regions
        if regions is not None and operation in METERING_OPERATIONS and region not in regions:
            raise ServiceError("DisabledApiException", f"The API is disabled in {region}.")

    def _resolve_customer(self, request: "_Request", data: dict[str, Any]) -> dict[str, Any]:
        """Source: ResolveCustomer API reference; new integrations get no CustomerIdentifier."""
        now = request.now
        value = data.get("RegistrationToken")
        if value is None or value == "":
            raise ServiceError("ValidationException", "RegistrationToken is required")
        if not isinstance(value, str):
            raise ServiceError("SerializationException", "RegistrationToken is not a string")
        token = self.tokens.redeem(value, now, single_use=self.settings.token_single_use)
        purchase = self.registry.purchases[token.purchase_id]
        if purchase.registered_at is None:
            purchase.registered_at = now
        self.outbox.registered(purchase.id)
        answer: dict[str, Any] = {
            "CustomerIdentifier": purchase.customer_identifier,
            "ProductCode": purchase.product.code,
            "CustomerAWSAccountId": purchase.account_id,
        }
        if not purchase.is_legacy:
            answer["LicenseArn"] = purchase.license_arn
            if self.settings.resolve_metadata:
                answer["Metadata"] = {"AgreementId": purchase.agreement_id}
        return answer

    def _batch_meter_usage(self, request: "_Request", data: dict[str, Any]) -> dict[str, Any]:
        fault = request.fault
        results: list[dict[str, Any]] = []
        unprocessed: list[dict[str, Any]] = []
        for index, record in enumerate(self._meter.check(data, len(request.body), request.now)):
            struck = fault.fault if fault is not None and fault.strikes(index) else ""
            if struck == "unprocessed":
                unprocessed.append(record.raw)
                continue
            if struck == "omit":
                continue
            forced = _FORCED.get(struck)
            if forced:
                results.append({"UsageRecord": record.raw, "Status": forced})
                continue
            status, accepted = self._meter.book(record, request.region, request.now)
            if struck == "unprocessed_after":
                unprocessed.append(record.raw)
            elif struck != "omit_after":
                result: dict[str, Any] = {"UsageRecord": record.raw, "Status": status}
                if accepted is not None:
                    result["MeteringRecordId"] = accepted.id
                results.append(result)
        return {"Results": results, "UnprocessedRecords": unprocessed}

    def _instead(self, fault: Fault, operation: str) -> Answer | None:
        match fault.fault:
            case "drop_before":
                return Drop(accepted=False)
            case "timeout_before":
                return Drop(accepted=False, kind="timeout", seconds=self._hang(fault))
            case "unavailable":
                body = b"<html><body><h1>503 Service Unavailable</h1></body></html>"
                return Reply(503, {"Content-Type": "text/html"}, body)
        error = refusal(fault, operation)
        if error is not None:
            raise error
        return None

    def _afterwards(self, fault: Fault, request: "_Request", reply: Reply) -> Answer:
        match fault.fault:
            case "drop_after":
                return Drop(accepted=True)
            case "timeout_after":
                return Drop(accepted=True, kind="timeout", seconds=self._hang(fault))
            case "truncate":
                return Reply(reply.status, reply.headers, reply.body, truncated=True)
            case "slow":
                return Reply(reply.status, reply.headers, reply.body, delay_seconds=self._hang(fault))
            case "malformed":
                return Reply(200, reply.headers, b'{"Results": [')
        error = refusal(fault, request.operation)
        return failure(request.target, request.id, error) if error else reply

    def _hang(self, fault: Fault) -> float:
        return fault.seconds if fault.seconds is not None else self.settings.hang_seconds

    def _log(self, request: "_Request", outcome: str, records: int = 0) -> None:
        self._call_count += 1
        self._calls.append(
            Call(
                seq=self._call_count,
                at=request.now,
                operation=request.operation or request.target,
                region=request.region,
                outcome=outcome,
                fault=request.fault.fault if request.fault else "",
                records=records,
                body=request.body if len(request.body) <= BODY_KEPT else b"",
            )
        )

    # -- what buyers do -----------------------------------------------------------------------------------

    def subscribe(
        self,
        product_code: str | None = None,
        account_id: str = "111122223333",
        *,
        entitlements: Entitlements | None = None,
        free_trial_days: int | None = None,
        auto_renew: bool = False,
        start: Moment | None = None,
        end: Moment | None = None,
        reseller: bool = False,
        provision: bool = False,
    ) -> Purchase:
        """Buy a product (the first one by default). The licence is issued `license_delay_seconds` (61) later by
        the clock, as on AWS, or at once with `provision`; before that its usage is answered CustomerNotSubscribed.
        """
        with self._acting():
            purchase = self.registry.subscribe(
                product_code or next(iter(self.registry.products)),
                account_id,
                entitlements=entitlements,
                free_trial_days=free_trial_days,
                auto_renew=auto_renew,
                start=_seconds(start),
                end=_seconds(end),
                reseller=reseller,
            )
            if provision:
                self.registry.provision(purchase)
            self._agenda.run_due(self.clock.timestamp())
            return purchase

    def purchase(self, purchase_id: str) -> Purchase:
        """A purchase by its id, licence ARN, licence id or agreement id."""
        with self._acting():
            return self.registry.get(purchase_id)

    def purchases(self) -> list[Purchase]:
        """All purchases, oldest first."""
        with self._acting():
            return list(self.registry.purchases.values())

    def state(self, purchase_id: str) -> str:
        """`scheduled`, `pending`, `active`, `closing`, `ended` or `failed`."""
        with self._acting() as now:
            return self.registry.state(self.registry.get(purchase_id), now)

    def describe(self, purchase_id: str) -> dict[str, Any]:
        """A purchase as the admin API shows it."""
        with self._acting() as now:
            return purchase_dict(self.registry, self.registry.get(purchase_id), now)

    def provision(self, purchase_id: str) -> None:
        """Issue the licence now instead of waiting."""
        with self._acting():
            self.registry.provision(self.registry.get(purchase_id))

    def amend(
        self,
        purchase_id: str,
        *,
        entitlements: Entitlements | None = None,
        auto_renew: bool | None = None,
        end: Moment | None = None,
    ) -> Agreement:
        """Upgrade or otherwise change the agreement in force: Amended, then License Updated."""
        with self._acting():
            return self.registry.amend(
                self.registry.get(purchase_id), entitlements=entitlements, auto_renew=auto_renew, end=_seconds(end)
            )

    def renew(
        self, purchase_id: str, *, entitlements: Entitlements | None = None, end: Moment | None = None
    ) -> Agreement:
        """Renew: Created with intent RENEW, Ended with RENEWED, License Updated; the licence stays."""
        with self._acting():
            return self.registry.renew(self.registry.get(purchase_id), entitlements=entitlements, end=_seconds(end))

    def replace(
        self,
        purchase_id: str,
        *,
        entitlements: Entitlements | None = None,
        end: Moment | None = None,
        new_license: bool = False,
    ) -> Purchase:
        """Replace the agreement by one from another offer, under the same licence or a new one."""
        with self._acting():
            return self.registry.replace(
                self.registry.get(purchase_id), entitlements=entitlements, end=_seconds(end), new_license=new_license
            )

    def cancel(self, purchase_id: str) -> None:
        """The buyer cancels: Ended now, License Deprovisioned `deprovision_delay_seconds` (31) later."""
        with self._acting():
            self.registry.cancel(self.registry.get(purchase_id))

    def expire(self, purchase_id: str) -> None:
        """The agreement ends without renewal."""
        with self._acting():
            self.registry.expire(self.registry.get(purchase_id))

    def terminate(self, purchase_id: str) -> None:
        """AWS ends the agreement."""
        with self._acting():
            self.registry.terminate(self.registry.get(purchase_id))

    def fail(self, purchase_id: str, reason: str = "INVALID_PAYMENT_INSTRUMENT") -> None:
        """The subscription fails before its licence is issued."""
        with self._acting():
            self.registry.fail(self.registry.get(purchase_id), reason)

    def suspend(self, account_id: str) -> None:
        """Suspend a buyer's AWS account."""
        with self._acting():
            self.registry.suspend(account_id)

    def unsuspend(self, account_id: str) -> None:
        """Lift the suspension."""
        with self._acting():
            self.registry.unsuspend(account_id)

    def request_cancellation(self, purchase_id: str) -> None:
        """The seller asks for a cancellation; approved by itself after seven days."""
        with self._acting():
            self.registry.request_cancellation(self.registry.get(purchase_id))

    def answer_cancellation(self, purchase_id: str, outcome: str = "Approved") -> None:
        """`Approved`, `Rejected`, `Cancelled` or `Validation Failed`."""
        with self._acting():
            self.registry.answer_cancellation(self.registry.get(purchase_id), outcome)

    def advisory(self, purchase_id: str, outcome: str = "Issued", reason: str = "ACCOUNT_COMPROMISED") -> None:
        """Announce an advisory about the buyer, `Issued` or `Resolved`."""
        with self._acting() as now:
            self.announcer.advisory(self.registry.get(purchase_id), outcome, reason, now)

    def announce(
        self, detail_type: str, *, purchase_id: str | None = None, detail: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Send any EventBridge event, known or not."""
        with self._acting():
            purchase = self.registry.get(purchase_id) if purchase_id else None
            return self.announcer.custom(purchase, detail_type, detail).as_dict()

    def announce_sns(self, purchase_id: str, action: str, **members: str) -> dict[str, Any]:
        """Send any SNS action for a legacy purchase."""
        with self._acting():
            return self.announcer.custom_sns(self.registry.get(purchase_id), action, members).as_dict()

    def registration_token(self, purchase_id: str, *, lifetime: float | None = None) -> str:
        """The token the buyer's browser brings to the seller's fulfilment URL."""
        with self._acting() as now:
            purchase = self.registry.get(purchase_id)
            self.outbox.sent_to_register(purchase.id)
            seconds = lifetime if lifetime is not None else self.settings.token_lifetime_seconds
            return self.tokens.add(self._ids.token(), purchase.id, now + seconds).value

    def _agreement_token(self, purchase: Purchase) -> str:
        lifetime = self.settings.agreement_token_lifetime_seconds
        return self.tokens.add(self._ids.token(), purchase.id, self.clock.timestamp() + lifetime).value

    def add_product(self, product: Product | dict[str, Any]) -> Product:
        """List another product, or change one that has the same code: its buyers have the new dimensions at once, but
        for those of another integration, who stay with what they bought."""
        with self.lock:
            parsed = product if isinstance(product, Product) else parse_product(product)
            self._products = [item for item in self._products if item.code != parsed.code] + [parsed]
            self.registry.products[parsed.code] = parsed
            for purchase in self.registry.by_product.get(parsed.code, []):
                if purchase.product.integration == parsed.integration:
                    purchase.product = parsed
            return parsed

    def products(self) -> list[Product]:
        """The products listed."""
        with self.lock:
            return list(self.registry.products.values())

    # -- what came of it ----------------------------------------------------------------------------------

    def ledger(
        self,
        *,
        license: str | None = None,  # noqa: A002  the word of the admin API
        dimension: str | None = None,
        hour: Moment | None = None,
    ) -> list[MeteringRecord]:
        """The accepted records, in order of acceptance. `license` is a purchase id, licence ARN or agreement id."""
        with self.lock:
            purchase_id = self.registry.get(license).id if license else None
            index = int((_seconds(hour) or 0) // 3600) if hour is not None else None
            return list(self.bill_book.select(purchase_id=purchase_id, dimension=dimension, hour=index))

    def bill(self, *, license: str | None = None) -> list[Line]:  # noqa: A002  the word of the admin API
        """The bill by purchase, hour and dimension, with tag sets and amounts."""
        with self.lock:
            return lines(self.ledger(license=license))

    def notifications(self, after: int = 0) -> list[dict[str, Any]]:
        """What was announced, in order: `{"seq", "kind": "eventbridge"|"sns", "name", "body", ...}`."""
        with self._acting():
            return [item.as_dict() for item in self.outbox.log[after:]]

    def deliveries(self, after: int = 0) -> list[dict[str, Any]]:
        """What the targets get: notifications as delayed, repeated, reordered, held or dropped by the rules."""
        with self._acting():
            return [item.as_dict() for item in self.outbox.deliveries[after:]]

    def take_deliveries(self, after: int) -> list[Delivery]:
        """Deliveries for a target that has had `after` of them."""
        with self._acting():
            return self.outbox.deliveries[after:]

    def delivery_rules(self, rules: list[dict[str, Any]]) -> list[Rule]:
        """Add delivery rules, for example `[{"do": "repeat", "match": "License Updated*", "times": 1}]`."""
        parsed = [parse_rule(item) for item in rules]
        with self._acting():
            self.outbox.add_rules(parsed)
        return parsed

    def clear_delivery_rules(self) -> None:
        """Drop all delivery rules and deliver what they kept."""
        with self._acting():
            self.outbox.clear_rules()

    def release(self) -> int:
        """Deliver everything that delivery rules keep."""
        with self._acting():
            return self.outbox.release()

    def calls(self) -> list[Call]:
        """The last calls of the AWS APIs."""
        with self.lock:
            return list(self._calls)

    def settle(self) -> None:
        """Do what the clock says is due: licences, ends of terms, delayed deliveries."""
        with self._acting():
            pass

    def next_due(self) -> float | None:
        """When the next thing happens by itself (a licence, an end, a delayed delivery), in seconds since the epoch;
        for whoever moves the clock and wants to stop on the way."""
        with self._acting():
            return self._agenda.next_at()

    def _acting(self) -> "_Acting":
        return _Acting(self)


class _Acting:
    """The lock, with everything due done first."""

    __slots__ = ("_marketplace",)

    def __init__(self, marketplace: Marketplace) -> None:
        self._marketplace = marketplace

    def __enter__(self) -> float:
        self._marketplace.lock.acquire()
        now = self._marketplace.clock.timestamp()
        try:
            self._marketplace._agenda.run_due(now)
        except BaseException:
            self._marketplace.lock.release()
            raise
        return now

    def __exit__(self, *_: object) -> None:
        self._marketplace.lock.release()


_FORCED = {
    "unknown_status": "AcceptedForReview",
    "not_subscribed": "CustomerNotSubscribed",
    "duplicate": "DuplicateRecord",
}


def _seconds(moment: Moment | None) -> float | None:
    if moment is None:
        return None
    if isinstance(moment, str):
        try:
            return parse_time(moment)
        except ValueError:
            raise AdminError(400, f"{moment!r} is not a time", "for example 2026-11-22T10:00:00Z") from None
    if isinstance(moment, datetime):
        return moment.timestamp()
    return float(moment)
