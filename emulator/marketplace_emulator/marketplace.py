"""AWS Marketplace in memory, without HTTP: answers AWS calls and holds the parts of the emulator."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from marketplace_emulator import snapshot
from marketplace_emulator.adjustments import Adjustments, AdjustmentService
from marketplace_emulator.agenda import Agenda
from marketplace_emulator.agreements import AgreementService
from marketplace_emulator.catalog import Product, default_products
from marketplace_emulator.clock import Clock, iso_millis
from marketplace_emulator.differences import Differences
from marketplace_emulator.entitlements import EntitlementService
from marketplace_emulator.errors import ServiceError
from marketplace_emulator.events import Announcer
from marketplace_emulator.faults import AFTERWARDS, Fault, Faults, denied, refusal, throttled
from marketplace_emulator.ids import Ids
from marketplace_emulator.ledger import Ledger
from marketplace_emulator.lookup import LookupService
from marketplace_emulator.metering import Meter
from marketplace_emulator.model import Purchase
from marketplace_emulator.outbox import Outbox
from marketplace_emulator.purchases import Purchases
from marketplace_emulator.registry import Registry
from marketplace_emulator.settings import Settings
from marketplace_emulator.story import Seller, UnknownSeller
from marketplace_emulator.throttle import Buckets
from marketplace_emulator.tokens import Tokens
from marketplace_emulator.trail import Caller, Trail
from marketplace_emulator.wire import TARGETS, Answer, Drop, Reply, failure, parse_body, success

CALLS_KEPT = 1000
BODY_KEPT = 16_384
ONE_REGION = "us-east-1"
METERING_OPERATIONS = frozenset({"ResolveCustomer", "BatchMeterUsage"})
REGIONAL_OPERATIONS = METERING_OPERATIONS | {"LookupEvents"}


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
    answer: bytes

    def as_dict(self) -> dict[str, Any]:
        """The form of `GET /admin/calls`."""
        shown = asdict(self) | {"at": iso_millis(self.at)}
        del shown["body"], shown["answer"]
        return shown


@dataclass(slots=True)
class _Request:
    operation: str
    target: str
    body: bytes
    region: str
    now: float
    id: str
    caller: Caller
    fault: Fault | None = None


class Marketplace:
    """One emulator of AWS Marketplace. `handle` answers the AWS calls of a seller; the parts do the rest.

    purchases  what buyers do: subscribe, amend, renew, cancel
    registry   products, purchases and agreements
    ledger     accepted metering records, and the bill made of them
    outbox     notifications and their delivery
    faults     planned faults
    trail      CloudTrail's events of the calls
    differences  what the evidence says other than what was metered
    calls      the last calls of the AWS APIs
    seller     what the pages may know of the seller's side
    agenda     the lock, and what is due by the clock

    `Marketplace()` follows real time, lists three products and has no rate limit. Thread-safe.
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
        self.agenda = Agenda(self.clock)
        self.generation = 0
        self.seller: Seller = UnknownSeller()
        self._monotonic = monotonic
        self._start(products if products is not None else default_products())

    def _start(self, products: list[Product]) -> None:
        settings, ids = self.settings, Ids(self.settings.seed)
        registry, outbox = Registry(settings, products), Outbox(self.agenda)
        announcer = Announcer(settings, ids, outbox)
        self._wire(
            ids,
            registry=registry,
            outbox=outbox,
            announcer=announcer,
            purchases=Purchases(settings=settings, ids=ids, agenda=self.agenda, announcer=announcer, registry=registry),
            tokens=Tokens(),
            ledger=Ledger(),
            faults=Faults(),
            differences=Differences(),
            adjustments=Adjustments(),
            calls=deque(maxlen=CALLS_KEPT),
        )

    def _wire(
        self,
        ids: Ids,
        *,
        registry: Registry,
        outbox: Outbox,
        announcer: Announcer,
        purchases: Purchases,
        tokens: Tokens,
        ledger: Ledger,
        faults: Faults,
        differences: Differences,
        adjustments: Adjustments,
        calls: deque[Call],
        trail: Trail | None = None,
    ) -> None:
        """Put together the parts that hold something, and those that only answer from them."""
        self._ids = ids
        self.registry, self.outbox, self.announcer, self.purchases = registry, outbox, announcer, purchases
        self.tokens, self.ledger, self.faults, self.calls = tokens, ledger, faults, calls
        self.differences, self.adjustments = differences, adjustments
        self.trail = trail if trail is not None else Trail(self.settings, differences)
        self._buckets = Buckets(self._monotonic)
        self._meter = Meter(settings=self.settings, registry=registry, ledger=ledger, new_id=ids.uuid)
        entitlements = EntitlementService(self.settings, registry)
        agreements = AgreementService(registry, self._agreement_token)
        billing = AdjustmentService(
            settings=self.settings,
            registry=registry,
            ledger=ledger,
            adjustments=adjustments,
            announcer=announcer,
            agenda=self.agenda,
        )
        lookup = LookupService(self.settings, self.trail)
        self._operations: dict[str, Callable[[_Request, dict[str, Any]], dict[str, Any]]] = {
            "ResolveCustomer": self._resolve_customer,
            "BatchMeterUsage": self._batch_meter_usage,
            "GetEntitlements": lambda _, data: entitlements.get_entitlements(data),
            "SearchAgreements": lambda _, data: agreements.search_agreements(data),
            "DescribeAgreement": lambda _, data: agreements.describe_agreement(data),
            "GetAgreementTerms": lambda _, data: agreements.get_agreement_terms(data),
            "GetAgreementEntitlements": lambda request, data: agreements.get_agreement_entitlements(data, request.now),
            "ListAgreementInvoiceLineItems": lambda request, data: billing.invoice_line_items(data, request.now),
            "BatchCreateBillingAdjustmentRequest": lambda request, data: billing.create(data, request.now),
            "GetBillingAdjustmentRequest": lambda _, data: billing.get_request(data),
            "ListBillingAdjustmentRequests": lambda _, data: billing.list_requests(data),
            "LookupEvents": lambda request, data: lookup.lookup_events(data, request.region, request.now),
        }

    def dump(self) -> bytes:
        """Everything but the clock, in the form that `load` takes. Nothing happens meanwhile."""
        with self.agenda.lock:
            parts = {name: getattr(self, name) for name in _KEPT}
            parts |= {"ids": self._ids, "tasks": self.agenda.planned(), "generation": self.generation}
            parts["settings"] = self.settings.as_dict()
            return snapshot.dump(parts, {"settings": self.settings, "agenda": self.agenda})

    def load(self, data: bytes) -> None:
        """Take over what another emulator has dumped. Raises SnapshotError."""
        with self.agenda.lock:
            parts = snapshot.load(data, {"settings": self.settings, "agenda": self.agenda})
            for name, value in parts.pop("settings").items():
                setattr(self.settings, name, value)
            self.agenda.clear()
            self.agenda.plan(parts.pop("tasks"))
            self.generation = parts.pop("generation")
            self._wire(parts.pop("ids"), **parts)

    def reset(self) -> None:
        """Forget purchases, bill, notifications, faults and calls; keep clock, settings and products."""
        with self.agenda.lock:
            self.generation += 1
            self.agenda.clear()
            self._start(list(self.registry.products.values()))

    # -- what sellers call --------------------------------------------------------------------------------

    def handle(self, target: str, body: bytes, region: str = ONE_REGION, caller: Caller | None = None) -> Answer:
        """Answer one AWS call. `target` is the X-Amz-Target header, `region` the one the call was signed for, `caller`
        who signed it."""
        with self.agenda.acting() as now:
            operation = TARGETS.get(target, "")
            request = _Request(operation, target, body, region, now, self._ids.uuid(), caller or Caller())
            try:
                return self._answer(request)
            except ServiceError as error:
                refused = failure(target, request.id, error)
                self._log(request, error.code, answer=refused.body)
                self._record(request, error=error)
                return refused

    def _answer(self, request: _Request) -> Answer:
        operation = request.operation
        if not operation:
            raise ServiceError("UnknownOperationException", f"There is no operation {request.target!r} here", 404)
        if request.region != ONE_REGION and operation not in REGIONAL_OPERATIONS:
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
        records = len(answer.get("Results", ())) + len(answer.get("UnprocessedRecords", ()))
        reply = success(request.target, request.id, answer)
        self._log(request, "ok", records, reply.body)
        told = self._afterwards(fault, request, reply) if fault is not None and afterwards else reply
        failed = fault is not None and refusal(fault, operation) if afterwards else None
        self._record(request, answer=reply.body, error=failed or None)
        return told

    def _admit(self, operation: str, region: str) -> None:
        settings = self.settings
        if operation in settings.access_denied:
            raise denied(operation)
        rates = {
            "BatchMeterUsage": settings.metering_rate,
            "GetEntitlements": settings.entitlement_rate,
            "LookupEvents": settings.trail_rate,
        }
        if not self._buckets.take(operation, region, rates.get(operation)):
            raise throttled(operation)
        regions = settings.metering_regions
        if regions is not None and operation in METERING_OPERATIONS and region not in regions:
            raise ServiceError("DisabledApiException", f"The API is disabled in {region}.")

    def _resolve_customer(self, request: _Request, data: dict[str, Any]) -> dict[str, Any]:
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

    def _batch_meter_usage(self, request: _Request, data: dict[str, Any]) -> dict[str, Any]:
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

    def _afterwards(self, fault: Fault, request: _Request, reply: Reply) -> Answer:
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

    def version(self) -> str:
        """A text that is another one whenever something has happened here, and in every minute of the clock."""
        with self.agenda.acting() as now:
            last_call = self.calls[-1].seq if self.calls else 0
            here = (self.generation, self.outbox.announced, last_call, len(self.registry.purchases))
            happened = (*here, self.seller.activity())
            clock = self.clock
            return "-".join(str(part) for part in (*happened, int(now // 60), int(clock.offset), int(clock.is_frozen)))

    def _hang(self, fault: Fault) -> float:
        return fault.seconds if fault.seconds is not None else self.settings.hang_seconds

    def _log(self, request: _Request, outcome: str, records: int = 0, answer: bytes = b"") -> None:
        self.calls.append(
            Call(
                seq=self.calls[-1].seq + 1 if self.calls else 1,
                at=request.now,
                operation=request.operation or request.target,
                region=request.region,
                outcome=outcome,
                fault=request.fault.fault if request.fault else "",
                records=records,
                body=request.body if len(request.body) <= BODY_KEPT else b"",
                answer=answer if len(answer) <= BODY_KEPT else b"",
            )
        )

    def _record(self, request: _Request, *, answer: bytes = b"", error: ServiceError | None = None) -> None:
        """Keep the call for CloudTrail, as the service itself saw it: a lost answer makes no difference."""
        if request.operation:
            self.trail.log(
                at=request.now,
                region=request.region,
                operation=request.operation,
                request_id=request.id,
                caller=request.caller,
                body=request.body,
                answer=answer,
                error=error,
            )

    # -- registration tokens ------------------------------------------------------------------------------

    def registration_token(self, purchase_id: str, *, lifetime: float | None = None) -> str:
        """Return the token that the buyer's browser brings to the seller's fulfilment URL.

        It is valid for `lifetime` seconds of the clock, by default for the setting `token_lifetime_seconds`.
        """
        with self.agenda.acting():
            purchase = self.registry.get(purchase_id)
            self.outbox.sent_to_register(purchase.id)
            return self._new_token(purchase, self.settings.token_lifetime_seconds if lifetime is None else lifetime)

    def _agreement_token(self, purchase: Purchase) -> str:
        return self._new_token(purchase, self.settings.agreement_token_lifetime_seconds)

    def _new_token(self, purchase: Purchase, lifetime: float) -> str:
        return self.tokens.add(self._ids.token(), purchase.id, self.clock.timestamp() + lifetime).value


_KEPT = (
    *("registry", "outbox", "announcer", "purchases", "tokens", "ledger", "faults", "calls"),
    *("differences", "adjustments", "trail"),
)
"""The parts of a Marketplace that hold something."""

_FORCED = {
    "unknown_status": "AcceptedForReview",
    "not_subscribed": "CustomerNotSubscribed",
    "duplicate": "DuplicateRecord",
}
