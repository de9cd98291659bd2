"""The worker as a program: `python -m eram worker --queue default=10 --allow myapp.jobs`.

SIGTERM or SIGINT end it: it fetches no more, gives back what is not started, and finishes what
runs. It exits with 0, also when a job outlives the grace period: that job is left to be rescued by
other workers, which see the process end. A second signal ends the process at once, with 1, and
everything that it held is rescued; one that comes within moments of the first is the same one,
sent to the process and to its group, as `timeout` does.

With `--processes N` it is a parent, and N children are the workers.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import socket
import sys
from collections.abc import Callable, Sequence

import psycopg

from eram import logs
from eram._engine.config import EngineConfig
from eram._programs.processes import Processes
from eram._programs.program import Signals, end_process, explain, open_streams
from eram._programs.worker_arguments import read_config
from eram._runtime.remains import say_what_is_left
from eram.engine import Engine
from eram.errors import ConfigError

# Not __name__, which is __main__ here.
logger = logging.getLogger("eram.worker")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a worker until a signal ends it; return the exit code."""
    open_streams()
    try:
        config = read_config(arguments)
        is_parent = config.processes > 1
        logs.configure(config.log_level, config.log_format, of_many=is_parent)
        if is_parent:
            return _run_processes(config)
        end_process(_work(config, config.name, Signals(), lambda: None))
    except (ConfigError, psycopg.Error) as error:
        code, text = explain(error, "worker")
        print(f"eram.worker: {text}", file=sys.stderr)
        return code


def _run_processes(config: EngineConfig) -> int:
    return Processes(
        config.processes,
        name=config.name or f"{socket.gethostname()}:{os.getpid()}",
        grace_period=config.grace_period,
        work=lambda name, signals, on_started: _work(config, name, signals, on_started),
    ).run()


def _work(config: EngineConfig, name: str, signals: Signals, on_started: Callable[[], None]) -> int:
    """Be a worker in this process until a signal; return the exit code."""
    engine = Engine(dataclasses.replace(config, name=name))
    engine.start()
    on_started()
    signals.wait()
    if not engine.stop() and engine.worker is not None:
        say_what_is_left(engine.worker, logger)
    return 0


if __name__ == "__main__":
    sys.exit(main())
