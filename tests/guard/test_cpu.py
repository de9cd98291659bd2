"""The CPU of the server for each job, beside what the bare statements take in the same session."""

from __future__ import annotations

import pytest

from . import cpu, limits
from .judging import above


@pytest.mark.skipif(not cpu.can_tell(), reason="this system does not tell what CPU is used")
def test_the_cpu_of_the_server(scratch, record):
    ratios = cpu.ratios(scratch, limits.CPU)
    for name, ratio in ratios.items():
        record(f"{name}: CPU", {"times": ratio}, {"times": limits.CPU[name]})
    assert above(ratios, limits.CPU) == {}
