"""The guide's sign-up page, as it stands in docs/integration.md: what it claims, for whom, and what it does not do."""

import re
from pathlib import Path
from typing import Any

import pytest

import marketplace_saas_client

GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "integration.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", GUIDE, flags=re.DOTALL)
CODE = "Zr3Jt0qUo8XwN5vKc2LmA9eYsT7bHdPg"
FOUND = {"product_code": "examplecode00000000000000", "account_id": "111122223333", "tenant_id": "somebody-else"}


def block(text: str) -> str:
    found: list[str] = [one for one in BLOCKS if text in one]
    assert len(found) == 1
    return found[0]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """The calls of the API that the page makes."""
    monkeypatch.setenv("MARKETPLACE_API", "https://api.example")
    made: list[tuple[Any, ...]] = []

    class Remembering:
        def __init__(self, *_: object) -> None: ...

        def call(self, call: Any) -> dict[str, Any]:
            made.append((call.method, call.target, *([call.body] if call.body else [])))
            return FOUND

    monkeypatch.setattr(marketplace_saas_client, "Client", Remembering)
    return made


@pytest.fixture
def page(calls: list[tuple[Any, ...]]) -> dict[str, Any]:
    """The functions of the guide's page."""
    functions: dict[str, Any] = {}
    exec(compile(block("def confirmed("), "sign_up.py", "exec"), functions)  # noqa: S102 - our guide
    return functions


def test_opening_the_link_names_product_account_and_tenant_and_claims_nothing(
    page: dict[str, Any], calls: list[tuple[Any, ...]]
) -> None:
    shown = page["arrived"](CODE, "jo", "acme", "token")

    for name in ("Example Analytics", "AWS account 111122223333", "jo of acme", f'value="{CODE}"'):
        assert name in shown
    assert "somebody-else" not in shown
    assert calls == [("GET", f"/registrations/{CODE}")]


def test_only_the_confirmed_form_claims_for_the_sessions_tenant(
    page: dict[str, Any], calls: list[tuple[Any, ...]]
) -> None:
    form = {"registration": CODE, "csrf_token": "token", "tenant_id": "mallory"}

    with pytest.raises(PermissionError):
        page["confirmed"]({**form, "csrf_token": "guessed"}, "acme", "token")
    assert calls == []
    page["confirmed"](form, "acme", "token")

    assert calls == [("POST", f"/registrations/{CODE}/claim", {"tenant_id": "acme"})]


@pytest.mark.parametrize("text", ['<script>alert("x")</script>', '"><form action="https://mallory.example">', "{user}"])
def test_what_a_browser_or_a_tenant_says_is_text_on_the_page(page: dict[str, Any], text: str) -> None:
    shown = page["arrived"](text, text, text, "token")

    assert shown.count("<form") == 1
    assert "<script" not in shown


@pytest.mark.parametrize(
    "code",
    ["../subscriptions/sub-aaaaaaaaaaaaaaaaaaaaaaaaaa", "x/claim?y=", "..%2fsubscriptions", "x#", "x y", "\\..\\", "é"],
)
def test_a_code_never_leaves_its_segment_of_the_path(
    page: dict[str, Any], calls: list[tuple[Any, ...]], code: str
) -> None:
    page["arrived"](code, "jo", "acme", "token")
    page["confirmed"]({"registration": code, "csrf_token": "token"}, "acme", "token")

    for (_, path, *_), shape in zip(calls, (r"/registrations/[^/]+", r"/registrations/[^/]+/claim"), strict=True):
        assert re.fullmatch(shape, path)
        assert re.fullmatch(r"[A-Za-z0-9/._~%-]+", path)
