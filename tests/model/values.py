"""What the random sequences are made of: small choices, so that things meet."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from .defaults import given

HANDLERS = ("app:a", "app:b", "app:old")
TX_HANDLER, TX_QUEUE = "app:tx", "tx"
HOUR = 3600

numbers = st.integers(0, 99)  # which one, out of those that there are


def options(**choices: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Choose some of these, and a value for each."""
    return st.fixed_dictionaries({}, optional=choices)


priorities = st.sampled_from([None, 0, 3, 9])
attempts = st.sampled_from([None, 1, 1, 2, 3])
queues = st.sampled_from(["default", "default", "mail"])
args = st.sampled_from([{}, {"n": 1}, {"n": 2}, {"n": 1, "m": [1, {"x": None}]}])
metas = st.sampled_from([{}, {"by": "me"}, {"by": "you", "n": 1}])
tags = st.sampled_from([[], ["one"], ["two", "one"], ['a "b", {c}']])
timeouts = st.sampled_from([None, "30 seconds", "2 hours"])
delays = st.sampled_from([None, None, 0, 0, 0, HOUR, "2 hours", "1 minute"])
backoffs = st.sampled_from(
    [
        None,
        "exp",
        "none",
        "linear",
        [HOUR, "2 hours"],
        {"strategy": "fixed", "base": "2 hours"},
        {"strategy": "exponential", "base": HOUR, "cap": 2 * HOUR},
        {"strategy": "linear", "base": HOUR, "jitter": 0.5},
        {"strategy": "exp", "base": None},
    ]
)
own_uniques = st.sampled_from(
    [
        True,
        False,
        {},
        {"period": HOUR},
        {"period": "2 hours", "on_conflict": "replace"},
        {"period": "1 minute"},
        {"on_conflict": "replace"},
        {"on_conflict": "raise"},
        {"on_conflict": "skip", "keys": ["n"]},
    ]
)
uniques = own_uniques | st.sampled_from(
    [
        {"fields": ["args"]},
        {"fields": ["handler", "meta"], "on_conflict": "replace"},
        {"fields": ["queue", "handler", "args"], "keys": ["n", "none"], "period": HOUR},
        {"fields": ["queue"], "on_conflict": "replace"},
    ]
)
defaults = options(
    queue=queues,
    priority=st.sampled_from([1, 9]),
    max_attempts=st.sampled_from([1, 5]),
    tags=tags,
    meta=metas,
    backoff=backoffs.filter(lambda value: value is not None),
    timeout=timeouts.filter(lambda value: value is not None),
    unique=uniques,
)
documents = st.builds(
    lambda handler, values, unique, more: {"handler": handler} | values | unique | more,
    st.sampled_from(HANDLERS),
    options(
        args=args,
        queue=queues | st.just(TX_QUEUE),
        priority=priorities,
        max_attempts=attempts,
        delay=delays,
        tags=tags,
        meta=metas,
        backoff=backoffs,
        timeout=timeouts,
    ),
    st.just({}) | st.fixed_dictionaries({"unique": uniques}),
    st.just({}) | st.just({}) | st.fixed_dictionaries({"defaults": defaults}),
)
states = st.sampled_from(
    ["available", "scheduled", "retryable", "executing", "completed", "discarded", "cancelled"]
)
filters = st.just({"all": True}) | options(
    state=states | st.lists(states, min_size=1, max_size=3, unique=True),
    queue=queues | st.just(["mail", TX_QUEUE]),
    handler=st.sampled_from(["app:a", ["app:b", "app:old"], "app:none"]),
    tags=st.just(["one"]),
    args=st.sampled_from([{"n": 1}, {"m": [{"x": None}]}]),
    meta=st.just({"by": "me"}),
    before=st.sampled_from([-HOUR, 0, HOUR, 2 * HOUR]),
    after=st.sampled_from([-HOUR, 0, HOUR]),
    ids=st.lists(numbers, min_size=1, max_size=5),
).filter(bool)
ages = st.sampled_from([None, HOUR, "2 hours", 0, "infinity"])
max_ages = st.one_of(
    ages, options(completed=ages, cancelled=ages, discarded=ages), st.just({"completed": 0})
)
results = st.sampled_from([None, 1, "text", [1, {"a": None}], {"n": 1}, False])


def for_transaction(document: dict[str, Any]) -> dict[str, Any]:
    """Make of a job one that shares no key with those outside of the transaction."""
    unique = given(document).get("unique", False)
    if isinstance(unique, dict):
        unique = {key: value for key, value in unique.items() if key not in ("fields", "keys")}
    return document | {"handler": TX_HANDLER, "queue": TX_QUEUE, "unique": unique}
