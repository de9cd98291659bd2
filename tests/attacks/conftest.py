"""What the files of attacks share, unless they have their own: one eram for a whole file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sql.conftest import dsn, module_conn, module_dsn, shared, worker
from sql.helpers import clear, rows
from sql.role_helpers import Place

from .places import make_place

__all__ = ["dsn", "module_conn", "module_dsn", "shared", "worker"]


@pytest.fixture(scope="module")
def module_place(server) -> Iterator[Place]:
    with make_place(server, "extension") as place:
        yield place


@pytest.fixture
def place(module_place: Place) -> Iterator[Place]:
    clear(module_place.owner)
    yield module_place
    assert rows(module_place.owner, "select * from eram_check()") == []
