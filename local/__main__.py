"""`python -m local`: the whole system on this machine, until Ctrl-C."""

import logging
import os
import signal
import sys
import threading

from local import command, demo
from local.options import StackError
from local.stack import running
from local.template_yaml import TemplateError


def main(arguments: list[str] | None = None) -> int:
    """Run until SIGINT or SIGTERM; answers the exit code."""
    given = command.parser().parse_args(arguments)
    try:
        options = command.options(given)
    except OSError as error:
        print(f"local: {error}", file=sys.stderr)
        return 2
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: _end(ended))
    # Errors inside the servers, with their tracebacks, go where the functions' log goes.
    logging.basicConfig(stream=options.log, level=logging.ERROR, format="%(levelname)s %(name)s: %(message)s")
    print("Starting DynamoDB, SQS, EventBridge, AWS Marketplace, the functions, the API and the console", flush=True)
    try:
        with running(options) as stack:
            if given.demo:
                demo.play(stack, lambda text: print(f"  {text}", flush=True))
            print(command.welcome(stack), flush=True)
            ended.wait()
            stack.stop()
    except (StackError, TemplateError, RuntimeError) as error:
        print(f"local: {error}", file=sys.stderr)
        return 1
    print(command.farewell(options), flush=True)
    return 0


def _end(ended: threading.Event) -> None:
    """End the stack in order at the first signal, and the process at once at another one."""
    if ended.is_set():
        os._exit(130)
    ended.set()


if __name__ == "__main__":
    # The servers' threads may still handle requests, and the interpreter would wait for some of them.
    code = main()
    sys.stdout.flush()
    os._exit(code)
