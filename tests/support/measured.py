"""A plugin of pytest: of which tests the coverage is measured.

Measuring takes as long again as the code that is measured. Tests that run the product in processes of its own, or not
at all, or through thousands of histories of the same lines, are played without it; the bar holds for what all others
cover.
"""

from collections.abc import Generator
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
MEASURED = ("unit", "functions", "contract")
NOT_MEASURED = ("unit/test_histories.py",)


def is_measured(test: Path) -> bool:
    """Whether the coverage of a file of tests counts."""
    place = test.relative_to(TESTS) if test.is_relative_to(TESTS) else test
    return place.parts[0] in MEASURED and place.as_posix() not in NOT_MEASURED


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Stop measuring while a test that doesn't count is set up, runs and is torn down."""
    controller = getattr(item.config.pluginmanager.getplugin("_cov"), "cov_controller", None)
    if controller is None or is_measured(item.path):
        return (yield)
    controller.pause()
    try:
        return (yield)
    finally:
        controller.resume()
