"""The JSON API: what can be asked for, with which parameters, and what can be done."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import LiteralString

from eram._server import extension
from eram._server.exposition import CONTENT_TYPE, QUERY, exposition
from eram._web import actions, jobs, parameters, queues
from eram._web.config import WebConfig
from eram._web.database import Database
from eram._web.events import Poller
from eram._web.http import HttpError, Request, Response, answer, bad_request, not_found
from eram._web.look import Look, SharedLooks
from eram._web.overview import Looks
from eram._web.security import Guard

logger = logging.getLogger(__name__)

DEFAULT_LIMIT = 50
MAX_LIMIT = 200
METRICS_SECONDS = 1.0

# A queue by its name, a job by its id.
_OF_ONE = ("queues", "jobs")
_JOB_PARAMETERS = (*parameters.FILTER_KEYS, "before", "limit")

_SESSION: LiteralString = """
select
    eram_version(),
    (
        select schemas.nspname
        from pg_catalog.pg_class as home
        join pg_catalog.pg_namespace as schemas on schemas.oid = home.relnamespace
        where home.oid = 'eram_jobs'::regclass
    ),
    current_database(),
    current_user
"""


@dataclass(frozen=True, slots=True)
class Stream:
    """An answer that does not end."""

    events: Callable[[], Generator[bytes]]


class Api:
    """Answers those who may ask.

    Args:
        config: the options of the server.
        database: where eram is.
        guard: makes what a page has to send back with its actions.
    """

    def __init__(self, config: WebConfig, database: Database, guard: Guard) -> None:
        self._config = config
        self._database = database
        self._guard = guard
        self._looks = Looks(database, config.refresh)
        self._lists = SharedLooks()
        self._metrics = Look(self._look_at_metrics)
        self.poller = Poller(self._looks)
        self._gets: Mapping[str, Callable[[Request, str], Response | Stream]] = {
            "session": self._session,
            "overview": self._overview,
            "queues": self._queues,
            "jobs": self._jobs,
            "schedules": self._schedules,
            "workers": self._workers,
            "handlers": self._handlers,
            "health": self._health,
            "events": self._events,
        }

    def get(self, request: Request, rest: tuple[str, ...]) -> Response | Stream:
        """Answer what is asked for.

        Raises:
            HttpError: it is not there, or cannot be told.
        """
        if not rest or rest[0] not in self._gets or len(rest) > 2:  # noqa: PLR2004 - api/NAME/ONE
            raise not_found("there is nothing by this path")
        name, one = rest[0], rest[1] if len(rest) > 1 else ""
        if len(rest) > 1 and (name not in _OF_ONE or not one):
            raise not_found("there is nothing by this path")
        return self._gets[name](request, one)

    def _session(self, request: Request, _: str) -> Response:
        parameters.check_names(request.query, ())
        session = self._guard.session(request)
        may = self._config.allow_actions
        with self._database.read() as look:
            version, schema, database, role = look.row(_SESSION)
        names = actions.allowed(self._database) if may else []
        hint = None
        if not may:
            hint = "The server was started without --allow-actions."
        elif len(names) < len(actions.ACTIONS):
            hint = f"Some are missing: select eram_grant({_literal(role)}, 'admin')"
        return _json(
            {
                "version": version,
                "package_version": extension.version(),
                "schema": schema,
                "database": database,
                "role": role,
                "may_act": bool(names),
                "actions": names,
                "actions_hint": hint,
                "csrf": self._guard.csrf_token(session),
                "refresh_seconds": self._config.refresh,
                "needs_login": self._guard.needs_login,
            }
        )

    def _overview(self, request: Request, _: str) -> Response:
        parameters.check_names(request.query, ())
        return answer(self._looks.overview())

    def _health(self, request: Request, _: str) -> Response:
        parameters.check_names(request.query, ())
        return answer(self._looks.health())

    def _queues(self, request: Request, name: str) -> Response:
        if name:
            parameters.check_names(request.query, ("name",))
            return self._shared(queues.queue, request.query.get("name", name))
        return self._shared(queues.queues, *_listing(request))

    def _jobs(self, request: Request, name: str) -> Response:
        if name == "count":
            parameters.check_names(request.query, (*parameters.FILTER_KEYS, "action"))
            action = request.query.get("action", "")
            if action not in jobs.ACTION_STATES:
                raise bad_request("action must be retry, cancel or delete")
            wanted = parameters.read_filter(request.query)
            return answer(jobs.count(self._database, wanted, action))
        if name:
            parameters.check_names(request.query, ())
            return answer(jobs.job(self._database, parameters.job_id(name)))
        parameters.check_names(request.query, _JOB_PARAMETERS)
        before = request.query.get("before")
        return answer(
            jobs.jobs(
                self._database,
                parameters.read_filter(request.query),
                parameters.job_id(before) if before else None,
                _limit(request),
            )
        )

    def _schedules(self, request: Request, _: str) -> Response:
        return self._shared(queues.schedules, *_listing(request))

    def _workers(self, request: Request, _: str) -> Response:
        parameters.check_names(request.query, ())
        return self._shared(queues.workers)

    def _handlers(self, request: Request, _: str) -> Response:
        parameters.check_names(request.query, ())
        return self._shared(queues.handlers)

    def _events(self, request: Request, _: str) -> Response | Stream:
        parameters.check_names(request.query, ())
        if request.method == "HEAD":
            return Response(content_type="text/event-stream")
        return Stream(self.poller.open())

    def metrics(self, request: Request) -> Response:
        """Answer Prometheus."""
        parameters.check_names(request.query, ())
        return Response(body=self._metrics.get(METRICS_SECONDS).encode(), content_type=CONTENT_TYPE)

    def _shared(self, find: Callable[..., str], *wanted: str | int | None) -> Response:
        """Answer with a list that others may ask for at the same time."""
        return answer(self._lists.get((find, *wanted), lambda: find(self._database, *wanted)))

    def _look_at_metrics(self) -> str:
        with self._database.read() as look:
            return exposition(look.rows(QUERY))

    def act(self, request: Request, rest: tuple[str, ...]) -> Response:
        """Take an action.

        Raises:
            HttpError: it must not be taken, or cannot.
        """
        if len(rest) != 1:
            raise not_found("there is no such action")
        if not self._config.allow_actions:
            raise HttpError(
                403,
                "read_only",
                "this page only looks",
                hint="Start it with --allow-actions to let it change something.",
            )
        parameters.check_names(request.query, ())
        body = parameters.read_body(request.body, request.headers.get("content-type", ""))
        try:
            done = actions.act(self._database, rest[0], body)
        finally:
            self._looks.forget()
            self._lists.forget()
            self.poller.hurry()
        logger.info("action %s: %s", rest[0], json.dumps(done))
        return _json(done)


def _json(values: Mapping[str, object]) -> Response:
    return answer(json.dumps(values))


def _literal(name: str) -> str:
    return "'" + name.replace("'", "''") + "'"


def _limit(request: Request) -> int:
    limit = request.query.get("limit", "")
    return parameters.whole_number("limit", limit, 1, MAX_LIMIT) if limit else DEFAULT_LIMIT


def _listing(request: Request) -> tuple[str | None, str | None, int]:
    parameters.check_names(request.query, ("search", "after", "limit"))
    return request.query.get("search") or None, request.query.get("after") or None, _limit(request)
