"""How long a failed job waits."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from .helpers import enqueue, fetch, fetch_late, row, value

PAGE = Path(__file__).parents[2] / "docs" / "retries.md"
SECONDS = "select extract(epoch from eram_backoff(%s, %s::text::jsonb))::float8"
LAST_ATTEMPT = 2147483647
LONGEST = 36_000 * 86_400
# Strategy: its base, its jitter and its cap, if none is given.
DEFAULTS: dict[str, tuple[float, float, float]] = {
    "exponential": (15, 0.1, 86_400),
    "exp": (1, 0, 3600),
    "linear": (15, 0, LONGEST),
    "fixed": (15, 0, LONGEST),
    "none": (0, 0, LONGEST),
}
DURATIONS = {
    "1 second": 1,
    "00:01:30": 90,
    "2 hours": 7200,
    "1 day": 86_400,
    "1 month": 30 * 86_400,
    "1 month 1 day 00:00:01": 31 * 86_400 + 1,
    "1 millisecond": 0.001,
    "PT5M": 300,
}


def seconds(conn: psycopg.Connection, attempt: int, backoff: Any = None) -> float:
    """Return what eram_backoff says; the backoff is passed as JSON, whatever it is."""
    return value(conn, SECONDS, attempt, None if backoff is None else json.dumps(backoff))


@pytest.mark.parametrize(
    ("attempt", "least"),
    [(1, 17), (2, 19), (3, 23), (4, 31), (5, 47), (8, 271), (10, 1039), (12, 4111), (16, 65551)],
)
@pytest.mark.parametrize(
    "backoff", [None, {}, {"strategy": "exponential"}, "exponential", {"strategy": None}]
)
def test_exponential_is_the_default_with_up_to_a_tenth_of_jitter(shared, backoff, attempt, least):
    found = [seconds(shared, attempt, backoff) for _ in range(100)]
    assert least <= min(found)
    assert max(found) <= min(least * 1.1, 86400)
    assert max(found) - min(found) > least * 0.02


@pytest.mark.parametrize("attempt", [17, 20, 21, 1000, 999_999, LAST_ATTEMPT])
def test_exponential_never_exceeds_a_day(shared, attempt):
    assert seconds(shared, attempt) == 86400


@pytest.mark.parametrize(
    ("base", "least"),
    [(0, 0), (1.5, 1.5), ("2 minutes", 120), ("1 day", 86400), ("100 years", LONGEST), (None, 15)],
)
@pytest.mark.parametrize("attempt", [1, 2, LAST_ATTEMPT])
def test_fixed_is_always_the_same(shared, base, least, attempt):
    assert seconds(shared, attempt, {"strategy": "fixed", "base": base}) == least


@pytest.mark.parametrize("backoff", ["exp", {"strategy": "exp"}, {"strategy": "exp", "base": 1}])
def test_exp_doubles_and_stays_within_an_hour(shared, backoff):
    found = [seconds(shared, attempt, backoff) for attempt in (*range(1, 14), LAST_ATTEMPT)]
    assert found == [2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 3600, 3600, 3600]


@pytest.mark.parametrize("attempt", [1, LAST_ATTEMPT])
@pytest.mark.parametrize("backoff", ["none", {"strategy": "none", "base": 60, "jitter": 1}])
def test_none_is_at_once(shared, attempt, backoff):
    assert seconds(shared, attempt, backoff) == 0


@pytest.mark.parametrize("backoff", [[1, 5, "1 minute"], {"delays": [1, 5, "1 minute"]}])
def test_of_a_list_of_delays_the_last_one_repeats(shared, backoff):
    found = [seconds(shared, attempt, backoff) for attempt in (1, 2, 3, 4, LAST_ATTEMPT)]
    assert found == [1, 5, 60, 60, 60]


@pytest.mark.parametrize("backoff", [[7], list(range(1, 101))])
def test_a_list_has_one_to_a_hundred_delays(shared, backoff):
    found = [seconds(shared, attempt, backoff) for attempt in range(1, 111)]
    assert found == [backoff[min(n, len(backoff) - 1)] for n in range(110)]


def test_the_delays_of_the_page_are_true(shared):
    found = re.findall(r"(?m)^[|] `(.+)` [|]((?: [0-9]+ [|]){10})$", PAGE.read_text("utf-8"))
    assert len(found) == 6
    for backoff, cells in found:
        for attempt, cell in enumerate(cells.split("|")[:10], 1):
            wanted = int(cell)
            jitter = 1.1 if "exponential" in backoff else 1
            assert wanted <= value(shared, SECONDS, attempt, backoff) <= wanted * jitter


durations = st.one_of(
    st.integers(0, LONGEST),
    st.floats(0, 1e5, allow_subnormal=False).map(lambda number: round(number, 3)),
    st.sampled_from(sorted(DURATIONS)),
)
extras = st.fixed_dictionaries(
    {},
    optional={
        "cap": st.none() | durations,
        "jitter": st.none() | st.floats(0, 1).map(lambda number: round(number, 6)),
    },
)
strategies = st.fixed_dictionaries(
    {}, optional={"strategy": st.sampled_from([None, *DEFAULTS]), "base": st.none() | durations}
)
lists = st.fixed_dictionaries({"delays": st.lists(durations, min_size=1, max_size=100)})
rules = st.tuples(strategies | lists, extras).map(lambda parts: parts[0] | parts[1])
attempts = st.integers(1, 100) | st.sampled_from([1023, 1024, 1_000_000, LAST_ATTEMPT])


def in_seconds(duration: float | str) -> float:
    return DURATIONS[duration] if isinstance(duration, str) else duration


def expected(attempt: int, rule: dict[str, Any]) -> tuple[float, float]:
    """Return the bounds of the delay, by a model of the rule."""
    rule = {key: given for key, given in rule.items() if given is not None}
    base, jitter, cap = DEFAULTS[rule.get("strategy", "exponential")]
    if delays := rule.get("delays"):
        base, jitter, cap = in_seconds(delays[min(attempt, len(delays)) - 1]), 0, LONGEST
        rule["strategy"] = "fixed"
    base = in_seconds(rule.get("base", base))
    jitter = rule.get("jitter", jitter)
    cap = min(in_seconds(rule.get("cap", cap)), LONGEST)
    power = 2.0 ** min(attempt, 1000)
    least = {
        "exponential": base + power,
        "exp": base * power,
        "linear": base * attempt,
        "fixed": base,
        "none": 0,
    }[rule.get("strategy", "exponential")]
    return min(least, cap), min(least * (1 + jitter), cap)


@settings(
    max_examples=400,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(attempt=attempts, rule=rules)
def test_every_rule_is_what_the_model_says(shared, attempt, rule):
    least, most = expected(attempt, rule)
    found = seconds(shared, attempt, rule)
    assert least <= found or math.isclose(least, found, abs_tol=1e-6)
    assert found <= most or math.isclose(most, found, abs_tol=1e-6)
    assert value(
        shared, "select eram_backoff(%s, %s) <= _eram_longest_delay()", attempt, Jsonb(rule)
    )


def test_jitter_is_spread_over_its_part(shared):
    found = [
        seconds(shared, 3, {"strategy": "fixed", "base": 100, "jitter": 0.5}) for _ in range(200)
    ]
    assert 100 <= min(found) < 110
    assert 140 < max(found) <= 150


@pytest.mark.parametrize("number", ["1e-400", "0.0000001", "1e-5000"])
@pytest.mark.parametrize("name", ["base", "cap", "jitter"])
def test_a_number_next_to_nothing_is_nothing(shared, name, number):
    rule = f'{{"strategy": "fixed", "base": 5, "{name}": {number}}}'
    assert value(shared, SECONDS, 1, rule) == (5 if name == "jitter" else 0)


@pytest.mark.parametrize(
    ("backoff", "message", "hint"),
    [
        ("expo", 'unknown backoff strategy: "expo"', "exponential, exp, linear, fixed, none"),
        ({"bas": 1}, 'unknown key "bas" in backoff', "base"),
        ([1, "soon"], 'invalid delay 2 of backoff: "soon"', "seconds"),
        ([1] * 10_000, "delays of backoff must be between 1 and 100, got 10000", "repeats"),
        ([" " * 10_000 + "1"], "backoff of 10017 characters is too long", "10000"),
        ({"jitter": 2}, "jitter of backoff must be between 0 and 1, got 2", "0.1"),
        (5, "backoff must be a JSON object, a list or a string, got number", '"fixed"'),
        ({"base": -1}, "base of backoff must be between 0 and 100 years", "interval"),
    ],
)
def test_an_error_names_what_is_wrong(shared, backoff, message, hint):
    with pytest.raises(psycopg.Error) as caught:
        seconds(shared, 1, backoff)
    assert (caught.value.diag.message_primary or "").startswith(message)
    assert hint in (caught.value.diag.message_hint or "")


def failed(conn, worker, **options):
    """Enqueue, claim and fail a job; return its row."""
    job_id = enqueue(conn, **options)
    (job,) = [job for job in fetch(conn, worker) if job.id == job_id]
    conn.execute("select eram_fail_job(%s, %s, 'x')", [job.id, job.run])
    return row(
        conn,
        """
        select *, extract(epoch from scheduled_at - clock_timestamp()) as waits
        from eram_jobs
        where id = %s
        """,
        job_id,
    )


def test_a_failed_job_waits_for_its_own_backoff(conn, worker):
    job = failed(conn, worker, backoff={"strategy": "fixed", "base": "1 hour"})
    assert job.state == "retryable"
    assert 3590 < job.waits <= 3600


def test_a_failed_job_without_one_waits_exponentially(conn, worker):
    assert 16 < failed(conn, worker).waits < 19


def test_a_failed_job_waits_for_the_backoff_of_its_queue(conn, worker):
    conn.execute(
        "select eram_set_queue('default', backoff => %s)",
        [Jsonb({"strategy": "fixed", "base": 100})],
    )
    assert 90 < failed(conn, worker).waits <= 100
    assert 16 < failed(conn, worker, backoff={"strategy": "exponential"}).waits < 19


@pytest.mark.parametrize("backoff", [[100], {"strategy": "linear", "base": 100}])
def test_every_form_is_stored_as_given_and_used(conn, worker, backoff):
    job = failed(conn, worker, backoff=backoff)
    assert value(conn, "select backoff from eram_job_specs where job_id = %s", job.id) == backoff
    assert 90 < job.waits <= 100


def test_a_job_without_a_backoff_runs_again_at_once(conn, worker):
    job = failed(conn, worker, backoff="none")
    assert job.state == "available"
    (again,) = fetch_late(conn, worker)
    assert (again.id, again.attempt) == (job.id, 2)


def test_the_hundredth_attempt_waits_as_any_other(conn, worker):
    """A list that is shorter than the attempts goes on, and no exponent overflows."""
    job_id = enqueue(conn, backoff=[0, 0, 50], max_attempts=1_000_000)
    conn.execute("update eram_queued_jobs set attempt = 999998, run = 999998")
    (job,) = fetch(conn, worker)
    assert value(conn, "select eram_fail_job(%s, %s, 'x')", job_id, job.run) == "retryable"
    waits = "select extract(epoch from scheduled_at - clock_timestamp()) from eram_queued_jobs"
    assert 40 < value(conn, waits) <= 50
