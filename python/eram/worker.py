"""The worker as a program: `python -m eram.worker --queue default=10 --allow myapp.jobs`.

SIGTERM or SIGINT end it: it fetches no more, gives back what is not started, and finishes what
runs. It exits with 0, also when a job outlives the grace period: that job is left to be rescued by
other workers, which see the process end. A second signal ends the process at once, with 1, and
everything that it held is rescued; one that comes within moments of the first is the same one,
sent to the process and to its group, as `timeout` does.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

import psycopg

from eram._config import WorkerConfig, read_config
from eram._program import LOG_FORMAT, Signals, end_process
from eram._worker import Worker
from eram.errors import ConfigError

# Not __name__, which is __main__ here.
logger = logging.getLogger("eram.worker")

MAX_NAMED_JOBS = 20


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a worker until a signal ends it; return the exit code."""
    try:
        config = read_config(arguments)
        logging.basicConfig(level=config.log_level.upper(), format=LOG_FORMAT)
        return _run(config)
    except ConfigError as error:
        print(f"eram.worker: {error}", file=sys.stderr)
        return 2
    except psycopg.Error as error:
        print(f"eram.worker: the worker cannot start: {error}", file=sys.stderr)
        return 1


def _run(config: WorkerConfig) -> int:
    signals = Signals()
    worker = Worker(
        config.dsn,
        queues=config.queues,
        allow=config.allow,
        poll_interval=config.poll_interval,
        grace_period=config.grace_period,
        maintenance=config.maintenance,
        name=config.name,
    )
    worker.start()
    signals.wait()
    logger.info("stopping: %s jobs have %s seconds to end", worker.unfinished, config.grace_period)
    worker.stop()
    if worker.join(config.grace_period):
        logger.info("stopped")
    else:
        _say_what_is_left(worker)
    end_process(0)


def _say_what_is_left(worker: Worker) -> None:
    overrun, unreported, untold = worker.overrun, worker.unreported, worker.untold
    if (unfinished := worker.unfinished - overrun) > 0:
        logger.error("%s jobs did not end in time and are left to be rescued", unfinished)
    if unreported:
        ids = ", ".join(map(str, unreported[:MAX_NAMED_JOBS]))
        logger.error(
            "%s jobs ended, but it could not be reported, and they are left to be rescued: %s%s",
            len(unreported),
            ids,
            ", ..." if len(unreported) > MAX_NAMED_JOBS else "",
        )
    if overrun:
        logger.warning("%s handlers did not end though their runs are over", overrun)
    if untold:
        logger.warning("stopped, but listeners have not heard of %s jobs", untold)
    if not (unfinished or unreported or overrun or untold):
        logger.warning("stopped, but the server may not know it yet")


if __name__ == "__main__":
    sys.exit(main())
