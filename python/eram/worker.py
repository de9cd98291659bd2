"""The worker as a program: `python -m eram.worker --queue default=10 --allow myapp.jobs`.

SIGTERM or SIGINT end it: it fetches no more, gives back what is not started, and finishes what
runs. It exits with 0, also when a job outlives the grace period: that job is left to be rescued by
other workers, which see the process end. A second signal ends the process at once, with 1, and
everything that it held is rescued; one that comes within moments of the first is the same one,
sent to the process and to its group, as `timeout` does.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from types import FrameType

import psycopg

from eram._config import WorkerConfig, read_config
from eram._worker import Worker
from eram.errors import ConfigError

# Not __name__, which is __main__ here.
logger = logging.getLogger("eram.worker")

SAME_SIGNAL_SECONDS = 0.5

LOG_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


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
    # It may be called at any moment, also while the main thread holds a lock: it writes a byte.
    signalled, signaller = os.pipe()
    process = os.getpid()
    stopping_since: float | None = None

    def on_signal(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - as signal wants it
        nonlocal stopping_since
        if os.getpid() != process:
            # A process that a handler forked has this function too, and the worker's end of the
            # pipe: the signal is meant for the child alone.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        elif stopping_since is None:
            stopping_since = time.monotonic()
            os.write(signaller, b"\0")
        elif time.monotonic() - stopping_since > SAME_SIGNAL_SECONDS:
            os._exit(1)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    worker = Worker(
        config.dsn,
        queues=config.queues,
        allow=config.allow,
        poll_interval=config.poll_interval,
        grace_period=config.grace_period,
        name=config.name,
    )
    worker.start()
    os.read(signalled, 1)
    logger.info("stopping: %s jobs have %s seconds to end", worker.unfinished, config.grace_period)
    worker.stop()
    if worker.join(config.grace_period):
        logger.info("stopped")
    else:
        logger.error("%s jobs did not end in time and are left to be rescued", worker.unfinished)
    logging.shutdown()
    # Without the interpreter's goodbye: threads of jobs that did not end could hold it up.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
