"""API Gateway, public: a buyer's registration and the landing page."""

from functools import cache
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

from marketplace.dynamodb.table import Table
from marketplace.platform import clients
from marketplace.platform.clock import utc_now
from marketplace.platform.deadline import DeadlineError, deadline
from marketplace.platform.http import Answer, Request
from marketplace.platform.logs import traceback_frames
from marketplace.platform.seller_role import seller_role
from marketplace.platform.settings import Settings
from marketplace.platform.snapshot import reseed_after_restore
from marketplace.registration import problems
from marketplace.registration.codes import RegistrationCodes, new_code
from marketplace.registration.contacts import Contacts
from marketplace.registration.register import MarketplaceResolver, Registration
from marketplace.registration.routes import BuyerRoutes, problem_answer
from marketplace.registration.seller import Seller
from marketplace.subscriptions.recheck_queue import Requests

ANSWER_WITHIN = 12
"""Seconds; Lambda ends the function after its Timeout in template.yaml, and the buyer would get no page."""

logger = Logger()
metrics = Metrics(namespace="MarketplaceSaaS")
reseed_after_restore()


@cache
def routes() -> BuyerRoutes:
    """Everything put together, once per container."""
    settings = Settings.from_env()
    table = Table(clients.dynamodb(), settings.subscriptions_table)
    queue = Requests(clients.sqs(), settings.notification_queue_url)
    registration = Registration(
        resolver=MarketplaceResolver(clients.metering_for_registration(seller_role(settings, logger, metrics))),
        table=table,
        queue=queue,
        product_codes=settings.product_codes,
        clock=utc_now,
        new_code=new_code,
    )
    return BuyerRoutes(
        registration,
        RegistrationCodes(table, utc_now),
        Contacts(table, utc_now, queue),
        Seller.from_settings(settings),
        settings.sign_up_url,
        front_stage=settings.front_stage,
    )


@logger.inject_lambda_context
@metrics.log_metrics
def lambda_handler(event: dict[str, Any], _context: LambdaContext) -> dict[str, Any]:
    return handle(event)


def handle(event: dict[str, Any]) -> dict[str, Any]:
    """Answers one request. The log line and the metric about it hold nothing that the buyer sent."""
    request = Request.from_event(event)
    answer = _answer(request)
    metrics.add_metric(name=answer.outcome, unit=MetricUnit.Count, value=1)
    log = logger.error if answer.response.status >= 500 else logger.info
    log(
        answer.outcome,
        extra={"subscription_id": answer.subscription_id, "status": answer.response.status, "error": answer.error},
    )
    return answer.response.to(request).as_event()


def _answer(request: Request) -> Answer:
    """The answer to a request: a page after an unexpected error, and before the function's time is over, too."""
    seller = Seller()
    try:
        with deadline(ANSWER_WITHIN):
            buyer_routes = routes()
            seller = buyer_routes.seller
            return buyer_routes.answer(request)
    except (Exception, DeadlineError) as error:
        late = isinstance(error, DeadlineError)
        problem = problems.REGISTRATION_UNAVAILABLE if late else problems.REGISTRATION_FAILED
        return problem_answer(
            request, problem, seller, f"{type(error).__name__} at {', '.join(traceback_frames(error))}"
        )
