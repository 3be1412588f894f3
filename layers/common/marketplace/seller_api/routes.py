"""The routes of the seller API and their answers: one table, which the handler and the OpenAPI document read."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any
from urllib.parse import unquote

from pydantic import BaseModel

from marketplace.archive.content import ArchiveError
from marketplace.dynamodb.paging import InvalidCursorError
from marketplace.entitlements.entitlements import Entitlements
from marketplace.entitlements.store import UnknownSubscriptionError
from marketplace.platform.clock import Clock, epoch, hour_of
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
from marketplace.registration.account_links import AccountLinkedToAnotherTenantError
from marketplace.registration.claim import (
    Claim,
    ClaimChangedError,
    ClaimedByAnotherTenantError,
    Claims,
    NotSubscribedError,
    Release,
    SubscriptionClaim,
    Transfer,
    UnknownRegistrationError,
)
from marketplace.registration.free_trials import FreeTrials
from marketplace.seller_api import problems
from marketplace.seller_api.problems import ProblemError
from marketplace.seller_api.requests import (
    MAX_RECORD_ID,
    USAGE_BODY_LIMIT,
    VOID_BODY_LIMIT,
    ApprovalBody,
    ClaimsQuery,
    EntitlementsQuery,
    NoQuery,
    RecordUsageQuery,
    RetryBody,
    StatementQuery,
    SubscriptionsQuery,
    UsageBody,
    UsageQuery,
    VoidBody,
    body_of,
    query_of,
    subscription_id_of,
)
from marketplace.seller_api.subscription_queries import SubscriptionQueries
from marketplace.seller_api.views import (
    claim_change_view,
    decision_view,
    details_view,
    entitlements_view,
    statement_view,
    subscription_view,
)
from marketplace.statements.reader import StatementReader
from marketplace.usage.approval import UsageApproval
from marketplace.usage.queries import UsageQueries
from marketplace.usage.recorder import UsageRecorder
from marketplace.usage.results import metric_of
from marketplace.usage.retry import UsageRetry
from marketplace.usage.void import UsageVoid


@dataclass(frozen=True, slots=True)
class Route:
    """One route: API Gateway's route key, the operation's name, the method that answers it, and the models of its query
    and body."""

    key: str
    operation: str
    answer: "Callable[[SellerRoutes, Request], Answer]"
    query: type[BaseModel] = NoQuery
    body: type[BaseModel] | None = None


@dataclass(frozen=True, slots=True)
class SellerRoutes:
    """The use cases behind the routes. `entitlement_max_age`: seconds after which an answer of AWS counts as stale.
    Unless `metering_enabled`, no usage is sent again."""

    claims: Claims
    free_trials: FreeTrials
    subscriptions: SubscriptionQueries
    entitlements: Entitlements
    recorder: UsageRecorder
    usage: UsageQueries
    statements: StatementReader
    usage_retry: UsageRetry
    usage_void: UsageVoid
    usage_approval: UsageApproval
    clock: Clock
    entitlement_max_age: int
    metering_enabled: bool = True

    def answer(self, request: Request) -> Answer:
        """Answers a request. A request that is wrong and an error of AWS have answers too."""
        route = _BY_KEY.get(request.route)
        try:
            if route is None:
                raise ProblemError(problems.ROUTE_UNKNOWN)
            return route.answer(self, request)
        except ProblemError as error:
            return _counted(request, _problem(error.problem, **error.details))
        except (RequestError, InvalidCursorError, UnicodeError) as error:
            return _counted(request, _problem(_problem_of_request(error)))
        except AwsError as error:
            return replace(_problem(_problem_of_aws(error)), error=_logged(error))

    def claim(self, request: Request) -> Answer:
        query_of(request, NoQuery)
        claim = body_of(request, Claim)
        with _claim_problems():
            claimed = self.claims.claim(request.path.get("code", ""), claim, request.caller)
        return self._opened(claimed.subscription_id, "RegistrationClaimed")

    def show_registration(self, request: Request) -> Answer:
        query_of(request, NoQuery)
        with _claim_problems():
            subscription_id = self.claims.subscription_of(request.path.get("code", ""))
        return self._opened(subscription_id, "RegistrationShown")

    def claim_subscription(self, request: Request) -> Answer:
        query_of(request, NoQuery)
        subscription_id, claim = subscription_id_of(request), body_of(request, SubscriptionClaim)
        with _claim_problems():
            self.claims.claim_subscription(subscription_id, claim, request.caller)
        return self._opened(subscription_id, "SubscriptionClaimed")

    def release_claim(self, request: Request) -> Answer:
        query_of(request, NoQuery)
        subscription_id, release = subscription_id_of(request), body_of(request, Release)
        with _claim_problems():
            self.claims.release(subscription_id, release, request.caller)
        return self._details(subscription_id, "ClaimReleased")

    def transfer_claim(self, request: Request) -> Answer:
        query_of(request, NoQuery)
        subscription_id, transfer = subscription_id_of(request), body_of(request, Transfer)
        with _claim_problems():
            self.claims.transfer(subscription_id, transfer, request.caller)
        return self._details(subscription_id, "ClaimTransferred")

    def list_claims(self, request: Request) -> Answer:
        query = query_of(request, ClaimsQuery)
        subscription_id = subscription_id_of(request)
        page = self.claims.changes(subscription_id, cursor=query.cursor, limit=query.limit)
        if not page.changes and self.subscriptions.get(subscription_id) is None:
            raise ProblemError(problems.SUBSCRIPTION_UNKNOWN)
        content = {
            "subscription_id": subscription_id,
            "changes": [claim_change_view(change) for change in page.changes],
            "cursor": page.cursor,
        }
        return Answer(json_response(200, content), "ClaimsListed", subscription_id)

    def list_subscriptions(self, request: Request) -> Answer:
        query = query_of(request, SubscriptionsQuery)
        page = self.subscriptions.find(query.filter, cursor=query.cursor, limit=query.limit)
        now = epoch(self.clock())
        content = {"subscriptions": [subscription_view(one, now) for one in page.items], "cursor": page.cursor}
        return Answer(json_response(200, content), "SubscriptionsListed")

    def get_subscription(self, request: Request) -> Answer:
        query_of(request, NoQuery)
        return self._details(subscription_id_of(request), "SubscriptionShown")

    def get_entitlements(self, request: Request) -> Answer:
        query = query_of(request, EntitlementsQuery)
        subscription_id = subscription_id_of(request)
        if query.dimension is not None:
            decision = self.entitlements.check(subscription_id, query.dimension, query.quantity)
            if decision.reason == "unknown_subscription":
                raise ProblemError(problems.SUBSCRIPTION_UNKNOWN)
            outcome = "AccessAllowed" if decision.allowed else "AccessRefused"
            counts = {"AccessFailedClosed": 1} if decision.failed_closed else {}
            return Answer(json_response(200, decision_view(decision)), outcome, subscription_id, counts=counts)
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
        query = query_of(request, RecordUsageQuery)
        body = body_of(request, UsageBody, USAGE_BODY_LIMIT)
        validate = query.validate_only == "true"
        results = self.recorder.record(body.records, validate=validate)
        counts = {} if validate else Counter(map(metric_of, results))
        outcome = "UsageValidated" if validate else "UsageReported"
        return Answer(json_response(200, {"results": results}), outcome, counts=counts)

    def void_usage(self, request: Request) -> Answer:
        query_of(request, NoQuery)
        body = body_of(request, VoidBody, VOID_BODY_LIMIT)
        results, voided = self.usage_void.void(body.records, request.caller)
        refused = sum(result["status"] == "rejected" for result in results)
        counts = {"UsageVoided": voided, "VoidRejected": refused}
        return Answer(json_response(200, {"results": results}), "VoidRequested", counts=counts)

    def list_usage(self, request: Request) -> Answer:
        query = query_of(request, UsageQuery)
        subscription_id = subscription_id_of(request)
        start, end = query.hours(epoch(self.clock()))
        page = self.usage.metering_records(
            subscription_id, start=start, end=end, cursor=query.cursor, limit=query.limit
        )
        if not page.items and not query.cursor and self.subscriptions.get(subscription_id) is None:
            raise ProblemError(problems.SUBSCRIPTION_UNKNOWN)
        content = {"subscription_id": subscription_id, "metering_records": page.items, "cursor": page.cursor}
        return Answer(json_response(200, content), "UsageListed", subscription_id)

    def show_statement(self, request: Request) -> Answer:
        query = query_of(request, StatementQuery)
        subscription_id = subscription_id_of(request)
        page = self.statements.page(subscription_id, query.month, cursor=query.cursor, limit=query.limit)
        if not page.days and not query.cursor and self.subscriptions.get(subscription_id) is None:
            raise ProblemError(problems.SUBSCRIPTION_UNKNOWN)
        content = statement_view(subscription_id, query.month, page)
        return Answer(json_response(200, content), "StatementShown", subscription_id)

    def prove_usage(self, request: Request) -> Answer:
        query_of(request, NoQuery)
        subscription_id = subscription_id_of(request)
        record_id = request.path.get("record_id", "")
        # API Gateway's HTTP APIs decode a path once and cut it at a "?", so an id with one has to be encoded twice.
        for candidate in dict.fromkeys((record_id, unquote(record_id))):
            if 0 < len(candidate) <= MAX_RECORD_ID and candidate.isascii():
                proof = self.usage.proof(subscription_id, candidate)
                if proof is not None:
                    return Answer(json_response(200, proof), "UsageProven", subscription_id)
        raise ProblemError(problems.RECORD_UNKNOWN)

    def retry_usage(self, request: Request) -> Answer:
        query_of(request, NoQuery)
        body = body_of(request, RetryBody)
        if not self.metering_enabled:
            raise ProblemError(problems.NOT_METERED)
        subscription_id = subscription_id_of(request)
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

    def decide_usage(self, request: Request) -> Answer:
        query_of(request, NoQuery)
        body = body_of(request, ApprovalBody)
        if not self.metering_enabled:
            raise ProblemError(problems.NOT_METERED)
        subscription_id = subscription_id_of(request)
        hour = None if body.hour is None else hour_of(epoch(body.hour))
        made = self.usage_approval.decide(
            subscription_id, body.decision, request.caller, dimension=body.dimension, hour=hour
        )
        if made is None:
            raise ProblemError(problems.SUBSCRIPTION_UNKNOWN)
        content = {"subscription_id": subscription_id, **asdict(made)}
        counts = {"UsageApprovalsDecided": len(made.decided)}
        return Answer(json_response(200, content), "UsageDecided", subscription_id, counts=counts)

    def _opened(self, subscription_id: str, outcome: str) -> Answer:
        """A subscription that the seller's sign-up is about: it wants to know of a free trial."""
        self.free_trials.look_up(subscription_id)
        return self._details(subscription_id, outcome)

    def _details(self, subscription_id: str, outcome: str) -> Answer:
        details = self.subscriptions.details(subscription_id)
        if details is None:
            raise ProblemError(problems.SUBSCRIPTION_UNKNOWN)
        content = details_view(details, epoch(self.clock()))
        return Answer(json_response(200, content), outcome, subscription_id)


ROUTES = (
    Route("GET /registrations/{code}", "showRegistration", SellerRoutes.show_registration),
    Route("POST /registrations/{code}/claim", "claimRegistration", SellerRoutes.claim, body=Claim),
    Route(
        "POST /subscriptions/{subscription_id}/claim",
        "claimSubscription",
        SellerRoutes.claim_subscription,
        body=SubscriptionClaim,
    ),
    Route(
        "POST /subscriptions/{subscription_id}/claim/release", "releaseClaim", SellerRoutes.release_claim, body=Release
    ),
    Route(
        "POST /subscriptions/{subscription_id}/claim/transfer",
        "transferClaim",
        SellerRoutes.transfer_claim,
        body=Transfer,
    ),
    Route("GET /subscriptions/{subscription_id}/claims", "listClaims", SellerRoutes.list_claims, query=ClaimsQuery),
    Route("GET /subscriptions", "listSubscriptions", SellerRoutes.list_subscriptions, query=SubscriptionsQuery),
    Route("GET /subscriptions/{subscription_id}", "getSubscription", SellerRoutes.get_subscription),
    Route(
        "GET /subscriptions/{subscription_id}/entitlements",
        "getEntitlements",
        SellerRoutes.get_entitlements,
        query=EntitlementsQuery,
    ),
    Route("POST /usage", "recordUsage", SellerRoutes.record_usage, query=RecordUsageQuery, body=UsageBody),
    Route("POST /usage/void", "voidUsage", SellerRoutes.void_usage, body=VoidBody),
    Route("GET /subscriptions/{subscription_id}/usage", "listUsage", SellerRoutes.list_usage, query=UsageQuery),
    Route(
        "GET /subscriptions/{subscription_id}/statement",
        "getStatement",
        SellerRoutes.show_statement,
        query=StatementQuery,
    ),
    Route("POST /subscriptions/{subscription_id}/usage/retry", "retryUsage", SellerRoutes.retry_usage, body=RetryBody),
    Route(
        "POST /subscriptions/{subscription_id}/usage/approval",
        "decideUsage",
        SellerRoutes.decide_usage,
        body=ApprovalBody,
    ),
    Route("GET /subscriptions/{subscription_id}/usage/{record_id+}", "proveUsage", SellerRoutes.prove_usage),
)
_BY_KEY = {route.key: route for route in ROUTES}
_VALIDATION = "validate=true"


def known_route(key: object) -> str | None:
    """The key of a route, for a log line: whatever else an event holds in its place is content."""
    return key if isinstance(key, str) and key in _BY_KEY else None


@contextmanager
def _claim_problems() -> Iterator[None]:
    """What a claim, a release or a transfer is refused with, as the API answers it."""
    try:
        yield
    except UnknownRegistrationError as error:
        raise ProblemError(problems.CLAIM_UNKNOWN) from error
    except NotSubscribedError as error:
        raise ProblemError(problems.SUBSCRIPTION_UNKNOWN) from error
    except ClaimedByAnotherTenantError as error:
        raise ProblemError(problems.CLAIMED_ELSEWHERE, subscription_id=error.subscription_id) from error
    except AccountLinkedToAnotherTenantError as error:
        raise ProblemError(
            problems.ACCOUNT_LINKED_ELSEWHERE, subscription_id=error.subscription_id, tenants=error.tenants
        ) from error
    except ClaimChangedError as error:
        now = {"tenant_id": error.tenant_id, "claim_revision": error.claim_revision}
        raise ProblemError(problems.CLAIM_CHANGED, subscription_id=error.subscription_id, **now) from error


def failure(error: str) -> Answer:
    """The answer after an unexpected error; `error` is for the log."""
    return replace(_problem(problems.INTERNAL), error=error)


def _problem(problem: Problem, **details: Any) -> Answer:
    response = json_response(problem.status, problem.as_json(**details), problem.headers)
    return Answer(response, problem.metric, details.get("subscription_id"))


def _counted(request: Request, answer: Answer) -> Answer:
    """The answer to a request that is wrong. A report of usage that can't be read counts as one that is rejected: its
    sender may ignore the status as it may ignore results."""
    is_report = request.route == "POST /usage" and _VALIDATION not in request.raw_query
    return replace(answer, counts={"ReportRejected": 1}) if is_report else answer


def _problem_of_request(error: Exception) -> Problem:
    match error:
        case BodyTooLargeError():
            return problems.BODY_TOO_LARGE
        case UnreadableBodyError():
            return problems.BODY_INVALID
        case InvalidCursorError():
            return problems.CURSOR_INVALID
    return problems.PARAMETER_INVALID


def _logged(error: AwsError) -> str:
    """What the log says of an error. AWS's messages may hold what no log may; the archive's own do not."""
    return str(error) if isinstance(error, ArchiveError) else f"{type(error).__name__} {error.code}"


def _problem_of_aws(error: AwsError) -> Problem:
    match error:
        case ArchiveError():
            return problems.INTERNAL
        case ThrottledError():
            return problems.BUSY
        case UnavailableError():
            return problems.UNAVAILABLE
    return problems.INTERNAL
