"""Calls every public function with every kind of value at random, and judges what comes back.

By hand, for as long as one likes: `python tests/attacks/fuzzer.py --seed 7 --seconds 600`. What
fails is printed as the SQL that was said before it, and the call itself.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

if __package__ in {None, ""}:
    sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from attacks.fuzz_values import Known, Values
from sql.role_helpers import Place

# What a call may answer with. The server reads the arguments before eram sees them.
READING = {
    "22003": "a number does not fit into its type",
    "22007": "no date, time or interval",
    "22008": "a date, time or interval out of range",
    "22015": "an interval out of range",
    "22P02": "not of this type, such as JSON that is none",
    "22P05": "JSON with \\u0000, which no text can hold",
    "54001": "JSON nested so deeply that the server's stack does not hold it",
    "54000": "a value that is longer than the server can hold",
}
DOCUMENTED = READING | {
    "22004": "what must be there is null or empty",
    "22023": "a value that it cannot be",
    "22009": "a time with an offset that there is not",
    "2202E": "arrays that do not go together",
    "2D000": "eram_run() inside a transaction block",
    "0LP01": "a grant to the owner",
    "23505": "a unique key that another job has now",
    "42501": "permission denied",
    "42602": "a name with control characters or blanks around it",
    "42622": "a name that is too long",
    "42710": "two schedules of one name in a declaration",
    "42704": "a job, worker, schedule, role that does not exist",
    "42939": "a name that is eram's own",
    "55000": "a worker that has ended, and its like",
    "55006": "a job that runs and cannot be deleted",
}
ROLES = ("owner", "enqueue", "work", "read", "admin", "nobody")
WEIGHTS = (6, 1, 2, 1, 3, 0.5)

FUNCTIONS = """
    select
        functions.proname,
        functions.prokind = 'p',
        functions.pronargs - functions.pronargdefaults,
        array(
            select format('%s %s', names.name, pg_catalog.format_type(types.type, null))
            from unnest(functions.proargtypes::oid[]) with ordinality as types (type, number)
            join lateral (
                select arguments.name, row_number() over (order by arguments.number) as number
                from unnest(functions.proargnames) with ordinality as arguments (name, number)
                where
                    functions.proargmodes is null
                    or functions.proargmodes[arguments.number] in ('i', 'b', 'v')
            ) as names on names.number = types.number
            order by types.number
        )
    from pg_proc as functions
    where functions.proname ~ '^eram_' and functions.pronamespace = 'public'::regnamespace
    order by functions.oid::regprocedure::text
"""


class Fuzzer:
    """One place, one session for each role, and a stream of calls that a seed decides."""

    def __init__(self, place: Place, seed: int) -> None:
        self.place = place
        self.rnd = random.Random(seed)
        self.known = Known()
        self.values = Values(self.rnd, self.known)
        self.said: deque[str] = deque(maxlen=5000)
        self.answers: Counter[str] = Counter()
        self.problems: dict[str, str] = {}
        self.called: Counter[str] = Counter()
        self.accepted: Counter[str] = Counter()
        place.owner.execute(
            "create table canary (what text not null); insert into canary values ('alive')"
        )
        self.roles = {
            role: place.connect(place.make_role(*([] if role == "nobody" else [role])))
            for role in ROLES
            if role != "owner"
        }
        self.roles["owner"] = place.owner
        victim = place.make_role()
        for conn in self.roles.values():
            # Longer than any call takes on a busy machine; a call that hangs is an error.
            conn.execute("set statement_timeout = '60s'; set client_min_messages = error")
            conn.execute("select set_config('fuzz.victim', %s, false)", [victim])
        self.functions = place.owner.execute(FUNCTIONS).fetchall()
        self.started = self._server_start()

    def run(self, *, seconds: float, calls: int, least: int = 0) -> None:
        """Call until the time is over or so many calls were made, but never fewer than least."""
        end = time.monotonic() + seconds
        for number in range(calls):
            if number % 25 == 0:
                self._look()
            if number % 500 == 0:
                self.check()
            if time.monotonic() > end and number >= least:
                break
            self._step()
        self.check()
        assert not self.problems, "\n\n".join(self.problems.values())

    def check(self) -> None:
        """Fail if eram is not healthy, or something happened that should not."""
        owner = self.place.admin
        assert owner.execute("select * from eram_check()").fetchall() == []
        assert owner.execute("select * from canary").fetchall() == [("alive",)]
        assert self._server_start() == self.started, "the server was restarted"
        tables = "select count(*) from pg_class where relname ~ '^eram' and relkind in ('r', 'v')"
        assert owner.execute(tables).fetchone()[0] > 0
        for conn in self.roles.values():
            assert conn.execute("select 1").fetchone() == (1,)

    def summary(self) -> str:
        """Say what was called, and what came back."""
        lines = [
            f"{self.called.total()} calls, {self.accepted.total()} of them accepted; refusals:",
            *(f"  {state}: {count}" for state, count in self.answers.most_common()),
            *(f"  {name}: {self.accepted[name]} of {self.called[name]}" for name in self.called),
        ]
        return "\n".join(lines)

    def _server_start(self) -> Any:
        return self.place.admin.execute("select pg_postmaster_start_time()").fetchone()

    def _look(self) -> None:
        """Find out what there is, as whoever calls for real would know it."""
        ask, known = self.place.admin.execute, self.known
        known.runs = ask("select job_id, run from eram_running_jobs order by 1 limit 50").fetchall()
        known.ids = [row[0] for row in ask("select id from eram_jobs order by random() limit 20")]
        known.ids += [job_id for job_id, _ in known.runs[:5]]
        living = "select id from eram_workers where ended_at is null order by id desc limit 5"
        known.workers = [row[0] for row in ask(living)]
        known.commands = [row[0] for row in ask("select id from eram_schedule_runs limit 5")]
        known.names = ["nightly", "fuzz"]
        known.names += [row[0] for row in ask("select name from eram_schedules limit 5")]

    def _step(self) -> None:
        (role,) = self.rnd.choices(ROLES, WEIGHTS)
        conn = self.roles[role]
        if self.rnd.random() > 0.1:
            self._call(role, conn)
            return
        with contextlib.suppress(psycopg.errors.Error), conn.transaction():
            self.said.append(f"-- as {role}\nbegin;")
            for _ in range(self.rnd.randint(2, 4)):
                self._call(role, conn, is_raising=True)
        self.said.append("commit;")

    def _call(self, role: str, conn: psycopg.Connection, *, is_raising: bool = False) -> None:
        name, text = self._statement()
        self.said.append(f"-- as {role}\n{text};")
        self.called[name] += 1
        try:
            conn.execute(text.encode())
        except psycopg.Error as error:
            self._judge(error, text)
            if is_raising:
                raise
        else:
            self.accepted[name] += 1

    def _judge(self, error: psycopg.Error, text: str) -> None:
        state, diag = error.sqlstate or "no answer", error.diag
        self.answers[state] += 1
        self.said.append(f"-- refused: {state}")
        problem = None
        if state not in DOCUMENTED:
            problem = f"{state} is not documented"
        elif diag.context and state not in READING and state != "2D000":
            # From inside of eram. What the server says of an argument has no context, and of a
            # COMMIT within a block no hint.
            if not diag.message_hint:
                problem = "no hint"
            elif len(diag.message_primary or "") > 5000:
                problem = "a huge value is repeated"
        if problem:
            place = (diag.context or "").partition("\n")[0]
            said = f"{problem}: {state} {str(error)[:500]}\n{text[:3000]};"
            self.problems.setdefault(f"{problem} {state} {place}", said)

    def _statement(self) -> tuple[str, str]:
        name, is_procedure, required, described = self.rnd.choice(self.functions)
        arguments = [each.split(" ", 1) for each in described]
        count = self.rnd.randint(required, len(arguments))
        chosen = arguments[:count]
        is_named = self.rnd.random() < 0.5
        if is_named:
            chosen = arguments[:required] + [
                each for each in arguments[required:] if self.rnd.random() < 0.4
            ]
        self.values.tameness = self.rnd.choice([0.3, 0.8, 0.95, 1])
        given = {argument: self.values.make(name, argument, kind) for argument, kind in chosen}
        self._match(given)
        said = ", ".join(f"{a} => {v}" if is_named else v for a, v in given.items())
        return name, f"{'call' if is_procedure else 'select * from'} {name}({said})"

    def _match(self, given: dict[str, str]) -> None:
        """Let ids and runs be those of running jobs, mostly."""
        if not self.known.runs or self.rnd.random() < 0.3:
            return
        chosen = self.rnd.sample(self.known.runs, min(len(self.known.runs), self.rnd.randint(1, 4)))
        for plural, cast in (("ids", "bigint[]"), ("runs", "integer[]")):
            if plural in given:
                numbers = ",".join(str(pair[plural == "runs"]) for pair in chosen)
                given[plural] = f"'{{{numbers}}}'::{cast}"
        if "run" in given:
            given["id"], given["run"] = (f"{n}" for n in chosen[0])


@contextlib.contextmanager
def fuzzing(dsn: str, seed: int) -> Iterator[Fuzzer]:
    """Install eram into an empty database, as an ordinary role; print what led to a failure."""
    place = Place(dsn, "public")
    try:
        place.owner.execute("set client_min_messages = error; create extension eram")
        fuzzer = Fuzzer(place, seed)
        try:
            yield fuzzer
        except BaseException:
            print(f"-- seed {seed}; the last statements:", *list(fuzzer.said)[-30:], sep="\n")
            raise
    finally:
        place.close()


def main() -> int:
    """Fuzz on a server of one's own."""
    from eram.embedded import EmbeddedServer

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--bin", type=Path, help="the programs of another server")
    parser.add_argument("--log", type=Path, help="where to write all that was said")
    chosen = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="eram-fuzz-") as directory,
        EmbeddedServer(
            Path(directory), bin_dir=chosen.bin, settings={"fsync": "off", "max_connections": "20"}
        ) as server,
    ):
        with psycopg.connect(server.dsn, autocommit=True) as conn:
            conn.execute("create database fuzz")
        dsn = psycopg.conninfo.make_conninfo(server.dsn, dbname="fuzz")
        with fuzzing(dsn, chosen.seed) as fuzzer:
            if chosen.log:
                fuzzer.said = deque()
            try:
                fuzzer.run(seconds=chosen.seconds, calls=sys.maxsize)
            finally:
                print(fuzzer.summary())
                if chosen.log:
                    chosen.log.write_text("\n".join(fuzzer.said), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
