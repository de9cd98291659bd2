"""One picture of an overview, as lines of text, for a terminal of any size or for a pipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from eram._top.lists import SORTS, ordered, queues, workers
from eram._top.overview import Overview
from eram._top.table import Line, Span, cut
from eram._top.text import Script, count, width_of

LEAST_ROWS = 3
HELP = (
    "q       quit",
    "j k     select the next queue, the one before; arrows too",
    "g G     select the first, the last",
    "s       sort by: " + ", ".join(SORTS),
    "p       pause the selected queue, or resume it (needs --allow-actions)",
    "r       look again now",
    "?       this help; any key ends it",
    "",
    "waiting  jobs that wait, for their time or for a worker",
    "due      those whose time has come; oldest: for how long the first of them has waited",
    "running  jobs that workers hold, and the queue's limit over all workers",
    "done     jobs completed in the last minute; failed: attempts that failed in it",
    "~        an estimate",
)

_LEVEL_STYLES = {"critical": "bad", "warn": "warning", "unknown": "faint"}


@dataclass(slots=True, kw_only=True)
class View:
    """What the one who looks has chosen to see."""

    sort: str = "waiting"
    selected: str | None = None
    first: int = 0
    is_helping: bool = False
    message: str = ""
    may_act: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """What there is to show: the last look, how often there is one, and what is in its way."""

    overview: Overview
    pause: float
    note: str = ""


@dataclass(slots=True)
class _Parts:
    top: list[Line] = field(default_factory=list)
    health: list[Line] = field(default_factory=list)
    queues: list[Line] = field(default_factory=list)
    workers: list[Line] = field(default_factory=list)


def page(overview: Overview, script: Script, width: int | None, view: View) -> list[Line]:
    """Draw everything, one below the other, with no end of room downwards."""
    parts = _parts(News(overview=overview, pause=0.0), view, script, width)
    found = [each for each in (parts.health, parts.queues, parts.workers) if each]
    return [*parts.top, *(line for each in found for line in ([], *each))]


def screen(news: News, view: View, script: Script, width: int, height: int) -> list[Line]:
    """Draw what fits into a terminal, the selected queue with it."""
    # A table keeps the columns that matter most, whatever the width.
    return [cut(line, width, script) for line in _screen(news, view, script, width, height)]


def _screen(news: News, view: View, script: Script, width: int, height: int) -> list[Line]:
    foot = [_foot(view, script, width)]
    if view.is_helping:
        body = [[Span(script.cut(text, width))] for text in HELP]
        return [*_head(news, script, width), [], *body][: height - 1] + foot
    parts = _parts(news, view, script, width)
    room = height - len(parts.top) - len(foot)
    if room <= LEAST_ROWS:
        return (parts.top + parts.queues)[: max(0, height - 1)] + foot
    # Queues are given what the others leave, and leave what they do not need.
    health = parts.health[: max(1, room // 5)]
    room -= len(health)
    wanted = len(parts.workers) + 1
    workers_room = min(wanted, max(room // 3, room - len(parts.queues) - 1))
    workers = parts.workers[: max(0, workers_room - 1)]
    if len(workers) <= 1:
        workers = []
    room -= len(workers) + bool(workers)
    queues = parts.queues[:1] + _shown(parts.queues[1:], news, view, room - 2)
    lines = [*parts.top, *health, [], *queues]
    if workers:
        lines += [*([[]] * max(1, height - 1 - len(lines) - len(workers))), *workers]
    lines = lines[: height - 1]
    return lines + [[]] * (height - 1 - len(lines)) + foot


def _shown(lines: list[Line], news: News, view: View, room: int) -> list[Line]:
    """Return the lines of queues that are in sight, and note the first of them."""
    room = max(1, room)
    names = [queue.name for queue in ordered(news.overview, view.sort)]
    if view.selected in names:
        place = names.index(view.selected)
        view.first = min(max(view.first, place - room + 1), place)
    view.first = max(0, min(view.first, len(lines) - room))
    return lines[view.first : view.first + room]


def _parts(news: News, view: View, script: Script, width: int | None) -> _Parts:
    overview = news.overview
    return _Parts(
        top=_head(news, script, width) + _throughput(overview, script, width),
        health=_health(overview, script, width),
        queues=queues(overview, view.sort, view.selected, script, width),
        workers=workers(overview, script, width),
    )


def _head(news: News, script: Script, width: int | None) -> list[Line]:
    overview, totals = news.overview, news.overview.totals
    bad = [check.level for check in overview.checks]
    levels = [f"{bad.count(level)} {level}" for level in ("critical", "warn") if level in bad]
    title = [
        (f"eram {overview.version}", "title"),
        (overview.place, "title"),
        (f"{overview.at.astimezone():%H:%M:%S}", ""),
        *([(f"every {news.pause:.3g} s", "")] if news.pause else []),
        (", ".join(levels) or "ok", _LEVEL_STYLES.get(overview.level, "good")),
    ]
    figures = [
        ("waiting", totals.waiting),
        ("due", totals.due),
        ("running", totals.running),
        ("retryable", totals.retryable),
        ("done/min", totals.completed_per_minute),
        ("failed/min", totals.failed_per_minute),
    ]
    are_counted = {"done/min", "failed/min", "running"}
    words = [
        (f"{name} {count(number, is_estimate=totals.is_estimate and name not in are_counted)}", "")
        for name, number in figures
    ]
    words += [
        (f"queues {count(totals.queues)}", ""),
        (f"workers {count(overview.worker_count)}", ""),
    ]
    lines = _flowed(title, script, width) + _flowed(words, script, width)
    if news.note:
        note = script.visible(news.note)
        lines.append([Span(note if width is None else script.cut(note, width), "bad")])
    return lines


def _flowed(words: Sequence[tuple[str, str]], script: Script, width: int | None) -> list[Line]:
    """Put words side by side, into as many lines as that takes."""
    lines: list[Line] = []
    room = 0
    for word, style in words:
        text = script.visible(word)
        if width is not None:
            text = script.cut(text, width)
        if lines and (width is None or room >= width_of(text) + 2):
            lines[-1] += [Span("  "), Span(text, style)]
            room -= width_of(text) + 2
        else:
            lines.append([Span(text, style)])
            room = (width or 0) - width_of(text)
    return lines


def _throughput(overview: Overview, script: Script, width: int | None) -> list[Line]:
    lines = []
    for name, values, style in (
        ("done", [minute.completed for minute in overview.throughput], "good"),
        ("failed", [minute.failed for minute in overview.throughput], "bad"),
    ):
        if values and (any(values) or name == "done"):
            most = f"most {count(max(values))}/min"
            room = len(values) if width is None else max(0, width - len(most) - 9)
            chart = script.chart(values, room)
            lines.append([Span(f"{name:<6} "), Span(chart, style), Span(f"  {most}")])
    return lines


def _health(overview: Overview, script: Script, width: int | None) -> list[Line]:
    lines = []
    for check in overview.checks:
        if check.level != "ok":
            text = script.visible(f"{check.level} {check.name}: {check.finding}")
            if width is None and check.action:
                text += script.visible(f" -- {check.action}")
            cut = text if width is None else script.cut(text, width)
            lines.append([Span(cut, _LEVEL_STYLES.get(check.level, ""))])
    return lines


def _foot(view: View, script: Script, width: int) -> Line:
    keys = "q quit  j k select  s sort  ? help"
    text = script.visible(view.message) or ("p pause  " if view.may_act else "") + keys
    return [Span(script.cut(text, width), "" if view.message else "faint")]
