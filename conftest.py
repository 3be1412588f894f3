"""pytest's entry: what holds for every test of the repository, wherever it lives."""

pytest_plugins = ["tests.support.machine"]
