"""Requests as the routes see them, and what they answer."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_to_bytes

JSON_TYPE = "application/json; charset=utf-8"

MAX_QUERY_PARAMETERS = 50

_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


class HttpError(Exception):
    """What is answered in place of what was asked for.

    Args:
        status: of HTTP.
        code: one word for it, which programs can rely on.
        error: what is wrong.
        hint: what to do about it.
        sqlstate: what the database calls it, where it is the one to say so.
        headers: what else the answer has.
        extra: what else the document has.
    """

    def __init__(
        self,
        status: int,
        code: str,
        error: str,
        *,
        hint: str | None = None,
        sqlstate: str | None = None,
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(error)
        self.status = status
        self.code = code
        self.error = error
        self.hint = hint
        self.sqlstate = sqlstate
        self.headers = dict(headers or {})
        self.extra = dict(extra or {})

    def document(self) -> dict[str, Any]:
        """Return what it says, for a program."""
        return {
            "error": self.error,
            "hint": self.hint,
            "sqlstate": self.sqlstate,
            "code": self.code,
            **self.extra,
        }


def bad_request(error: str, hint: str | None = None) -> HttpError:
    """Make the answer to what nobody can mean."""
    return HttpError(400, "bad_request", error, hint=hint)


def not_found(error: str, hint: str | None = None) -> HttpError:
    """Make the answer to the name of what is not there."""
    return HttpError(404, "not_found", error, hint=hint)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request, its path cut and decoded.

    Args:
        method: GET, HEAD or POST.
        path: the path below the base path, as it was sent.
        segments: the parts of it between slashes, decoded.
        query: the parameters behind the question mark, decoded.
        headers: by name, in lower case.
        body: what was sent with it.
    """

    method: str
    path: str
    segments: tuple[str, ...]
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def cookie(self, name: str) -> str:
        """Return the value of a cookie, empty without one."""
        for each in self.headers.get("cookie", "").split(";"):
            found, _, value = each.strip().partition("=")
            if found == name:
                return value
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """What is sent back."""

    status: int = 200
    body: bytes = b""
    content_type: str = JSON_TYPE
    headers: Mapping[str, str] = field(default_factory=dict)


def decode(text: str, what: str, *, plus: bool = False) -> str:
    """Decode what stands in a URL.

    Raises:
        HttpError: it is not in UTF-8, or holds what no text in PostgreSQL can.
    """
    if _BAD_ESCAPE.search(text):
        raise bad_request(f"{what} has a percent sign without two hexadecimal digits")
    if plus:
        text = text.replace("+", " ")
    try:
        # The server reads the request line as Latin-1, so that each character is a byte.
        decoded = unquote_to_bytes(text.encode("latin-1")).decode()
    except UnicodeError:
        raise bad_request(f"{what} is not in UTF-8") from None
    if "\0" in decoded:
        raise bad_request(f"{what} holds a NUL character")
    return decoded


def read_query(text: str) -> dict[str, str]:
    """Read what stands behind the question mark.

    Raises:
        HttpError: it cannot be read, or a name is there twice.
    """
    parameters: dict[str, str] = {}
    pairs = [each for each in text.split("&") if each]
    if len(pairs) > MAX_QUERY_PARAMETERS:
        raise bad_request(f"there are more than {MAX_QUERY_PARAMETERS} parameters")
    for pair in pairs:
        raw_name, _, raw_value = pair.partition("=")
        name = decode(raw_name, "the name of a parameter", plus=True)
        if name in parameters:
            raise bad_request(f"the parameter {json.dumps(name[:100])} is there twice")
        parameters[name] = decode(raw_value, f"parameter {json.dumps(name[:100])}", plus=True)
    return parameters


def document(**values: str) -> str:
    """Put JSON texts together to one object; they are not read again, so no number changes."""
    return "{" + ",".join(f"{json.dumps(name)}:{text}" for name, text in values.items()) + "}"


def answer(text: str, **headers: str) -> Response:
    """Answer with a JSON text."""
    return Response(body=text.encode(), headers=headers)
