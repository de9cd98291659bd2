"""plpgsql_check, the linter of bodies, has nothing to say."""

from __future__ import annotations

import pytest

# What it says that is not a fault, and why it may.
ALLOWED = {
    "target type is different type than source type": (
        "an assignment casts: a literal to an array, a number to an integer; once a call, and meant"
    ),
}

# What it says, rightly, of a function that is there for just that.
MEANT = {
    ("_eram_execute(text)", "text type variable is not sanitized"): (
        "it runs the commands of schedules, which only eram's owner can write"
    ),
    ("_eram_slots_left(text)", "routine is marked as VOLATILE, should be STABLE"): (
        "it must see what was committed after its caller began"
    ),
    (
        "_eram_first_tickets(text,timestamp with time zone)",
        "routine is marked as VOLATILE, should be STABLE",
    ): "it must see what had ended when the transaction got its id",
    (
        "_eram_safe_cursor(text,bigint[],bigint[],bigint[])",
        "routine is marked as VOLATILE, should be STABLE",
    ): "it must see what the scan before it has seen",
}

FINDINGS = """
    select functions.oid::regprocedure::text, findings.lineno, findings.level, findings.message
    from pg_proc as functions
    join pg_language as languages on languages.oid = functions.prolang
    cross join lateral plpgsql_check_function_tb(
        functions.oid,
        fatal_errors => false,
        other_warnings => true,
        extra_warnings => true,
        performance_warnings => true,
        security_warnings => true) as findings
    where languages.lanname = 'plpgsql' and functions.proname ~ '^_?eram_'
    order by 1, 2
"""


@pytest.mark.usefixtures("plpgsql_check")
def test_plpgsql_check_finds_nothing(conn):
    found = conn.execute(FINDINGS).fetchall()
    faults = [
        finding
        for finding in found
        if finding[3] not in ALLOWED and (finding[0], finding[3]) not in MEANT
    ]
    assert not faults, "\n".join(map(str, faults))


@pytest.mark.usefixtures("plpgsql_check")
def test_plpgsql_check_looks(conn):
    """That the query above finds what is wrong."""
    conn.execute(
        """
        create function eram_wrong(queue text) returns int language plpgsql as
            $$ declare unused int; begin return nowhere; end $$
        """
    )
    assert {finding[0] for finding in conn.execute(FINDINGS).fetchall()} >= {"eram_wrong(text)"}
    conn.execute("drop function eram_wrong(text)")


@pytest.mark.usefixtures("plpgsql_check")
def test_what_is_allowed_is_still_said(conn):
    found = conn.execute(FINDINGS).fetchall()
    assert {finding[3] for finding in found} >= set(ALLOWED)
    assert {(finding[0], finding[3]) for finding in found} >= set(MEANT)
