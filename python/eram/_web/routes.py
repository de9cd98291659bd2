"""What can be asked for by which path, and who may."""

from __future__ import annotations

import posixpath
import re
from urllib.parse import quote, urlencode

from eram._web.api import Api, Stream
from eram._web.config import WebConfig
from eram._web.database import Database
from eram._web.files import Files
from eram._web.http import HttpError, Request, Response, answer, not_found, read_query
from eram._web.security import Guard

# All of them are the same file; the page reads the path by itself.
_PAGES = ("", "queues", "jobs", "schedules", "workers", "handlers", "health")
_PAGES_OF_ONE = ("queues", "jobs")

_DOT = re.compile("%2e", re.IGNORECASE)


class Routes:
    """Answers requests.

    Args:
        config: the options of the server.
        database: where eram is.
        guard: decides who may ask.
    """

    def __init__(self, config: WebConfig, database: Database, guard: Guard) -> None:
        self._base_path = config.base_path
        self._guard = guard
        self._files = Files(config.base_path)
        self.api = Api(config, database, guard)

    def answer(self, request: Request) -> Response | Stream:
        """Answer a request.

        Raises:
            HttpError: it cannot be answered, or must not be.
        """
        self._guard.check_host(request)
        if request.method == "POST":
            return self._post(request)
        first, rest = request.segments[0], request.segments[1:]
        if first == "api":
            self._check(request)
            return self.api.get(request, rest)
        if request.segments == ("metrics",):
            self._check(request)
            return self.api.metrics(request)
        return self._get(request)

    def _post(self, request: Request) -> Response:
        if request.segments == ("login",):
            return self._log_in(request)
        is_action = request.segments[:2] == ("api", "actions")
        if not is_action and request.segments != ("api", "logout"):
            raise HttpError(
                405, "bad_request", "nothing can be sent there", headers={"Allow": "GET, HEAD"}
            )
        session = self._check(request)
        self._guard.check_csrf(request, session)
        if is_action:
            return self.api.act(request, request.segments[2:])
        return answer('{"ok":true}', **{"Set-Cookie": self._guard.log_out()})

    def _check(self, request: Request) -> str:
        self._guard.check_site(request)
        return self._guard.session(request)

    def _get(self, request: Request) -> Response:
        """Answer what shows no jobs by itself: files, the page, the login."""
        first, rest = request.segments[0], request.segments[1:]
        if first == "static" and len(rest) == 1:
            return self._files.file(request, rest[0])
        if request.segments == ("favicon.ico",):
            return self._files.file(request, "favicon.svg")
        if request.segments == ("login",):
            return self._ask_for_token(request)
        is_page = (first in _PAGES and not rest) or (first in _PAGES_OF_ONE and len(rest) == 1)
        if not is_page:
            raise not_found("there is no such page")
        if not self._guard.is_logged_in(request):
            query = f"?{urlencode(request.query)}" if request.query else ""
            where = quote(f"{self._base_path}{request.path}{query}")
            return _see_other(f"{self._base_path}/login?next={where}")
        return self._files.index(request)

    def _ask_for_token(self, request: Request) -> Response:
        following = _following(self._base_path, request.query.get("next", ""))
        if self._guard.is_logged_in(request):
            return _see_other(following)
        return self._files.login("", following, 200)

    def _log_in(self, request: Request) -> Response:
        self._guard.check_site(request)
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/x-www-form-urlencoded":
            raise HttpError(415, "bad_request", "the body must be a form")
        form = read_query(request.body.decode("latin-1"))
        following = _following(self._base_path, form.get("next", ""))
        try:
            cookie = self._guard.log_in(form.get("token", "").strip())
        except HttpError as error:
            return self._files.login("This is not the token.", following, error.status)
        response = _see_other(following)
        return Response(status=303, headers={**response.headers, "Set-Cookie": cookie})


def _see_other(where: str) -> Response:
    return Response(status=303, headers={"Location": where, "Cache-Control": "no-store"})


def _following(base_path: str, path: str) -> str:
    """Return where to go after the login: a path of this page's, whatever was asked for."""
    home = f"{base_path}/"
    # To browsers an encoded dot is one.
    plain = _DOT.sub(".", path.partition("?")[0].partition("#")[0])
    is_ours = path.startswith(home) and not path.startswith("//") and "\\" not in path
    is_straight = f"{posixpath.normpath(plain)}/".startswith(home) and path.isprintable()
    return quote(path, safe="/%?&=#+,:@") if is_ours and is_straight else home
