"""What was to hold of a soak, and whether it did."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from soak import growth
from soak.accounts import Accounts
from soak.ledger import Ledger
from soak.plan import Plan
from soak.samples import Series

UNITS = {
    "bytes": (1024 * 1024, "MB"),
    "memory": (1024 * 1024, "MB"),
    "dead rows": (1, "dead rows"),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that was to hold; without details it did."""

    title: str
    details: Sequence[str] = ()
    note: str = ""

    @property
    def is_met(self) -> bool:
        """Whether it held."""
        return not self.details

    def describe(self) -> dict[str, Any]:
        """Write it down, for the result."""
        return {**asdict(self), "is_met": self.is_met}


@dataclass(slots=True)
class Troubles:
    """What went wrong beside the jobs."""

    undrained: int = 0  # jobs that had not ended long after the load had stopped
    complaints: list[str] = field(default_factory=list)
    server_errors: list[str] = field(default_factory=list)


def judge(
    plan: Plan, ledger: Ledger, accounts: Accounts, troubles: Troubles, series: Series
) -> list[Finding]:
    """Say of everything that was to hold whether it did."""
    enqueued = ledger.enqueued_counts.total()
    undrained = f"{troubles.undrained:,} jobs were left" if troubles.undrained else None
    stored, refused = (
        sum(getattr(uniques, name) for uniques in ledger.uniques.values())
        for name in ("stored", "refused")
    )
    return [
        Finding(
            "each job is accounted for",
            list(accounts.faults(ledger)),
            f"{enqueued:,} enqueued, {ledger.run_count:,} runs",
        ),
        Finding("all that was due ended when the load had", [undrained] if undrained else []),
        Finding("eram_check() finds nothing", accounts.violations[:10]),
        Finding(
            "unique keys held",
            [fault for each in ledger.uniques.values() for fault in each.faults][:10],
            f"{stored:,} jobs stored, {refused:,} duplicates",
        ),
        Finding(
            "each occurrence of a schedule was carried out once",
            list(ledger.occurrences.faults())[:10],
            f"{len(ledger.occurrences.due()):,} jobs",
        ),
        Finding(
            "jobs were pruned",
            list(_unpruned(plan, accounts)),
            f"{accounts.removed:,} removed, {accounts.stored:,} there",
        ),
        Finding("workers logged no warning and no error", troubles.complaints[:10]),
        Finding("the server logged no error", troubles.server_errors[:10]),
        _judge_growth(plan, series),
    ]


def _unpruned(plan: Plan, accounts: Accounts) -> Iterator[str]:
    if not accounts.removed:
        yield "nothing was removed"
    if accounts.overdue:
        yield f"{accounts.overdue:,} jobs ended more than {plan.gone_seconds:g} s ago and are there"


def _judge_growth(plan: Plan, series: Series) -> Finding:
    title = "nothing grows without bound"
    if not plan.is_judged:
        return Finding(title, note="not judged: the run is too short for that")
    return Finding(title, list(_growing(plan, series)))


def _growing(plan: Plan, series: Series) -> Iterator[str]:
    for group, rule in growth.RULES.items():
        factor, unit = UNITS.get(group, (1, ""))
        for name, values in series.groups[group].items():
            found = growth.judge(rule, plan.cycle_seconds, series.times, series.holds, values)
            if found is not None and found.is_too_much:
                yield (
                    f"{name}: from {found.first / factor:,.1f} in the first half "
                    f"to {found.second / factor:,.1f} {unit or group} in the second"
                )
