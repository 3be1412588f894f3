"""What the operator's commands have in common: what stands in their way is said in a sentence, not by a traceback."""

from collections.abc import Callable

from marketplace.platform.aws_errors import classified_errors
from marketplace.platform.errors import AwsError

FAILED = 2
"""The exit status of a command that could not do its work."""

_CAUSES = {
    "ResourceNotFoundException": "there is no such table in this account and region",
    "QueueDoesNotExist": "there is no such queue in this account and region",
    "AWS.SimpleQueueService.NonExistentQueue": "there is no such queue in this account and region",
    "NoCredentialsError": "this shell has no credentials",
    "NoRegionError": "this shell has no region; set AWS_DEFAULT_REGION",
}


class CommandRefusedError(Exception):
    """What the operator asked for can't be done; the text says why, for the operator."""


def in_sentences(work: Callable[[], int], show: Callable[[str], object]) -> int:
    """Does the work of a command and returns its exit status; FAILED, with the reason, when it was refused or AWS did
    not do its part. Every command may be run again then."""
    try:
        with classified_errors():
            return work()
    except CommandRefusedError as refusal:
        show(f"refused: {refusal}\n")
    except AwsError as error:
        cause = _CAUSES.get(error.code, "AWS refused or gave no answer")
        show(f"{cause} ({error})\n")
    return FAILED
