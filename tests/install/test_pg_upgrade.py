"""pg_upgrade takes eram along to a later major version of PostgreSQL."""

from __future__ import annotations

import subprocess
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from eram.embedded import USER, EmbeddedServer, as_ordinary_user, find_binaries, server_version
from eram.install import install
from install.in_use import check_copy, contents, in_schema, used
from install.test_same_objects import ODD
from servers import INSTALLED

# What pg_upgrade wants to find beside the old server, and beside itself.
OLD_PROGRAMS = {"postgres", "pg_ctl", "pg_controldata", "pg_resetwal"}
NEW_PROGRAMS = OLD_PROGRAMS | {"pg_upgrade", "pg_dump", "pg_dumpall", "pg_restore", "psql"}
CHECKSUMS_BY_DEFAULT = 18

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


def major(bin_dir: Path) -> int:
    return int(server_version(bin_dir).split(".")[0])


@pytest.fixture
def pair(server_bin_dir: Path) -> tuple[Path, Path]:
    """The programs of two servers, the old and the new; the one under test if it is one of them."""
    new = find_binaries()
    if missing := [name for name in NEW_PROGRAMS if not (new / name).exists()]:
        pytest.skip(f"the embedded server has no {', '.join(sorted(missing))}")
    others = sorted(INSTALLED.glob("[0-9]*/bin"), reverse=True)
    for old in (server_bin_dir, *others):
        if all((old / name).exists() for name in OLD_PROGRAMS) and major(old) < major(new):
            return old, new
    pytest.skip(
        f"no server older than {major(new)} here has {', '.join(sorted(OLD_PROGRAMS))} beside it"
    )


@pytest.mark.parametrize("way", ["extension", "script"])
def test_pg_upgrade_keeps_all(pair, empty_directory, tmp_path, way):
    old_bin, new_bin = pair
    # A short path, because sockets lie there.
    place = empty_directory.parent
    old = EmbeddedServer(place / "old", bin_dir=old_bin)
    with old:
        with psycopg.connect(old.dsn, autocommit=True) as conn:
            name = sql.Identifier(ODD)
            conn.execute(sql.SQL("create schema {}").format(name))
            if way == "extension":
                conn.execute(sql.SQL("create extension eram schema {}").format(name))
            else:
                install(conn, schema=ODD)
        with used(in_schema(old.dsn, ODD)) as jobs:
            before = contents(in_schema(old.dsn, ODD))
        forget_private_options(old.dsn)

    new = EmbeddedServer(place / "new", bin_dir=new_bin)
    initialise(new)
    command = [
        *(*as_ordinary_user(), new_bin / "pg_upgrade", "-U", USER, "-s", place),
        *("-b", old_bin, "-B", new_bin, "-d", old.data, "-D", new.data),
    ]
    done = subprocess.run(command, cwd=place, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr

    settings = new.data / "postgresql.conf"
    settings.write_text(f"{settings.read_text(encoding='utf-8')}\ninclude 'eram.conf'\n")
    with new:
        assert contents(in_schema(new.dsn, ODD)) == before
        check_copy(in_schema(new.dsn, ODD), jobs)


def initialise(server: EmbeddedServer) -> None:
    """Make an empty cluster that is like the old one, but has nothing in it at all."""
    server.directory.mkdir()
    command = [
        *(*as_ordinary_user(), server.bin_dir / "initdb", "-D", server.data, "-U", USER),
        *("--encoding=UTF8", "--locale=C", "--auth-local=trust", "--auth-host=reject"),
    ]
    if server.major >= CHECKSUMS_BY_DEFAULT:
        command.append("--no-data-checksums")
    subprocess.run(command, check=True, capture_output=True)


def forget_private_options(dsn: str) -> None:
    """Take out of the catalog what only the old server's own kind knows, if it has put it there.

    Some servers number the versions of a column in an option. pg_upgrade would copy it, and
    PostgreSQL refuse it, whatever the table is.
    """
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(
            "update pg_attribute set attoptions = null"
            " where attoptions::text ~ '^{pg_attver=[0-9]+}$'"
        )
