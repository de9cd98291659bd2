"""What an error says, in plain text, also when its own code is as broken as what it reports."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType, TracebackType

import psycopg

_PACKAGE = str(Path(__file__).parents[1])


def kind(error: BaseException) -> str:
    """Name the error's class."""
    return _text(lambda: type(error).__name__, "(an error whose name cannot be shown)")


def message(error: BaseException) -> str:
    """Return the error's message, which may be empty.

    Of an error of the server's without its context, which can be long, and is in the traceback.
    """
    text = _text(lambda: str(error), "(its message cannot be shown)")
    if isinstance(error, psycopg.Error) and (context := error.diag.context):
        # Behind a word in the language of the server.
        text = text.partition(context)[0].rpartition("\n")[0] or text
    return text


def in_words(error: BaseException) -> str:
    """Say in one text what kind of error it is, and its message."""
    text = message(error)
    return f"{kind(error)}: {text}" if text else kind(error)


def trace(error: BaseException, max_entries: int) -> str:
    """Show the error and where it comes from: the entries of the traceback nearest to it."""

    def formatted() -> str:
        place = _outside(error.__traceback__)
        lines = traceback.format_exception(type(error), error, place, limit=-max_entries)
        return "".join(lines)

    return _text(formatted, "(its traceback cannot be shown)")


def stack(frame: FrameType | None, max_entries: int) -> str:
    """Show where a thread is: the entries nearest to that place, from the handler's on."""

    def formatted() -> str:
        places = traceback.extract_stack(frame, max_entries)
        above = (_PACKAGE, threading.__file__)
        while places and places[0].filename.startswith(above):
            del places[0]
        return "".join(places.format())

    # Without a frame it would be the caller's own place.
    return "" if frame is None else _text(formatted, "(its place cannot be shown)")


def entries(frames: Iterable[FrameType], max_entries: int) -> str:
    """Show places in code, outermost first: those of the handler's that are nearest to the end."""

    def formatted() -> str:
        places = traceback.StackSummary.extract((frame, frame.f_lineno) for frame in frames)
        outside = [each for each in places if not each.filename.startswith(_PACKAGE)]
        return "".join(traceback.StackSummary.from_list(outside[-max_entries:]).format())

    return _text(formatted, "(its place cannot be shown)")


def _outside(place: TracebackType | None) -> TracebackType | None:
    """Skip the entries of eram itself, which lie above the handler's in every traceback."""
    inside = place
    while inside is not None and inside.tb_frame.f_code.co_filename.startswith(_PACKAGE):
        inside = inside.tb_next
    return inside


def _text(say: Callable[[], str], otherwise: str) -> str:
    try:
        # A plain copy: a subclass of str has methods of its own.
        return str.__str__(say())
    # Code of the handler's, which may do anything, even leave.
    except BaseException:
        return otherwise
