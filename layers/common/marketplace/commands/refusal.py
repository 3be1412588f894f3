"""What stands in an operator's way, said in a sentence."""


class CommandRefusedError(Exception):
    """What the operator asked for can't be done; the text says why, for the operator."""
