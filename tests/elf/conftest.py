"""Fixtures of the loader's tests."""

from __future__ import annotations

import pytest
from building import Workshop


@pytest.fixture
def workshop(tmp_path):
    """Compile into this test's own folder."""
    return Workshop(tmp_path)
