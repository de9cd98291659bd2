"""One database for a whole file, as the tests of the SQL have it."""

from __future__ import annotations

from sql.conftest import dsn, module_conn, module_dsn, shared, worker

__all__ = ["dsn", "module_conn", "module_dsn", "shared", "worker"]
