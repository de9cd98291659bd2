"""Reads the SQL sources as what they are made of: words, texts, comments."""

from __future__ import annotations

import dataclasses
import itertools
import re
from pathlib import Path

EXTENSION = Path(__file__).resolve().parents[2] / "extension"
FILES = sorted(EXTENSION.rglob("*.sql"))
LOADED = [p for p in FILES if p.relative_to(EXTENSION).parts[0] in ("schema", "functions")]

_TOKEN = re.compile(
    r"""
    (?P<comment> --[^\n]* )
    | (?P<text> [eE]? ' (?: [^'\\] | '' | \\. )* ' )
    | (?P<name> " [^"]* " )
    | (?P<dollar> \$ [a-z_]* \$ )
    | (?P<meta> ^ \\ [^\n]* )
    | (?P<word> [^\W\d] [\w$]* )
    | (?P<number> \d [\w.]* )
    | (?P<sign> [^\s\w] )
    """,
    re.VERBOSE | re.MULTILINE,
)


@dataclasses.dataclass(frozen=True)
class Token:
    """A word, a text, a sign, a comment; and where it stands."""

    kind: str
    text: str
    line: int


def tokens(path: Path) -> list[Token]:
    """Return the tokens of a file; bodies between dollar signs are read like the rest."""
    source = path.read_text(encoding="utf-8")
    return [
        Token(str(match.lastgroup), match[0], source.count("\n", 0, match.start()) + 1)
        for match in _TOKEN.finditer(source)
    ]


def place(path: Path, line: int) -> str:
    """Say where something stands, for a message."""
    return f"{path.relative_to(EXTENSION)}:{line}"


def statements(path: Path, first: str, second: str) -> list[list[Token]]:
    """Return the statements that begin with two words, up to their semicolons."""
    code = [token for token in tokens(path) if token.kind != "comment"]
    found = []
    for start, (one, two) in enumerate(itertools.pairwise(code)):
        if (one.text, two.text) == (first, second):
            end = next(n for n in range(start, len(code)) if code[n].text == ";")
            found.append(code[start:end])
    return found
