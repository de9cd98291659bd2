"""What the handlers of this process declare, told to the server for every producer to have.

Usually it is what the server knows already, and one call finds that out. What has changed is
declared in the order of the names, by a transaction each if they come into someone's way.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import psycopg

from eram import _sql
from eram._connection import brief
from eram._finding import Handlers
from eram._handlers import Handler, made

logger = logging.getLogger(__name__)


class Declarations:
    """Declares handlers once, and again when what they declare has changed."""

    def __init__(self, handlers: Handlers) -> None:
        self._handlers = handlers
        self._declared: dict[str, Mapping[str, Any]] = {}
        self._version: int | None = None
        self._is_refused = False

    def send(self, conn: psycopg.Connection[Any]) -> None:
        """Declare what is new. That costs nothing while no handler is made.

        Raises:
            psycopg.OperationalError: the server cannot take all of it now; it can be tried again.
        """
        version = made.version
        if version == self._version or self._is_refused:
            return
        handlers, are_all = self._handlers.loaded()
        try:
            self._send(conn, self._new(handlers))
        # Nothing depends on it, apart from producers who know no decorators.
        except (psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedFunction) as error:
            self._is_refused = True
            logger.warning("what handlers declare is not known to the server: %s", brief(error))
        self._version = version if are_all else None

    def _new(self, handlers: Mapping[str, Handler[..., Any]]) -> list[Mapping[str, Any]]:
        new: list[Mapping[str, Any]] = []
        for path in sorted(handlers):
            aliases = handlers[path].aliases
            former = [alias for alias in aliases if alias not in handlers]
            declared = _declaration(path, handlers[path].declared, former)
            if declared != self._declared.get(path):
                new.append(declared)
                for alias in set(aliases) - set(former):
                    logger.warning('handler "%s" exists, so it is no alias of "%s"', alias, path)
        return new

    def _send(self, conn: psycopg.Connection[Any], new: Sequence[Mapping[str, Any]]) -> None:
        if not new:
            return
        try:
            _register(conn, new)
        except (psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedFunction):
            raise
        except psycopg.Error as error:
            if conn.closed:
                raise
            if len(new) > 1:
                # What one of them says is wrong, or someone else declares them in another order.
                for each in new:
                    self._send(conn, [each])
                return
            if isinstance(error, psycopg.OperationalError):
                raise
            logger.warning(
                "what %s declares is refused by the server: %s", new[0]["handler"], brief(error)
            )
        self._declared.update((each["handler"], each) for each in new)


def _declaration(path: str, options: Mapping[str, Any], aliases: list[str]) -> Mapping[str, Any]:
    declared = dict(options)
    if "unique" in declared:
        declared["unique_by"] = declared.pop("unique")
    return {"handler": path, **declared, "aliases": aliases}


def _register(conn: psycopg.Connection[Any], declarations: Sequence[Mapping[str, Any]]) -> None:
    conn.execute(_sql.REGISTER_HANDLERS, (json.dumps(declarations),))
