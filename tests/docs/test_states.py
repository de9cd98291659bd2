"""The picture of the states has those that there are, in the tables that they are in."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree as ET

PROJECT = Path(__file__).parents[2]
PICTURE = PROJECT / "docs" / "images" / "states.svg"
PAGE = PROJECT / "docs" / "concepts.md"
SVG = "{http://www.w3.org/2000/svg}"


def states_of(conn) -> dict[str, str]:
    """Return the table of each state, as the view of all jobs reads them."""
    view = conn.execute("select pg_get_viewdef('eram_jobs'::regclass)").fetchone()[0]
    found = (
        re.search(r"'(\w+)'::text.*?FROM \(*(eram_\w+)", branch, re.DOTALL)
        for branch in view.split("UNION ALL")
    )
    return {branch[1]: branch[2] for branch in found}


def test_the_picture_and_the_page_show_the_states(conn) -> None:
    states = states_of(conn)
    assert len(states) == 7

    columns, places = {}, {}
    for text in ET.parse(PICTURE).getroot().iter(f"{SVG}text"):  # noqa: S314 - a file of ours
        if text.get("class") == "name":
            columns[text.get("x")] = text.text
        elif text.get("class") is None:
            places[text.text] = text.get("x")
    assert {state: columns[x] for state, x in places.items()} == states

    rows = re.findall(
        r"^\| `(\w+)` \| `(eram_\w+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE
    )
    assert dict(rows) == states
