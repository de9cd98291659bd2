"""What the site has beside the pages of docs/: the files of the project that these link to.

README.md is the first page. Links among files of the project become links among pages, and the
comments that are for the tests of the pages are left out.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

PROJECT = Path(__file__).parents[1]
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
}
PLOTS = "bench/results/"
COMMENT = re.compile(r"^<!-- (given|then|in the end)\n.*?^-->\n", re.DOTALL | re.MULTILINE)
# A second word says how a snippet is run, which is of no concern to readers.
FENCE = re.compile(r"^```(\w+) [\w ]+$", re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages and the plots that lie outside of docs/."""
    for name, page in PAGES.items():
        files.append(_page(config, name, page))
    for plot in sorted((PROJECT / PLOTS).glob("record.*.png")):
        path = PLOTS + plot.name
        files.append(File.generated(config, path, abs_src_path=str(plot)))
    files.append(File.generated(config, "LICENSE", abs_src_path=str(PROJECT / "LICENSE")))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Leave out what is for tests, and lead links to where things are in the site."""
    del config, files
    markdown = FENCE.sub(r"```\1", COMMENT.sub("", markdown))
    if page.file.src_uri in PAGES.values():
        # These link to docs/.
        markdown = markdown.replace("](docs/", "](").replace('src="docs/', 'src="')
        for name, uri in PAGES.items():
            markdown = markdown.replace(f"]({name})", f"]({uri})")
    for name, uri in PAGES.items():
        markdown = markdown.replace(f"](../{name}", f"]({uri}")
    return markdown.replace(f"](../{PLOTS}", f"]({PLOTS}")


def _page(config: MkDocsConfig, name: str, uri: str) -> File:
    text = (PROJECT / name).read_text(encoding="utf-8")
    made: Any = File.generated(config, uri, content=text)
    return made
