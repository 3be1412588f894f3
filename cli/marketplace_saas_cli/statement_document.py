"""A statement as an HTML document that prints well."""

from jinja2 import Environment, StrictUndefined

from marketplace.statements.statement import COLUMNS, Statement
from marketplace.statements.text import tags_text

_TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Statement {{ statement.month }}{% if title %}, {{ title }}{% endif %}</title>
<style>
@page { size: A4; margin: 18mm 14mm 16mm }
body { font: 10pt/1.35 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; color: #1b1b1b; background: #fff;
  max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 16pt; margin: 0 0 .3rem } h2 { font-size: 11.5pt; margin: 1.6rem 0 .4rem; break-after: avoid }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: .6rem 0 } dd { margin: 0 }
dt { color: #555 }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
caption { text-align: left; color: #555; padding-bottom: .3rem }
thead { display: table-header-group } tr { break-inside: avoid }
th, td { padding: .22rem .5rem; border-bottom: 1px solid #ddd; text-align: left; vertical-align: top;
  overflow-wrap: break-word }
th.n, td.n { text-align: right; white-space: nowrap }
thead th { white-space: nowrap; border-bottom: 1.5px solid #444 } tr.total > * { font-weight: 600; background: #f3f4f6 }
p.note { color: #555; font-size: 9pt }
@media print { body { margin: 0; max-width: none; padding: 0 } tr.total > * { print-color-adjust: exact } }
</style>
</head>
<body>
<h1>Usage statement, {{ statement.month }}</h1>
<dl>
{% if title %}<dt>For</dt><dd>{{ title }}</dd>
{% endif %}<dt>Subscription</dt><dd>{{ statement.subscription_id }}</dd>
<dt>State</dt><dd>{{ "closed" if statement.closed else "open: usage may still be added or settled" }}</dd>
</dl>
{% macro head(first) %}<thead><tr>{% for name in first %}<th scope="col">{{ name }}</th>{% endfor -%}
<th scope="col" class="n">recorded</th>
{%- for name in columns %}<th scope="col" class="n">{{ name }}</th>{% endfor %}</tr></thead>{% endmacro %}
{% macro numbers(units) %}<td class="n">{{ "{:,}".format(units.recorded) }}</td>
{%- for name in columns %}<td class="n">{{ "{:,}".format(units[name]) }}</td>{% endfor %}{% endmacro %}
<h2>Month</h2>
<table>{{ head(["dimension"]) }}<tbody>
{% for name, units in statement.totals %}<tr><th scope="row">{{ name }}</th>{{ numbers(units) }}</tr>
{% else %}<tr><td colspan="{{ columns|length + 2 }}">No usage.</td></tr>
{% endfor %}</tbody></table>
<p class="note">Units. Recorded is included, metered, refused, open and shadow together. Included: a contract includes
it. Metered: AWS Marketplace bills it. Refused: it is not billed. Open: it is not settled yet. Shadow: another meter
bills it. Credit: what of metered has to be credited. Adjusted: what of metered billing adjustments have given back.
Days are in UTC.</p>
{% for day in statement.days %}<h2>{{ day.day }}{% if not day.closed %} (open){% endif %}</h2>
<table>{{ head(["dimension", "tags"]) }}<tbody>
{% for line in day.lines %}<tr><th scope="row">{{ line.dimension }}</th><td>{{ tags(line.tags) }}</td>
{{- numbers(line.units) }}</tr>
{% endfor %}{% for name, units in day.totals %}<tr class="total"><th scope="row">{{ name }}</th><td>day</td>
{{- numbers(units) }}</tr>
{% endfor %}</tbody></table>
{% endfor %}{% if statement.corrections %}<h2>Corrections since the month was closed</h2>
<table>{{ head(["day", "dimension", "tags"]) }}<tbody>
{% for one in statement.corrections %}<tr><th scope="row">{{ one.day }}</th><td>{{ one.dimension }}</td>
<td>{{ tags(one.tags) }}</td>{{ numbers(one.change) }}</tr>
{% endfor %}</tbody></table>
{% endif %}</body>
</html>
"""


def as_html(statement: Statement, title: str = "") -> str:
    """The document; `title` names the buyer for its reader. Whatever it contains is escaped."""
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    return environment.from_string(_TEMPLATE).render(statement=statement, title=title, columns=COLUMNS, tags=tags_text)
