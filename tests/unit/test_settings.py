"""The deployment's settings: from the environment, complete, and within bounds."""

from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketplace.platform.clock import HOUR, iso
from marketplace.platform.settings import Settings, SettingsError
from tools.template import load

REQUIRED = {
    "SUBSCRIPTIONS_TABLE": "subscriptions",
    "USAGE_TABLE": "usage",
    "EVENT_BUS_NAME": "bus",
    "NOTIFICATION_QUEUE_URL": "https://sqs.invalid/queue",
    "READ_BACK_QUEUE_URL": "https://sqs.invalid/read-back",
    "METERING_QUEUE_URL": "https://sqs.invalid/metering",
}


def test_what_is_not_set_has_a_default() -> None:
    settings = Settings.from_env(REQUIRED)
    assert settings.usage_table == "usage"
    assert settings.product_codes == frozenset()
    assert settings.seal_delay_minutes == 10
    assert settings.metering_calls_per_second == 10
    assert settings.metering_region == "us-east-1"
    assert settings.heartbeat_dimension == ""
    assert settings.usage_record_ttl_days == 400


@pytest.mark.parametrize(("value", "meters"), [("true", True), ("false", False), ("", False)])
def test_a_deployment_meters_only_if_it_is_told_to(value: str, meters: bool) -> None:
    assert Settings.from_env({**REQUIRED, "METERING_ENABLED": value}).metering_enabled is meters


@pytest.mark.parametrize("value", ["perhaps", "all", "2"])
def test_what_is_neither_yes_nor_no_is_refused(value: str) -> None:
    with pytest.raises(SettingsError, match="metering_enabled"):
        Settings.from_env({**REQUIRED, "METERING_ENABLED": value})


def test_an_empty_variable_counts_as_not_set() -> None:
    assert Settings.from_env({**REQUIRED, "SEAL_DELAY_MINUTES": ""}).seal_delay_minutes == 10


@pytest.mark.parametrize("missing", sorted(REQUIRED))
@pytest.mark.parametrize("value", [None, ""])
def test_a_missing_variable_is_named(missing: str, value: str | None) -> None:
    given = {name: text for name, text in REQUIRED.items() if name != missing}
    with pytest.raises(SettingsError, match=missing.lower()):
        Settings.from_env(given if value is None else {**given, missing: value})


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("", set()),
        (" , ", set()),
        ("a", {"a"}),
        ("a,b", {"a", "b"}),
        (" a , b,, a ", {"a", "b"}),
    ],
)
def test_product_codes_are_separated_by_commas(given: str, found: set[str]) -> None:
    assert Settings.from_env({**REQUIRED, "PRODUCT_CODES": given}).product_codes == found


def test_everything_that_is_wrong_is_said_at_once() -> None:
    given = {**REQUIRED, "USAGE_TABLE": "", "SEAL_DELAY_MINUTES": "721", "METERING_ENABLED": "yes"}
    with pytest.raises(SettingsError) as refused:
        Settings.from_env(given)
    for said in ("usage_table: is not set", "seal_delay_minutes: 721 is not from 0 to 720", "metering_enabled: 'yes'"):
        assert said in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SEAL_DELAY_MINUTES", "-1"),
        ("SEAL_DELAY_MINUTES", "721"),
        ("SEAL_DELAY_MINUTES", "ten"),
        ("METERING_CALLS_PER_SECOND", "0"),
        ("METERING_CALLS_PER_SECOND", "101"),
        ("METERING_CALLS_PER_SECOND", "nan"),
        ("METERING_CALLS_PER_SECOND", "inf"),
        ("ENTITLEMENT_MAX_AGE_MINUTES", "-1"),
        ("USAGE_RECORD_TTL_DAYS", "1"),
    ],
)
def test_what_is_out_of_bounds_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name.lower()):
        Settings.from_env({**REQUIRED, name: value})


def test_the_environment_is_the_process_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in REQUIRED.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("METERING_CALLS_PER_SECOND", "2.5")
    assert Settings.from_env().metering_calls_per_second == 2.5


def test_settings_stay_what_they_are() -> None:
    settings = Settings.from_env(REQUIRED)
    with pytest.raises(FrozenInstanceError):
        settings.usage_table = "other"  # type: ignore[misc]


@pytest.mark.parametrize("products", ["a,b", ""])
def test_overage_dimensions_are_read_by_product_and_dimension(products: str) -> None:
    given = {**REQUIRED, "PRODUCT_CODES": products, "OVERAGE_DIMENSIONS": "a/calls=included,b/gb=storage"}
    assert Settings.from_env(given).overage_dimensions == {("a", "calls"): "included", ("b", "gb"): "storage"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("a/calls", r"overage_dimensions[\s\S]*'a/calls' is not of the form"),
        ("a/calls=x,c/calls=y", "overage_dimensions: c is not among product_codes"),
    ],
)
def test_a_mapping_that_would_bill_wrongly_is_refused(given: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        Settings.from_env({**REQUIRED, "PRODUCT_CODES": "a,b", "OVERAGE_DIMENSIONS": given})


DECLARED = load()["Parameters"]["MeteringStartsAt"]


@given(value=st.from_regex(DECLARED["AllowedPattern"], fullmatch=True).filter(lambda text: text.isascii()))
def test_every_admitted_value_is_the_beginning_of_an_hour(value: str) -> None:
    start = Settings.from_env({**REQUIRED, "METERING_STARTS_AT": value}).metering_starts_at
    assert start % HOUR == 0
    assert iso(start) == value if value else start == 0


@pytest.mark.parametrize(
    "value", ["2027-02-30T00:00:00Z", "2027-01-31T14:30:00Z", "2027-01-31T14:00:00", "2027-01-31", "tomorrow", "0"]
)
def test_what_is_no_hour_is_refused(value: str) -> None:
    with pytest.raises(SettingsError, match="metering_starts_at"):
        Settings.from_env({**REQUIRED, "METERING_STARTS_AT": value})
