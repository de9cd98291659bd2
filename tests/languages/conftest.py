"""A worker of each language on the test's database."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from .programs import LANGUAGES, PROJECT, Language, Languages, Worker, environment_of

# For its PgBouncer.
sys.path.append(str(PROJECT / "tests" / "python"))

StartWorker = Callable[..., Worker]


@pytest.fixture(scope="session")
def languages(tmp_path_factory: pytest.TempPathFactory) -> Languages:
    return Languages(tmp_path_factory.mktemp("languages"))


@pytest.fixture(params=LANGUAGES)
def language(request: pytest.FixtureRequest, languages: Languages) -> Language:
    return languages.get(request.param)


@pytest.fixture
def start_program(dsn: str, bin_dir: Path, tmp_path: Path) -> Iterator[StartWorker]:
    """Start workers of any language; further arguments are queues, and variables."""
    with contextlib.ExitStack() as workers:

        def start(
            language: Language, *queues: str, folder: Path = tmp_path, **environment: str
        ) -> Worker:
            variables = environment_of(dsn, bin_dir, **{**language.environment, **environment})
            worker = Worker([*language.command, *queues], folder, variables)
            workers.callback(worker.clean_up)
            return worker

        yield start


@pytest.fixture
def start_worker(language: Language, start_program: StartWorker) -> StartWorker:
    """Start workers of the language that is being tested."""
    return functools.partial(start_program, language)


@pytest.fixture
def records(conn: psycopg.Connection) -> None:
    """The table that demo:record writes to."""
    conn.execute("create table demo_records (job_id bigint, word text)")
