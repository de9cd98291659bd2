"""What the census counts: real Python files, and five that do not parse."""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

import census

import eram

BROKEN = Path(__file__).parent / "broken"

# A standard library holds the packages of its own interpreter; those of this one are asked for.
_OTHERS = {"__pycache__", "site-packages", "dist-packages"}


def default_sources() -> list[Path]:
    """Return the interpreter's standard library and the environment's packages."""
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    return list(dict.fromkeys(Path(sysconfig.get_path(name)).resolve() for name in names))


def jobs(sources: Iterable[Path]) -> list[eram.NewJob]:
    """Make a job for each file, and the last one, which sums up."""
    made: list[eram.NewJob] = [_job(BROKEN, path, tags=["broken"]) for path in python_files(BROKEN)]
    seen = set()
    for source in sources:
        for path in python_files(source):
            real = path.resolve()
            if real not in seen:
                seen.add(real)
                made.append(_job(source, path))
    made.append({"handler": census.sum_up})
    return made


def python_files(source: Path) -> Iterator[Path]:
    """Find the Python files below a directory, in order."""
    for directory, folders, names in os.walk(source):
        folders[:] = sorted(set(folders) - _OTHERS)
        for name in sorted(names):
            path = Path(directory, name)
            # A name that is no text could not be an argument of a job.
            if path.suffix == ".py" and path.is_file() and str(path).isprintable():
                yield path


def _job(source: Path, path: Path, *, tags: Iterable[str] = ()) -> eram.NewJob:
    parts = path.relative_to(source).with_suffix("").parts
    module = ".".join(parts[:-1] if parts[-1] == "__init__" and parts[1:] else parts)
    args = {"path": str(path), "module": module}
    return {"handler": census.count, "args": args, "tags": list(tags)}
