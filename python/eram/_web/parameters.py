"""What people put into parameters and bodies, checked before the database sees it."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from typing import Any

from eram._base.suggest import nearest
from eram._web.http import HttpError, bad_request

MAX_ID = 2**63 - 1
MAX_TEXT_CHARACTERS = 10_000
MAX_IDS = 10_000
MAX_DEPTH = 100

# name=value, with a value that is JSON, or a word.
_PAIR = re.compile(r'\s*([^\s,="{}\[\]]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^\s,]+)\s*,?')
_ID = re.compile(r"[0-9]{1,19}")
_LIST_KEYS = ("state", "queue", "handler", "tags")
FILTER_KEYS = ("state", "queue", "handler", "tags", "args", "id")


def check_names(given: Mapping[str, Any], known: Collection[str], what: str = "parameter") -> None:
    """Refuse what nobody knows, so that a slip of the pen is not taken for nothing.

    Raises:
        HttpError: a name is not known.
    """
    for name in given:
        if name not in known:
            shown = json.dumps(name[:100])
            hint = nearest(name[:100], tuple(known)) if known else "There are none here."
            raise bad_request(f"unknown {what} {shown}", hint)


def whole_number(name: str, value: str, low: int, high: int) -> int:
    """Read a whole number within bounds.

    Raises:
        HttpError: it is none.
    """
    # int() takes blanks, signs, underscores, digits of all scripts, and any length of them.
    if not _ID.fullmatch(value) or not low <= int(value) <= high:
        raise bad_request(f"{name} must be a whole number from {low} to {high}")
    return int(value)


def job_id(value: str) -> int:
    """Read the id of a job."""
    return whole_number("id", value, 1, MAX_ID)


def read_filter(query: Mapping[str, str]) -> dict[str, Any]:
    """Make of parameters the filter that eram's functions take.

    Raises:
        HttpError: a parameter cannot be read.
    """
    given = {name: value.strip() for name, value in query.items() if name in FILTER_KEYS}
    wanted: dict[str, Any] = {}
    for name in _LIST_KEYS:
        if words := [each.strip() for each in given.get(name, "").split(",") if each.strip()]:
            # A name may have a comma in it; tags and states come as lists.
            wanted[name] = given[name] if name in {"queue", "handler"} else words
    if given.get("args"):
        wanted["args"] = read_args(given["args"])
    if words := [each.strip() for each in given.get("id", "").split(",") if each.strip()]:
        if len(words) > MAX_IDS:
            raise bad_request(f"there are more than {MAX_IDS} ids")
        wanted["ids"] = [job_id(each) for each in words]
    return wanted or {"all": True}


def read_args(text: str) -> dict[str, Any]:
    """Read what args must contain: a JSON object, or pairs such as to=x, n=3.

    Raises:
        HttpError: it is neither.
    """
    hint = 'Write {"to": "x"}, or to=x; several pairs are separated by commas or blanks.'
    if text.startswith(("{", "[", '"')):
        value = read_json(text, "args", hint)
        if not isinstance(value, dict):
            raise bad_request("args must be a JSON object", hint)
        return value
    pairs: dict[str, Any] = {}
    position = 0
    while position < len(text):
        found = _PAIR.match(text, position)
        if found is None:
            raise bad_request(f"args cannot be read at {json.dumps(text[position:][:50])}", hint)
        name, word = found[1], found[2]
        try:
            pairs[name] = read_json(word, "args")
        except HttpError:
            pairs[name] = word
        position = found.end()
    return pairs


def read_json(text: str | bytes, what: str, hint: str | None = None) -> Any:
    """Read JSON as PostgreSQL would, without NaN and without depths that nobody means.

    Raises:
        HttpError: it is none.
    """
    try:
        value = json.loads(text, parse_constant=_refuse)
        _check_value(value, MAX_DEPTH)
    # RecursionError: it is deeper than Python can read.
    except (ValueError, RecursionError) as error:
        reason = str(error).partition(":")[0] if isinstance(error, ValueError) else "too deep"
        raise bad_request(f"{what} is not valid JSON: {reason}", hint) from None
    return value


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _check_value(value: Any, depth: int) -> None:
    if depth < 0:
        raise ValueError("it is too deep")
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, dict):
        for name, each in value.items():
            _check_text(name)
            _check_value(each, depth - 1)
    elif isinstance(value, list):
        for each in value:
            _check_value(each, depth - 1)
    elif isinstance(value, float) and value in {float("inf"), float("-inf")}:
        raise ValueError("a number is out of range")


def _check_text(text: str) -> None:
    if "\0" in text:
        raise ValueError("it holds a NUL character")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("it holds half of a surrogate pair") from None


def read_body(body: bytes, content_type: str) -> dict[str, Any]:
    """Read the object that was sent.

    Raises:
        HttpError: it is none.
    """
    # No form of another site can send this type without being asked first.
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise HttpError(
            415, "bad_request", "the body must be JSON", hint="Send Content-Type: application/json."
        )
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise bad_request("the body is not in UTF-8") from None
    value = read_json(text or "{}", "the body")
    if not isinstance(value, dict):
        raise bad_request("the body must be a JSON object")
    return value


def text_of(given: Mapping[str, Any], name: str) -> str:
    """Return a text that must be there."""
    value = given.get(name)
    if not isinstance(value, str) or not value:
        raise bad_request(f"{name} must be a text that is not empty")
    if len(value) > MAX_TEXT_CHARACTERS:
        raise bad_request(f"{name} has more than {MAX_TEXT_CHARACTERS} characters")
    return value


def optional_text_of(given: Mapping[str, Any], name: str) -> str | None:
    """Return a text, or None when there is none."""
    value = given.get(name)
    return None if value is None or value == "" else text_of(given, name)


def id_of(given: Mapping[str, Any], name: str) -> int:
    """Return a number that names a job."""
    value = given.get(name)
    if type(value) is not int or not 1 <= value <= MAX_ID:
        raise bad_request(f"{name} must be a whole number from 1 to {MAX_ID}")
    return value
