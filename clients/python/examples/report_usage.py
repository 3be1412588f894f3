"""Report usage of one subscription, and see where the first record went.

export MARKETPLACE_API=https://...   # the stack's output ApiUrl; http://127.0.0.1:8080 with `make run`
python report_usage.py sub-... api_calls
"""

import os
import sys
from datetime import UTC, datetime

from marketplace_saas_client import Client, Listener, Rejected, UsageRecord, operations


def main(subscription_id: str, dimension: str) -> None:
    """Report three parts of the running hour, as an application does that counts as it goes."""

    def on_rejected(rejected: Rejected) -> None:
        print(f"{rejected.record.id} is not billed: {rejected.reason}, {rejected.message}")

    client = Client(os.environ["MARKETPLACE_API"], "usage.sqlite3", Listener(on_rejected=on_rejected))
    print("status:", client.call(operations.get_subscription(subscription_id))["status"])

    now = datetime.now(UTC).replace(microsecond=0)  # your application takes id and time from what it counted
    ids = [f"{now:%Y-%m-%dT%H:%M:%S}/{dimension}/{part}" for part in range(3)]
    client.report(*(UsageRecord(one, dimension, 100, now, subscription_id=subscription_id) for one in ids))

    if not client.flush(30):
        print("not everything is sent yet; the outbox keeps it:", client.status())
    if client.rejected():
        sys.exit(1)
    proof = client.call(operations.prove_usage(subscription_id, ids[0]))
    print(f"{ids[0]}: booked to {proof['hour']}")


if __name__ == "__main__":
    main(*sys.argv[1:])
