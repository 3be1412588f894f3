"""SAM's translator asks the SDK for the region; no test of this folder calls AWS."""

import pytest


@pytest.fixture(autouse=True)
def _region(aws_environment: None) -> None:
    """Have the region set before the template is translated."""
