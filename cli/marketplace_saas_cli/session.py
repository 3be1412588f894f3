"""What a command works on: one deployment, in an AWS account or on this machine.

The session reads the tables, and sends messages to the queues, with the credentials of the shell. What the seller API
offers for a change is asked of the seller API, so that its checks, its metrics and its audit trail apply.
"""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import marketplace_saas_client as client_package
from marketplace.archive.bucket import ArchiveBucket, archive_of
from marketplace.archive.reader import UsageHistory
from marketplace.dynamodb.table import Table
from marketplace.entitlements.source import EntitlementSource, MarketplaceEntitlements
from marketplace.platform.clock import Clock, EpochSeconds, epoch, utc_now
from marketplace.subscriptions.recheck_queue import LifecycleRequests
from marketplace.usage.queries import UsageQueries
from marketplace_saas_cli.arguments import Common
from marketplace_saas_cli.aws import Aws
from marketplace_saas_cli.exits import NoAnswerError, RefusedError
from marketplace_saas_cli.output import Output
from marketplace_saas_cli.stack import Resource, StackDescription, described, resources_of
from marketplace_saas_client.calls import Call
from marketplace_saas_client.http import Transport

_LOCAL_STACK = "marketplace-saas"
_LOCAL_OUTPUTS = ("LocalMarketplaceUrl", "LocalAccessKeyId", "LocalSecretAccessKey")
_MARKETPLACE = ("meteringmarketplace", "marketplace-entitlement", "marketplace-agreement", "cloudtrail")


@dataclass
class Session:
    """`transport` sends the requests to the seller API; None is the network."""

    stack: StackDescription
    aws: Aws
    output: Output
    clock: Clock = utc_now
    sleep: Callable[[float], None] = time.sleep
    local: bool = False
    transport: Transport | None = None

    @property
    def now(self) -> EpochSeconds:
        return epoch(self.clock())

    @cached_property
    def subscriptions(self) -> Table:
        return Table(self.aws.client("dynamodb"), self.stack.outputs["SubscriptionsTableName"])

    @cached_property
    def usage(self) -> Table:
        return Table(self.aws.client("dynamodb"), self.stack.outputs["UsageTableName"])

    @cached_property
    def archive(self) -> ArchiveBucket | None:
        """Where archived months of usage are, in a deployment that archives."""
        return archive_of(lambda: self.aws.client("s3"), self.stack.outputs.get("UsageArchiveBucketName", ""))

    @cached_property
    def history(self) -> UsageHistory:
        """The metering records of the table and the archive."""
        return UsageHistory(self.usage, self.clock, self.archive)

    @cached_property
    def queries(self) -> UsageQueries:
        return UsageQueries(self.usage, self.clock, self.archive)

    @cached_property
    def sqs(self) -> Any:
        return self.aws.client("sqs")

    @cached_property
    def queue(self) -> LifecycleRequests:
        """The queues that take requests."""
        outputs = self.stack.outputs
        return LifecycleRequests(
            self.sqs,
            outputs["NotificationQueueUrl"],
            read_back_queue_url=outputs["ReadBackQueueUrl"],
            metering_queue_url="",  # metering runs before a deadline are none of an operator's requests
        )

    @cached_property
    def seller(self) -> Aws:
        """The account that published the products: asked as the seller's role where the stack has one. Raises
        NoAnswerError."""
        given = self.stack.parameters
        role = self.stack.seller_role
        return self.aws.assuming(role, given.get("SellerRoleExternalId", "")) if role else self.aws

    @cached_property
    def entitlement_source(self) -> EntitlementSource:
        """AWS Marketplace's entitlements. Raises NoAnswerError."""
        return MarketplaceEntitlements(self.seller.client("marketplace-entitlement"))

    @cached_property
    def resources(self) -> dict[str, Resource]:
        """Every resource of the stack, by its logical id. Raises what boto3 raises."""
        return resources_of(self.aws, self.stack.name)

    @cached_property
    def _api(self) -> client_package.Client:
        return client_package.Client(
            self.stack.outputs["ApiUrl"],
            ":memory:",  # nothing waits here: a call is answered or has failed
            credentials=self.aws.credentials,
            transport=self.transport,
        )

    def call[T](self, call: Call[T]) -> T:
        """Asks the seller API. Raises RefusedError with its words, and NoAnswerError."""
        try:
            return self._api.call(call)
        except client_package.ApiError as error:
            if error.status == 403 and not error.code:
                raise NoAnswerError("the credentials of this shell may not call the seller API (403)") from error
            raise RefusedError(f"{error.code}: {error.message}") from error
        except client_package.NoCredentialsError as error:
            raise NoAnswerError(f"this shell has no AWS credentials ({error})") from error
        except client_package.NoAnswerError as error:
            raise NoAnswerError(f"the seller API gave no answer ({error})") from error


def connect(common: Common, output: Output) -> Session:
    """The session that the options ask for. Raises RefusedError and NoAnswerError."""
    if common.local is not None:
        return _local(common.local, output)
    if common.stack is None:
        raise RefusedError("name the deployment: --stack NAME, or --local for the system of `make run`")
    aws = Aws()
    stack = described(aws, common.stack)
    if _LOCAL_OUTPUTS[0] in stack.outputs:  # a shell with the lines that `make run` prints
        return Session(stack, aws, output, clock=_clock_of(stack.outputs[_LOCAL_OUTPUTS[0]]), local=True)
    return Session(stack, aws, output)


def _local(place: str, output: Output) -> Session:
    """The system of `make run`, which describes itself as CloudFormation describes a stack."""
    url = f"http://127.0.0.1:{_port(place)}"
    try:
        stack = described(Aws({"*": url}, ("local", "local")), _LOCAL_STACK)
    except NoAnswerError as error:
        raise NoAnswerError(f"nothing answers at {url}; `make run` starts the local system") from error
    if missing := [name for name in _LOCAL_OUTPUTS if name not in stack.outputs]:
        raise RefusedError(f"what answers at {url} is not the local system: it lacks the output {missing[0]}")
    marketplace, key, secret = (stack.outputs[name] for name in _LOCAL_OUTPUTS)
    endpoints = {"*": url, **dict.fromkeys(_MARKETPLACE, marketplace)}
    return Session(stack, Aws(endpoints, (key, secret)), output, clock=_clock_of(marketplace), local=True)


def _port(place: str) -> int:
    text = place
    if not place.isdecimal():
        try:
            text = (Path(place) / "running").read_text().rpartition(":")[2].strip()
        except OSError as error:
            raise RefusedError(f"no local system runs with --keep {place}") from error
    if not text.isdecimal() or not 0 < int(text) <= 65535:
        raise RefusedError(f"{place} is neither a port nor the folder of a local system that runs")
    return int(text)


def _clock_of(marketplace_url: str) -> Clock:
    """The emulator's clock, as it is now: it stands still, or runs ahead of this machine's."""
    try:
        with urllib.request.urlopen(f"{marketplace_url}/admin/clock", timeout=10) as answer:  # noqa: S310 - loopback
            told = json.load(answer)
    except (OSError, ValueError, urllib.error.URLError) as error:
        raise NoAnswerError(f"the local AWS Marketplace at {marketplace_url} gives no answer") from error
    now = datetime.fromtimestamp(told["timestamp"], UTC)
    if told["mode"] == "frozen":
        return lambda: now
    ahead = timedelta(seconds=told["timestamp"]) - timedelta(seconds=utc_now().timestamp())
    return lambda: utc_now() + ahead
