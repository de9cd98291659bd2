"""Do harm to eram by a schedule made from a seed, and judge what comes of it."""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from chaos.plan import DEFAULT_SECONDS, KINDS, make_plan
from chaos.run import ChaosError, run
from chaos.show import command, text

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Do one run, or one after another; return the exit code."""
    chosen = _parser().parse_args(arguments)
    # Either one unwinds what was started; a shell may have had the first ignored.
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.default_int_handler)
    seconds = chosen.minutes * 60 if chosen.minutes else chosen.seconds
    kinds = chosen.harm or list(KINDS)
    seed = chosen.seed if chosen.seed is not None else random.randrange(1_000_000)
    try:
        for number in range(seed, seed + chosen.runs):
            if not _run(number, seconds, kinds, chosen.keep, quiet=chosen.quiet):
                return 1
    except KeyboardInterrupt:
        print("\ninterrupted", flush=True)
        return INTERRUPTED
    except ChaosError as error:
        print(f"\nFAILED: {error}", flush=True)
        return 1
    return 0


def _run(
    seed: int, seconds: float, kinds: Sequence[str], keep: Path | None, *, quiet: bool
) -> bool:
    steps = make_plan(seed, seconds, kinds)
    again = command(seed, seconds, kinds)
    print(f"chaos with seed {seed}, {seconds:g} s of harm: {again}", flush=True)
    begun_at = time.monotonic()
    bin_dir = os.environ.get("ERAM_TEST_PG_BIN")
    directory = keep / f"seed-{seed}" if keep else Path(tempfile.mkdtemp(prefix="eram-chaos-"))
    is_kept = keep is not None
    try:
        report = run(
            seed,
            steps,
            seconds,
            directory,
            bin_dir=Path(bin_dir) if bin_dir else None,
            say=(lambda _: None) if quiet else _say,
        )
        is_kept = is_kept or bool(report.faults)
    finally:
        if not is_kept:
            shutil.rmtree(directory, ignore_errors=True)
    print(f"\n{text(report)}\n\nit took {time.monotonic() - begun_at:.0f} s")
    if report.faults:
        print(f"FAILED: evidence and logs are in {directory}. Again: {again}", flush=True)
        return False
    print("all of it held", flush=True)
    return True


def _say(line: str) -> None:
    print(line, flush=True)


def _parser() -> argparse.ArgumentParser:
    lines = [f"  {name:14} {kind.text}" for name, kind in KINDS.items()]
    parser = argparse.ArgumentParser(
        prog="python -m chaos",
        description=__doc__,
        epilog="\n".join(["kinds of harm:", *lines]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--seed", type=int, help="of the schedule of harm and of the load (default: any)")
    add("--seconds", type=float, default=DEFAULT_SECONDS, help="how long harm is done")
    add("--minutes", type=float, help="the same in minutes")
    add("--runs", type=int, default=1, help="how many runs, each with the next seed")
    add("--harm", action="append", choices=KINDS, metavar="KIND", help="only this; repeat it")
    add("--keep", type=Path, metavar="DIRECTORY", help="keep evidence, logs and server here")
    add("--quiet", action="store_true", help="do not print each harm")
    return parser


if __name__ == "__main__":
    sys.exit(main())
