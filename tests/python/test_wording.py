"""What errors say."""

from __future__ import annotations

import psycopg
import pytest

from eram._base import wording

RAISE = """
do $$
begin
    raise exception 'it is full' using detail = 'of jobs', hint = 'wait';
end;
$$
"""


def test_error_of_the_server_is_brief_and_its_traceback_is_whole(conn):
    with pytest.raises(psycopg.Error) as found:
        conn.execute(RAISE)
    said = "RaiseException: it is full\nDETAIL:  of jobs\nHINT:  wait"
    assert wording.in_words(found.value) == said
    assert "PL/pgSQL" in wording.trace(found.value, 20)


def test_error_without_a_context_is_whole(conn):
    with pytest.raises(psycopg.Error) as found:
        conn.execute("select nothing")
    assert wording.message(found.value) == str(found.value)
