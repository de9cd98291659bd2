"""Every error has a condition with a name, a message in the server's style, and a hint."""

from __future__ import annotations

import itertools
import re

import psycopg
import pytest

from .sources import FILES, Token, place, statements, tokens

RAISES = [
    pytest.param(path, statement, id=place(path, statement[0].line))
    for path in FILES
    for level in ("exception", "warning", "notice")
    for statement in statements(path, "raise", level)
]


def option(statement: list[Token], name: str) -> list[Token]:
    """Return the tokens of one option of a raise."""
    value: list[Token] = []
    is_inside, depth = False, 0
    for before, token in itertools.pairwise(statement):
        depth += {"(": 1, ")": -1}.get(before.text, 0)
        if depth == 0 and before.text in ("using", ","):
            is_inside = token.text == name
        elif is_inside:
            value.append(token)
    return [token for token in value if token.text not in ("=", ",")] if value else []


def first_text(value: list[Token]) -> str | None:
    """Return the first literal text of an option, if it has one."""
    return next(
        (token.text.lstrip("eE").strip("'") for token in value if token.kind == "text"), None
    )


def test_there_are_errors_to_look_at():
    assert len(RAISES) > 20


@pytest.mark.parametrize(("path", "statement"), RAISES)
def test_an_error_says_all_that_it_should(path, statement):
    for name in ("errcode", "message", "hint"):
        assert option(statement, name), f"{place(path, statement[0].line)} has no {name}"


@pytest.mark.parametrize(("path", "statement"), RAISES)
def test_a_message_is_in_the_style_of_the_server(path, statement):
    message = first_text(option(statement, "message"))
    if message is not None:
        assert not re.match(r"[A-Z][a-z]", message)
        assert not message.endswith((".", "!"))
        assert not re.search(r"\w\(\)", message), "the name of a function"
    hint = first_text(option(statement, "hint"))
    if hint is not None:
        assert re.match(r"[A-Z0-9]", hint)
        assert hint.endswith((".", "?"))


# Where the failure of one must not stop the others, whatever it is: commands that are not eram's,
# entries of the scheduler table, the rescue before them, the recording before a prune.
CATCHES_ALL = {"commands.sql": 1, "occurrences.sql": 1, "recorder.sql": 1, "tick.sql": 1}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_nothing_catches_just_any_error(path):
    words = [token for token in tokens(path) if token.kind == "word"]
    caught = [
        place(path, one.line)
        for one, two in itertools.pairwise(words)
        if (one.text, two.text) == ("when", "others")
    ]
    assert len(caught) == CATCHES_ALL.get(path.name, 0), caught


def test_every_condition_exists(catalog: psycopg.Connection):
    """A misspelt one is found only when its line runs."""
    conditions = {
        name.strip("'")
        for raised in RAISES
        for name in [token.text for token in option(raised.values[1], "errcode")]
        if name.startswith("'")
    }
    assert len(conditions) > 5
    for condition in sorted(conditions):
        with pytest.raises(psycopg.Error) as caught:
            catalog.execute(f"do $$ begin raise exception using errcode = '{condition}'; end $$")
        assert "unrecognized" not in str(caught.value), condition


def test_every_condition_that_is_caught_exists(catalog: psycopg.Connection):
    for path in FILES:
        for token in statements(path, "exception", "when"):
            names = [t.text for t in token[2:] if t.kind == "word"]
            names = [n for n in names[: names.index("then")] if n not in ("or", "others")]
            if not names:
                continue
            handlers = " or ".join(names)
            catalog.execute(f"do $$ begin null; exception when {handlers} then null; end $$")
