"""How the SQL sources look."""

from __future__ import annotations

import re

import pytest

from .sources import EXTENSION, FILES, LOADED, place, tokens

LINE_LENGTH = 100
FILE_LENGTH = 300
VOLATILITY = {"immutable", "stable", "volatile"}

each_file = pytest.mark.parametrize(
    "path", FILES, ids=[str(path.relative_to(EXTENSION)) for path in FILES]
)


@each_file
def test_lines_are_short_and_clean(path):
    lines = path.read_text(encoding="utf-8").split("\n")
    too_long = [place(path, n) for n, line in enumerate(lines, 1) if len(line) > LINE_LENGTH]
    untidy = [
        place(path, n) for n, line in enumerate(lines, 1) if "\t" in line or line != line.rstrip()
    ]
    assert (too_long, untidy) == ([], [])


@each_file
def test_a_file_ends_with_one_newline(path):
    source = path.read_bytes()
    assert source.endswith(b"\n")
    assert not source.endswith(b"\n\n")
    assert b"\r" not in source


@each_file
def test_a_file_is_short(path):
    assert path.read_text(encoding="utf-8").count("\n") <= FILE_LENGTH


@each_file
def test_words_are_in_lower_case(path):
    shouted = [
        f"{place(path, token.line)} {token.text}"
        for token in tokens(path)
        if token.kind == "word" and token.text != token.text.lower()
    ]
    assert shouted == []


@each_file
def test_a_text_means_the_same_under_any_standard_conforming_strings(path):
    """A backslash is one only in E'...': bodies are read as the session is set that calls them."""
    unclear = [
        place(path, token.line)
        for token in tokens(path)
        if token.kind == "text" and token.text[0] == "'" and "\\" in token.text
    ]
    assert unclear == []


@pytest.mark.parametrize("path", LOADED, ids=lambda p: p.name)
def test_a_file_begins_by_saying_what_belongs_in_it(path):
    assert path.read_text(encoding="utf-8").startswith("-- ")


@each_file
def test_indentation_is_by_fours_in_signatures_and_bodies(path):
    """Continuation lines may be aligned otherwise; a tab or an odd single blank is a slip."""
    odd = [
        place(path, n)
        for n, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1)
        if re.match(r"(?: {4})* {1,3}\S", line)
    ]
    assert odd == []


@each_file
def test_every_function_states_its_volatility(path):
    found = tokens(path)
    silent = []
    for n, token in enumerate(found):
        if token.text == "function" and [t.text for t in found[max(0, n - 3) : n]] == [
            "create",
            "or",
            "replace",
        ]:
            until = next(i for i in range(n, len(found)) if found[i].kind == "dollar")
            if not VOLATILITY & {t.text for t in found[n:until]}:
                silent.append(place(path, token.line))
    assert silent == []


def test_every_file_is_in_the_load_order():
    lines = (EXTENSION / "load-order").read_text(encoding="utf-8").splitlines()
    listed = [line.partition("#")[0].strip() for line in lines]
    listed = [line for line in listed if line]
    loaded = {str(path.relative_to(EXTENSION)) for path in LOADED}
    assert loaded | {"grants.sql"} == set(listed)
    assert len(listed) == len(set(listed))


def test_sources_carry_no_todo_and_no_shortcut_around_ownership():
    """An extension script must not step over what someone else has put in its way."""
    for path in FILES:
        words = " ".join(token.text for token in tokens(path) if token.kind == "word")
        comments = " ".join(token.text for token in tokens(path) if token.kind == "comment")
        assert not re.search(r"create [a-z ]{1,20}if not exists", words), path.name
        assert "create role" not in words, path.name
        assert not re.search(r"TODO|FIXME|XXX", comments), path.name
