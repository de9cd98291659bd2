"""Random schedules, instants and zones: against a library, against a model, against themselves."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import psycopg
import pytest
from cronsim import CronSim

from .cron_helpers import (
    SEED,
    TICK,
    Case,
    Zones,
    checked,
    for_library,
    next_runs,
    parsed,
    random_cases,
    random_schedule,
)

# `make nightly` does so many times as much.
NIGHTLY = 50
ROUNDS = [
    pytest.param(1, id="few"),
    pytest.param(
        NIGHTLY, id="many", marks=(pytest.mark.nightly, pytest.mark.timeout(NIGHTLY * 60))
    ),
]
MINUTE = timedelta(minutes=1)


class Library(CronSim):
    """The library, which near a change of the clock may look for ever for what it has jumped over.

    That happens to schedules that follow time as it passes; `test_it_agrees_with_a_model` has
    more of those.
    """

    ticks = 0

    def tick(self, seconds: int = 1) -> None:
        self.ticks += 1
        if self.ticks > 20_000:
            raise StopIteration
        super().tick(seconds)

    @classmethod
    def next_run(cls, case: Case) -> datetime | None:
        start = case.after.astimezone(ZoneInfo(case.zone))
        for found in cls(for_library(case.schedule), start):
            # In a repeated hour it may begin with the first.
            if found > case.after:
                return found.astimezone(UTC)
        return None


@pytest.fixture(scope="module")
def zones(module_conn: psycopg.Connection) -> Zones:
    module_conn.execute("set timezone = 'UTC'")
    return Zones(module_conn)


@pytest.mark.parametrize("rounds", ROUNDS)
def test_it_agrees_with_a_library(module_conn, zones, rounds):
    rnd = random.Random(SEED)
    excused = 0
    for _ in range(rounds):
        cases = random_cases(module_conn, zones, rnd, 4000)
        for case, ours in zip(cases, next_runs(module_conn, cases), strict=True):
            theirs = Library.next_run(case)
            if ours != theirs:
                assert not parsed(case.schedule).is_fixed, (case, ours, theirs)
                assert any(
                    abs(change - moment) < timedelta(days=2)
                    for change in zones.changes[case.zone]
                    for moment in (case.after, ours, theirs)
                    if moment
                ), (case, ours, theirs)
                excused += 1
    assert excused < 4000 * rounds / 100


class Clock:
    """What the clock of a zone shows in each minute around a time at which it is set."""

    def __init__(self, zone: str, change: datetime) -> None:
        self.zone = zone
        self.start = change - timedelta(hours=30)
        moments = [self.start + MINUTE * n for n in range(60 * 60)]
        shown = [m.astimezone(ZoneInfo(zone)).replace(tzinfo=None) for m in moments]
        self.minutes = [*zip(moments, shown, strict=True)]
        self.shown_before = self.start.astimezone(ZoneInfo(zone)).replace(tzinfo=None) - MINUTE

    def occurrences(self, schedule: str) -> list[datetime]:
        """Say when a schedule runs, by the definition: minute by minute."""
        meaning = parsed(schedule)
        if not meaning.is_fixed:
            return [moment for moment, shown in self.minutes if meaning.matches(shown)]
        found = []
        highest = self.shown_before
        for moment, shown in self.minutes:
            # All the times that the clock shows for the first time now, or has leapt over.
            is_due = False
            while highest < shown:
                highest += MINUTE
                is_due = is_due or meaning.matches(highest)
            if is_due:
                found.append(moment)
        return found


@pytest.mark.parametrize("rounds", ROUNDS)
def test_it_agrees_with_a_model(module_conn, zones, rounds):
    """Every occurrence around a change of the clock is where the definition has it."""
    rnd = random.Random(SEED + 1)
    changing = [zone for zone in sorted(zones.changes) if zones.changes[zone]]
    for zone in changing * rounds:
        # Long ago offsets had seconds.
        change = rnd.choice([c for c in zones.changes[zone] if c.year > 1972])
        clock = Clock(zone, change)
        schedules = []
        while len(schedules) < 12:
            schedule = random_schedule(rnd)
            # Most have nothing in three days.
            if rnd.random() < 0.8:
                schedule = " ".join([*schedule.split()[:2], "*", "*", "*"])
            schedules.append(schedule)
        for schedule in checked(module_conn, schedules):
            expected = clock.occurrences(schedule)
            for after in (clock.start - TICK, change + rnd.uniform(-1, 1) * timedelta(hours=4)):
                (found,) = module_conn.execute(
                    "select _eram_cron_occurrences(%s, %s, %s, %s, 100000)",
                    [schedule, zone, after, clock.minutes[-1][0]],
                ).fetchone()
                assert found == [run for run in expected if run > after], (
                    *(schedule, zone, str(change), str(after)),
                )


def test_the_kinds_of_changes_are_among_the_cases(zones):
    """Else the two tests above could agree on what is easy."""
    sizes = {
        after.astimezone(ZoneInfo(zone)).utcoffset()
        - (after - TICK).astimezone(ZoneInfo(zone)).utcoffset()
        for zone, changes in zones.changes.items()
        for after in changes
    }
    assert sizes >= {timedelta(hours=hours) for hours in (-2, -1, -0.5, 0.5, 1, 2, 24)}
    assert min(
        b - a for changes in zones.changes.values() for a, b in pairwise(changes)
    ) > timedelta(days=2)


@pytest.mark.parametrize("rounds", ROUNDS)
def test_the_next_run_is_after_and_just_after_it_is_found_again(module_conn, zones, rounds):
    rnd = random.Random(SEED + 2)
    for _ in range(rounds):
        cases = random_cases(module_conn, zones, rnd, 2000)
        runs = next_runs(module_conn, cases)
        assert all(run > case.after for case, run in zip(cases, runs, strict=True))
        assert all(run.microsecond == 0 for run in runs)
        just_before = [
            case._replace(after=run - TICK) for case, run in zip(cases, runs, strict=True)
        ]
        assert next_runs(module_conn, just_before) == runs
        at = [case._replace(after=run) for case, run in zip(cases, runs, strict=True)]
        assert all(later > run for later, run in zip(next_runs(module_conn, at), runs, strict=True))


@pytest.mark.parametrize("rounds", ROUNDS)
def test_a_later_time_has_no_earlier_next_run(module_conn, zones, rounds):
    rnd = random.Random(SEED + 3)
    for _ in range(rounds):
        for case in random_cases(module_conn, zones, rnd, 60):
            span = rnd.choice([3600, 86400, 86400 * 40])
            afters = sorted(case.after + timedelta(seconds=rnd.uniform(0, span)) for _ in range(25))
            runs = next_runs(module_conn, [case._replace(after=after) for after in afters])
            assert runs == sorted(runs)


WALK = """
    create function pg_temp.walk(schedule text, zone text, first timestamptz, until timestamptz)
        returns timestamptz[]
        language plpgsql
    as $$
    declare
        v_run timestamptz := first;
        v_found timestamptz[] := '{}';
    begin
        while v_run <= until and cardinality(v_found) < 1500 loop
            v_found := v_found || v_run;
            v_run := _eram_next_run(schedule, zone, v_run);
        end loop;
        return v_found;
    end;
    $$
"""


@pytest.mark.parametrize("rounds", ROUNDS)
def test_missed_runs_are_what_a_walk_finds(module_conn, zones, rounds):
    rnd = random.Random(SEED + 4)
    module_conn.execute("drop function if exists pg_temp.walk")
    module_conn.execute(WALK)
    compared = 0
    for _ in range(rounds):
        cases = random_cases(module_conn, zones, rnd, 150)
        cases += [
            Case(rnd.choice(["30 seconds", "1h30m", "00:07:00", "2.5 s", "3 days"]), zone, after)
            for _, zone, after in cases[:30]
        ]
        for case, first in zip(cases, next_runs(module_conn, cases), strict=True):
            until = first + timedelta(
                seconds=rnd.choice([0, rnd.uniform(0, 600), rnd.uniform(0, 86400 * 400)])
            )
            most = rnd.choice([1, 2, 3, 10, 100])
            walk, found = module_conn.execute(
                "select pg_temp.walk(%s, %s, %s, %s), _eram_missed_runs(%s, %s, %s, %s, %s)",
                [case.schedule, case.zone, first, until] * 2 + [most],
            ).fetchone()
            if walk and walk[-1] <= until and len(walk) < 1500:
                assert found == walk[-most:], (case, str(first), str(until), most)
                compared += 1
            assert found == sorted(set(found))
            assert len(found) == min(len(walk), most)
            assert all(first <= run <= until for run in found)
    assert compared > 100 * rounds


@pytest.mark.parametrize("rounds", ROUNDS)
def test_missed_runs_of_years_end_with_the_latest(module_conn, zones, rounds):
    """Which is not found by a walk: its next run lies behind the end."""
    rnd = random.Random(SEED + 5)
    for _ in range(rounds):
        cases = random_cases(module_conn, zones, rnd, 150)
        for case, first in zip(cases, next_runs(module_conn, cases), strict=True):
            until = first + timedelta(days=rnd.uniform(0, 9000))
            most = rnd.choice([1, 5, 100])
            (found,) = module_conn.execute(
                "select _eram_missed_runs(%s, %s, %s, %s, %s)",
                [case.schedule, case.zone, first, until, most],
            ).fetchone()
            assert 1 <= len(found) <= most
            assert found[0] == first or len(found) == most
            following = next_runs(module_conn, [case._replace(after=run) for run in found])
            assert following[:-1] == found[1:]
            assert following[-1] > until
