"""What an idle worker costs: statements, transaction ids, CPU."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from functools import partial

from lab import Bench, Lab, cpu
from measure import Measure
from of_eram import Eram, EramWorker
from running import Figures

MANY_QUEUES = 5
SETTLE_SECONDS = 1.5  # brisk polling at the start, until no producer can have missed the worker
IDLE_SECONDS = 20.0
BRIEF_IDLE_SECONDS = 3.0

# As the server logs them at their end: once for each that a client sends, with the id of the
# transaction, which is 0 where it has none.
LOGGED = "log_min_duration_statement"
STATEMENT = re.compile(
    rb"^.*\[\d+\] (\d+) LOG:  duration: \S+ ms  (?:statement|execute [^:]*): (.*)$", re.MULTILINE
)
# How a worker looks for jobs. Its heartbeats and the ticks of the schedules write now and then.
LOOKING = re.compile(rb"eram_(fetch|start_waiting|stop_waiting)\(")


def idle(lab: Lab, side: Eram, jobs: int, *, queues: int = 1) -> Figures:
    """Let a worker wait for jobs that never come, its schedules paused: what they do is work."""
    del jobs
    names = ["default", *(f"idle{number}" for number in range(1, queues))]
    seconds = BRIEF_IDLE_SECONDS if lab.is_brief else IDLE_SECONDS
    with lab.bench(side) as bench:
        name = bench.conn.info.dbname
        bench.conn.execute(f'alter database "{name}" set {LOGGED} to 0'.encode())
        worker = EramWorker(bench, queues=names)
        try:
            worker.let_go()
            time.sleep(SETTLE_SECONDS)
            bench.conn.execute("select eram_pause_schedule(name) from eram_schedules")
            return _watch(bench, worker.pid, seconds)
        finally:
            worker.kill()


MEASURES: Mapping[str, Measure] = {
    "idle": Measure(title="an idle worker, one queue", jobs=0, least=0, run=idle, sides=(Eram(),)),
    "idle_queues": Measure(
        title=f"an idle worker, {MANY_QUEUES} queues",
        jobs=0,
        least=0,
        run=partial(idle, queues=MANY_QUEUES),
        sides=(Eram(),),
    ),
}


def _watch(bench: Bench, pid: int, seconds: float) -> Figures:
    cpu_before, before = cpu(pid), bench.read()
    size_before = bench.log.stat().st_size
    time.sleep(seconds)
    statements = _logged(bench, size_before)
    cpu_after, used = cpu(pid), bench.read() - before
    figures: Figures = {
        "statements_per_second": len(statements) / used.seconds,
        "transaction_ids": sum(
            xid != b"0" and LOOKING.search(statement) is not None for xid, statement in statements
        ),
    }
    if cpu_before is not None and cpu_after is not None:
        figures["worker_cpu_percent"] = 100 * (cpu_after - cpu_before) / used.seconds
    if used.server_cpu is not None:
        figures["server_cpu_percent"] = 100 * used.server_cpu / used.seconds
    return figures


def _logged(bench: Bench, since: int) -> Sequence[tuple[bytes, bytes]]:
    with bench.log.open("rb") as log:
        log.seek(since)
        return STATEMENT.findall(log.read())
