"""Compare an upgraded eram with a fresh one, object by object, and draft upgrade scripts.

From the first release on, `tests/install/releases/` has the install script of that release, as it
was published. It and the scripts in `extension/upgrades/` lead to every later version, and each of
these was compared with a fresh install when it was made; so no other install script is kept.

Usage, on the embedded server:
    python tests/upgrades.py keep      # at the first release: keep its install script
    python tests/upgrades.py draft     # what a script from the last release must do, to be edited
    python tests/upgrades.py compare   # what is not as in a fresh install after the upgrade
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psycopg

from catalog import fingerprint
from eram._server import extension
from eram.embedded import EmbeddedServer
from eram.install import install
from upgrade_drafts import draft

ROOT = Path(__file__).resolve().parents[1]
RELEASES = ROOT / "tests" / "install" / "releases"
PSQL_COMMAND = re.compile(r"^\\.*\n?", re.MULTILINE)
RELEASE = re.compile(r"^## \[(\d+\.\d+\.\d+)\]", re.MULTILINE)
LONGEST_SHOWN = 60

# What tells of the past of an object, and not of what it is; columns are compared one by one.
HISTORY = {"attnum", "atthasmissing", "attmissingval", "relnatts"} | {
    "relhasrules",
    "relhastriggers",
    "relhassubclass",
}

# How the extension as such is noted, and what the catalog says beside the objects of a schema.
BESIDES = (
    """
    select
        'extension eram',
        jsonb_build_object(
            'version', extension.extversion,
            'is_relocatable', extension.extrelocatable,
            'owner', extension.extowner::regrole,
            'comment', obj_description(extension.oid, 'pg_extension'))
    from pg_extension as extension
    where extension.extname = 'eram'
    """,
    """
    select
        format('dump mark of %s', marks.relation::regclass),
        jsonb_build_object('condition', marks.condition)
    from pg_extension as extension
    cross join unnest(extension.extconfig, extension.extcondition) as marks (relation, condition)
    where extension.extname = 'eram'
    """,
    """
    select
        format('membership of %s %s', object.type, object.identity),
        '{}'::jsonb
    from pg_extension as extension
    join pg_depend as depend
        on depend.refclassid = 'pg_extension'::regclass
        and depend.refobjid = extension.oid
        and depend.deptype = 'e'
    cross join pg_identify_object(depend.classid, depend.objid, depend.objsubid) as object
    where extension.extname = 'eram'
    """,
    # Grants beyond these are what pg_dump writes down.
    """
    select
        format('privileges at first of %s %s', object.type, object.identity),
        jsonb_build_object('acl', privileges.initprivs::text[])
    from pg_init_privs as privileges
    join pg_depend as depend
        on depend.classid = privileges.classoid
        and depend.objid = privileges.objoid
        and depend.deptype = 'e'
    join pg_extension as extension
        on extension.oid = depend.refobjid
        and extension.extname = 'eram'
    cross join pg_identify_object(
        privileges.classoid, privileges.objoid, privileges.objsubid) as object
    """,
    """
    select
        format('owner of sequence %s', class.relname),
        jsonb_build_object(
            'column', format('%s.%s', depend.refobjid::regclass, attribute.attname),
            'kind', depend.deptype)
    from pg_class as class
    left join pg_depend as depend
        on depend.classid = 'pg_class'::regclass
        and depend.objid = class.oid
        and depend.refclassid = 'pg_class'::regclass
        and depend.refobjsubid > 0
    left join pg_attribute as attribute
        on attribute.attrelid = depend.refobjid
        and attribute.attnum = depend.refobjsubid
    where
        class.relkind = 'S'
        and class.relnamespace = to_regnamespace(quote_ident(current_schema()))
    """,
    """
    select
        format('place of column %s.%s', class.relname, attribute.attname),
        jsonb_build_object('place', row_number() over (
            partition by class.oid
            order by attribute.attnum))
    from pg_class as class
    join pg_attribute as attribute on attribute.attrelid = class.oid
    where
        class.relnamespace = to_regnamespace(quote_ident(current_schema()))
        and attribute.attnum > 0
        and not attribute.attisdropped
    """,
)

Described = Mapping[str, Mapping[str, Any]]


def described(conn: psycopg.Connection, schema: str) -> Described:
    """Say all of eram's objects that must be equal whichever way they came about."""
    found: dict[str, dict[str, Any]] = {}
    for what, said in fingerprint(conn, schema).items():
        if "........pg.dropped." not in what:
            assert isinstance(said, dict)
            # The order of grants says nothing.
            found[what] = {
                key: sorted(value) if key.endswith("acl") and value else value
                for key, value in said.items()
                if key not in HISTORY
            }
    with conn.transaction(force_rollback=True):
        quoted = conn.execute("select quote_ident(%s)", [schema]).fetchone()[0]
        conn.execute("select set_config('search_path', %s, true)", [quoted])
        for what, said in itertools.chain.from_iterable(map(conn.execute, BESIDES)):
            found[what.replace(f"{quoted}.", "")] = said
    return found


def differences(upgraded: Described, fresh: Described) -> list[str]:
    """Say in a line each what an upgrade has not made as a fresh install has it."""
    return list(_differences(upgraded, fresh))


def _differences(upgraded: Described, fresh: Described) -> Iterator[str]:
    for what in sorted(upgraded.keys() | fresh.keys()):
        if what not in upgraded:
            yield f"{what}: is missing"
        elif what not in fresh:
            yield f"{what}: should not be there"
        else:
            one, other = upgraded[what], fresh[what]
            for key in sorted(one.keys() | other.keys()):
                if one.get(key) != other.get(key):
                    yield f"{what}: {key} is {_shown(one.get(key), other.get(key))}"


def _shown(one: Any, other: Any) -> str:
    """Show two values, or of long texts the first line that differs."""
    if isinstance(one, str) and isinstance(other, str) and "\n" in one + other:
        for number, lines in enumerate(
            itertools.zip_longest(one.splitlines(), other.splitlines(), fillvalue="(nothing)"), 1
        ):
            if lines[0] != lines[1]:
                return f"{lines[0].strip()!r}, not {lines[1].strip()!r}, in line {number}"
    texts = [json.dumps(value, default=str) for value in (one, other)]
    return f"{texts[0][:LONGEST_SHOWN]}, not {texts[1][:LONGEST_SHOWN]}"


def released(root: Path = ROOT) -> list[str]:
    """List the versions that the changelog says were released, the first one first."""
    return RELEASE.findall((root / "CHANGELOG.md").read_text(encoding="utf-8"))[::-1]


def problems(root: Path = ROOT, releases: Path = RELEASES) -> list[str]:
    """Say what is missing for everybody with a released version to come to the one at hand."""
    return list(_problems(root, releases))


def _problems(root: Path, releases: Path) -> Iterator[str]:
    versions, current = released(root), extension.version()
    kept = sorted(path.name for path in releases.glob("*.sql"))
    scripts = sorted((root / "extension" / "upgrades").glob("eram--[0-9]*--*.sql"))
    if not versions:
        for name in [*kept, *(script.name for script in scripts)]:
            yield f"{name} is there, and nothing was released"
        return
    first = kept_script(versions[0], releases).name
    if kept != [first]:
        yield f"{releases.name}/ has {kept}, not {first}: python tests/upgrades.py keep"
    known = {*versions, current}
    for script in scripts:
        if not known.issuperset(script.stem.split("--")[1:]):
            yield f"{script.name} is of a version that was never released"
    for version in [*versions[1:], current]:
        if extension.upgrade_path(versions[0], version) is None:
            yield f"no scripts lead from {versions[0]} to {version}: python tests/upgrades.py draft"


def kept_script(version: str, releases: Path = RELEASES) -> Path:
    return releases / f"eram--{version}.sql"


def install_kept(conn: psycopg.Connection, script: Path) -> None:
    """Install a release that was kept, into the schema public, without the server's files."""
    with conn.transaction():
        conn.execute("set local search_path to public, pg_temp")
        conn.execute(PSQL_COMMAND.sub("", script.read_text(encoding="utf-8")).encode())


def upgrade_plain(conn: psycopg.Connection, script: str) -> None:
    """Run the text of an upgrade script on what is in the schema public."""
    with conn.transaction():
        conn.execute("set local search_path to public, pg_temp")
        conn.execute(PSQL_COMMAND.sub("", script).encode())


def main() -> int:
    known = {"keep": keep, "draft": print_draft, "compare": print_comparison}
    if len(sys.argv) != 2 or sys.argv[1] not in known:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        return known[sys.argv[1]]()
    except LookupError as error:
        print(error, file=sys.stderr)
        return 1


def keep() -> int:
    version = extension.version()
    if found := sorted(RELEASES.glob("eram--*.sql")):
        print(f"{found[0].name} is kept already; the scripts lead on from it", file=sys.stderr)
        return 1
    RELEASES.mkdir(exist_ok=True)
    kept_script(version).write_text(extension.install_script(), encoding="utf-8")
    print(f"{kept_script(version).relative_to(ROOT)} is what every upgrade begins with")
    return 0


def print_draft() -> int:
    with _two_databases() as (old, new):
        found = [described(conn, "public") for conn in (old, new)]
        print(draft(*found, sources=ROOT / "extension"), end="")
    return 0


def print_comparison() -> int:
    with _two_databases(is_upgraded=True) as (upgraded, fresh):
        found = differences(described(upgraded, "public"), described(fresh, "public"))
    print("\n".join(found) or "an upgrade leads to what a fresh install has")
    return 1 if found else 0


@contextlib.contextmanager
def _two_databases(
    *, is_upgraded: bool = False
) -> Iterator[tuple[psycopg.Connection, psycopg.Connection]]:
    """The last release, or what an upgrade makes of the first one; and a fresh install."""
    if not released():
        raise LookupError("nothing was released yet, so there is nothing to upgrade from")
    with contextlib.ExitStack() as ending:
        folder = ending.enter_context(tempfile.TemporaryDirectory(prefix="eram-upgrade-"))
        server = ending.enter_context(EmbeddedServer(Path(folder), settings={"fsync": "off"}))
        admin = ending.enter_context(psycopg.connect(server.dsn, autocommit=True))
        databases = []
        for name in ("upgraded", "fresh"):
            admin.execute(f"create database {name}")
            dsn = psycopg.conninfo.make_conninfo(server.dsn, dbname=name)
            conn = psycopg.connect(dsn, autocommit=True)
            databases.append(ending.enter_context(contextlib.closing(conn)))
        upgraded, fresh = databases
        install(fresh)
        first, *others = released()
        install_kept(upgraded, kept_script(first))
        target = extension.version() if is_upgraded else (others or [first])[-1]
        path = extension.upgrade_path(first, target)
        if path is None:
            raise LookupError(f"extension/upgrades/ has no way from {first} to {target}")
        upgrade_plain(upgraded, extension.plain_upgrade(path))
        yield upgraded, fresh


if __name__ == "__main__":
    sys.exit(main())
