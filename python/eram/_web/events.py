"""What is sent to pages that stay open: one thread looks, for however many there are."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Generator

from eram._web.http import HttpError
from eram._web.overview import Looks

logger = logging.getLogger(__name__)

MAX_STREAMS = 32
PING_SECONDS = 15.0
# Then a browser opens it anew, if its session has not ended.
STREAM_SECONDS = 600.0
# After a look that failed, so that a server that is coming up is not asked all the time.
TROUBLE_SECONDS = 2.0
TIMEOUT_STATE = "57014"

PING = b"event: ping\ndata: {}\n\n"


class Poller:
    """Looks at the overview again and again while anybody listens.

    Args:
        looks: what all see.
    """

    def __init__(self, looks: Looks) -> None:
        self._looks = looks
        self._changed = threading.Condition()
        self._stream_count = 0
        self._is_running = False
        self._is_hurried = False
        self._version = 0
        self._event = b""

    @property
    def is_running(self) -> bool:
        """Whether somebody listens, and the database is asked."""
        return self._is_running

    @property
    def stream_count(self) -> int:
        """How many listen."""
        return self._stream_count

    def open(self) -> Callable[[], Generator[bytes]]:
        """Take one of the places for streams; what is returned gives the events, and it back.

        Raises:
            HttpError: all places are taken.
        """
        with self._changed:
            if self._stream_count >= MAX_STREAMS:
                raise HttpError(
                    503,
                    "too_many_streams",
                    f"there are {MAX_STREAMS} pages open already",
                    hint="Ask for api/overview now and then.",
                    headers={"Retry-After": "30"},
                )
            self._stream_count += 1
            if not self._is_running:
                self._is_running = True
                threading.Thread(target=self._run, name="eram-web-poller", daemon=True).start()
        return self._events

    def hurry(self) -> None:
        """Look anew as soon as may be, because something was changed."""
        with self._changed:
            self._is_hurried = True
            self._changed.notify_all()

    def _events(self) -> Generator[bytes]:
        seen = 0
        ends_at = time.monotonic() + STREAM_SECONDS
        try:
            # A proxy that waits for the first byte gets it at once.
            yield PING
            while time.monotonic() < ends_at:
                with self._changed:
                    is_news = self._wait_for_news(seen)
                    event, seen = self._event, self._version
                yield event if is_news else PING
        finally:
            with self._changed:
                self._stream_count -= 1
                self._changed.notify_all()

    def _wait_for_news(self, seen: int) -> bool:
        return self._changed.wait_for(lambda: self._version not in {seen, 0}, timeout=PING_SECONDS)

    def _run(self) -> None:
        while True:
            with self._changed:
                # What is changed from here on may be changed behind the look.
                self._is_hurried = False
            event, pause = self._look()
            with self._changed:
                self._event = event
                self._version += 1
                self._changed.notify_all()
                self._rest(pause)
                if not self._stream_count:
                    # What it saw is old when the next one comes.
                    self._is_running = False
                    self._event, self._version = b"", 0
                    return

    def _rest(self, pause: float) -> None:
        """Wait until the next look is due, or nobody listens any more."""
        began_at = time.monotonic()
        # An action is seen at once, unless a look is dear.
        shortest = min(pause, self._looks.rest)
        self._changed.wait_for(lambda: not self._stream_count, timeout=shortest)
        left = pause - (time.monotonic() - began_at)
        if left > 0:
            self._changed.wait_for(lambda: not self._stream_count or self._is_hurried, timeout=left)

    def _look(self) -> tuple[bytes, float]:
        try:
            return _event("overview", self._looks.overview()), self._looks.pause
        except HttpError as error:
            # What has worked in vain rests as well; what is away is asked whether it is back.
            has_worked = error.sqlstate == TIMEOUT_STATE
            pause = self._looks.pause if has_worked else TROUBLE_SECONDS
            return _event("trouble", json.dumps(error.document())), max(TROUBLE_SECONDS, pause)
        # Whatever it is, it must not end the looking of all.
        except Exception:
            logger.exception("the overview cannot be made")
            document = {"error": "the server has made a mistake", "hint": None, "sqlstate": None}
            return _event("trouble", json.dumps(document)), max(TROUBLE_SECONDS, self._looks.pause)


def _event(name: str, data: str) -> bytes:
    # JSON of PostgreSQL may have line ends between its values, and each would end the data.
    lines = "".join(f"data: {line}\n" for line in data.split("\n"))
    return f"event: {name}\n{lines}\n".encode()
