"""Every snippet of README.md and docs/ is executed, in the order of its page.

What a page takes for granted, and what shall be true, is said in comments that its readers do not
see, in SQL: `<!-- given` runs before the page, whatever stands in `<!-- then` must be true at that
place, and what stands in `<!-- in the end` when the workers of the page have done their work.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from reader import PROJECT, Reader

# Needs a database full of jobs: test_administration.py runs it.
ELSEWHERE = {"docs/administration.md"}
# Workers in other languages, which tests of their own run.
FOREIGN_FOLDER = "docs/languages/"
PAGES = {
    name: page
    for page in [PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))]
    if (name := page.relative_to(PROJECT).as_posix()) not in ELSEWHERE
    and not name.startswith(FOREIGN_FOLDER)
}
# Signatures, not calls: generated, and compared by test_sql_reference.py.
NOT_CALLS = {"docs/sql-reference.md"}
# What is left behind by whoever moves to eram: shown beside it, and not run.
FOREIGN = {"elixir", "js", "python celery", "python procrastinate"}
MOVING = "docs/migrate/"
PEERS = Path(__file__).parent / "peers"

# Whoever begins types in just what these say.
LITERAL = {"README.md", "docs/quickstart.md"}

# What a page takes for granted that its reader has.
BEFORE = {
    "README.md": "create table words (word text)",
    "docs/python.md": "create table bookings (account text, amount int);"
    "create materialized view totals as select sum(amount) from bookings",
}
COMMENTS = ("given", "then", "in the end")


class Snippet(NamedTuple):
    line: int
    language: str
    text: str


def snippets(page: Path) -> Iterator[Snippet]:
    """Yield what stands between fences, and in the comments that are for this test."""
    lines = page.read_text(encoding="utf-8").splitlines()
    end, language, start = "", "", 0
    for number, line in enumerate(lines, 1):
        if end and line == end:
            yield Snippet(start, language, "\n".join(lines[start : number - 1]))
            end = ""
        elif not end and line.startswith("```"):
            end, language, start = "```", line.removeprefix("```"), number
        elif not end and line.removeprefix("<!-- ") in COMMENTS:
            end, language, start = "-->", line.removeprefix("<!-- "), number
    assert not end, f"{page}:{start}: without an end"


@pytest.mark.parametrize("name", PAGES)
def test_snippets_run(name: str, dsn: str, tmp_path: Path, bin_dir: Path) -> None:
    """What a page shows works as shown."""
    reader = Reader(dsn, tmp_path, bin_dir, is_literal=name in LITERAL)
    found = list(snippets(PAGES[name]))
    if name in BEFORE:
        reader.run_sql(BEFORE[name])
    if name.startswith(MOVING):
        peer = name.removeprefix(MOVING).removesuffix(".md")
        reader.run_sql((PEERS / f"{peer}.sql").read_text(encoding="utf-8"))
    for snippet in found:
        if snippet.language == "given":
            reader.run_sql(snippet.text)
    for snippet in found:
        where = f"{name}:{snippet.line}"
        match snippet.language:
            case "sql" if name not in NOT_CALLS:
                reader.run_sql(snippet.text)
            case "then":
                reader.demand(snippet.text, where)
            case "python":
                reader.run_python(snippet.text, where)
            case "sh":
                for line in snippet.text.splitlines():
                    reader.run_shell(line.partition("  #")[0].strip(), where)
            case "toml":
                reader.keep_toml(snippet.text)
            case "ini":
                reader.run_unit(snippet.text, where)
            case "crontab":
                reader.run_crontab(snippet.text, where)
            case "psql":
                reader.run_psql(snippet.text, where)
            case "dockerfile":
                reader.run_dockerfile(snippet.text, where)
            case "yaml":
                reader.run_yaml(snippet.text, where)
            case "sql pg_cron":
                # Needs a server of its own: tests/pg_cron runs it.
                pass
            case foreign if foreign in FOREIGN and name.startswith(MOVING):
                pass
            case "given" | "in the end" | "sql":
                pass
            case "text":
                # What programs print, and what is said to others than eram.
                pass
            case other:
                pytest.fail(f"{where}: nobody executes a snippet in {other!r}")
    reader.finish()
    for snippet in found:
        if snippet.language == "in the end":
            reader.demand(snippet.text, f"{name}:{snippet.line}")


def test_each_page_about_moving_moves_something() -> None:
    """The SQL of these pages is what may lose jobs, so it is run and looked at."""
    for name, page in PAGES.items():
        if name.startswith(MOVING):
            kinds = [snippet.language for snippet in snippets(page)]
            assert {"sql", "then", "python"} <= set(kinds), name
            assert (PEERS / name.removeprefix(MOVING)).with_suffix(".sql").exists()
