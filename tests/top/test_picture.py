"""The picture in terminals of every size, with names that take more room than there is."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from eram._top.lists import ordered
from eram._top.overview import Check, Minute, Overview, Queue, Run, Totals, Worker
from eram._top.picture import News, View, screen
from eram._top.text import Script, width_of

NAMES = ("mail", "日本語の名前" * 9, "x" * 128, "e" + "\u0301" * 40, "\u202egnp", "🚀")
NOW = datetime(2026, 11, 22, 16, tzinfo=UTC)

OVERVIEW = Overview(
    at=NOW,
    version="0.1.0",
    place="shop@" + "db" * 60,
    totals=Totals(len(NAMES), 10**9, 10**8, 7, 10**6, 123_456.0, 9.0, True),
    queues=[
        Queue(name, name == "mail", 10**9, 10**8, 7, 1e9, 10**6, 10**6, 1e6, 9.0, 3, True)
        for name in NAMES
    ],
    worker_count=len(NAMES),
    workers=[
        Worker(number, name, [name], "silent", 1e9, 1e9, False, 10**6, 1e9)
        for number, name in enumerate(NAMES)
    ],
    runs=[Run(name, name, 10**6) for name in NAMES],
    throughput=[Minute(NOW, number * 1000, number) for number in range(60)],
    checks=[Check("queues", "critical", NAMES[1], None), Check("snapshot", "warn", "x" * 300, "")],
)


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "gb18030"])
def test_nothing_is_wider_or_higher_than_the_terminal(encoding: str):
    script = Script(encoding)
    for width in (*range(1, 40), 79, 200):
        for height in (1, 2, 3, 5, 8, 13, 24):
            for view in (
                View(selected=NAMES[2], sort="name", message="said " * 50, may_act=True),
                View(selected=NAMES[1]),
                View(is_helping=True),
            ):
                news = News(overview=OVERVIEW, pause=2.0, note="no connection " * 9)
                lines = screen(news, view, script, width, height)
                assert len(lines) <= height
                for line in lines:
                    text = "".join(span.text for span in line)
                    assert width_of(text) <= width, (width, height, text)
                    text.encode(encoding)


def test_the_selected_queue_is_in_sight():
    for queue in ordered(OVERVIEW, "name"):
        view = View(selected=queue.name, sort="name")
        news = News(overview=OVERVIEW, pause=2.0)
        lines = screen(news, view, Script("utf-8"), 80, 12)
        assert any(span.style == "chosen" for line in lines for span in line), queue.name
