"""What the stack says when it can't be started."""


class StackError(Exception):
    """The stack can't be started; the message says what to do."""
