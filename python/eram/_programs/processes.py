"""Several worker processes under a parent that forwards signals and replaces those that die.

The parent has no threads, no session and nothing of the user's modules: it forks, and waits.
Each child holds one end of a pair of sockets. By it the child says that it has started, or why it
cannot, and hears that it is to end: the parent says so, or is gone. A signal that reaches all of
them at once, as Ctrl-C in a terminal or systemd send it, is therefore no second one.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import NoReturn, TypeAlias

import psycopg

from eram._base.connection import Backoff
from eram._programs import program
from eram._programs.program import STOP_SIGNALS, Signals
from eram.errors import ConfigError

# Not __name__: whoever reads the log knows the program.
logger = logging.getLogger("eram.worker")

LONGEST_BACKOFF_SECONDS = 30.0
# A process that has run for so long does not belong to a series of crashes.
SETTLED_SECONDS = 30.0
# What a child may take on top of its grace period, which it keeps by itself.
EXTRA_GRACE_SECONDS = 10.0

_STARTED, _FAILED, _STOP = b"+", b"-", b"."
_READ_BYTES = 65_536

# What a child does: with its name, its signals, and what it calls when it has started.
Work: TypeAlias = Callable[[str, Signals, Callable[[], None]], int]


@dataclass(slots=True, eq=False)
class _Place:
    """One of the N, whichever process has it."""

    name: str
    backoff: Backoff = field(
        default_factory=lambda: Backoff(longest_seconds=LONGEST_BACKOFF_SECONDS)
    )
    pid: int = 0
    link: socket.socket | None = None
    is_heard: bool = False
    said: bytes = b""
    started_at: float | None = None
    # Whether any process of this place has ever started.
    has_started: bool = False
    complaint: str = ""
    next_at: float = 0.0


class Processes:
    """Keeps a number of processes running until SIGTERM or SIGINT.

    Args:
        count: how many.
        name: what they are called, each with its number behind it.
        grace_period: how many seconds a child takes to end, at most.
        work: what each of them does; returns its exit code.
    """

    def __init__(self, count: int, *, name: str, grace_period: float, work: Work) -> None:
        self._places = [_Place(f"{name}-{number}") for number in range(1, count + 1)]
        self._grace_period = grace_period
        self._work = work
        self._code = 0
        self._kill_at: float | None = None
        self._is_killed = False

    def run(self) -> int:
        """Run until a signal has ended all of them, or until one could not start at all.

        The first one goes alone, so that what is wrong with all of them is said once.

        Returns:
            The exit code: 0, that of the child that could not start, or 1 if one ended badly.
        """
        self._signals = Signals(on_second=self._leave_at_once)
        signal.signal(signal.SIGCHLD, lambda *_: self._signals.ring())
        while self._kill_at is None or any(place.pid for place in self._places):
            for place in self._vacant():
                if place.next_at <= time.monotonic():
                    self._fork(place)
            self._wait()
            for place in self._places:
                if place.pid:
                    self._hear(place)
            self._reap()
            if self._signals.has_come:
                self._stop()
            if self._kill_at is not None and time.monotonic() >= self._kill_at:
                self._kill()
        logger.info("stopped")
        return self._code

    def _vacant(self) -> Iterator[_Place]:
        """Yield the places that want a process."""
        for place in self._places:
            if self._kill_at is None and not place.pid:
                yield place
            if not self._places[0].has_started:
                return

    def _fork(self, place: _Place) -> None:
        ours, theirs = socket.socketpair()
        program.flush_streams()
        # What comes for the child before it can hear it, waits.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {*STOP_SIGNALS, signal.SIGCHLD})
        try:
            pid = os.fork()
        except OSError as error:
            ours.close()
            self._fail(place, 1, f"there is no process to be had: {error}")
        else:
            if not pid:
                # Nobody may outlive the parent because a sibling holds what only it should.
                ours.close()
                self._be_child(place, theirs, mask)
            ours.setblocking(False)
            place.pid, place.link, place.is_heard = pid, ours, True
            place.said, place.started_at = b"", None
        theirs.close()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def _be_child(self, place: _Place, link: socket.socket, mask: Collection[int]) -> NoReturn:
        code = 1
        try:
            for each in self._places:
                if each.link is not None:
                    each.link.close()
            self._signals.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signals = Signals()
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            threading.Thread(
                target=_heed_parent, args=(link, signals), name="eram-parent", daemon=True
            ).start()
            code = self._work(place.name, signals, lambda: _say(link, _STARTED))
        except (ConfigError, psycopg.Error) as error:
            code, text = program.explain(error, "worker")
            _say(link, _FAILED + text.encode(errors="replace"))
        except BaseException:
            traceback.print_exc()
        program.end_process(code)

    def _wait(self) -> None:
        """Wait until a signal comes, a child speaks or ends, or something is due."""
        times = [place.next_at for place in self._vacant()]
        if self._kill_at is not None and not self._is_killed:
            times.append(self._kill_at)
        timeout = max(0.0, min(times) - time.monotonic()) if times else None
        news = [self._signals.fileno()]
        news += [place.link.fileno() for place in self._places if place.link and place.is_heard]
        ready, _, _ = select.select(news, [], [], timeout)
        if news[0] in ready:
            self._signals.wait()

    def _hear(self, place: _Place) -> None:
        """Read what a child has said."""
        while place.link is not None and place.is_heard:
            try:
                said = place.link.recv(_READ_BYTES)
            except BlockingIOError:
                break
            except OSError:
                said = b""
            place.said += said
            # Not necessarily its end: its handlers may close what they like.
            place.is_heard = bool(said)
        if place.said.startswith(_STARTED) and place.started_at is None:
            place.started_at = time.monotonic()
            self._welcome(place)

    def _welcome(self, place: _Place) -> None:
        is_first = not place.has_started
        place.has_started = True
        place.complaint = ""
        if not is_first:
            logger.info("worker process %s (%s) runs again", place.name, place.pid)
        elif all(each.has_started for each in self._places):
            logger.info(
                "%s worker processes run: %s",
                len(self._places),
                ", ".join(f"{each.name} ({each.pid})" for each in self._places if each.pid),
            )

    def _reap(self) -> None:
        """Take note of all that have ended, also of what is nobody else's: it may be process 1."""
        living = {place.pid: place for place in self._places if place.pid}
        while living:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                break
            if pid in living:
                self._bury(living.pop(pid), os.waitstatus_to_exitcode(status))

    def _bury(self, place: _Place, code: int) -> None:
        """Take note of a child that has ended."""
        pid = place.pid
        # What it said last may have come in between.
        self._hear(place)
        place.pid = 0
        if place.link is not None:
            place.link.close()
            place.link = None
        end = f"ended with {code}" if code >= 0 else f"was ended by {program.signal_name(-code)}"
        if self._kill_at is not None:
            if code:
                logger.warning("worker process %s (%s) %s", place.name, pid, end)
                self._code = self._code or 1
        elif place.started_at is None:
            reason = place.said.removeprefix(_FAILED).decode(errors="replace")
            self._fail(place, code, reason or f"it {end} before it had started")
        else:
            self._replace(place, pid, code, end)

    def _fail(self, place: _Place, code: int, reason: str) -> None:
        """Try again to start what could start before, else give up all."""
        if not place.has_started:
            print(f"eram.worker: {reason}", file=sys.stderr)
            self._code = code if code > 0 else 1
            self._stop()
            return
        place.next_at = time.monotonic() + place.backoff.next_seconds()
        # Once for each reason, however often it is tried.
        level = logging.DEBUG if reason == place.complaint else logging.WARNING
        logger.log(level, "worker process %s is tried again: %s", place.name, reason)
        place.complaint = reason

    def _replace(self, place: _Place, pid: int, code: int, end: str) -> None:
        now = time.monotonic()
        if place.started_at is not None and now - place.started_at > SETTLED_SECONDS:
            place.backoff.reset()
        seconds = place.backoff.next_seconds()
        place.next_at = now + seconds
        logger.log(
            logging.WARNING if code else logging.INFO,
            "worker process %s (%s) %s; another one follows %s",
            place.name,
            pid,
            end,
            f"in {seconds:.1f} s" if seconds else "at once",
        )

    def _stop(self) -> None:
        """Have all of them end."""
        if self._kill_at is not None:
            return
        self._kill_at = time.monotonic() + self._grace_period + EXTRA_GRACE_SECONDS
        living = [place for place in self._places if place.pid and place.link]
        logger.info(
            "stopping: %s worker processes have %s seconds to end", len(living), self._grace_period
        )
        for place in living:
            if place.link is not None:
                _say(place.link, _STOP)

    def _kill(self) -> None:
        for place in self._places:
            if place.pid:
                os.kill(place.pid, signal.SIGKILL)
        self._is_killed = True

    def _leave_at_once(self) -> NoReturn:
        self._kill()
        os._exit(1)


def _heed_parent(link: socket.socket, signals: Signals) -> None:
    """Wait, on a thread of a child's, until the parent says that it is to end, or is gone."""
    try:
        said = link.recv(1)
    # It was gone before it had heard all.
    except OSError:
        said = b""
    if not said:
        logger.warning("the parent process is gone")
    signals.ring()


def _say(link: socket.socket, what: bytes) -> None:
    # Whoever is gone need not hear it.
    with contextlib.suppress(OSError):
        link.sendall(what)
