"""Signature Version 4 of a request to the API, verified by signing the same request again with botocore.

There is one caller on one machine, whose credentials `make run` prints; any other access key is refused, as API Gateway
refuses a principal that may not call the API.
"""

import hashlib
import hmac
import re
import time
from datetime import UTC, datetime

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from werkzeug import Request

from local.deployment import REGION

ACCESS_KEY, SECRET_KEY = "local", "local"
SERVICE = "execute-api"
CLOCK_SKEW = 300
"""Seconds that the time of a signature may differ (IAM User Guide, "Elements of a request signature")."""

_HASH = "x-amz-content-sha256"
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[^/,\s]+)/(?P<date>\d{8})/(?P<scope>[^,\s]+),\s*"
    r"SignedHeaders=(?P<headers>[a-z0-9;-]+),\s*Signature=(?P<signature>[0-9a-f]{64})"
)


def signed(method: str, url: str, body: bytes | None, headers: dict[str, str]) -> dict[str, str]:
    """The headers of a request with its signature."""
    request = AWSRequest(method, url, data=body, headers=headers)
    SigV4Auth(Credentials(ACCESS_KEY, SECRET_KEY), SERVICE, REGION).add_auth(request)
    return dict(request.headers)


def is_valid(request: Request, body: bytes) -> bool:
    """Whether the Authorization header is what the one caller's credentials make of this request, now."""
    given = _AUTHORIZATION.fullmatch(request.headers.get("Authorization", ""))
    if given is None or given["key"] != ACCESS_KEY:
        return False
    date = request.headers.get("X-Amz-Date", "")
    names = given["headers"].split(";")
    if given["scope"] != f"{REGION}/{SERVICE}/aws4_request" or not date.startswith(given["date"]):
        return False
    if not _is_recent(date) or not {"host", "x-amz-date"} <= set(names):
        return False
    digest = hashlib.sha256(body).hexdigest()
    headers = {name: request.headers[name] for name in names if name in request.headers}
    if len(headers) != len(names) or headers.get(_HASH, digest) != digest:
        return False
    url = f"http://{request.host}{request.environ['REQUEST_URI']}"
    again = AWSRequest(request.method, url, data=body, headers=headers)
    again.context["timestamp"] = date
    auth = SigV4Auth(Credentials(ACCESS_KEY, SECRET_KEY), SERVICE, REGION)
    to_sign = auth.string_to_sign(again, auth.canonical_request(again))
    return hmac.compare_digest(auth.signature(to_sign, again), given["signature"])


def _is_recent(date: str) -> bool:
    try:
        moment = datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return False
    return abs(moment.timestamp() - time.time()) <= CLOCK_SKEW  # noqa: TID251 - SDKs sign with real time
