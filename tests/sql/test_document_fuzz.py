"""Random documents: each becomes a job as asked for, or is refused in the proper way."""

from __future__ import annotations

import json
import os
import random
from typing import Any

import psycopg

from .helpers import contents, row
from .validation_helpers import BAD_KEYS, assert_well_said

SEED = int(os.environ.get("ERAM_TEST_SEED", "20240229"))
DOCUMENTS = 3000

GOOD_KEYS: dict[str, list[Any]] = {
    "handler": ["a:b", "app.jobs:email", "🦀:x", "O'Brien", "h" * 512, "null"],
    "args": [{}, {"a": 1}, {"n": {"deep": [1, None, "x" * 300]}}, None],
    "queue": ["default", "mail", "q" * 128, "ü", None],
    "priority": [0, 5, 9, 1.0, None],
    "max_attempts": [1, 20, 1_000_000, 2e1, None],
    "scheduled_at": ["2099-01-31T08:00:00Z", "1999-01-31 08:00:00.5+05:30", None],
    "delay": [0, 1.5, "1 minute", "1 mon 2 days", "P1DT2H", None],
    "tags": [[], ["one"], ["one", "one", '"', "ü,{}"], None],
    "meta": [{}, {"x": "y"}, None],
    "backoff": [{"strategy": "exponential"}, {"strategy": "fixed", "base": 5}, None],
    "timeout": [None, 60, "1 minute", 0.5],
    "unique": [None, False, True, {}, {"period": 30}, {"fields": ["meta"], "keys": None}],
    "defaults": [None, {}, {"queue": "default", "max_attempts": 3}],
}
ODD = [None, True, 0, -1, 1e308, 2**63, "", "x", "\x01", " x ", [], {}, [[]], {"": None}, "1e400"]


def random_document(rnd: random.Random) -> dict[str, Any]:
    """Make a document that is good in most of its keys."""
    document = {"handler": rnd.choice(GOOD_KEYS["handler"])}
    for key in rnd.sample(sorted(GOOD_KEYS), rnd.randint(0, 6)):
        document[key] = rnd.choice(GOOD_KEYS[key])
    return document


def mutate(document: dict[str, Any], rnd: random.Random) -> Any:
    """Spoil a document, or not."""
    kind = rnd.randrange(6)
    key = rnd.choice(sorted(GOOD_KEYS))
    if kind == 0:
        document[key] = rnd.choice(BAD_KEYS[key])[0]
    elif kind == 1:
        document[key] = rnd.choice(ODD)
    elif kind == 2:
        spot = rnd.randrange(len(key))
        document[key[:spot] + rnd.choice("xQ _é") + key[spot + 1 :]] = rnd.choice(ODD)
    elif kind == 3:
        document.pop(rnd.choice(sorted(document)))
    return document


def spoil(text: str, rnd: random.Random) -> str:
    """Change a character of a JSON text, at times."""
    if rnd.random() < 0.25:
        spot = rnd.randrange(len(text))
        text = (
            text[:spot]
            + rnd.choice(['"', "{", "}", ",", "\\", "0", "\n", "", "\\u0000"])
            + text[spot + 1 :]
        )
    return text


def test_a_random_document_becomes_a_job_or_is_refused(conn):
    print(f"ERAM_TEST_SEED={SEED}")
    rnd = random.Random(SEED)
    accepted = refused = duplicates = 0
    for _ in range(DOCUMENTS):
        latest = conn.execute("select max(job_id) from eram_job_specs").fetchone()[0]
        text = spoil("{" + json.dumps(mutate(random_document(rnd), rnd))[1:], rnd)
        try:
            (job_id,) = conn.execute("select eram_enqueue_job(%s::text)", [text]).fetchone()
        except psycopg.Error as exc:
            refused += 1
            try:
                assert_well_said(exc)
            except AssertionError as problem:
                raise AssertionError(f"document {text[:2000]}") from problem
        else:
            accepted += 1
            if latest is not None and job_id <= latest:
                duplicates += 1
                continue
            job = row(conn, "select * from eram_jobs where id = %s", job_id)
            if text.startswith("{"):
                asked = json.loads(text)
                assert job.handler == asked["handler"]
                assert job.args == (asked.get("args") or {}), text
                assert job.queue == (asked.get("queue") or "default"), text
                assert job.tags == (asked.get("tags") or []), text
    print(f"{accepted} accepted, {duplicates} of them duplicates, {refused} refused")
    assert 0 < duplicates < accepted / 2
    assert accepted > DOCUMENTS / 5
    assert refused > DOCUMENTS / 5
    in_place = conn.execute("select count(*) from eram_queued_jobs").fetchone()
    assert in_place == (accepted - duplicates,)


def test_a_random_batch_is_enqueued_whole_or_not_at_all(conn):
    print(f"ERAM_TEST_SEED={SEED}")
    rnd = random.Random(SEED + 1)
    outcomes = set()
    for _ in range(150):
        batch = [random_document(rnd) for _ in range(rnd.randint(1, 8))]
        if rnd.random() < 0.5:
            spot = rnd.randrange(len(batch))
            batch[spot] = mutate(batch[spot], rnd)
        before = contents(conn)
        try:
            found = conn.execute(
                "select id from eram_enqueue_jobs(%s::jsonb)", [json.dumps(batch)]
            ).fetchall()
        except psycopg.Error as exc:
            assert_well_said(exc)
            assert contents(conn) == before
            outcomes.add("refused")
        else:
            assert len(found) == len(batch)
            outcomes.add("enqueued")
    assert outcomes == {"refused", "enqueued"}
