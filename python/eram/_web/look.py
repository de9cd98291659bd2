"""One look for many who ask."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

# The database rests ten times as long as a look takes.
REST_FACTOR = 10.0

T = TypeVar("T")


class Look(Generic[T]):
    """Something that many ask for, and that is looked up once for all of them.

    Args:
        find: looks it up.
        rest_factor: for how many times as long as a look takes its answer holds.
    """

    def __init__(self, find: Callable[[], T], rest_factor: float = REST_FACTOR) -> None:
        self._find = find
        self._rest_factor = rest_factor
        self._lock = threading.Lock()
        self._found: T | None = None
        self._error: Exception | None = None
        self._began_at = self._found_at = self._forgotten_at = float("-inf")
        self._seconds = 0.0

    @property
    def rest(self) -> float:
        """How many seconds to leave the database alone after a look, also after a vain one."""
        return self._rest_factor * self._seconds

    def get(self, max_age: float) -> T:
        """Return what was found lately, else look; whoever comes meanwhile waits for the result.

        What was dear may be older. An error is the answer to those who have waited for it, or else
        each of them would look in vain, one after the other.
        """
        asked_at = time.monotonic()
        with self._lock:
            # One that began before something was changed may not have seen it.
            is_valid = self._began_at >= self._forgotten_at
            if is_valid and self._error is not None and asked_at < self._found_at:
                # Without what the others who got it were at.
                raise self._error.with_traceback(None)
            age = asked_at - self._found_at
            if is_valid and self._found is not None and age <= max(max_age, self.rest):
                return self._found
            return self._look()

    def forget(self) -> None:
        """Have the next one look anew, because something has changed."""
        self._forgotten_at = time.monotonic()

    def _look(self) -> T:
        self._began_at = time.monotonic()
        self._found = self._error = None
        try:
            found = self._find()
        except Exception as error:
            self._error = error
            raise
        else:
            self._found = found
            return found
        finally:
            self._found_at = time.monotonic()
            self._seconds = self._found_at - self._began_at


class SharedLooks:
    """What is asked for by name: those who ask for the same at the same time share one look.

    The pages that are open do, for they all renew what they show when they hear of an overview.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._looks: dict[Hashable, Look[str]] = {}
        self._askers: Counter[Hashable] = Counter()

    def get(self, name: Hashable, find: Callable[[], str]) -> str:
        """Look, or wait for the look of somebody else who asks for the same."""
        with self._lock:
            look = self._looks.setdefault(name, Look(find, rest_factor=0))
            self._askers[name] += 1
        try:
            return look.get(0)
        finally:
            with self._lock:
                self._askers[name] -= 1
                if not self._askers[name]:
                    del self._askers[name], self._looks[name]

    def forget(self) -> None:
        """Have all who ask from now on look anew."""
        with self._lock:
            for look in self._looks.values():
                look.forget()
