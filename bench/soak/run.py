"""How a soak goes: start everything, keep up the load, let it drain, and judge."""

from __future__ import annotations

import contextlib
import functools
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, LiteralString, TypeAlias

import psycopg
from by_sql import count
from lab import Bench, Lab

from eram.embedded import EmbeddedServer
from soak.accounts import Accounts
from soak.holds import Holder
from soak.ledger import Ledger
from soak.load import KINDS, Producers
from soak.plan import Plan
from soak.processes import Worker, server_errors
from soak.samples import Sampler, Series
from soak.verdict import Finding, Troubles, judge

FORMAT = 1
START_SECONDS = 30.0
DRAIN_SECONDS = 120.0
WORKERS = ("worker-1", "worker-2")

LEFT: LiteralString = """
select
    (select count(*) from eram_schedule_runs)
    + (select count(*) from eram_running_jobs)
    + (
        select count(*)
        from eram_queued_jobs
        where scheduled_at < statement_timestamp() + interval '1 hour'
    )
"""

Show: TypeAlias = Callable[[float, Series], None]


class SoakError(Exception):
    """The soak could not go on; the message says why."""


def run(plan: Plan, show: Show) -> tuple[dict[str, Any], list[Finding]]:
    """Run a soak; return what is written down of it, and the verdict.

    Args:
        plan: how long and at which rate.
        show: is told after each sample how far it has got.
    """
    ledger = Ledger(KINDS, plan.window_seconds)
    troubles = Troubles()
    with _server(plan) as (server, directory):
        setup = Lab(server).setup()
        bench = Bench(server.dsn, server.log)
        _prepare(bench.conn, plan)
        ledger.occurrences.begin(bench.conn)
        with _workers(bench, server.dsn, directory) as workers:
            sampler = Sampler(bench, workers, ledger)
            with (
                Producers(server.dsn, plan, ledger) as producers,
                Holder(server.dsn, plan, ledger) as holder,
            ):
                look = functools.partial(_look, workers, ledger, producers)
                _soak(plan, look, holder, sampler, show)
            ledger.occurrences.end(bench.conn)
            troubles.undrained = _drain(bench.conn, look)
            _stop(workers, ledger, troubles)
        accounts = Accounts.read(bench.conn, ledger, plan.gone_seconds)
        bench.conn.close()
        troubles.server_errors += server_errors(server.log)
    findings = judge(plan, ledger, accounts, troubles, sampler.series)
    result = {
        "format": FORMAT,
        "setup": setup,
        "plan": plan.describe(),
        "accounts": accounts.describe(ledger),
        "verdict": [finding.describe() for finding in findings],
        "times": sampler.series.times,
        "holds": sampler.series.holds,
        "series": sampler.series.groups,
    }
    return result, findings


@contextlib.contextmanager
def _server(plan: Plan) -> Iterator[tuple[EmbeddedServer, Path]]:
    with tempfile.TemporaryDirectory(prefix="eram-soak-") as name:
        directory = Path(name)
        with EmbeddedServer(directory / "server", settings=plan.settings) as server:
            yield server, directory


def _prepare(conn: psycopg.Connection, plan: Plan) -> None:
    """Create the extension; set how long jobs are kept, and how often maintenance comes."""
    keep = str(plan.keep_seconds)
    conn.execute("create extension eram")
    conn.execute("select eram_tick()")
    conn.execute("select eram_set_queue('bulk', max_age => to_jsonb(%s::numeric))", (keep,))
    conn.execute("select eram_set_queue('unkept', max_age => '0')")
    conn.execute(
        "select eram_schedule_maintenance('prune', %s, jsonb_build_object('max_age', %s::numeric))",
        (f"{plan.prune_seconds} seconds", keep),
    )
    conn.execute(
        "select eram_schedule_maintenance('reindexer', %s)", (f"{plan.reindex_seconds} seconds",)
    )


@contextlib.contextmanager
def _workers(bench: Bench, dsn: str, directory: Path) -> Iterator[list[Worker]]:
    """Start the workers, and wait until they have registered."""
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(Worker.start(name, dsn, directory)) for name in WORKERS]
        deadline = time.monotonic() + START_SECONDS
        while count(bench.conn, "select count(*) from eram_workers") < len(workers):
            _check(workers)
            if time.monotonic() > deadline:
                raise SoakError("the workers did not start in time")
            time.sleep(0.05)
        yield workers


def _soak(
    plan: Plan, look: Callable[[], None], holder: Holder, sampler: Sampler, show: Show
) -> None:
    """Watch until the time is over."""
    begun_at = time.monotonic()
    looked = sampled = 0
    while (passed := time.monotonic() - begun_at) < plan.seconds:
        looked += 1
        time.sleep(max(0.0, min(looked * plan.look_seconds, plan.seconds) - passed))
        passed = time.monotonic() - begun_at
        holder.follow(passed)
        look()
        if passed >= (sampled + 1) * plan.sample_seconds:
            sampled = int(passed / plan.sample_seconds)
            sampler.take(holder.kind)
            show(passed, sampler.series)


def _drain(conn: psycopg.Connection, look: Callable[[], None]) -> int:
    """Wait until all that was due soon has ended; return how many jobs have not."""
    # A worker that is stopped in the middle of a reindexing has the server log an error.
    conn.execute("select eram_pause_schedule('eram:reindexer')")
    deadline = time.monotonic() + DRAIN_SECONDS
    while left := count(conn, LEFT):
        look()
        if time.monotonic() > deadline:
            return left
        time.sleep(0.1)
    return 0


def _look(workers: Sequence[Worker], ledger: Ledger, producers: Producers) -> None:
    """Take the evidence that has come in, and see whether everybody is well."""
    for worker in workers:
        ledger.read(worker.read())
    _check(workers)
    if producers.error is not None:
        raise SoakError(f"a producer failed: {producers.error}") from producers.error


def _stop(workers: Sequence[Worker], ledger: Ledger, troubles: Troubles) -> None:
    """Stop the workers, and take what they have written until then."""
    for worker in workers:
        exit_code = worker.stop()
        if exit_code != 0:
            troubles.complaints.append(f"{worker.name} ended with exit code {exit_code}")
    for worker in workers:
        ledger.read(worker.read())
        lines = worker.complaints(ledger.cancelled_ids)
        troubles.complaints += [f"{worker.name}: {line}" for line in lines]


def _check(workers: Sequence[Worker]) -> None:
    for worker in workers:
        if worker.exit_code is not None:
            said = "\n".join(worker.complaints()[-5:])
            raise SoakError(f"{worker.name} ended with exit code {worker.exit_code}: {said}")
