"""What the command line prints: values that a person copies are whole, on a terminal of any width."""

import pytest

from marketplace_saas_cli.output import Output, table

SUBSCRIPTION = "sub-aot4pzb73vcxdhdd63qpdjieee"
LICENSE = "arn:aws:license-manager::294406891311:license:l-9904f555ad9ad6006c6138e32041f7c9"


@pytest.mark.parametrize("columns", [20, 40, 80, 120, 300])
def test_a_table_shows_ids_whole_however_narrow_the_terminal(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes standard output for a terminal then
    rows = [{"subscription_id": SUBSCRIPTION, "license_arn": LICENSE, "units": 1_234_567, "means": "waits " * 30}]
    Output().show(rows, table(rows, "subscription_id", "license_arn", "units", "means"))
    (line,) = (line for line in capsys.readouterr().out.splitlines() if SUBSCRIPTION in line)
    assert LICENSE in line
    assert "1,234,567" in line


def test_prose_is_folded_into_the_width(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"state": "open", "means": "waits to be metered, " * 20}]
    Output().show(rows, table(rows, "state", "means"))
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 120
