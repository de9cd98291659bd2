"""Who may ask, and from where: the token, the Host header, and what other sites may not do.

A page of another site can make a browser send requests here, with the cookie, but cannot read the
answers, nor send JSON or headers of its own. Unless it makes its own name lead here: therefore the
Host header must be one that is known.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
import time
from collections.abc import Mapping
from urllib.parse import urlsplit

from eram._web.config import LOOPBACK_NAMES, WebConfig, is_any_address
from eram._web.http import HttpError, Request

SESSION_SECONDS = 12 * 3600
# Whoever guesses waits, and holds one of the connections meanwhile.
WRONG_TOKEN_SECONDS = 1.0

CSRF_HEADER = "X-Eram-Csrf"
_OWN_SITES = ("same-origin", "none")
_DEFAULT_PORTS = {"http": "80", "https": "443"}

# Nothing but the server's own files is loaded, shown in frames, or told where one came from.
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
        " connect-src 'self'; manifest-src 'self'; base-uri 'self'; form-action 'self';"
        " frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Guard:
    """Decides about each request.

    Args:
        config: the options of the server.
        port: on which it listens.
    """

    def __init__(self, config: WebConfig, port: int) -> None:
        self._token = config.token.encode()
        # Derived, so that who is logged in stays so when the server is started anew.
        self._key = (
            hmac.digest(self._token, b"eram web session", "sha256")
            if self._token
            else secrets.token_bytes(32)
        )
        self._names = {each.lower() for each in (*LOOPBACK_NAMES, config.host, *config.allow_hosts)}
        self._takes_addresses = is_any_address(config.host)
        self._base_path = config.base_path
        self._secure = "; Secure" if config.secure_cookie else ""
        # Browsers keep the cookies of all ports of a host together.
        self.cookie_name = f"eram_{port}"

    @property
    def needs_login(self) -> bool:
        """Whether a token is in force."""
        return bool(self._token)

    def check_host(self, request: Request) -> None:
        """Refuse a name that another site may have made to lead here.

        Raises:
            HttpError: the Host header is none of those that are known.
        """
        name = _host_name(request.headers.get("host", ""))
        if name in self._names or (self._takes_addresses and _is_address(name)):
            return
        raise HttpError(
            403,
            "forbidden",
            "this server is not known by the name in the Host header",
            hint="Start it with --allow-host NAME if that is its name.",
        )

    def check_site(self, request: Request) -> None:
        """Refuse to work for a page of another site, whose user is not asked.

        Raises:
            HttpError: the browser says that it is one.
        """
        site = request.headers.get("sec-fetch-site", "none")
        if site not in _OWN_SITES:
            raise HttpError(403, "forbidden", "another site's page cannot ask for this")
        origin = request.headers.get("origin")
        # Of a form, browsers that shall not say where one came from say nothing else either.
        is_known = origin is None or (origin == "null" and site == "same-origin")
        if not is_known and not _is_same(str(origin), request.headers.get("host", "")):
            raise HttpError(
                403,
                "forbidden",
                "the Origin header names another site than the Host header",
                hint="A reverse proxy must pass on the Host header as it came, with its port.",
            )

    def session(self, request: Request) -> str:
        """Return what the CSRF token is made for; empty for whoever needs none.

        Raises:
            HttpError: a token is needed, and not there.
        """
        if not self._token:
            return "open"
        authorization = request.headers.get("authorization")
        if authorization is not None:
            kind, _, given = authorization.partition(" ")
            self._check_token(given.strip() if kind.lower() == "bearer" else "")
            # No browser adds this header by itself.
            return ""
        session = request.cookie(self.cookie_name)
        if not self._is_session(session):
            raise HttpError(
                401,
                "login",
                "a token is needed",
                hint="Log in, or send Authorization: Bearer TOKEN.",
                headers={"WWW-Authenticate": "Bearer"},
            )
        return session

    def is_logged_in(self, request: Request) -> bool:
        """Say whether a browser needs no login."""
        return not self._token or self._is_session(request.cookie(self.cookie_name))

    def log_in(self, token: str) -> str:
        """Make a session; return the header that sets its cookie.

        Raises:
            HttpError: the token is wrong.
        """
        self._check_token(token)
        body = f"{int(time.time()) + SESSION_SECONDS}.{secrets.token_urlsafe(16)}"
        return self._cookie(f"{body}.{self._sign('session', body)}", SESSION_SECONDS)

    def log_out(self) -> str:
        """Return the header that takes the cookie away."""
        return self._cookie("", 0)

    def csrf_token(self, session: str) -> str:
        """Return what a page of this server's has to send back with an action."""
        return self._sign("csrf", session)

    def check_csrf(self, request: Request, session: str) -> None:
        """Refuse an action that no page of this server's asked for.

        Raises:
            HttpError: its token is missing or wrong.
        """
        given = request.headers.get(CSRF_HEADER.lower(), "")
        if session and not _equal(given, self.csrf_token(session)):
            raise HttpError(
                403,
                "csrf",
                f"the {CSRF_HEADER} header is missing or out of date",
                hint="GET api/session says what to send.",
            )

    def _check_token(self, given: str) -> None:
        if not self._token or not _equal(given, self._token.decode()):
            time.sleep(WRONG_TOKEN_SECONDS)
            raise HttpError(401, "login", "this is not the token")

    def _is_session(self, session: str) -> bool:
        body, _, signature = session.rpartition(".")
        if not _equal(signature, self._sign("session", body)):
            return False
        return int(body.partition(".")[0]) > time.time()

    def _sign(self, purpose: str, text: str) -> str:
        return hmac.new(
            self._key, f"{purpose} {text}".encode("utf-8", "replace"), hashlib.sha256
        ).hexdigest()

    def _cookie(self, value: str, seconds: int) -> str:
        return (
            f"{self.cookie_name}={value}; Path={self._base_path or '/'}; Max-Age={seconds};"
            f" HttpOnly; SameSite=Strict{self._secure}"
        )


def _equal(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode())


def _host_name(host: str) -> str:
    """Return a Host header without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower().removesuffix(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_same(origin: str, host: str) -> bool:
    """Compare where a page is from with where it asks; a proxy may speak HTTPS to the browser."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    port = _DEFAULT_PORTS.get(parts.scheme)
    if port is None or not parts.netloc:
        return False
    return _without_port(parts.netloc, port) == _without_port(host, port)


def _without_port(place: str, port: str) -> str:
    return place.lower().removesuffix(f":{port}")
