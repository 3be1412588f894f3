"""What the template allows is allowed on one machine, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from local.parameters import chosen
from local.template import read
from local.template_yaml import TemplateError
from tools.template import TEMPLATE

GIVEN = {"ProductCodes": "one", "SupportContact": "help@seller.example", "Stage": "local", "MeteringEnabled": "true"}


def deploy(**parameters: str) -> None:
    read(TEMPLATE, {**GIVEN, **parameters}, sqs_endpoint="http://127.0.0.1:1", root=TEMPLATE.parent)


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("SealDelayMinutes", "abc", "is not a number"),
        ("SealDelayMinutes", "-5", "from 0 to 720"),
        ("SealDelayMinutes", "721", "from 0 to 720"),
        ("SealDelayMinutes", "", "is not a number"),
        ("SealDelayMinutes", "nan", "is not a number"),
        ("UsageRecordTtlDays", "39", "from 40 to 3650"),
        ("ProductCodes", "", "ten product codes of up to 64 characters, separated by commas"),
        ("ProductCodes", "one, two", "ten product codes of up to 64 characters, separated by commas"),
        ("SupportContact", "notacontact", "an e-mail address or an https"),
        ("SignUpUrl", "ftp://x", "an https:// address"),
        ("SignUpUrl", "https://x#here", "an https:// address"),
        ("SignUpUrl", "https://x\n", "an https:// address"),
        ("Architecture", "sparc", "none of arm64, x86_64"),
        ("LogRetentionDays", "8", "none of 7, 14"),
    ],
)
def test_what_the_template_refuses_is_refused_by_name(name: str, value: str, complaint: str) -> None:
    with pytest.raises(TemplateError, match=f"(?s){name}=.*{complaint}"):
        deploy(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SealDelayMinutes", "0"),
        ("SealDelayMinutes", "720"),
        ("MeteringReservedConcurrency", "-1"),
        ("SignUpUrl", "https://your.page/sign-up"),
        ("SignUpUrl", "http://127.0.0.1:3001/sign-up"),
        ("LoginUrl", ""),
        ("Architecture", "x86_64"),
    ],
)
def test_what_the_template_allows_is_taken_and_http_as_well_where_it_asks_for_https(name: str, value: str) -> None:
    deploy(**{name: value})


@pytest.mark.parametrize(
    ("declared", "value", "complaint"),
    [
        ({"Type": "String", "MinLength": 2}, "x", "1 characters, not at least 2"),
        ({"Type": "String", "MaxLength": 2}, "xyz", "3 characters, not at most 2"),
        ({"Type": "String", "AllowedPattern": "a+"}, "aab", r"does not match a\+"),
        ({"Type": "Number", "MinValue": 1.5}, "1", "at least 1.5"),
        ({"Type": "Number", "AllowedValues": [1, 2]}, "3", "none of 1, 2"),
    ],
)
def test_every_kind_of_rule_is_applied(declared: dict[str, Any], value: str, complaint: str) -> None:
    with pytest.raises(TemplateError, match=complaint):
        chosen({"P": declared}, {"P": value})


def test_a_pattern_is_for_the_whole_value() -> None:
    assert chosen({"P": {"Type": "String", "AllowedPattern": "a|ab"}}, {"P": "ab"}) == {"P": "ab"}
    assert chosen({"P": {"Type": "Number", "Default": 3}}, {}) == {"P": 3}
