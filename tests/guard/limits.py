"""What everything costs, and how much more it may: the only place to change for a good reason.

`make test ARGS="tests/guard -v"` ends with what was measured, beside the limits, and with the table
of the statements as it would have to stand here. Whatever is counted is the same at every run, and
nearly so on every server, so there is so little room that one more index, row, lock or call does
not fit into it: test_harms.py adds them one by one. Whoever makes something cheaper says so here,
too.
"""

from __future__ import annotations

from .meter import Cost

# By statement: WAL bytes, WAL records, buffers and rows written for one job, also where a call is
# for a hundred; then locks, transaction ids and notifications of the call.
# Where servers differ, what the dearest does: 14 to 16 touch 7.1 buffers to complete a job of a
# hundred, later ones 5.1; before 18, a tick and a rescue lock more.
STATEMENTS = {
    "enqueue one": Cost(664.5, 6.03, 12, 2, 9, 1, 0),
    "enqueue one, unique": Cost(920.5, 9.03, 16, 3, 10, 1, 0),
    "enqueue one by a document": Cost(667, 6.05, 12, 2, 9, 1, 0),
    "enqueue ten, all of them": Cost(6732.2, 60.48, 94, 20, 9, 1, 0),
    "enqueue a hundred": Cost(675.2, 6.05, 11.1, 2, 9, 1, 0),
    "fetch a hundred of 1,000": Cost(272.8, 4.01, 10.1, 2, 15, 1, 0),
    "fetch one of 1,000": Cost(269, 4, 22, 2, 14, 1, 0),
    "fetch a hundred of 50,000": Cost(272.8, 4.01, 10.2, 2, 15, 1, 0),
    "fetch one of 50,000": Cost(269, 4, 24, 2, 14, 1, 0),
    "complete one": Cost(411, 5, 11, 3, 11, 1, 0),
    "complete a hundred": Cost(267.3, 3.04, 7.1, 2.01, 11, 1, 0),
    # With an index of errors by time, for the rate of failures: 64 bytes, a record, a buffer.
    "fail one": Cost(545.4, 7.03, 16, 3, 7, 1, 0),
    # A worker says these again and again.
    "fetch, nothing waits": Cost(0, 0, 44, 0, 7, 0, 0),
    "ask again while waiting": Cost(0, 0, 42, 0, 4, 0, 0),
    "heartbeat": Cost(0, 0, 4, 0, 4, 0, 0),
    "tick, nothing due": Cost(0, 0, 22, 0, 21, 0, 0),
    "rescue, nobody dead": Cost(0, 0, 4, 0, 5, 0, 0),
}
# What a statement may cost beyond that; of all other kinds, nothing. One more index costs each row
# about 65 bytes, a record, and one to three buffers, and one more number eight bytes.
WAL_BYTES_ROOM = 0.01  # of what there is
ROOM = {"wal_records": 0.2, "buffers": 0.5, "rows_written": 0.04}

# The WAL of a job's whole life, in bytes: enqueued, fetched and completed by the hundred, with the
# commits, and with what it takes to move its arguments from the pending lists of the GIN indexes
# into the indexes, as vacuum does some time later.
LIFE_WAL_BYTES = 1280.0

# How many there may be on the tables that every job goes through: each costs every job something.
TABLES = {
    "eram_job_specs": {"indexes": 3, "constraints": 1, "triggers": 0},
    "eram_queued_jobs": {"indexes": 2, "constraints": 1, "triggers": 0},
    "eram_running_jobs": {"indexes": 1, "constraints": 1, "triggers": 0},
    "eram_finished_jobs": {"indexes": 2, "constraints": 1, "triggers": 0},
    "eram_completions": {"indexes": 1, "constraints": 0, "triggers": 0},
}

# In how many places the functions that hot statements call say that they lock something or give it
# back; all others in none. A lock that is given back at once is held by no statement in its end.
LOCKS = {
    "_eram_insert_job": 2,
    "_eram_take_worker_lock": 1,
    "_eram_wake": 4,
    "eram_enqueue_job": 2,
    "eram_fetch": 2,
    "eram_start_waiting": 1,
}

# Times the CPU that the yardstick takes for the same, by bare statements. About twice what was
# measured.
CPU = {
    "enqueue one": 5.0,
    "enqueue a hundred": 4.5,
    "fetch one": 5.5,
    "fetch a hundred": 4.0,
    "complete one": 6.5,
    "complete a hundred": 5.0,
}

# What Python sends to enqueue.
PRODUCER = {"produce: statements a job": 1.0, "produce: statements a call": 1.0}

# What a worker process sends.
WORKER = {
    # By the session of a queue that drains, for a job: it takes many at a time. A slow machine
    # makes it fewer, hence the room.
    "drain: statements a job": 0.1,
    # By the same session, other than to fetch, to report and to wait: two set it up.
    "drain: other statements": 2.0,
    # For a job that comes alone: a fetch, a completion, now and then a question what is due.
    "one by one: statements a job": 2.5,
    # The same in a transaction: a begin, a mark, a completion and a commit, with the one above.
    "one by one: of its transaction": 4.0,
    # By other sessions of the worker, beside heartbeats and ticks.
    "one by one: of other sessions": 0.0,
    # By a worker of one queue that has nothing to do: nothing else than what is in STATEMENTS.
    # 2.8 in the long run, and a second more or less makes a difference in so short a time.
    "idle: statements a second": 4.5,
    # Of one kind, such as a heartbeat: each is said once a second.
    "idle: most of a kind a second": 1.7,
    "idle: other statements": 0.0,
    "idle: transaction ids a second": 0.0,
}


def of_statement(name: str) -> dict[str, float]:
    """Return what a statement may cost."""
    costs = STATEMENTS[name].by_kind()
    room = {**ROOM, "wal_bytes": WAL_BYTES_ROOM * costs["wal_bytes"]}
    return {kind: cost + room.get(kind, 0) for kind, cost in costs.items()}
