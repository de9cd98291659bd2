"""Declarations that cannot be, and those that the caller may not make."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import errors
from psycopg.types.json import Jsonb

from databases import fresh_database

from .declared_helpers import LIFELINE, MAIL, PRUNE, REGISTER, REPORT, maintenance, names, register
from .helpers import clear, contents, rows, value
from .role_helpers import Place
from .schedule_helpers import HUGE, entry, refused

NULL, BAD = errors.NullValueNotAllowed, errors.InvalidParameterValue
RANGE, TIME = errors.NumericValueOutOfRange, errors.InvalidDatetimeFormat


@pytest.mark.parametrize(
    ("schedules", "error", "part"),
    [
        (None, BAD, "schedules must be a JSON array of schedules, got null"),
        (Jsonb(None), BAD, "got null"),
        (Jsonb({}), BAD, "got object"),
        (Jsonb(MAIL), BAD, "got object"),
        (Jsonb("[]"), BAD, "got string"),
        (Jsonb([1]), BAD, "a schedule must be a JSON object, got number"),
        (Jsonb([None]), BAD, "a schedule must be a JSON object, got null"),
        (Jsonb([["@daily", "app:run"]]), BAD, "a schedule must be a JSON object, got array"),
        (Jsonb([{}]), NULL, "handler must not be null"),
    ],
)
def test_what_is_no_list_of_schedules(shared, schedules, error, part):
    register(shared, MAIL)
    with refused(shared, error, part):
        shared.execute(REGISTER, ["app", schedules])


@pytest.mark.parametrize(
    ("application", "error", "part"),
    [
        (None, NULL, "application must not be null or empty"),
        ("", NULL, "application must not be null or empty"),
        ("a" * 256, errors.NameTooLong, "256 characters"),
        (HUGE, errors.NameTooLong, "100000 characters"),
        (" app", errors.InvalidName, "invalid application"),
        ("a\nb", errors.InvalidName, "invalid application"),
    ],
)
def test_an_application_that_cannot_be(shared, application, error, part):
    with refused(shared, error, part):
        shared.execute(REGISTER, [application, Jsonb([MAIL])])


@pytest.mark.parametrize(
    ("change", "error", "part"),
    [
        ({"name": ""}, NULL, "schedule must not be null or empty"),
        ({"name": 5}, BAD, "name must be a string, got number"),
        ({"name": HUGE}, errors.NameTooLong, "100000 characters"),
        ({"name": "a\nb"}, errors.InvalidName, "invalid schedule"),
        ({"name": "eram:prune"}, errors.ReservedName, "reserved"),
        ({"schedule": None}, NULL, "schedule must not be null or empty"),
        ({"schedule": 30}, BAD, "schedule must be a string, got number"),
        ({"schedule": "60 * * * *"}, BAD, "60"),
        ({"schedule": HUGE}, BAD, "too long"),
        ({"handler": None}, NULL, "handler must not be null"),
        ({"handler": ["app:run"]}, BAD, "handler must be a string, got array"),
        ({"handler": HUGE}, errors.NameTooLong, "handler"),
        ({"args": []}, BAD, "args must be a JSON object, got array"),
        ({"timezone": "Europe/Berln"}, BAD, "time zone"),
        ({"timezone": 2}, BAD, "timezone must be a string, got number"),
        ({"missed": "never"}, BAD, "missed"),
        ({"missed": True}, BAD, "missed must be a string, got boolean"),
        ({"overlap": "no"}, BAD, "overlap must be true or false"),
        ({"priority": 10}, RANGE, "priority"),
        ({"queue": 5}, BAD, "queue must be a string"),
        ({"timeout": "soon"}, TIME, "timeout"),
        ({"unique": {"perod": 5}}, BAD, "perod"),
        ({"options": {}}, BAD, 'unknown key "options" in schedule'),
        ({"command": "select 1"}, BAD, 'unknown key "command" in schedule'),
        ({"scheduled_at": "2030-01-01T00:00:00Z"}, BAD, "scheduled_at"),
        ({HUGE: 1}, BAD, "unknown key"),
    ],
)
def test_a_job_that_cannot_be(shared, change, error, part):
    """Nothing of the whole list is done."""
    register(shared, MAIL, REPORT)
    with refused(shared, error, part) as caught:
        register(shared, REPORT | {"priority": 1}, MAIL | change, {**MAIL, "name": "new"})
    detail = caught.value.diag.message_detail
    assert detail.startswith("The mistake is in schedule 2 of 3")
    if not change.keys() & {"name", HUGE}:
        assert detail == 'The mistake is in schedule 2 of 3, "mail".'


@pytest.mark.parametrize(
    ("given", "error", "part"),
    [
        ({"maintenance": "pruner"}, errors.UndefinedObject, "pruner"),
        ({"maintenance": ""}, errors.UndefinedObject, "no maintenance task"),
        ({"maintenance": 1}, BAD, "maintenance must be a string, got number"),
        ({"maintenance": "prune", "handler": "app:run"}, BAD, 'unknown key "handler"'),
        ({"maintenance": "prune", "limit": 5}, BAD, 'unknown key "limit" in maintenance'),
        ({"maintenance": "prune", "schedule": "sometimes"}, BAD, "schedule"),
        ({"maintenance": "prune", "schedule": 5}, BAD, "schedule must be a string"),
        ({"maintenance": "prune", "timezone": "Mars"}, BAD, "time zone"),
        ({"maintenance": "prune", "options": []}, BAD, "options must be a JSON object"),
        ({"maintenance": "prune", "options": {"limits": 5}}, BAD, "limits"),
        ({"maintenance": "prune", "options": {"limit": 0}}, RANGE, "limit"),
        ({"maintenance": "prune", "options": {"max_age": {"done": 5}}}, BAD, "done"),
        ({"maintenance": "lifeline", "options": {"rescue_aftr": 5}}, BAD, "rescue_aftr"),
        ({"maintenance": "reindexer", "options": {"indexes": "x"}}, BAD, "indexes"),
    ],
)
@pytest.mark.parametrize("is_declared", [True, False])
def test_maintenance_that_cannot_be(shared, given, error, part, is_declared):
    if is_declared:
        register(shared, PRUNE, LIFELINE, {"maintenance": "reindexer"})
    with refused(shared, error, part) as caught:
        register(shared, MAIL, given)
    assert "schedule 2 of 2" in (caught.value.diag.message_detail or "")


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (MAIL | {"quue": 1}, "queue"),
        ({"schedul": "1 hour", "handler": "app:run"}, "schedule"),
        ({"maintenence": "prune"}, "maintenance"),
        ({"maintenance": "prune", "option": {}}, "options"),
    ],
)
def test_a_misspelt_key_is_told_what_was_meant(shared, given, meant):
    with refused(shared, BAD, "unknown key") as caught:
        register(shared, given)
    assert caught.value.diag.message_hint == f'Did you mean "{meant}"?'


@pytest.mark.parametrize(
    ("schedules", "part"),
    [
        ([MAIL, REPORT, MAIL], 'schedules 1 and 3 are both named "mail"'),
        ([MAIL, REPORT, MAIL | {"handler": "app:x"}], 'schedules 1 and 3 are both named "mail"'),
        (
            [REPORT, {"schedule": "@daily", "handler": "app:x"}] * 2,
            "are both named",
        ),
        (
            [{"schedule": "@daily", "handler": "a:b"}, {"schedule": "@DAILY", "handler": "a:b"}],
            'schedules 1 and 2 are both named "a:b @daily"',
        ),
        ([PRUNE, LIFELINE, PRUNE], 'schedules 1 and 3 are both named "eram:prune"'),
    ],
)
def test_two_of_one_name(shared, schedules, part):
    with refused(shared, errors.DuplicateObject, part):
        register(shared, *schedules)


# Who may declare what.


@pytest.fixture(scope="module")
def module_place(server) -> Iterator[Place]:
    with fresh_database(server, "template1") as dsn:
        place = Place(dsn, "public")
        try:
            place.owner.execute("create extension eram")
            yield place
        finally:
            place.close()


@pytest.fixture
def place(module_place: Place) -> Iterator[Place]:
    """An eram that an ordinary role owns, which must be healthy when the test ends."""
    clear(module_place.owner)
    yield module_place
    assert rows(module_place.owner, "select * from eram_check()") == []


def denied(place: Place, conn: psycopg.Connection, part: str, *schedules: Any) -> None:
    """Expect that a role is told what right it lacks, and that nothing was written."""
    before = contents(place.owner)
    with pytest.raises(errors.InsufficientPrivilege) as caught:
        register(conn, *schedules)
    assert part in (caught.value.diag.message_primary or "")
    assert caught.value.diag.message_hint
    assert contents(place.owner) == before


def test_who_works_declares_what_he_may_enqueue(place):
    role = place.make_role("work")
    conn = place.connect(role)
    denied(place, conn, 'permission denied for queue "default"', MAIL)
    # What the hint says helps.
    place.grant(role, "enqueue")
    assert register(conn, MAIL, REPORT) == {"mail": "added", "report": "added"}
    denied(place, conn, 'permission denied for schedule "eram:prune"', MAIL, REPORT, PRUNE)


def test_what_was_declared_by_another_role_is_no_matter(place):
    """As long as nothing changes; a deployment may do it with more rights."""
    conn = place.connect(place.make_role("work"))
    assert len(register(place.owner, MAIL, REPORT, PRUNE)) == 3
    assert register(conn, MAIL, REPORT, PRUNE) == {}
    denied(place, conn, 'queue "default"', MAIL | {"priority": 1}, REPORT, PRUNE)
    denied(place, conn, 'schedule "eram:prune"', MAIL, REPORT)
    assert register(conn, MAIL, PRUNE) == {"report": "removed"}


def test_an_administrator_declares_anything(place):
    conn = place.connect(place.make_role("admin"))
    changes = {"mail": "added", "eram:prune": "changed"}
    assert register(conn, MAIL | {"queue": "secret"}, PRUNE) == changes
    assert register(conn) == {"mail": "removed", "eram:prune": "restored"}


@pytest.mark.parametrize("what", ["enqueue", "read"])
def test_others_do_not(place, what):
    conn = place.connect(place.make_role(what))
    with pytest.raises(errors.InsufficientPrivilege):
        register(conn, MAIL)


def test_who_is_restricted_to_queues(place):
    """Also by way of a handler that he may register, and give another queue later."""
    role = place.make_role("work")
    place.owner.execute("select eram_grant(%s, 'enqueue', '{own,more}')", [role])
    conn = place.connect(role)
    denied(place, conn, 'queue "default"', MAIL)
    denied(place, conn, 'queue "secret"', MAIL | {"queue": "secret"})
    wide = {"on_conflict": "replace", "fields": ["handler"]}
    denied(place, conn, "jobs of other queues", MAIL | {"queue": "own", "unique": wide})
    conn.execute("select eram_register_handler('app:mail', queue => 'own')")
    assert register(conn, MAIL) == {"mail": "added"}
    conn.execute("select eram_register_handler('app:mail', queue => 'secret')")
    assert register(conn, MAIL) == {}
    place.owner.execute("select eram_run_schedule('mail')")
    assert value(place.owner, "select queue from eram_jobs") == "own"
    denied(place, conn, 'queue "secret"', MAIL | {"priority": 1})


def test_whose_rights_count_is_who_the_session_acts_as(place):
    """A function of the owner's does not lend his queues."""
    role = place.make_role("work")
    place.owner.execute(
        """
        create function public.lend(schedules jsonb) returns setof record
        language sql security definer
        as $$ select * from eram_register_schedules('app', schedules) $$
        """
    )
    conn = place.connect(role)
    try:
        with pytest.raises(errors.InsufficientPrivilege, match="queue"):
            conn.execute("select public.lend(%s)", [Jsonb([MAIL])])
    finally:
        place.owner.execute("drop function public.lend")
    assert names(place.owner) == []


def test_the_entry_says_who_declared_it(place):
    conn = place.connect(place.make_role("admin"))
    register(conn, MAIL, LIFELINE, application="billing")
    assert entry(conn, "mail").declared_by == "billing"
    assert maintenance(conn, "lifeline")[3] == "billing"
