"""One idea, one word: synonyms that the glossary does not use appear nowhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
# A word that would be a second name for something, and the one name it has.
BANNED = {
    r"\b(de|en)queue(d|s)?_task": "job",
    r"\bjob[_ ]status\b": "state",
    r"\bvisibility[_ ]timeout\b": "rescue",
    r"\bdead[- ]letter": "discarded",
    r"\back(ed|nowledge\w*)?[_ ](the )?jobs?\b": "complete",
    r"\breap(er|ed|s)?\b": "rescue",
    r"\bdefer(red)?[_ ](a )?jobs?\b": "enqueue",
}
SOURCES = [
    path
    for folder, pattern in (("extension", "*.sql"), ("python", "*.py"), ("docs", "*.md"))
    for path in sorted((PROJECT / folder).rglob(pattern))
]


@pytest.mark.parametrize("synonym", BANNED)
def test_synonym_is_not_used(synonym: str) -> None:
    found = [
        f"{path.relative_to(PROJECT)}: {match[0]} (say {BANNED[synonym]})"
        for path in SOURCES
        for match in re.finditer(synonym, path.read_text(encoding="utf-8"), re.IGNORECASE)
    ]
    assert found == []
