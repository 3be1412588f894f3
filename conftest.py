"""pytest's entry: what holds for every test of the repository, wherever it lives."""

from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.support.machine", "tests.support.log_scan", "tests.support.measured"]

# No property fails because the machine is slow.
settings.register_profile("any_machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any_machine")
