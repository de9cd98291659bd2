"""Find a Python of each of these versions, and print them: `3.12 /path/to/python3.12` a line.

Looks on the PATH, then at what pyenv keeps. What is not found is said on the standard error output.
Usage: `python tests/pythons.py 3.11 3.12`. Runs on any Python 3, without a package.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

PYENV = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")


def find(version: str) -> "str | None":
    """Return the path of an interpreter of this version that can make an environment."""
    candidates = [shutil.which(f"python{version}")]
    # The newest first.
    candidates += sorted(
        map(str, PYENV.glob(f"versions/{version}.*/bin/python")),
        key=lambda path: [int(part) for part in path.split("/")[-3].split(".") if part.isdigit()],
        reverse=True,
    )
    return next((each for each in candidates if each and _is(each, version)), None)


def _is(path: str, version: str) -> bool:
    """Say whether an interpreter runs: a shim may have nothing behind it, a Debian no venv."""
    script = "import ensurepip, sys, venv; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([path, "-c", script], check=False, capture_output=True, text=True)
    return done.returncode == 0 and done.stdout.strip() == version


def main(versions: "list[str]") -> int:
    """Print what is found; fail if that is nothing."""
    found = {version: find(version) for version in versions}
    for version, path in found.items():
        if path is None:
            print(f"there is no Python {version} here", file=sys.stderr)
        else:
            print(version, path)
    return 0 if any(found.values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
