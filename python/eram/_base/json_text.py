"""Values on their way into jsonb: what PostgreSQL would refuse is refused here, by name."""

from __future__ import annotations

import json
import re

from eram.errors import UnstorableValueError

MAX_JSON_CHARACTERS = 100_000_000

_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")

_encode = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode


def encode(value: object, what: str) -> str:
    """Turn a value into ASCII text that jsonb accepts.

    Raises:
        UnstorableValueError: the value holds something that jsonb cannot; `what` names the value.
    """
    try:
        text = _encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise UnstorableValueError(f"{what} cannot be stored as JSON: {error}") from error
    if len(text) > MAX_JSON_CHARACTERS:
        raise UnstorableValueError(f"{what} is too large: {len(text)} characters of JSON")
    # Only an escape can stand for one of the two that jsonb refuses, and most values hold none.
    if "\\u" in text:
        if _NUL.search(text):
            raise UnstorableValueError(f"{what} cannot be stored as JSON: it holds a NUL character")
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise UnstorableValueError(
                f"{what} cannot be stored as JSON: it holds half of a surrogate pair"
            ) from error
    return text


def storable_text(text: str, max_characters: int) -> str:
    """Make any string acceptable to PostgreSQL, and bound its length by leaving out its middle."""
    if len(text) > max_characters:
        half = max_characters // 2
        text = (
            f"{text[:half]}\n[... {len(text) - 2 * half} characters left out ...]\n{text[-half:]}"
        )
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
