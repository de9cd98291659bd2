"""What the page is served with, and what is wrong with it otherwise."""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from eram._base.checks import check
from eram._runtime.config import LOG_FORMATS, LOG_LEVELS, check_dsn, check_seconds
from eram.errors import ConfigError

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8980
DEFAULT_REFRESH_SECONDS = 2.0
DEFAULT_STATEMENT_SECONDS = 5.0
REFRESH_RANGE = (0.1, 3_600)
STATEMENT_RANGE = (0.01, 60)
MIN_TOKEN_CHARACTERS = 16
MAX_TOKEN_BYTES = 4_096
TOKEN_VARIABLE = "ERAM_WEB_TOKEN"  # noqa: S105 - the name of it, not the token
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")

_MAX_PORT = 65_535
_BASE_PATH = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*")
_NAME = re.compile(r"[A-Za-z0-9._-]+")
# What can stand in a header as it is.
_TOKEN = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class WebConfig:
    """The options of the server, all of them valid."""

    dsn: str = ""
    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    allow_actions: bool = False
    token: str = field(default="", repr=False)
    base_path: str = ""
    allow_hosts: tuple[str, ...] = ()
    secure_cookie: bool = False
    refresh: float = DEFAULT_REFRESH_SECONDS
    statement_timeout: float = DEFAULT_STATEMENT_SECONDS
    log_level: str = "info"
    log_format: str = "text"

    def __post_init__(self) -> None:
        check_dsn(self.dsn)
        for name, host in (
            ("host", self.host),
            *(("allow_host", each) for each in self.allow_hosts),
        ):
            check(_is_host(host), f"{name} must be a name or an address, without port", host)
        check(0 <= self.port <= _MAX_PORT, f"port must be from 0 to {_MAX_PORT}", self.port)
        check(
            _BASE_PATH.fullmatch(self.base_path),
            "base_path must be like /eram, without a slash at its end",
            self.base_path,
        )
        if self.token:
            _check_token(self.token)
        elif not is_loopback(self.host):
            raise ConfigError(
                f'whoever reaches "{self.host}" could read all jobs: a token is needed there, of'
                f" {MIN_TOKEN_CHARACTERS} characters at least; name a file that holds it with"
                f" --token, or set {TOKEN_VARIABLE}"
            )
        check_seconds("refresh", self.refresh, REFRESH_RANGE)
        check_seconds("statement_timeout", self.statement_timeout, STATEMENT_RANGE)
        check(
            self.log_level in LOG_LEVELS, f"log_level must be one of {LOG_LEVELS}", self.log_level
        )
        check(
            self.log_format in LOG_FORMATS,
            f"log_format must be one of {LOG_FORMATS}",
            self.log_format,
        )


def is_loopback(host: str) -> bool:
    """Say whether only this machine can reach a host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _is_host(host: str) -> bool:
    try:
        return bool(_NAME.fullmatch(host) or ipaddress.ip_address(host))
    except ValueError:
        return False


def is_any_address(host: str) -> bool:
    """Say whether it stands for all addresses of this machine."""
    return host in {"0.0.0.0", "::"}  # noqa: S104 - asked, not bound


def read_token(path: str | None) -> str:
    """Read the token from a file, else from the environment; empty when there is none.

    Raises:
        ConfigError: the file cannot be read, or holds none.
    """
    if path is None:
        return os.environ.get(TOKEN_VARIABLE, "")
    try:
        with Path(path).open("rb") as file:
            text = file.read(MAX_TOKEN_BYTES + 1)
    except (OSError, ValueError) as error:
        raise ConfigError(f"the token cannot be read: {error}") from error
    token = text.decode("utf-8", "replace").strip()
    # An empty one must not mean that none is wanted.
    _check_token(token)
    return token


def _check_token(token: str) -> None:
    # Never with the value: it would be in the log.
    if len(token) < MIN_TOKEN_CHARACTERS or len(token) > MAX_TOKEN_BYTES:
        raise ConfigError(
            f"the token must have {MIN_TOKEN_CHARACTERS} characters at least, and"
            f" {MAX_TOKEN_BYTES} at most; it has {len(token)}"
        )
    if not _TOKEN.fullmatch(token):
        raise ConfigError("the token must be one word of printable ASCII characters")
