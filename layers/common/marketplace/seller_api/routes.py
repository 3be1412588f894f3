"""What the seller's own application can ask for, and what it is answered: one table of routes, read by API Gateway's
handler and by the OpenAPI document."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol
from urllib.parse import unquote

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from marketplace.dynamodb.paging import InvalidCursorError
from marketplace.entitlements.entitlements import Entitlements
from marketplace.entitlements.store import UnknownSubscriptionError
from marketplace.platform.clock import Clock, epoch
from marketplace.platform.errors import AwsError, ThrottledError, UnavailableError
from marketplace.platform.http import (
    Answer,
    BodyTooLargeError,
    Request,
    RequestError,
    UnreadableBodyError,
    json_response,
)
from marketplace.platform.problem import Problem
from marketplace.registration.claim import (
    AccountLinkedToAnotherTenantError,
    Claim,
    ClaimedByAnotherTenantError,
    Claims,
    UnknownRegistrationError,
)
from marketplace.seller_api import problems
from marketplace.seller_api.requests import (
    EntitlementsQuery,
    NoQuery,
    RecordUsageQuery,
    RetryBody,
    SubscriptionsQuery,
    UsageBody,
    UsageQuery,
)
from marketplace.seller_api.subscription_queries import SubscriptionQueries
from marketplace.seller_api.views import decision_view, details_view, entitlements_view, subscription_view
from marketplace.subscriptions.identity import SUBSCRIPTION_ID
from marketplace.usage.queries import Page
from marketplace.usage.retry import Retried

USAGE_BODY_LIMIT = 2_097_152
"""Bytes: 500 records with five tags of the greatest length fit. Lambda takes 6 MB (Lambda quotas)."""
BODY_LIMIT = 16_384


class UsageRecorder(Protocol):
    """Records usage: one result per record, in order."""

    def record(self, records: Sequence[object], *, validate: bool = False) -> list[dict[str, object]]: ...


class UsageQueries(Protocol):
    """Where usage went. `start` and `end` are hours in seconds since the epoch."""

    def metering_records(
        self, subscription_id: str, *, start: int, end: int, cursor: str | None = None, limit: int = 100
    ) -> Page: ...

    def proof(self, subscription_id: str, record_id: str) -> dict[str, Any] | None: ...


class UsageRetry(Protocol):
    """Makes usage that AWS refused due again; None when there is no such subscription."""

    def retry(self, subscription_id: str, dimension: str | None = None) -> Retried | None: ...


class ProblemError(Exception):
    """A request that is answered with a problem; `details` go into the answer beside code and message."""

    def __init__(self, problem: Problem, **details: Any) -> None:
        super().__init__(problem.code)
        self.problem = problem
        self.details = details


@dataclass(frozen=True, slots=True)
class Route:
    """One route: API Gateway's key, what it is called, the models of its query and body, and who answers it."""

    key: str
    operation: str
    answer: "Callable[[SellerRoutes, Request], Answer]"
    query: type[BaseModel] = NoQuery
    body: type[BaseModel] | None = None


@dataclass(frozen=True, slots=True)
class SellerRoutes:
    """The use cases behind the routes. `entitlement_max_age`: seconds after which an answer of AWS counts as stale."""

    claims: Claims
    subscriptions: SubscriptionQueries
    entitlements: Entitlements
    recorder: UsageRecorder
    usage: UsageQueries
    usage_retry: UsageRetry
    clock: Clock
    entitlement_max_age: int

    def answer(self, request: Request) -> Answer:
        """Answers a request; whatever is wrong with it, or with AWS, is an answer too."""
        route = _BY_KEY.get(request.route)
        try:
            if route is None:
                raise ProblemError(problems.ROUTE_UNKNOWN)
            return route.answer(self, request)
        except ProblemError as error:
            return _problem(error.problem, **error.details)
        except (RequestError, InvalidCursorError, UnicodeError) as error:
            return _problem(_problem_of_request(error))
        except AwsError as error:
            return replace(_problem(_problem_of_aws(error)), error=f"{type(error).__name__} {error.code}")

    def claim(self, request: Request) -> Answer:
        _query(request, NoQuery)
        claim = _body(request, Claim, BODY_LIMIT)
        try:
            claimed = self.claims.claim(request.path.get("code", ""), claim)
        except UnknownRegistrationError as error:
            raise ProblemError(problems.CLAIM_UNKNOWN) from error
        except ClaimedByAnotherTenantError as error:
            raise ProblemError(problems.CLAIMED_ELSEWHERE, subscription_id=error.subscription_id) from error
        except AccountLinkedToAnotherTenantError as error:
            raise ProblemError(
                problems.ACCOUNT_LINKED_ELSEWHERE, subscription_id=error.subscription_id, tenants=error.tenants
            ) from error
        return self._details(claimed.subscription_id, "RegistrationClaimed")

    def list_subscriptions(self, request: Request) -> Answer:
        query = _query(request, SubscriptionsQuery)
        page = self.subscriptions.find(query.filter, cursor=query.cursor, limit=query.limit)
        now = epoch(self.clock())
        content = {"subscriptions": [subscription_view(one, now) for one in page.items], "cursor": page.cursor}
        return Answer(json_response(200, content), "SubscriptionsListed")

    def get_subscription(self, request: Request) -> Answer:
        _query(request, NoQuery)
        return self._details(_subscription_id(request), "SubscriptionShown")

    def get_entitlements(self, request: Request) -> Answer:
        query = _query(request, EntitlementsQuery)
        subscription_id = _subscription_id(request)
        if query.dimension is not None:
            decision = self.entitlements.check(subscription_id, query.dimension, query.quantity)
            if decision.reason == "unknown_subscription":
                raise ProblemError(problems.SUBSCRIPTION_UNKNOWN)
            outcome = "AccessAllowed" if decision.allowed else "AccessRefused"
            return Answer(json_response(200, decision_view(decision)), outcome, subscription_id)
        try:
            granted = self.entitlements.entitlements_of(subscription_id)
        except UnknownSubscriptionError as error:
            raise ProblemError(problems.SUBSCRIPTION_UNKNOWN) from error
        subscription = self.subscriptions.get(subscription_id)
        if subscription is None:
            raise ProblemError(problems.SUBSCRIPTION_UNKNOWN)
        content = entitlements_view(subscription, granted, epoch(self.clock()), self.entitlement_max_age)
        return Answer(json_response(200, content), "EntitlementsListed", subscription_id)

    def record_usage(self, request: Request) -> Answer:
        query = _query(request, RecordUsageQuery)
        body = _body(request, UsageBody, USAGE_BODY_LIMIT)
        validate = query.validate_only == "true"
        results = self.recorder.record(body.records, validate=validate)
        counts: dict[str, int] = {}
        for result in results:
            name = f"Report{str(result['status']).capitalize()}"
            counts[name] = counts.get(name, 0) + 1
        outcome = "UsageValidated" if validate else "UsageReported"
        return Answer(json_response(200, {"results": results}), outcome, counts={} if validate else counts)

    def list_usage(self, request: Request) -> Answer:
        query = _query(request, UsageQuery)
        subscription_id = _subscription_id(request)
        start, end = query.hours(epoch(self.clock()))
        page = self.usage.metering_records(
            subscription_id, start=start, end=end, cursor=query.cursor, limit=query.limit
        )
        if not page.items and not query.cursor and self.subscriptions.get(subscription_id) is None:
            raise ProblemError(problems.SUBSCRIPTION_UNKNOWN)
        content = {"subscription_id": subscription_id, "metering_records": page.items, "cursor": page.cursor}
        return Answer(json_response(200, content), "UsageListed", subscription_id)

    def prove_usage(self, request: Request) -> Answer:
        _query(request, NoQuery)
        subscription_id = _subscription_id(request)
        record_id = request.path.get("record_id", "")
        # HTTP APIs decode a path once, and cut it at a "?" that this brings out, so such an id has to be encoded twice.
        for candidate in dict.fromkeys((record_id, unquote(record_id))):
            if 0 < len(candidate) <= MAX_RECORD_ID and candidate.isascii():
                proof = self.usage.proof(subscription_id, candidate)
                if proof is not None:
                    return Answer(json_response(200, proof), "UsageProven", subscription_id)
        raise ProblemError(problems.RECORD_UNKNOWN)

    def retry_usage(self, request: Request) -> Answer:
        _query(request, NoQuery)
        body = _body(request, RetryBody, BODY_LIMIT)
        subscription_id = _subscription_id(request)
        retried = self.usage_retry.retry(subscription_id, body.dimension)
        if retried is None:
            raise ProblemError(problems.SUBSCRIPTION_UNKNOWN)
        content = {
            "subscription_id": subscription_id,
            "due_again": retried.due_again,
            "too_late": retried.too_late,
            "more": retried.more,
        }
        counts = {"UsageMadeDueAgain": len(retried.due_again)}
        return Answer(json_response(200, content), "UsageRetried", subscription_id, counts=counts)

    def _details(self, subscription_id: str, outcome: str) -> Answer:
        details = self.subscriptions.details(subscription_id)
        if details is None:
            raise ProblemError(problems.SUBSCRIPTION_UNKNOWN)
        content = details_view(details, epoch(self.clock()))
        return Answer(json_response(200, content), outcome, subscription_id)


MAX_RECORD_ID = 128

ROUTES = (
    Route("POST /registrations/{code}/claim", "claimRegistration", SellerRoutes.claim, body=Claim),
    Route("GET /subscriptions", "listSubscriptions", SellerRoutes.list_subscriptions, query=SubscriptionsQuery),
    Route("GET /subscriptions/{subscription_id}", "getSubscription", SellerRoutes.get_subscription),
    Route(
        "GET /subscriptions/{subscription_id}/entitlements",
        "getEntitlements",
        SellerRoutes.get_entitlements,
        query=EntitlementsQuery,
    ),
    Route("POST /usage", "recordUsage", SellerRoutes.record_usage, query=RecordUsageQuery, body=UsageBody),
    Route("GET /subscriptions/{subscription_id}/usage", "listUsage", SellerRoutes.list_usage, query=UsageQuery),
    Route("POST /subscriptions/{subscription_id}/usage/retry", "retryUsage", SellerRoutes.retry_usage, body=RetryBody),
    Route("GET /subscriptions/{subscription_id}/usage/{record_id+}", "proveUsage", SellerRoutes.prove_usage),
)
_BY_KEY = {route.key: route for route in ROUTES}


def failure(error: str) -> Answer:
    """What a caller is told when nothing better is known; `error` is for the log."""
    return replace(_problem(problems.INTERNAL), error=error)


def _problem(problem: Problem, **details: Any) -> Answer:
    response = json_response(problem.status, problem.as_json(**details), problem.headers)
    return Answer(response, problem.metric, details.get("subscription_id"))


def _problem_of_request(error: Exception) -> Problem:
    match error:
        case BodyTooLargeError():
            return problems.BODY_TOO_LARGE
        case UnreadableBodyError():
            return problems.BODY_INVALID
        case InvalidCursorError():
            return problems.CURSOR_INVALID
    return problems.PARAMETER_INVALID


def _problem_of_aws(error: AwsError) -> Problem:
    match error:
        case ThrottledError():
            return problems.BUSY
        case UnavailableError():
            return problems.UNAVAILABLE
    return problems.INTERNAL


def _subscription_id(request: Request) -> str:
    subscription_id = request.path.get("subscription_id", "")
    if not SUBSCRIPTION_ID.fullmatch(subscription_id):
        raise ProblemError(problems.SUBSCRIPTION_UNKNOWN)
    return subscription_id


def _query[M: BaseModel](request: Request, model: type[M]) -> M:
    try:
        return model.model_validate(request.query())
    except ValidationError as error:
        raise ProblemError(problems.PARAMETER_INVALID.saying(_complaint(error))) from error


def _body[M: BaseModel](request: Request, model: type[M], limit: int) -> M:
    try:
        # Unlike json.loads this refuses NaN, lone surrogates and bottomless nesting.
        content = from_json(request.body(limit), allow_inf_nan=False)
    except ValueError as error:
        if isinstance(error, BodyTooLargeError):
            raise
        raise ProblemError(problems.BODY_INVALID.saying("The body must be JSON in UTF-8.")) from error
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise ProblemError(problems.BODY_INVALID.saying(_complaint(error))) from error


def _complaint(error: ValidationError) -> str:
    """What is wrong, by field, without repeating what was sent."""
    complaints = []
    for found in error.errors(include_url=False, include_context=False, include_input=False)[:5]:
        place = ".".join(str(part) for part in found["loc"])
        message = found["msg"].removeprefix("Value error, ")
        complaints.append(f"{place}: {message}" if place else message)
    return "; ".join(complaints)
