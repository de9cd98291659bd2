"""What is measured, in the order in which it is measured and shown."""

from __future__ import annotations

from collections.abc import Mapping

import claiming
import crowding
import draining
import enqueueing
import idling
import snapshots
from lab import Lab
from measure import Measure
from running import LATENCY_RATE, Figures, measure_latency
from sides import Side


def latency(lab: Lab, side: Side, jobs: int) -> Figures:
    """Enqueue at a steady rate; measure from the call of commit to the start of the handler."""
    with lab.bench(side) as bench, side.producer(bench) as producer:
        return measure_latency(bench, side, producer, jobs)


MEASURES: Mapping[str, Measure] = {
    **enqueueing.MEASURES,
    **draining.MEASURES,
    **crowding.MEASURES,
    "latency": Measure(
        title=f"commit to start, {LATENCY_RATE} jobs/s",
        jobs=500,
        least=20,
        run=latency,
        has_peers=True,
    ),
    **snapshots.MEASURES,
    **claiming.MEASURES,
    **idling.MEASURES,
}
