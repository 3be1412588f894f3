"""What a function does once Lambda has restored it from a snapshot of its initialised state (SnapStart)."""

import random


def reseed_after_restore() -> None:
    """Has every restored environment draw its own random numbers for the waits between attempts, the SDK's included:
    the generator is seeded when it is imported, so a snapshot holds the seed. Ids and codes need nothing. They come
    from the operating system whenever one is made.

    Lambda's Python has the library that the hook is registered with; nothing is restored where it is missing.
    Source: AWS Lambda Developer Guide, "Handling uniqueness with Lambda SnapStart", "Runtime hooks for Python".
    """
    try:
        from snapshot_restore_py import register_after_restore  # noqa: PLC0415
    except ImportError:
        return
    register_after_restore(random.seed)
