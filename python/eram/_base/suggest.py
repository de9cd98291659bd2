"""Naming the nearest right word for a wrong one."""

from __future__ import annotations

import difflib
from collections.abc import Sequence


def nearest(word: str, known: Sequence[str]) -> str:
    """Say which of the known words is meant, or list them all if none comes near."""
    found = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    if found:
        return f'did you mean "{found[0]}"?'
    return "there are: " + ", ".join(f'"{name}"' for name in known)
