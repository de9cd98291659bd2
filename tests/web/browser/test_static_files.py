"""The files of the page: what the server's rules for scripts and styles allow, and contrast."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from eram import _web

STATIC = Path(_web.__file__).parent / "static"
MODULES = sorted(STATIC.glob("*.js"))
SHEETS = sorted(STATIC.glob("*.css"))
INDEX = (STATIC / "index.html").read_text(encoding="utf-8")

MODULE_LENGTH = 300
SHEET_LENGTH = 400
LINE_LENGTH = 100

# WCAG 2.2: text, and what is drawn.
TEXT_CONTRAST = 4.5
GRAPHIC_CONTRAST = 3.0

GROUNDS = ["ground", "surface", "raised", "hover"]
TONES = ["good", "warn", "bad", "info", "calm", "plum", "accent"]
TEXT_PAIRS = [
    *((text, ground) for text in ("text", "muted", "accent") for ground in GROUNDS),
    *((tone, f"{tone}-ground") for tone in TONES),
    *((tone, ground) for tone in TONES for ground in ("surface", "raised", "ground")),
    *((text, f"{tone}-ground") for text in ("text", "muted") for tone in ("accent", "info", "bad")),
    ("on-accent", "accent"),
    ("on-danger", "danger"),
    ("ground", "text"),  # a tip
]
SERIES = ["completed", "failed", "discarded", "cancelled", "median", "high", "waiting", "running"]
GRAPHIC_PAIRS = [
    *((f"series-{series}", "surface") for series in SERIES),
    *((name, ground) for name in ("focus", "line-strong") for ground in ("ground", "surface")),
]


def tokens() -> dict[str, tuple[str, str]]:
    """Each colour with its value in light and in dark."""
    source = (STATIC / "tokens.css").read_text(encoding="utf-8")
    pattern = r"--([\w-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\);"
    return {name: (light, dark) for name, light, dark in re.findall(pattern, source)}


def luminance(colour: str) -> float:
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def too_faint(pairs: list[tuple[str, str]], theme: int, least: float) -> list[str]:
    colours = tokens()
    ratios = {
        f"{one} on {other}": contrast(colours[one][theme], colours[other][theme])
        for one, other in pairs
    }
    return [f"{pair}: {ratio:.2f}" for pair, ratio in ratios.items() if ratio < least]


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_text_has_contrast(theme):
    assert too_faint(TEXT_PAIRS, theme, TEXT_CONTRAST) == []


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_what_is_drawn_has_contrast(theme):
    assert too_faint(GRAPHIC_PAIRS, theme, GRAPHIC_CONTRAST) == []


def test_contrast_is_computed_as_wcag_says():
    """Black on white is 21 to 1; the grey that is known to be the lightest one allowed on white."""
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)


def test_colours_are_named_in_one_place():
    """The logo alone has colours of its own."""
    found = [
        f"{path.name}: {match[0]}"
        for path in SHEETS
        if path.name != "tokens.css"
        for match in re.finditer(r"#[0-9a-fA-F]{3,8}\b", path.read_text(encoding="utf-8"))
    ]
    assert set(found) == {"layout.css: #0b6a7d", "layout.css: #fff", "layout.css: #ffc95c"}


def test_every_token_that_is_used_is_there():
    sources = {path.name: path.read_text(encoding="utf-8") for path in SHEETS}
    known = {name for source in sources.values() for name in re.findall(r"(--[\w-]+):", source)}
    used = {name for source in sources.values() for name in re.findall(r"var\((--[\w-]+)", source)}
    assert used <= known


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_data_never_becomes_markup_or_code(path):
    source = path.read_text(encoding="utf-8")
    forbidden = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser"
    )
    assert re.findall(forbidden, source) == []
    # A style attribute would be refused by the browser, and not be seen in a test without one.
    assert re.findall(r"""\bstyle: |setAttribute\("style""", source) == []


def test_the_frame_has_no_script_and_no_style_of_its_own():
    assert re.findall(r"<script(?![^>]*\bsrc=)", INDEX) == []
    assert re.findall(r"<style|\sstyle=|\son\w+=", INDEX) == []
    assert INDEX.count('<base href="/">') == 1  # the server puts its base path there


def test_nothing_comes_from_elsewhere():
    for path in [*MODULES, *SHEETS, STATIC / "index.html"]:
        source = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert re.findall(r"https?://|url\(|@import", source) == [], path.name


def test_every_file_that_is_named_is_there_and_every_file_is_named():
    named = set(re.findall(r'"static/([\w.-]+)"', INDEX))
    for path in MODULES:
        named |= set(re.findall(r'from "\./([\w.-]+)"', path.read_text(encoding="utf-8")))
    of_the_login = {"login.css"}
    assert named | of_the_login == {
        path.name for path in STATIC.iterdir() if path.name != "index.html"
    }


@pytest.mark.parametrize("path", [*MODULES, *SHEETS], ids=lambda path: path.name)
def test_sources_are_short_and_clean(path):
    source = path.read_text(encoding="utf-8")
    lines = source.split("\n")
    assert len(lines) <= (MODULE_LENGTH if path.suffix == ".js" else SHEET_LENGTH)
    too_long = [n for n, line in enumerate(lines, 1) if len(line) > LINE_LENGTH]
    assert too_long == [] or path.name == "icons.js"  # what is drawn is one string
    assert [n for n, line in enumerate(lines, 1) if "\t" in line or line != line.rstrip()] == []
    assert source.startswith(("// ", "/* "))
    assert source.endswith("\n")
    assert not source.endswith("\n\n")
