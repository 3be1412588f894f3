"""What functions talk to on this machine: AWS Marketplace, and DynamoDB, SQS, EventBridge and S3, made from
template.yaml."""

import errno
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from local.aws import BusEvent, LocalAws
from local.clock import StackClock
from local.delivery import Delivery
from local.deployment import Deployment
from local.options import Options, StackError
from local.template import parameters_of, read
from marketplace_emulator import Marketplace, Settings, serve


class Servers:
    """moto and the emulator of AWS Marketplace on one clock. `deploy` makes what the template declares, and
    `start_delivery` sends what AWS Marketplace has to say to the template's queues. Everything ends with `cleanup`.

    Raises StackError when a server can't be started.
    """

    def __init__(self, options: Options, cleanup: ExitStack) -> None:
        self.options = options
        self.clock = StackClock.parse(options.clock)
        self.marketplace = marketplace(options, self.clock)
        with port_named("moto (--moto-port)", options.aws_port, options.host):
            self.aws = LocalAws(options.host, options.aws_port, self.clock.now)
        cleanup.callback(self.aws.stop)
        self.aws.on_event = self.on_event
        self.aws_url = self.aws.url
        with port_named("the emulator (--emulator-port)", options.marketplace_port, options.host):
            emulator = serve(self.marketplace, options.host, options.marketplace_port)
        cleanup.callback(emulator.close)
        self.marketplace_url = emulator.url
        self.deployment: Deployment
        self.delivery: Delivery
        self.delivered = (self.marketplace.generation, 0)

    def deploy(self, parameters: Mapping[str, str], dynamodb: Any = None) -> None:
        """Read the template and make its tables, queues, buckets and buses; the tables through another DynamoDB client
        where one is given. Raises template.TemplateError."""
        self.deployment = deployment(self.options, self.marketplace, parameters, self.aws_url)
        self.aws.furnish(self.deployment, dynamodb)

    def start_delivery(self, cleanup: ExitStack) -> None:
        """Send notifications to the queues from now on."""
        urls = {queue.name: self.queue_url(queue.name) for queue in self.deployment.queues}
        self.delivery = Delivery(
            self.marketplace, self.deployment, self.aws.client("sqs"), urls, self.on_delivery, position=self.delivered
        )
        cleanup.callback(self.delivery.stop)

    def queue_url(self, name: str) -> str:
        """The address of a queue."""
        url: str = self.aws.client("sqs").get_queue_url(QueueName=name)["QueueUrl"]
        return url

    def on_delivery(self) -> None:
        """A notification was delivered."""

    def on_event(self, event: BusEvent) -> None:
        """An event was put on a bus."""
        if self.options.on_event is not None:
            self.options.on_event(event)


def marketplace(options: Options, clock: StackClock) -> Marketplace:
    """The emulator, with the limits of AWS Marketplace."""
    settings = Settings(
        license_delay_seconds=options.license_delay,
        metering_rate=options.metering_rate,
        entitlement_rate=None if options.metering_rate is None else 20,
        trail_rate=None if options.metering_rate is None else 2,
        seed=options.seed,
    )
    return Marketplace(clock, settings)


def deployment(
    options: Options, marketplace: Marketplace, parameters: Mapping[str, str], sqs_endpoint: str
) -> Deployment:
    """The template with the emulator's products, then `parameters`, then the parameters that the options name."""
    products = marketplace.registry.products.values()
    legacy = [product for product in products if product.integration == "legacy"]
    own = {
        "Stage": "local",
        "MeteringEnabled": "true",
        "ProductCodes": ",".join(product.code for product in products),
        "LegacyProductCodes": ",".join(product.code for product in legacy),
        "LegacyContractProductCodes": ",".join(product.code for product in legacy if product.has_contract),
        "ProductTitles": ",".join(f"{product.code}={product.title.replace(',', ' ')}" for product in products),
    }
    known = parameters_of(options.template)
    chosen = {name: value for name, value in {**own, **parameters}.items() if name in known} | dict(options.parameters)
    return read(options.template, chosen, sqs_endpoint=sqs_endpoint, root=options.root)


def endpoint_variables(dynamodb: str, aws: str, marketplace: str) -> dict[str, str]:
    """The variables that lead AWS SDKs to servers on this machine, from the addresses of DynamoDB, of moto and of AWS
    Marketplace."""
    urls = {
        "DYNAMODB": dynamodb,
        "SQS": aws,
        "SNS": aws,
        "EVENTBRIDGE": aws,
        "S3": aws,
        "STS": aws,
        "MARKETPLACE_METERING": marketplace,
        "MARKETPLACE_ENTITLEMENT_SERVICE": marketplace,
        "MARKETPLACE_AGREEMENT": marketplace,
        "CLOUDTRAIL": marketplace,
    }
    return {f"AWS_ENDPOINT_URL_{service}": url for service, url in urls.items()}


@contextmanager
def port_named(who: str, port: int, host: str) -> Iterator[None]:
    """Say in a StackError why a server can't listen, and which one."""
    try:
        yield
    except (OSError, OverflowError, UnicodeError) as error:
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            raise StackError(f"port {port} for {who} is taken; choose another, or 0 for any") from error
        reason = error.strerror if isinstance(error, OSError) else error
        raise StackError(f"{who} can't listen on {host}, port {port}: {reason}") from error
