"""The command: options, the address it prints, and stopping at once."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from marketplace_emulator import AdminError
from marketplace_emulator.catalog import load_products
from marketplace_emulator.cli import build, main, parser

PACKAGE = Path(__file__).parents[1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_prints_its_address_and_stops_at_once(number):
    command = [sys.executable, "-m", "marketplace_emulator", "--port", "0", "--clock", "frozen:2026-11-22T12:00:00Z"]
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as process:  # noqa: S603  ours
        line = process.stdout.readline()
        assert line.startswith("marketplace-emulator listening on http://127.0.0.1:")
        connection = http.client.HTTPConnection(line.rsplit("/", 1)[1].strip(), timeout=10)
        connection.request("GET", "/admin/clock")
        assert json.loads(connection.getresponse().read())["now"] == "2026-11-22T12:00:00.000Z"
        process.send_signal(number)
        assert process.wait(timeout=10) == 0
        connection.close()


def test_the_options_become_settings():
    options = [
        "--rate",
        "5",
        "--fulfilment-url",
        "http://f",
        "--seller-account",
        "999900001111",
        "--license-delay",
        "0",
    ]
    marketplace = build(parser().parse_args(options))
    settings = marketplace.settings
    assert (settings.metering_rate, settings.fulfilment_url, settings.seller_account) == (5, "http://f", "999900001111")
    assert settings.license_delay_seconds == 0
    assert not marketplace.clock.is_frozen


def test_the_server_throttles_at_ten_unless_told_otherwise():
    assert build(parser().parse_args([])).settings.metering_rate == 10
    assert build(parser().parse_args(["--rate", "off"])).settings.metering_rate is None


@pytest.mark.parametrize("clock", ["frozen", "sundial", "frozen:"])
def test_an_unknown_clock_is_refused(clock):
    with pytest.raises(AdminError):
        build(parser().parse_args(["--clock", clock]))


@pytest.mark.parametrize("options", [["--clock", "frozen:noon"], ["--rate", "fast"], ["--queue-url", "nowhere"]])
def test_a_wrong_option_ends_with_one_line(options):
    with pytest.raises(SystemExit, match="marketplace-emulator: "):
        main([*options, "--port", "0"])


def test_products_come_from_a_file(tmp_path):
    path = tmp_path / "products.json"
    path.write_text(json.dumps({"products": [{"code": "mine", "dimensions": [{"key": "a"}]}]}))
    marketplace = build(parser().parse_args(["--products", str(path)]))
    assert [item.code for item in marketplace.registry.products.values()] == ["mine"]
    path.write_text("{}")
    with pytest.raises(AdminError, match="no list of products"):
        load_products(path)


def test_the_package_imports_only_what_it_declares():
    script = (
        "import sys; before = set(sys.modules); import marketplace_emulator;"
        " new = {name.split('.')[0] for name in set(sys.modules) - before};"
        " print(*sorted(new - set(sys.stdlib_module_names) - {'marketplace_emulator'}))"
    )
    found = subprocess.run(  # noqa: S603  ours
        [sys.executable, "-c", script],
        env={"PYTHONPATH": str(PACKAGE)},
        capture_output=True,
        text=True,
        check=True,
    )
    declared = tomllib.loads((PACKAGE / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    names = {re.split(r"\W", item)[0].lower() for item in declared}
    assert set(found.stdout.split()) == {"jinja2", "markupsafe", "werkzeug"} == names | {"markupsafe"}
