"""Checks against AWS Marketplace: permissions of the roles, product codes, dimensions, and the fulfilment URL."""

import json
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import urllib3
from botocore.exceptions import BotoCoreError, ClientError

from marketplace.platform.aws_errors import classified
from marketplace.platform.clock import DAY, HOUR, hour_of
from marketplace.platform.errors import RefusedError
from marketplace.seller_api.subscription_queries import Filter
from marketplace_saas_cli import walks
from marketplace_saas_cli.aws import cause_of
from marketplace_saas_cli.doctor.check import Finding, fine, trouble, unknown
from marketplace_saas_cli.session import Session

ACTIONS: Mapping[str, tuple[str, ...]] = {
    "ResolveCustomerRole": ("aws-marketplace:ResolveCustomer",),
    "MeterUsageRole": ("aws-marketplace:BatchMeterUsage",),
    "EntitlementCheckRole": ("aws-marketplace:GetEntitlements", "aws-marketplace:SearchAgreements"),
    "SellerApiRole": ("aws-marketplace:GetEntitlements",),
}
"""What each role must be allowed (template.yaml); where the products are another account's, sts:AssumeRole in place of
it."""
_TIMEOUT = urllib3.Timeout(connect=5, read=20)
_TOKEN = "x-amzn-marketplace-token"  # noqa: S105 - the name of a form field
SUBSCRIPTIONS_LOOKED_AT = 200


def permissions(session: Session) -> Iterator[Finding]:
    """Whether IAM lets each role do what it is for; service control policies count as well."""
    if session.local:
        yield unknown("permissions", "there are no roles on one machine")
        return
    iam = session.aws.client("iam")
    seller = session.stack.seller_role
    for role, marketplace_actions in ACTIONS.items():
        name = session.resources[role].physical_id
        actions = ("sts:AssumeRole",) if seller else marketplace_actions
        arn = iam.get_role(RoleName=name)["Role"]["Arn"]
        results = iam.simulate_principal_policy(
            PolicySourceArn=arn, ActionNames=list(actions), **({"ResourceArns": [seller]} if seller else {})
        )["EvaluationResults"]
        denied = [one["EvalActionName"] for one in results if one["EvalDecision"] != "allowed"]
        if denied:
            do = "correct the role, its boundary or the account's policies; deploy the stack again"
            yield trouble("permissions", f"{name} is denied {', '.join(denied)}", do)
        else:
            yield fine("permissions", f"{role} may {', '.join(actions)}")
    if seller:
        yield unknown("permissions", f"what {seller} may is asked in its own account")


def product_codes(session: Session) -> Iterator[Finding]:
    """Whether AWS answers for each product code: it does for those of this account only."""
    client = session.seller.client("marketplace-entitlement")
    for code in session.stack.product_codes:
        try:
            client.get_entitlements(ProductCode=code, MaxResults=1)
            yield fine("product codes", f"AWS knows {code} in this account")
        except (BotoCoreError, ClientError) as error:
            refused = classified(error)
            if isinstance(refused, RefusedError):
                text = f"AWS does not know {code} in this account ({refused.code})"
                yield trouble("product codes", text, "compare ProductCodes with the product codes of your listings")
            else:
                yield unknown("product codes", f"{code}: {cause_of(refused)}")


def fulfilment_url(session: Session) -> Iterator[Finding]:
    """The page that AWS sends buyers to, asked as AWS and a browser ask it: GET, and POST of a token as a form."""
    url = session.stack.outputs["FulfilmentUrl"]
    pool = urllib3.PoolManager(timeout=_TIMEOUT, retries=False)
    subject, do = "fulfilment url", "deploy the stack again, and enter the output FulfilmentUrl in the listing"
    try:
        page = pool.request("GET", url, redirect=False)
        posted = pool.request("POST", url, fields={_TOKEN: "doctor-asks"}, encode_multipart=False, redirect=False)
    except urllib3.exceptions.HTTPError as error:
        yield trouble(subject, f"{url} gives no answer ({error})", do)
        return
    for method, answer, wanted in (("GET", page, 200), ("POST of an unknown token", posted, 400)):
        is_page = "text/html" in answer.headers.get("content-type", "")
        if answer.status == wanted and is_page:
            yield fine(subject, f"{method} is answered with a page")
        elif answer.status == 503:
            text = f"{method} is answered 503: AWS gave the application no answer"
            yield trouble(subject, text, "read the log of resolve_customer: role, account, region")
        else:
            kind = "a page" if is_page else "no page"
            yield trouble(subject, f"{method} of {url} is answered {answer.status} with {kind}", do)


def dimensions(session: Session) -> Iterator[Finding]:
    """Dimensions of the last day's usage that the catalogue does not list; they are case-sensitive."""
    used = _used(session)
    if not used:
        yield fine("dimensions", "no usage in the last day")
        return
    if session.local:
        yield unknown("dimensions", "the catalogue is not played on one machine; what AWS refuses is `rejected`")
        return
    listed = _listed(session)
    for product, names in sorted(used.items()):
        known = listed.get(product)
        if known is None:
            yield unknown("dimensions", f"the catalogue shows no product with the code {product} to these credentials")
        elif wrong := sorted(names - known):
            text = f"{product}: usage of {', '.join(wrong)}; the listing has {', '.join(sorted(known))}"
            yield trouble(
                "dimensions", text, "correct the application, or add the dimension to the listing and `retry`"
            )
        else:
            yield fine("dimensions", f"{product}: {', '.join(sorted(names))}")


def _used(session: Session) -> dict[str, set[str]]:
    """The dimensions of the last day's usage by product, of the first active subscriptions."""
    end = hour_of(session.now) + 2 * HOUR
    used: dict[str, set[str]] = {}
    active = walks.subscriptions(session, Filter("status", "active"))
    for one in islice(active, SUBSCRIPTIONS_LOOKED_AT):
        for record in session.queries.all_metering_records(one.id, end - DAY, end):
            used.setdefault(one.product_code, set()).add(record.dimension)
    return used


def _listed(session: Session) -> dict[str, set[str]]:
    """The dimensions of each SaaS product of the account by its code, as the catalogue has them. Raises what boto3
    raises."""
    catalog = session.seller.client("marketplace-catalog")
    found: dict[str, set[str]] = {}
    token: dict[str, str] = {}
    while True:
        page = catalog.list_entities(Catalog="AWSMarketplace", EntityType="SaaSProduct", **token)
        for entity in page["EntitySummaryList"]:
            described = catalog.describe_entity(Catalog="AWSMarketplace", EntityId=entity["EntityId"])
            details: dict[str, Any] = described.get("DetailsDocument") or json.loads(described.get("Details") or "{}")
            code = (details.get("Description") or {}).get("ProductCode")
            if code:
                found[code] = {str(one["Key"]) for one in details.get("Dimensions", []) if "Key" in one}
        if not page.get("NextToken"):
            return found
        token = {"NextToken": page["NextToken"]}
