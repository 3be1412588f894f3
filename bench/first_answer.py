"""Runs in the Lambda image, started by bench/cold_start.py: imports one function, has it answer one event, and prints
how long both took.

    python first_answer.py EVENT [boto3]

With `boto3`, clients are made by boto3, as samples make them. AWS is a process that answers every call with nothing
found. The last line on standard error is a JSON list: seconds of elapsed time and of CPU for the import, the same for
the answer.
"""

import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

AWS = """
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NOTHING = b'{"Items": [], "Count": 0, "Responses": {}, "UnprocessedKeys": {}}'

class Aws(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "application/x-amz-json-1.0")
        self.send_header("content-length", str(len(NOTHING)))
        self.end_headers()
        self.wfile.write(NOTHING)

    def log_message(self, *_):
        pass

server = ThreadingHTTPServer(("127.0.0.1", 0), Aws)
print(server.server_port, flush=True)
server.serve_forever()
"""
SERVICES = (
    *("DYNAMODB", "SQS", "EVENTBRIDGE", "STS", "MARKETPLACE_METERING", "MARKETPLACE_ENTITLEMENT_SERVICE"),
    "MARKETPLACE_AGREEMENT",
)
QUEUES = "https://sqs.us-east-1.amazonaws.com/123456789012/"
VARIABLES = {
    "SUBSCRIPTIONS_TABLE": "s",
    "USAGE_TABLE": "u",
    "EVENT_BUS_NAME": "b",
    "STAGE": "bench",
    **{f"{name}_QUEUE_URL": QUEUES + name.lower() for name in ("NOTIFICATION", "READ_BACK", "METERING")},
    "PRODUCT_CODES": "p",
    "METERING_ENABLED": "true",
    "SUPPORT_CONTACT": "help@seller.example",
    "AWS_ACCESS_KEY_ID": "x",
    "AWS_SECRET_ACCESS_KEY": "x",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_LAMBDA_FUNCTION_NAME": "f",
    "POWERTOOLS_METRICS_NAMESPACE": "bench",
}


class Context:
    """What Lambda hands a handler beside the event."""

    function_name = "f"
    memory_limit_in_mb = 512
    invoked_function_arn = "arn:aws:lambda:us-east-1:123456789012:function:f"
    aws_request_id = "r"

    def get_remaining_time_in_millis(self) -> int:
        return 60_000


def main() -> None:
    """Measure once."""
    event: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    aws = subprocess.Popen([sys.executable, "-c", AWS], stdout=subprocess.PIPE, text=True)
    assert aws.stdout is not None
    address = f"http://127.0.0.1:{aws.stdout.readline().strip()}"
    os.environ.update(VARIABLES | {f"AWS_ENDPOINT_URL_{name}": address for name in SERVICES})
    begun = time.perf_counter(), time.process_time()
    if sys.argv[2:] == ["boto3"]:
        clients = importlib.import_module("marketplace.platform.clients")
        vars(clients)["new_client"] = importlib.import_module("boto3").client
    app = importlib.import_module("app")
    imported = time.perf_counter(), time.process_time()
    answer = app.lambda_handler(event, Context())
    answered = time.perf_counter(), time.process_time()
    aws.kill()
    if answer.get("statusCode", 200) >= 500 or answer.get("batchItemFailures"):
        sys.exit(f"the function failed: {answer}")
    seconds = [imported[0] - begun[0], imported[1] - begun[1], answered[0] - imported[0], answered[1] - imported[1]]
    print(json.dumps(seconds), file=sys.stderr)


if __name__ == "__main__":
    main()
