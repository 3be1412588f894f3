"""How the command line ends: the exit statuses, and the errors that lead to them."""

FINE = 0
TROUBLE = 1
"""The command did its work, and found something that a person has to see to."""
USAGE = 2
"""What was asked for can't be done: a wrong argument, an unknown id, a file with mistakes. Nothing was changed."""
NO_ANSWER = 3
"""AWS, or the local system, gave no answer or refused it: no credentials, no permission, an outage. Repeat it."""
NOT_CONFIRMED = 4
"""A change was shown and not confirmed. Nothing was changed."""
INTERRUPTED = 130


class CliError(Exception):
    """The command ends; the text says why in one sentence."""

    status = USAGE


class RefusedError(CliError):
    """What was asked for can't be done."""


class NoAnswerError(CliError):
    """AWS, or the local system, gave no answer that says anything."""

    status = NO_ANSWER


class NotConfirmedError(CliError):
    """The change was shown and not confirmed."""

    status = NOT_CONFIRMED
