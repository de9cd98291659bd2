"""Roles that may enqueue to some queues only."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg import errors, sql
from psycopg.types.json import Jsonb

from databases import fresh_database

from .helpers import clear, column, contents, enqueue, value
from .role_helpers import Place
from .schedule_helpers import make_due, schedule, tick

GRANT = "select eram_grant(%s, %s, %s)"
QUEUES = "select queue from eram_jobs order by id"
DOORS: dict[str, Callable[[psycopg.Connection, str | None], object]] = {
    "arguments": lambda conn, queue: conn.execute(
        "select eram_enqueue_job('app:run', queue => %s)", [queue]
    ),
    "document": lambda conn, queue: enqueue(conn, queue=queue),
    "batch": lambda conn, queue: conn.execute(
        "select * from eram_enqueue_jobs(%s)",
        [Jsonb([{"handler": "app:run", "queue": each} for each in ("mail", queue)])],
    ),
}
each_door = pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)


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
def place(module_place: Place) -> Place:
    clear(module_place.owner)
    return module_place


def restricted(place: Place, *queues: str) -> psycopg.Connection:
    """Connect as a new role that may enqueue to these queues."""
    role = place.make_role()
    place.owner.execute(GRANT, [role, "enqueue", list(queues)])
    return place.connect(role)


def user(conn: psycopg.Connection) -> str:
    return value(conn, "select session_user::text")


@each_door
def test_the_queues_granted_and_no_others(place, door):
    producer = restricted(place, "mail", "a 'queue'")
    door(producer, "mail")
    door(producer, "a 'queue'")
    found = column(place.owner, QUEUES)
    # No queue is the default one, which is not among them.
    for other in ("other", None, "MAIL"):
        with pytest.raises(errors.InsufficientPrivilege) as caught:
            door(producer, other)
        assert (other or "default") in (caught.value.diag.message_primary or "")
        assert caught.value.diag.message_hint
    assert column(place.owner, QUEUES) == found


@each_door
def test_nobody_else_is_restricted(place, door):
    restricted(place, "mail")
    free = place.connect(place.make_role("enqueue"))
    for conn in (free, place.owner, place.admin, place.connect(place.member_role)):
        door(conn, "other")


def test_a_default_of_the_handler_counts(place):
    producer = restricted(place, "mail")
    place.owner.execute("""select eram_set_handler('app:run', '{"queue": "mail"}')""")
    enqueue(producer)
    place.owner.execute("""select eram_set_handler('app:run', '{"queue": "other"}')""")
    with pytest.raises(errors.InsufficientPrivilege):
        enqueue(producer)


def test_what_a_role_has_as_a_member(place):
    """One of the roles that it acts as is enough."""
    producer = restricted(place, "mail")
    member = place.connect(place.make_role())
    names = {"role": sql.Identifier(user(producer)), "member": sql.Identifier(user(member))}
    place.admin.execute(sql.SQL("grant {role} to {member}").format(**names))
    enqueue(member, queue="mail")
    with pytest.raises(errors.InsufficientPrivilege):
        enqueue(member, queue="other")

    names["free"] = sql.Identifier(place.make_role("enqueue"))
    place.admin.execute(sql.SQL("grant {free} to {member}").format(**names))
    enqueue(member, queue="other")
    member.execute(sql.SQL("set role {role}").format(**names))
    with pytest.raises(errors.InsufficientPrivilege):
        enqueue(member, queue="other")
    member.execute(sql.SQL("set role {free}").format(**names))
    enqueue(member, queue="other")


def test_schedules_are_nobodys_queues(place):
    """Whoever ticks enqueues what the owner has scheduled."""
    worker = restricted(place, "mail")
    place.grant(user(worker), "work")
    schedule(place.owner, "hourly", options={"queue": "other"})
    make_due(place.owner, "hourly")
    tick(worker)
    assert column(place.owner, QUEUES) == ["other"]


def test_a_job_of_another_queue_is_not_replaced(place):
    producer = restricted(place, "mail")
    reaching = {"fields": ["handler"], "on_conflict": "replace"}
    job_id = enqueue(place.owner, queue="other", unique=reaching)
    with pytest.raises(errors.InsufficientPrivilege):
        enqueue(producer, queue="mail", unique=reaching, args={"stolen": True})
    with pytest.raises(errors.InsufficientPrivilege):
        enqueue(producer, queue="other", unique=reaching)
    assert value(place.owner, "select args from eram_jobs where id = %s", job_id) == {}
    enqueue(producer, queue="mail", unique={"on_conflict": "replace"})


def test_a_job_of_another_queue_is_not_kept_out(place):
    producer = restricted(place, "mail")
    reaching = {"fields": ["handler", "args"]}
    with pytest.raises(errors.InsufficientPrivilege, match="jobs of other queues"):
        enqueue(producer, queue="mail", unique=reaching)
    job_id = enqueue(place.owner, queue="other", unique=reaching)
    assert column(place.owner, "select id from eram_jobs") == [job_id]
    enqueue(producer, queue="mail", unique={"fields": ["handler", "args", "queue"]})


def test_another_name_is_no_right_to_other_queues(place):
    producer = restricted(place, "mail")
    role = sql.Identifier(user(producer))
    other = sql.Identifier(f"{user(producer)} renamed")
    rename = sql.SQL("alter role {} rename to {}")
    place.admin.execute(rename.format(role, other))
    try:
        for queue in ("other", "mail"):
            with pytest.raises(errors.InsufficientPrivilege):
                enqueue(producer, queue=queue)
        place.owner.execute(GRANT, [user(producer), "enqueue", ["mail"]])
        enqueue(producer, queue="mail")
        with pytest.raises(errors.InsufficientPrivilege):
            enqueue(producer, queue="other")
    finally:
        place.admin.execute(rename.format(other, role))


def test_the_last_grant_holds(place):
    producer = restricted(place, "mail")
    role = user(producer)
    place.owner.execute(GRANT, [role, "enqueue", ["other", "other"]])
    enqueue(producer, queue="other")
    with pytest.raises(errors.InsufficientPrivilege):
        enqueue(producer, queue="mail")
    place.owner.execute(GRANT, [role, "enqueue", None])
    enqueue(producer, queue="mail")
    place.owner.execute(GRANT, [role, "enqueue", ["other"]])
    place.revoke(role, "enqueue")
    assert column(place.owner, "select role from eram_queue_grants") == []
    with pytest.raises(errors.InsufficientPrivilege):
        enqueue(producer, queue="other")


@pytest.mark.parametrize(
    ("what", "queues"),
    [
        ("work", ["mail"]),
        ("admin", ["mail"]),
        ("enqueue", []),
        ("enqueue", [None]),
        ("enqueue", [""]),
        ("enqueue", ["mail", " x"]),
        ("enqueue", [["mail"], ["x"]]),
    ],
)
def test_bad_queues(place, what, queues):
    role = place.make_role()
    before = contents(place.owner)
    with pytest.raises(errors.DatabaseError) as caught:
        place.owner.execute(GRANT, [role, what, queues])
    assert caught.value.diag.message_hint
    assert place.rights(role) == set()
    assert contents(place.owner) == before
