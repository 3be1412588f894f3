"""Reconciliation of a million records on one core: files of a CloudTrail trail against our ledger's metering records.

python -m bench.reconcile [--records 1000000]
"""

import argparse
import gzip
import json
import random
import resource
import time
from collections import Counter
from collections.abc import Iterator

from bench.surroundings import table
from marketplace.dynamodb.keys import Key
from marketplace.ledger.record import MeteringRecord
from marketplace.platform.clock import HOUR, EpochSeconds, iso
from marketplace.reconcile.cloudtrail import entries_of, events_in
from marketplace.reconcile.compare import reconcile
from marketplace.reconcile.evidence import Gap, our_entries

HOURS = 24
START = 1_795_305_600
PER_CALL = 25
CALLS_PER_FILE = 400
ROLE = "arn:aws:iam::222233334444:role/MeterUsageRole"


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m bench.reconcile", description=__doc__)
    options.add_argument("--records", type=int, default=1_000_000)
    count = options.parse_args().records
    made = list(_files(count))
    began, cpu = time.monotonic(), time.process_time()
    gaps: list[Gap] = []
    theirs = entries_of((event for file in made for event in events_in(file)), gaps)
    found = Counter(one.kind for one in reconcile(our_entries(_ledger(count)), theirs, senders={ROLE}, gaps=gaps))
    seconds, spent = time.monotonic() - began, time.process_time() - cpu
    assert found == dict.fromkeys(("only_ours", "other_quantity"), count // 100000), found
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    table(
        f"Reconciling {count:,} records with a trail of {sum(map(len, made)) / 1e6:.0f} MB in {len(made)} files",
        [
            ("reading, sorting and comparing", f"{seconds:.0f} s; {spent:.1f} s of CPU"),
            ("records a second of CPU", f"{count / spent:,.0f}"),
            ("peak memory of the process, the files included", f"{peak} MB"),
            ("differences found, all of them planted", f"{found.total()}"),
        ],
    )


def _who(number: int) -> tuple[str, int, int]:
    return f"l-{number // HOURS:032x}", START + number % HOURS * HOUR, number % 9973


def _ledger(count: int) -> Iterator[MeteringRecord]:
    for number in range(count):
        license_id, hour, quantity = _who(number)
        yield MeteringRecord(
            key=Key(f"SUB#{number // HOURS}", "HOUR"),
            dimension="api_calls",
            hour=EpochSeconds(hour),
            quantity=quantity,
            state="metered",
            seal="x",
            timestamp=EpochSeconds(hour),
            refuse_at=EpochSeconds(hour),
            product_code="p",
            license_arn=f"arn:aws:license-manager::294406891311:license:{license_id}",
            account_id="111122223333",
            metering_record_id=f"id-{number}",
            settled_at=EpochSeconds(hour + HOUR + 900),
        )


def _files(count: int) -> Iterator[bytes]:
    order = list(range(count))
    random.Random(7).shuffle(order)
    per_file = PER_CALL * CALLS_PER_FILE
    for start in range(0, count, per_file):
        numbers = order[start : start + per_file]
        events = [_event(numbers[at : at + PER_CALL]) for at in range(0, len(numbers), PER_CALL)]
        yield gzip.compress(json.dumps({"Records": events}).encode(), 1)


def _event(numbers: list[int]) -> dict[str, object]:
    records = [_record(number) for number in numbers if number % 100_000 != 50_000]
    results = [
        {"usageRecord": record, "meteringRecordId": f"id-{number}", "status": "Success"}
        for number, record in zip((n for n in numbers if n % 100_000 != 50_000), records, strict=True)
    ]
    return {
        "eventName": "BatchMeterUsage",
        "eventTime": iso(START + 30 * HOUR),
        "eventID": str(numbers[0]),
        "userIdentity": {"arn": f"{ROLE}/x", "sessionContext": {"sessionIssuer": {"arn": ROLE}}},
        "requestParameters": {"usageRecords": records},
        "responseElements": {"results": results, "unprocessedRecords": []},
    }


def _record(number: int) -> dict[str, object]:
    license_id, hour, quantity = _who(number)
    at = time.gmtime(hour)
    text = f"Nov {at.tm_mday}, 2026 {at.tm_hour % 12 or 12}:00:00 {'AM' if at.tm_hour < 12 else 'PM'}"
    return {
        "dimension": "api_calls",
        "timestamp": text,
        "customerAWSAccountId": "111122223333",
        "licenseArn": f"arn:aws:license-manager::294406891311:license:{license_id}",
        "quantity": quantity + (number % 100_000 == 99_999),
    }


if __name__ == "__main__":
    main()
