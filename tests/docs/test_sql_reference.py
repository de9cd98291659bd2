"""docs/sql-reference.md says what the database says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]


def test_reference_is_up_to_date(dsn: str) -> None:
    """The page is what docs/sql_reference.py writes now."""
    script = PROJECT / "docs" / "sql_reference.py"
    written = subprocess.run(
        [sys.executable, str(script), dsn], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    assert (PROJECT / "docs" / "sql-reference.md").read_text(encoding="utf-8") == written
