"""The console's pages: plain HTML from the server, nothing from elsewhere, readable on a phone."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape
from typing import Any
from urllib.parse import quote

from marketplace_emulator.server import STATIC

type Values = Mapping[str, Any]

CSS = (STATIC / "style.css").read_text(encoding="utf-8")

_STATUS = {
    "active": ("good", "Active"),
    "pending": ("wait", "Waiting for AWS Marketplace"),
    "closing": ("wait", "Closing: final usage"),
    "ended": ("", "Ended"),
    "failed": ("bad", "Failed"),
}
_STATE = {
    "open": ("", "Open"),
    "metered": ("good", "Metered"),
    "held": ("wait", "Held"),
    "rejected": ("bad", "Rejected"),
    "conflict": ("bad", "Conflict"),
    "unbillable": ("bad", "Not billable"),
}
_REASONS = {
    "entitled": "AWS grants it.",
    "active": "The subscription is active.",
    "not_active": "AWS Marketplace has not activated the subscription yet.",
    "ended": "The subscription has ended.",
    "closing": "The subscription is ending.",
    "failed": "The subscription failed.",
    "expired": "The entitlement has expired.",
    "not_entitled": "AWS grants no such dimension.",
    "quantity_exceeded": "More than AWS grants.",
    "stale": "AWS could not be asked for too long.",
}

_OWN_CSS = """
:root { --accent: #0f6b5c; --accent-soft: #e0f2ee; }
button.primary:hover { background: #0a5548; }
.brand b { color: var(--accent); font-weight: 650; }
.crumb { font-size: 14px; margin-bottom: 16px; }
.row { display: flex; align-items: center; gap: 8px 20px; flex-wrap: wrap; }
.row > div:first-child { flex: 1 1 260px; min-width: 0; }
.report { display: grid; gap: 12px 16px; grid-template-columns: repeat(auto-fit, minmax(min(100%, 190px), 1fr));
  align-items: end; }
.answer { margin-top: 16px; padding: 14px 16px; border-radius: var(--radius); background: var(--accent-soft); }
.answer.no { background: var(--bad-soft); }
.answer dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 16px; margin-top: 8px; font-size: 14px; }
.answer dt { color: var(--soft); }
.answer dd { overflow-wrap: anywhere; }
.steps { counter-reset: step; display: grid; gap: 12px; }
.steps li { counter-increment: step; padding-left: 40px; position: relative; }
.steps li::before { content: counter(step); position: absolute; left: 0; top: 0; width: 26px; height: 26px;
  border-radius: 50%; background: var(--accent-soft); color: var(--accent); font-weight: 650; font-size: 14px;
  display: grid; place-items: center; }
.clock form { flex-wrap: wrap; }
@media (min-width: 641px) { td.what { white-space: nowrap; } }
@media (max-width: 640px) { .clock form button { flex: 1 1 auto; } .row form, .row .pill { flex: 0 1 auto; } }
"""


@dataclass(frozen=True, slots=True)
class Page:
    """An answer."""

    status: int
    content: str
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Bar:
    """What the top of every page shows: the time, and when the running hour will be metered."""

    now: float
    metered_at: float | None
    marketplace_url: str
    frozen: bool


def home(
    bar: Bar, subscriptions: Sequence[Values], events: Sequence[Values], titles: Mapping[str, str], query: Values
) -> Page:
    cards = "".join(_card(one, titles) for one in subscriptions)
    shown = f'<div class="stack">{cards}</div>' if cards else _first_steps(bar)
    body = (
        f"{_notices(query)}"
        '<section><div class="head"><h2>Subscriptions</h2><p class="lead">Who bought your product, as the seller API '
        f"tells it.</p></div>{shown}</section>"
        f"{_events(events)}"
        '<section><div class="head"><h2>Claim a registration</h2></div><div class="card"><p class="lead">Your sign-up '
        "page receives a registration code with the buyer. If you have one, claim it for a tenant.</p>"
        f"{_claim_form('')}</div></section>"
    )
    return _page("Your application", bar, body, "/")


def _first_steps(bar: Bar) -> str:
    return (
        '<div class="card"><ol class="steps">'
        f'<li><a href="{escape(bar.marketplace_url)}">Buy a product on AWS Marketplace</a> (the emulator), then choose '
        "“Set up your account”: the buyer is sent to your registration page.</li>"
        "<li>Come back here: the subscription is listed. Report usage for it.</li>"
        "<li>Move the clock on, and see the hour metered here and on the bill of AWS Marketplace.</li></ol></div>"
    )


def _card(one: Values, titles: Mapping[str, str]) -> str:
    link = f"/subscriptions/{quote(str(one['subscription_id']), safe='')}"
    tenant = escape(str(one["tenant_id"])) if one["tenant_id"] else "not claimed by a tenant"
    product = escape(titles.get(str(one["product_code"]), str(one["product_code"])))
    return (
        f'<article class="card"><div class="row"><div><h3><a href="{link}">{product}</a></h3>'
        f'<p class="kind">{tenant}, AWS account {escape(str(one["account_id"]))}<br>'
        f"<code>{escape(str(one['subscription_id']))}</code></p></div>{_pill(_STATUS, one['status'])}</div></article>"
    )


def _events(events: Sequence[Values]) -> str:
    rows = "".join(
        f'<tr><td class="when">{_when(event["at"])}</td><td class="what">{escape(str(event["detail_type"]))}</td>'
        f'<td class="wide"><code>{escape(_about(event["detail"]))}</code></td></tr>'
        for event in events
    )
    table = (
        f'<div class="table"><table><thead><tr><th>Time</th><th>Event</th><th>About</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
        if rows
        else '<p class="empty">Nothing yet. Whatever happens to a subscription is told here.</p>'
    )
    return (
        '<section><div class="head"><h2>Your event bus</h2><p class="lead">What your application hears, latest first. '
        f'<a href="/events.json">All as JSON</a></p></div>{table}</section>'
    )


def _about(detail: Any) -> str:
    if not isinstance(detail, dict):
        return json.dumps(detail)
    hidden = {"id", "time"}
    return ", ".join(f"{name} {_plain(value)}" for name, value in detail.items() if name not in hidden and value)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def subscription(
    bar: Bar,
    one: Values,
    usage: Sequence[Values],
    dimensions: Sequence[str],
    *,
    title: str,
    query: Values,
    decision: Values | None,
    proof: Values | None,
) -> Page:
    link = f"/subscriptions/{quote(str(one['subscription_id']), safe='')}"
    body = (
        f'<p class="crumb"><a href="/">All subscriptions</a></p>{_notices(query)}'
        f"<section>{_facts(one, title)}</section>"
        f"{_usage_section(link, usage, dimensions, proof)}"
        f"{_access_section(link, one, query, decision)}"
    )
    return _page(title or "Subscription", bar, body, link)


def _facts(one: Values, title: str) -> str:
    contact = one.get("contact") or {}
    facts = {
        "Tenant": one["tenant_id"] or "not claimed",
        "AWS account": one["account_id"],
        "Active since": _iso(one["activated_at"]),
        "Last usage until": _iso(one["closing_deadline"]),
        "Contact": ", ".join(str(value) for value in contact.values() if value) if contact else None,
    }
    listed = "".join(
        f"<div><dt>{name}</dt><dd>{escape(str(value))}</dd></div>" for name, value in facts.items() if value
    )
    licence = one["license_arn"] or one["customer_identifier"] or ""
    return (
        f'<div class="card"><div class="row"><div><h2>{escape(title)}</h2></div>{_pill(_STATUS, one["status"])}</div>'
        f'<dl class="facts">{listed}</dl><p class="ids"><code>{escape(str(one["subscription_id"]))}</code>'
        f"<code>{escape(str(licence))}</code></p></div>"
    )


def _usage_section(link: str, usage: Sequence[Values], dimensions: Sequence[str], proof: Values | None) -> str:
    options = "".join(f"<option>{escape(key)}</option>" for key in dimensions)
    form = (
        f'<form class="card" method="post" action="{link}/usage"><div class="report">'
        f'<label>Dimension<select name="dimension" required>{options}</select></label>'
        '<label>Quantity<input type="number" name="quantity" min="0" max="2147483647" value="100" required></label>'
        '<label>Tags<input type="text" name="tags" placeholder="team=search, env=prod"></label>'
        '<label>Time, if not now<input type="text" name="timestamp" placeholder="2026-11-22T14:00:00Z"></label>'
        '<label>Record id, if not new<input type="text" name="id" maxlength="128"></label>'
        '<button class="primary">Report usage</button></div></form>'
    )
    rows = "".join(_usage_row(row) for row in usage)
    table = (
        '<div class="table"><table><thead><tr><th>Hour</th><th>Dimension</th><th class="num">Quantity</th>'
        f"<th>State</th><th>Settled as</th></tr></thead><tbody>{rows}</tbody></table></div>"
        if rows
        else '<p class="empty">No usage in the last day.</p>'
    )
    asked = (
        f'<form class="row" method="get" action="{link}"><div><label>Where did a record go?'
        '<input type="text" name="record" placeholder="record id" required></label></div>'
        "<button>Show its proof</button></form>"
    )
    return (
        '<section><div class="head"><h2>Usage</h2><p class="lead">Reported with POST /usage, metered by the hour.</p>'
        f'</div><div class="stack">{form}{_proof(proof) if proof else ""}{table}'
        f'<div class="card">{asked}</div></div></section>'
    )


def _usage_row(row: Values) -> str:
    settled = row.get("metering_record_id") or row.get("reason") or ""
    if not settled and row.get("due_at"):
        settled = f"due at {_iso(row['due_at'])}"
    sets = row.get("tag_sets", 0)
    tags = f' <span class="tag">{sets} tag set{"" if sets == 1 else "s"}</span>' if sets else ""
    return (
        f'<tr><td class="when">{_iso(row["hour"])}</td><td class="what">{escape(str(row["dimension"]))}{tags}</td>'
        f'<td class="num">{row["quantity"]:,}</td><td>{_pill(_STATE, row["state"])}</td>'
        f'<td class="wide"><code>{escape(str(settled))}</code></td></tr>'
    )


def _proof(proof: Values) -> str:
    record, hour = proof["record"], proof.get("metering_record") or {}
    chain = {
        "Record": f"{record['id']}: {record['quantity']:,} {record['dimension']}",
        "Tags": ", ".join(f"{name}={value}" for name, value in record["tags"].items()),
        "Recorded": _iso(record["recorded_at"]),
        "Booked to": _iso(proof["hour"])
        + ("" if proof["hour"] == record["own_hour"] else f" (its own hour, {_iso(record['own_hour'])}, was sealed)"),
        "That hour holds": f"{hour['quantity']:,} in {hour['records']} records" if hour else "",
        "State": f"{hour.get('state', '')}{', sealed' if hour.get('sealed') else ''}",
        "MeteringRecordId": hour.get("metering_record_id", ""),
    }
    listed = "".join(f"<dt>{name}</dt><dd>{escape(str(value))}</dd>" for name, value in chain.items() if value)
    return f'<div class="answer" id="proof"><h3>Where it went</h3><dl>{listed}</dl></div>'


def _access_section(link: str, one: Values, query: Values, decision: Values | None) -> str:
    granted = "".join(
        f'<tr><td class="what">{escape(str(item["dimension"]))}</td><td class="num">{escape(str(item["value"]))}</td>'
        f'<td class="wide">{"until " + _iso(item["expires_at"]) if item["expires_at"] else ""}</td></tr>'
        for item in one.get("entitlements", ())
    )
    table = f'<div class="table"><table><tbody>{granted}</tbody></table></div>' if granted else ""
    answer = ""
    if decision is not None:
        allowed = bool(decision["allowed"])
        reason = _REASONS.get(str(decision["reason"]), str(decision["reason"]).replace("_", " "))
        stale = " The answer is from earlier: AWS could not be asked." if decision.get("stale") else ""
        answer = (
            f'<div class="answer{"" if allowed else " no"}" role="status"><h3>{"Allowed" if allowed else "Not allowed"}'
            f"</h3><p>{escape(reason)}{stale}</p></div>"
        )
    return (
        '<section id="access"><div class="head"><h2>Access</h2><p class="lead">What AWS grants, and whether the buyer '
        f'may use it now.</p></div><div class="stack">{table}<div class="card"><form class="report" method="get" '
        f'action="{link}#access"><label>Dimension<input type="text" name="check" required value="'
        f'{escape(str(query.get("check", "")))}" placeholder="seats"></label><label>Quantity, if it matters<input '
        f'type="number" name="of" min="0" value="{escape(str(query.get("of", "")))}"></label>'
        f"<button>Check entitlement</button></form>{answer}</div></div></section>"
    )


def sign_up(bar: Bar, code: str, problem: str) -> Page:
    body = (
        f'{_notices({"problem": problem})}<section class="setup"><div class="card"><h2>Create your workspace</h2>'
        "<p>Your AWS Marketplace purchase is confirmed. Name the workspace that it belongs to.</p>"
        f"{_claim_form(code)}</div></section>"
    )
    return _page("Sign up", bar, body, "/")


def _claim_form(code: str) -> str:
    shown = "hidden" if code else "text"
    field_html = f'<input type="{shown}" name="registration" value="{escape(code)}" required>'
    label = field_html if code else f"<label>Registration code{field_html}</label>"
    return (
        f'<form class="fields" method="post" action="/sign-up">{label}'
        '<label>Tenant<input type="text" name="tenant_id" maxlength="128" required placeholder="acme-search"></label>'
        '<label class="check"><input type="checkbox" name="share_account"> The AWS account belongs to other tenants '
        'too</label><button class="primary">Claim</button></form>'
    )


def message(bar: Bar, title: str, text: str, status: int = 400) -> Page:
    body = f'<section class="setup"><div class="card"><h2>{escape(title)}</h2><p>{escape(text)}</p>'
    return _page(title, bar, f'{body}<p><a href="/">Back to the subscriptions</a></p></div></section>', "/", status)


def told(result: Values, record: Values) -> str:
    """What became of one reported record, in a sentence."""
    if result["status"] == "duplicate":
        return f"Already recorded under the id {record['id']}: counted once."
    late = f"; its own hour, {_iso(result['own_hour'])}, is closed" if "own_hour" in result else ""
    return f"Recorded {record['quantity']} {record['dimension']}, booked to the hour {_iso(result['hour'])}{late}."


def see_other(location: str) -> Page:
    return Page(303, "", {"location": location})


def plain(status: int, text: str) -> Page:
    return Page(status, text, {"content-type": "text/plain; charset=utf-8"})


def as_json(content: Any) -> Page:
    return Page(200, json.dumps(content, indent=2), {"content-type": "application/json"})


def _page(title: str, bar: Bar, body: str, back: str, status: int = 200) -> Page:
    content = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
        f'content="width=device-width, initial-scale=1"><title>{escape(title)}</title><link rel="icon" href="data:,">'
        f"<style>{CSS}{_OWN_CSS}</style></head><body>{_header(bar, back)}"
        f'<main><div class="wrap">{body}</div></main></body></html>'
    )
    headers = {
        "content-type": "text/html; charset=utf-8",
        "cache-control": "no-store",
        "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
        "referrer-policy": "no-referrer",
    }
    return Page(status, content, headers)


def _header(bar: Bar, back: str) -> str:
    metered = ""
    if bar.metered_at is not None:
        metered = f'<button class="small" name="by" value="metered">To {_clock(bar.metered_at)}: hour metered</button>'
    mode = "stands still" if bar.frozen else "running"
    return (
        '<header class="bar"><div class="wrap"><a class="brand" href="/"><b>Your application</b></a>'
        f'<a href="{escape(bar.marketplace_url)}">AWS Marketplace</a>'
        f'<div class="clock"><div><time>{_when(bar.now)} UTC</time> <small>{mode}</small></div>'
        f'<form method="post" action="/clock" aria-label="Move the clock"><input type="hidden" name="back" '
        f'value="{escape(back)}"><button class="small" name="by" value="next_hour">Next hour</button>'
        f'<button class="small" name="by" value="3600">+1 hour</button>{metered}</form></div></div></header>'
    )


def _notices(query: Values) -> str:
    notice, problem = str(query.get("notice") or ""), str(query.get("problem") or "")
    shown = f'<p class="notice" role="status">{escape(notice)}</p>' if notice else ""
    return shown + (f'<p class="notice problem" role="alert">{escape(problem)}</p>' if problem else "")


def _pill(names: Mapping[str, tuple[str, str]], value: Any) -> str:
    tone, text = names.get(str(value), ("", str(value).replace("_", " ").capitalize()))
    return f'<span class="pill {tone}">{escape(text)}</span>'


def _when(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}"


def _clock(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%H:%M}"


def _iso(text: Any) -> str:
    """`2026-11-22 14:00` of an ISO time; nothing of nothing."""
    return str(text)[:16].replace("T", " ") if text else ""
