"""What producers choose and workers meet: paths of handlers, and their arguments."""

from __future__ import annotations

import sys
from pathlib import Path

import psycopg
import pytest

from eram import HandlerNotFoundError
from eram._jobs.finding import Handlers
from sql.helpers import column, enqueue, state_of, value
from sql.role_helpers import Place

from .places import work_off


@pytest.fixture
def producer(place: Place) -> psycopg.Connection:
    return place.connect(place.make_role("enqueue"))


MODULE = """
import builtins
import os
import subprocess
from os import system

import eram

HIDDEN = {"call": system}


class Tools:
    run = staticmethod(os.system)


@eram.job
def good(job):
    return "done"


@eram.job
def take(job, **args):
    return len(args), len(job.meta)
"""
EVIL_PATHS = (
    *("os:system", "builtins:eval", "builtins:exec", "subprocess:Popen", "posix:system"),
    *("attacked:system", "attacked:os.system", "attacked:builtins.eval", "attacked:Tools.run"),
    *("attacked:subprocess.Popen", "attacked:subprocess.os.system", "attacked:HIDDEN"),
    *("attacked:good.__class__", "attacked:good.__init__", "attacked:good.__reduce_ex__"),
    *("attacked:good.function", "attacked:good.__wrapped__", "attacked:eram.job"),
    *("attacked:__builtins__", "attacked:__loader__.load_module", "attacked:__import__"),
    *("attacked:eram.worker", "attacked.__main__:main", "attacked:os:system", "attacked:"),
    *("attacked/../os:system", "..os:system", ".attacked:good", "attacked.:good", "attackedx:good"),
    *("importlib:import_module", "pickle:loads", "ctypes:CDLL", "runpy:run_path", "antigravity:x"),
)


@pytest.fixture
def attacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "attacked.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "attacked", raising=False)
    return tmp_path


@pytest.mark.parametrize("path", EVIL_PATHS)
def test_only_jobs_are_run(attacked, path):
    """By whatever road something else could be reached from a module that is allowed."""
    before = set(sys.modules)
    handlers = Handlers(["attacked"])
    with pytest.raises(HandlerNotFoundError):
        handlers.resolve(path)
    # What is not allowed is not even imported.
    fresh = {name.partition(".")[0] for name in set(sys.modules) - before}
    assert not fresh & {"antigravity", "ctypes", "runpy", "posix"}
    assert handlers.resolve("attacked:good")


def test_a_worker_goes_on_when_it_is_asked_to_run_anything(place, producer, attacked):
    """The jobs fail, with the reason; what should run runs; nothing else was run."""
    mark = attacked / "mark"
    evil = [
        enqueue(producer, path, args={"command": f"touch {mark}"}, max_attempts=1)
        for path in EVIL_PATHS
    ]
    good = enqueue(producer, "attacked:good", priority=9)
    work_off(place, attacked, allow="attacked")
    assert state_of(place.owner, good) == "completed"
    assert {state_of(place.owner, job_id) for job_id in evil} == {"discarded"}
    said = column(place.owner, "select distinct split_part(error, ':', 1) from eram_errors")
    assert said == ["HandlerNotFoundError"]
    assert not mark.exists()


# Arguments that the server takes, and Python may not.
HOSTILE_ARGS = (
    *('{"a": ' + "[" * depth + "]" * depth + "}" for depth in (500, 1500, 5000)),
    *('{"a":' * depth + "1" + "}" * depth for depth in (1500, 5000)),
    '{"a": ' + "9" * 100_000 + "}",
    *('{"a": 1e400}', '{"a": -1e400}', '{"a": 1e-400}', '{"a": 1e100000}', '{"": ""}'),
    *('{"job": 1}', '{"self": 1}', '{"__class__": "x"}', '{"\u2028": "\u202e"}', '{"a b": 1}'),
    *('{"a": "' + "x" * 5_000_000 + '"}', '{"class": null}', '{"a": "\x7f\ufeff\ufffe"}'),
)


def test_arguments_that_python_cannot_read_harm_their_own_job_alone(place, producer, attacked):
    """They end one way or the other, those around them run, and the worker lives on."""
    evil, good = [], []
    for args in HOSTILE_ARGS:
        enqueue_job = "select eram_enqueue_job('attacked:take', %s, max_attempts => 1, meta => %s)"
        evil.append(value(producer, enqueue_job, args, args))
        good += [enqueue(producer, "attacked:good") for _ in range(3)]
    work_off(place, attacked, allow="attacked")
    assert {state_of(place.owner, job_id) for job_id in good} == {"completed"}
    assert {state_of(place.owner, job_id) for job_id in evil} == {"completed", "discarded"}
    runs = "select max(run) from eram_finished_jobs"
    assert value(place.owner, runs) == 1, "a job was given back or rescued"
