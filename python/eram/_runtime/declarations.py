"""What the handlers of this process declare, told to the server for every producer to have.

Usually it is what the server knows already, and one call finds that out. What is refused is
narrowed down by halves to the handler at fault. That can take many calls, and others may have
locked what is to be changed: so a turn ends after a moment, and the next one goes on.
"""

from __future__ import annotations

import json
import logging
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import psycopg

from eram._base import statements
from eram._base.connection import brief
from eram._base.outage import is_outage
from eram._jobs.finding import Handlers
from eram._jobs.handlers import Handler, made

logger = logging.getLogger(__name__)


# So long, and one call more, a turn takes at most.
TURN_SECONDS = 0.2

# Errors about what is declared, as opposed to the state that the server is in.
_REFUSALS = (
    psycopg.DataError,
    psycopg.IntegrityError,
    psycopg.InternalError,
    psycopg.NotSupportedError,
    psycopg.ProgrammingError,
    psycopg.errors.ProgramLimitExceeded,
    psycopg.errors.StatementTooComplex,
)

Declared: TypeAlias = Mapping[str, Any]


class Declarations:
    """Declares handlers once, and again when what they declare has changed."""

    def __init__(self, handlers: Handlers) -> None:
        self._handlers = handlers
        self._declared: dict[str, Declared] = {}
        self._version: int | None = None
        self._are_all = False
        self._is_refused = False
        # What is to be said by one call each, in the order of the names.
        self._left: deque[Sequence[Declared]] = deque()

    def send(self, conn: psycopg.Connection[Any]) -> None:
        """Declare what is new, or a part of it. That costs nothing while no handler is made.

        Raises:
            psycopg.OperationalError: the server cannot take all of it now; it can be tried again.
        """
        if self._is_refused:
            return
        version = made.version
        if version != self._version or not (self._are_all or self._left):
            handlers, self._are_all = self._handlers.loaded()
            new = self._new(handlers)
            self._left = deque([new] if new else [])
            self._version = version
        try:
            self._send(conn)
        # Nothing depends on it, apart from producers who know no decorators.
        except (psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedFunction) as error:
            self._is_refused = True
            logger.warning("what handlers declare is not known to the server: %s", brief(error))

    def _new(self, handlers: Mapping[str, Handler[..., Any]]) -> list[Declared]:
        new: list[Declared] = []
        owners: dict[str, str] = {}
        for path in sorted(handlers):
            aliases = handlers[path].aliases
            former = [alias for alias in aliases if alias not in handlers]
            declared = _declaration(path, handlers[path].declared, former)
            if declared != self._declared.get(path):
                new.append(declared)
                for alias in set(aliases) - set(former):
                    logger.warning('handler "%s" exists, so it is no alias of "%s"', alias, path)
                for alias in owners.keys() & set(former):
                    owner = owners[alias]
                    logger.warning('"%s" is an alias of "%s", not of "%s"', alias, path, owner)
            owners.update(dict.fromkeys(former, path))
        return new

    def _send(self, conn: psycopg.Connection[Any]) -> None:
        until = time.monotonic() + TURN_SECONDS
        while self._left:
            group = self._left[0]
            try:
                _register(conn, group)
            except (psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedFunction):
                raise
            except psycopg.Error as error:
                # A standby, for one, says that in a class of errors which is about what was sent.
                if conn.closed or is_outage(error) or not isinstance(error, _REFUSALS):
                    raise
                self._left.popleft()
                if len(group) > 1:
                    half = len(group) // 2
                    self._left.extendleft((group[half:], group[:half]))
                else:
                    self._note(group)
                    logger.warning(
                        "what %s declares is refused by the server: %s",
                        group[0]["handler"],
                        brief(error),
                    )
            else:
                self._left.popleft()
                self._note(group)
            if time.monotonic() > until:
                break

    def _note(self, group: Sequence[Declared]) -> None:
        self._declared.update((each["handler"], each) for each in group)


def _declaration(path: str, options: Mapping[str, Any], aliases: list[str]) -> Declared:
    declared = dict(options)
    if "unique" in declared:
        declared["unique_by"] = declared.pop("unique")
    return {"handler": path, **declared, "aliases": aliases}


def _register(conn: psycopg.Connection[Any], declarations: Sequence[Declared]) -> None:
    conn.execute(statements.REGISTER_HANDLERS, (json.dumps(declarations),))
