"""What every new session is asked first: whether it is direct, and at a server that writes."""

from __future__ import annotations

import psycopg
from psycopg.rows import TupleRow


def is_session_direct(pid: int, row: TupleRow | None, *, only_reads: bool = False) -> bool:
    """Read the answer of a new session: whether nothing lies between it and the client.

    A session that was led to a standby, by a name that follows a failover late, would stay there
    and write in vain; no session is there when its server becomes one, for that takes a restart.

    Raises:
        psycopg.errors.ReadOnlySqlTransaction: it is a standby, and has to be none.
    """
    server_pid, is_standby = row or (None, False)
    if is_standby and not only_reads:
        raise psycopg.errors.ReadOnlySqlTransaction(
            "the server is a standby, where nothing can be written; connect to the primary,"
            " or name several hosts in the DSN and target_session_attrs=read-write"
        )
    return bool(server_pid == pid)
