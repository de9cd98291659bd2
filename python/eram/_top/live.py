"""The overview as a picture that moves, and the keys that change it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import psycopg

from eram._base.connection import Session
from eram._top.lists import SORTS, ordered
from eram._top.picture import View, screen
from eram._top.terminal import Terminal
from eram._top.text import Script
from eram._top.watcher import Watcher

# A key that sends several bytes has sent them all by then.
ESCAPE_SECONDS = 0.1


def run(
    dsn: str,
    session: Session,
    *,
    interval: float,
    view: View,
    script: Script,
    has_colours: bool,
) -> None:
    """Show a database on the terminal until a key or a signal ends it.

    Args:
        dsn: where it is.
        session: an open session.
        interval: how many seconds there are from one look to the next, at least.
        view: what is shown at first.
        script: how text is written on the terminal.
        has_colours: whether it may be sent styles.
    """
    # What is wrong with the first look is said before there is a screen.
    terminal = Terminal(has_colours=has_colours)
    watcher = Watcher(dsn, session, interval=interval, on_news=terminal.ring)
    with terminal, watcher:
        keys = _Keys(watcher, view)
        while not (keys.has_quit or terminal.has_ended):
            if watcher.message:
                view.message, watcher.message = watcher.message, ""
            columns, lines = terminal.size()
            terminal.show(screen(watcher.news, view, script, columns, lines))
            for key in terminal.wait(ESCAPE_SECONDS if terminal.is_in_a_key else None):
                keys.press(key)


class _Keys:
    """What keys do."""

    def __init__(self, watcher: Watcher, view: View) -> None:
        self._watcher = watcher
        self._view = view
        self.has_quit = False
        self._acts: dict[str, Callable[[], None]] = {
            "q": self._quit,
            "j": partial(self._select, 1),
            "down": partial(self._select, 1),
            "k": partial(self._select, -1),
            "up": partial(self._select, -1),
            "g": partial(self._select, -(10**9)),
            "home": partial(self._select, -(10**9)),
            "G": partial(self._select, 10**9),
            "end": partial(self._select, 10**9),
            "s": self._sort,
            "p": self._pause,
            "r": self._watcher.act,
            "?": self._help,
            "h": self._help,
        }

    def press(self, key: str) -> None:
        """Do what a key does; any key ends the help."""
        self._view.message = ""
        if self._view.is_helping and key != "q":
            self._view.is_helping = False
        elif key in self._acts:
            self._acts[key]()

    def _quit(self) -> None:
        self.has_quit = True

    def _help(self) -> None:
        self._view.is_helping = True

    def _sort(self) -> None:
        sorts = list(SORTS)
        self._view.sort = sorts[(sorts.index(self._view.sort) + 1) % len(sorts)]
        self._view.message = f"sorted by {self._view.sort}"

    def _select(self, steps: int) -> None:
        names = [each.name for each in ordered(self._watcher.news.overview, self._view.sort)]
        if self._view.selected in names:
            place = names.index(self._view.selected) + steps
            self._view.selected = names[max(0, min(place, len(names) - 1))]
        elif names:
            self._view.selected = names[-1 if steps > 1 else 0]

    def _pause(self) -> None:
        view = self._view
        if not view.may_act:
            view.message = "to pause and resume queues, start with --allow-actions"
            return
        chosen = [each for each in self._watcher.news.overview.queues if each.name == view.selected]
        if chosen:
            self._watcher.act(partial(_toggle, chosen[0].name, is_paused=chosen[0].is_paused))
            view.message = "one moment"
        else:
            view.message = "select a queue first, by j and k"


def _toggle(name: str, conn: psycopg.Connection[tuple[object, ...]], *, is_paused: bool) -> str:
    if is_paused:
        conn.execute("select eram_resume_queue(%s)", (name,))
        return f"resumed: {name}"
    conn.execute("select eram_pause_queue(%s)", (name,))
    return f"paused: {name}"
