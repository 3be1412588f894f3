"""What a shell needs to call the stack: the lines that `make run` prints, so that the documents' commands work."""

import shlex
from collections.abc import Mapping

from local.deployment import REGION
from local.servers import endpoint_variables
from local.signature import ACCESS_KEY, SECRET_KEY

OUTPUTS = {
    "MARKETPLACE_API": "ApiUrl",
    "USAGE_TABLE": "UsageTableName",
    "SUBSCRIPTIONS_TABLE": "SubscriptionsTableName",
    "QUEUE_URL": "NotificationQueueUrl",
    "READ_BACK_URL": "ReadBackQueueUrl",
    "DLQ_URL": "DeadLetterQueueUrl",
    "EVENT_BUS": "EventBusName",
    "FULFILMENT_URL": "FulfilmentUrl",
    "ARCHIVE_BUCKET": "UsageArchiveBucketName",
}
"""The variables of the documents' commands, each with the output of the stack that it holds."""

AWS_CLI_1 = (
    'aws() { if [ "$1" = sqs ]; then shift; command aws sqs --endpoint-url "$AWS_ENDPOINT_URL" "$@"; '
    'else command aws "$@"; fi; }'
)
"""AWS CLI 1 asks SQS at AWS's own address whatever AWS_ENDPOINT_URL says (its overridesslcommonname.py)."""


def variables(aws_url: str, marketplace_url: str, stack_name: str, outputs: Mapping[str, str]) -> dict[str, str]:
    """The variables of a shell that calls this stack. AWS_ENDPOINT_URL leads everything that has no address of its own
    to this machine as well, so that nothing is asked of AWS."""
    marketplace = endpoint_variables(aws_url, aws_url, marketplace_url)
    return {
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_ENDPOINT_URL": aws_url,
        **{name: url for name, url in marketplace.items() if url == marketplace_url},
        "STACK": stack_name,
        **{name: outputs[output] for name, output in OUTPUTS.items() if output in outputs},
    }


def lines(given: Mapping[str, str]) -> list[str]:
    """The same as a shell reads it. A profile or a session of the person's own would take precedence, so they go."""
    made = [f"export {name}={shlex.quote(value)}" for name, value in given.items()]
    return ["unset AWS_PROFILE AWS_SESSION_TOKEN", *made, AWS_CLI_1]
