"""A release's files made from the working tree, and places where there is nothing of eram yet."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
# What a machine without eram knows nothing of.
FOREIGN = ("PYTHON", "VIRTUAL_ENV", "PG", "DATABASE_URL", "PIP_", "MAKE", "MFLAGS", "GIT_")


def clean_environ() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith(FOREIGN)}


def run(
    command: Sequence[str | Path], folder: Path, *, is_expected: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder, without what this process has in its environment."""
    done = subprocess.run(
        [*map(str, command)],
        cwd=folder,
        env=clean_environ(),
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode == 0) == is_expected, f"{command}: {done.stdout}{done.stderr}"
    return done


def source_files() -> list[str]:
    """List what is or would be committed."""
    said = run(["git", "ls-files", "-coz", "--exclude-standard"], ROOT).stdout
    return [name for name in said.split("\0") if name and (ROOT / name).is_file()]


def make_checkout(folder: Path) -> None:
    """Copy the working tree, and commit it there."""
    for name in source_files():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    git = ["git", "-c", "user.name=tester", "-c", "user.email=tester@localhost"]
    run(["git", "init", "--quiet", "--initial-branch=main"], folder)
    run([*git, "add", "--all"], folder)
    run([*git, "-c", "commit.gpgsign=false", "commit", "--quiet", "-m", "all"], folder)


def make_dist(folder: Path, dist: Path, *, is_expected: bool = True) -> str:
    """Run `make dist` in a checkout, with the programs of this environment."""
    # It has them already, whatever has changed since in what they are made from.
    done = Path(sys.prefix) / "done"
    command = ["make", f"VENV={sys.prefix}", f"PY={sys.executable}", f"VENV_DONE={done}"]
    return run(
        [*command, "-o", done, f"DIST={dist}", "dist"], folder, is_expected=is_expected
    ).stderr


class CleanPython:
    """A virtual environment with nothing but psycopg in it, or what else is named."""

    def __init__(self, folder: Path, *, extra: Iterable[str] = ()) -> None:
        self.folder = folder
        self.program = folder / "bin" / "python"
        run([sys.executable, "-m", "venv", "--without-pip", folder], folder.parent)
        (self.site,) = folder.glob("lib/python*/site-packages")
        _copy_distributions(["psycopg", "psycopg-binary", *extra], self.site)

    def install(self, package: Path) -> None:
        """Install a package by pip, which asks nobody for what it needs."""
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
        options = [
            "--quiet",
            "--no-index",
            "--no-build-isolation",
            "--no-cache-dir",
            "--no-compile",
        ]
        run([*pip, "--python", self.program, "install", *options, package], self.folder)

    def __call__(self, *arguments: str | Path, folder: Path) -> str:
        return run([self.program, *arguments], folder).stdout


def _copy_distributions(names: Iterable[str], site: Path) -> None:
    """Copy distributions of this environment, and all that they need."""
    todo, seen = list(names), set()
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        distribution = importlib.metadata.distribution(name)
        for file in distribution.files or ():
            source = Path(str(distribution.locate_file(file)))
            # Scripts lie elsewhere, and bytecode need not be there.
            if ".." not in file.parts and source.is_file():
                (site / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, site / file)
        for text in distribution.requires or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                todo.append(requirement.name)
