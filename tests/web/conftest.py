"""Servers for the tests: of a database that all of a module's tests share, or of a fresh one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from pytest_postgresql.executors import PostgreSQLExecutor

from databases import fresh_database

from .helpers import Events, Page


@pytest.fixture
def make_page(dsn: str) -> Iterator[Callable[..., Page]]:
    """Start any number of servers, of the test's database unless told."""
    with contextlib.ExitStack() as pages:

        def make(dsn: str = dsn, **options: Any) -> Page:
            page = Page(dsn, **options)
            pages.callback(page.close)
            return page

        yield make


@pytest.fixture
def page(make_page: Callable[..., Page]) -> Page:
    """A server that may act."""
    return make_page(allow_actions=True)


@pytest.fixture
def listen() -> Iterator[Callable[[Page], Events]]:
    """Open any number of streams of events."""
    with contextlib.ExitStack() as streams:

        def open_one(page: Page) -> Events:
            events = Events(page)
            streams.callback(events.close)
            return events

        yield open_one


@pytest.fixture(scope="module")
def shared_dsn(server: PostgreSQLExecutor) -> Iterator[str]:
    """A database for all tests of a module, which must be healthy when they end."""
    with fresh_database(server) as dsn:
        yield dsn
        with psycopg.connect(dsn, autocommit=True) as conn:
            assert conn.execute("select * from eram_check()").fetchall() == []


@pytest.fixture(scope="module")
def shared(shared_dsn: str) -> Iterator[psycopg.Connection]:
    """A connection to it."""
    with psycopg.connect(shared_dsn, autocommit=True) as conn:
        yield conn


@pytest.fixture(scope="module")
def shared_page(shared_dsn: str) -> Iterator[Page]:
    """A server of it that may act."""
    page = Page(shared_dsn, allow_actions=True)
    yield page
    page.close()
