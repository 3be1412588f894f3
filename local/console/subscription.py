"""The pages of one subscription: its usage, its timeline, what the buyer may use, its statement of a month."""

import csv
import io
import shlex
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import quote

from werkzeug import Response

from local.console import units
from local.console.api import Api, ApiError, path_of
from local.console.seller import System, purchase_of
from local.console.timeline import timeline
from local.traffic import NOT_KEPT, Exchange
from marketplace.commands.history import usage_history
from marketplace.dynamodb.table import Table
from marketplace_emulator.clock import DAY, HOUR, iso_seconds, parse_time
from marketplace_emulator.model import Purchase
from marketplace_emulator.statement import harmless
from marketplace_emulator.views import paged

FINAL_RUN = 60
"""Seconds before a closing deadline at which the last usage is metered. The run starts 120 seconds before the deadline
(docs/architecture.md), which may move by half a minute when the licence is taken back after the end."""
LONGEST = 62 * DAY
UNITS_ON_PAGE = 48
RECORDS_ON_PAGE = 20

_FOUR_DAYS = timedelta(days=4)

type Query = dict[str, str]


class SubscriptionPages:
    """Shows the pages of a subscription; `page` renders one."""

    def __init__(self, system: System, page: Callable[..., Response]) -> None:
        self._system = system
        self._page = page

    def show(self, subscription_id: str, rest: list[str], query: Query) -> Response | None:
        """The page with this path below the subscription's; None if there is none. Raises ApiError."""
        pages = {
            (): self._usage,
            ("timeline",): self._timeline,
            ("access",): self._access,
            ("tenant",): self._tenant,
            ("statement",): self._statement,
            ("statement.csv",): self._statement_as_csv,
        }
        shown = pages.get(tuple(rest))
        if shown is None:
            return None
        one = Api(self._system.api_url).get(path_of(subscription_id))
        return shown(one, purchase_of(self._system.marketplace, one), query)

    def _usage(self, one: dict[str, Any], purchase: Purchase | None, query: Query) -> Response:
        now = self._system.clock.timestamp()
        start, end, problem = _period(query, now)
        found = self._units(one, purchase, start, end)
        proof = None
        at = query.get("at", "")
        if query.get("record"):
            api, record_id = Api(self._system.api_url), quote(quote(query["record"], safe=""), safe="")
            try:
                proof = api.get(f"{path_of(one['subscription_id'])}/usage/{record_id}")
            except ApiError as error:
                problem, at = str(error), "proof"
        reports = self._system.traffic.reports(one["subscription_id"], str(one["license_arn"] or ""))
        product = self._system.marketplace.registry.products.get(str(one["product_code"]))
        return self._show(
            "subscription.html",
            "",
            one,
            purchase,
            {**query, "at": at, **({"problem": problem} if problem else {})},
            metered=any(unit.metered for unit in found) or None,
            units=paged(found, None, UNITS_ON_PAGE * 4),
            charts=units.charts(found),
            differing=[unit for unit in found if unit.differs],
            start=start,
            end=end,
            reports=paged(reports, query.get("page"), RECORDS_ON_PAGE),
            dimensions=[dimension.key for dimension in product.usage_dimensions()] if product else [],
            proof=proof,
        )

    def _timeline(self, one: dict[str, Any], purchase: Purchase | None, query: Query) -> Response:
        system = self._system
        events = [
            event
            for event in list(system.aws.events)
            if isinstance(event.detail, dict) and event.detail.get("subscription_id") == one["subscription_id"]
        ]
        reports = system.traffic.reports(one["subscription_id"], str(one["license_arn"] or ""))
        usage = Table(system.aws.client("dynamodb"), system.deployment.resources["UsageTable"])
        entries = timeline(
            system.marketplace,
            system.marketplace_url,
            purchase,
            events,
            reports,
            decisions=usage_history(usage, one["subscription_id"]),
            here=path_of(one["subscription_id"]),
        )
        return self._show(
            "timeline.html", "/timeline", one, purchase, query, entries=paged(entries, query.get("page"), 50)
        )

    def _access(self, one: dict[str, Any], purchase: Purchase | None, query: Query) -> Response:
        decision = None
        if query.get("check"):
            quantity = {"quantity": query["of"]} if query.get("of") else {}
            path = f"{path_of(one['subscription_id'])}/entitlements"
            try:
                decision = Api(self._system.api_url).get(path, dimension=query["check"], **quantity)
            except ApiError as error:
                query = {**query, "problem": str(error), "at": "check"}
        product = self._system.marketplace.registry.products.get(str(one["product_code"]))
        dimensions = [dimension.key for dimension in product.dimensions.values()] if product else []
        return self._show("access.html", "/access", one, purchase, query, decision=decision, dimensions=dimensions)

    def _tenant(self, one: dict[str, Any], purchase: Purchase | None, query: Query) -> Response:
        history = Api(self._system.api_url).get(f"{path_of(one['subscription_id'])}/claims")["changes"]
        return self._show("tenant.html", "/tenant", one, purchase, query, history=history)

    def _statement(self, one: dict[str, Any], purchase: Purchase | None, query: Query) -> Response:
        month, months, found = self._month(one, purchase, query)
        totals: dict[str, list[Any]] = {}
        for unit in found:
            total = totals.setdefault(unit.dimension, [0, 0, Decimal(0), Decimal(0)])
            for index, value in enumerate((unit.recorded, unit.metered, unit.billed, unit.amount)):
                total[index] += value
        return self._show(
            "statement.html",
            "/statement",
            one,
            purchase,
            {**query, "month": month},
            month=month,
            months=months,
            totals=sorted(totals.items()),
            amount=sum((unit.amount for unit in found), Decimal(0)),
            open_units=[unit for unit in found if unit.differs or unit.waits],
            units=paged([unit for unit in found if unit.recorded or unit.billed], query.get("page"), UNITS_ON_PAGE),
        )

    def _statement_as_csv(self, one: dict[str, Any], purchase: Purchase | None, query: Query) -> Response:
        month, _, found = self._month(one, purchase, query)
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(
            ("subscription_id", "tenant_id", "hour", "dimension", "recorded", "metered", "billed", "amount", "remark")
        )
        who = (one["subscription_id"], one["tenant_id"] or "")
        for unit in reversed(found):
            row = (unit.iso, unit.dimension, unit.recorded, unit.metered, unit.billed, unit.amount)
            writer.writerow([harmless(cell) for cell in (*who, *row, unit.differs or unit.waits)])
        headers = {
            "Content-Disposition": f'attachment; filename="statement-{month}.csv"',
            "X-Content-Type-Options": "nosniff",
        }
        return Response(text.getvalue(), headers=headers, content_type="text/csv; charset=utf-8")

    def _month(
        self, one: dict[str, Any], purchase: Purchase | None, query: Query
    ) -> tuple[str, list[str], list[units.Unit]]:
        """The month that a query asks for, the months there are, and the month's units."""
        now = self._system.clock.timestamp()
        first = one["activated_at"] or one["registered_at"]
        months = _months(parse_time(first.replace("Z", "+00:00")) if first else now, now)
        month = query.get("month", "") if query.get("month", "") in months else months[0]
        return month, months, self._units(one, purchase, *_bounds(month))

    def _units(self, one: dict[str, Any], purchase: Purchase | None, start: float, end: float) -> list[units.Unit]:
        recorded = Api(self._system.api_url).usage(one["subscription_id"], iso_seconds(start), iso_seconds(end))
        marketplace = self._system.marketplace
        with marketplace.agenda.acting():
            ledger = marketplace.ledger.of_purchase(purchase.id) if purchase else []
            billed = [record for record in ledger if start <= record.hour * HOUR < end]
        return units.units(recorded, billed, self._system.clock.timestamp())

    def _show(
        self,
        template: str,
        below: str,
        one: dict[str, Any],
        purchase: Purchase | None,
        query: Query,
        *,
        metered: bool | None = None,
        **values: Any,
    ) -> Response:
        here = path_of(one["subscription_id"])
        product = self._system.marketplace.registry.products.get(str(one["product_code"]))
        deadline = one["closing_deadline"] if one["status"] == "closing" else None
        final_at = parse_time(deadline.replace("Z", "+00:00")) - FINAL_RUN if deadline else None
        return self._page(
            template,
            f"{here}{below}",
            query,
            about=purchase,
            metered=metered,
            final_at=final_at,
            final_metering=final_at,
            one=one,
            here=here,
            title=product.title if product else str(one["product_code"]),
            purchase=purchase,
            **values,
        )


def curl(api_url: str, exchange: Exchange) -> str:
    """The command that sends a request again; empty for one whose body is not kept."""
    if exchange.body == NOT_KEPT:
        return ""
    command = ["curl", "-X", exchange.method, f"{api_url}{exchange.target}"]
    if exchange.content_type:
        command += ["-H", f"content-type: {exchange.content_type}"]
    if exchange.body:
        command += ["-d", exchange.body.decode(errors="replace")]
    return shlex.join(command)


def _period(query: Query, now: float) -> tuple[float, float, str]:
    """Start and end of the hours to show, the last day's unless the query says otherwise; and what is wrong with it."""
    end = (now // HOUR + 1) * HOUR
    start, problem = end - DAY, ""
    try:
        chosen_end = _whole_hour(query["to"], up=True) if query.get("to") else end
        chosen_start = _whole_hour(query["from"]) if query.get("from") else chosen_end - DAY
    except ValueError:
        return start, end, "A time has a date, an hour and minutes, such as 2026-11-22 14:00."
    if chosen_end <= chosen_start:
        problem = "The end of the time to show has to be later than its start."
    elif chosen_end - chosen_start > LONGEST:
        problem = "At most 62 days can be shown at once."
    else:
        start, end = chosen_start, chosen_end
    return start, end, problem


def _whole_hour(text: str, *, up: bool = False) -> float:
    moment = parse_time(text)
    if not 946_684_800 <= moment < 220_000_000_000:
        raise ValueError(text)
    return (-(-moment // HOUR) if up else moment // HOUR) * HOUR


def _months(first: float, now: float) -> list[str]:
    """The months from a moment to now, the newest first."""
    month, end = datetime.fromtimestamp(first, UTC).replace(day=1), datetime.fromtimestamp(now, UTC)
    found = []
    while (month.year, month.month) <= (end.year, end.month):
        found.append(f"{month:%Y-%m}")
        month = (month.replace(day=28) + _FOUR_DAYS).replace(day=1)
    return found[::-1] or [f"{end:%Y-%m}"]


def _bounds(month: str) -> tuple[float, float]:
    start = datetime.fromisoformat(f"{month}-01").replace(tzinfo=UTC)
    return start.timestamp(), (start.replace(day=28) + _FOUR_DAYS).replace(day=1).timestamp()
