"""What tests of layers share."""

from __future__ import annotations

import pytest

from fastconv.nn import _units


@pytest.fixture
def both_ways(monkeypatch):
    """Return a function that calls another twice: with units, and with units turned off."""

    def run(function):
        with_units = function()
        with monkeypatch.context() as m:
            m.setattr(_units, "ENABLED", False)
            return with_units, function()

    return run
