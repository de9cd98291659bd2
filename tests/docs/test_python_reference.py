"""docs/python-reference.md has every public object, and each of them says what it is."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from pathlib import Path
from typing import Any

import eram

PAGE = Path(__file__).parents[2] / "docs" / "python-reference.md"
# Commands: `python -m eram --help` and docs/python.md say what they do.
PROGRAMS = {"__main__", "check", "dev", "install", "tick", "top", "uninstall", "upgrade", "version"}
PROGRAMS |= {"metrics", "web", "worker"}


def is_documented(each: Any) -> bool:
    """Return whether it is no constant and no alias of a type, which have no docstrings."""
    return inspect.isroutine(each) or inspect.isclass(each)


def public_objects() -> dict[str, Any]:
    """Return what applications may import, by the path that they would import it by."""
    found: dict[str, Any] = {f"eram.{name}": getattr(eram, name) for name in eram.__all__}
    for module_info in pkgutil.iter_modules(eram.__path__):
        name = module_info.name
        if name.startswith("_") or name in PROGRAMS:
            continue
        module = importlib.import_module(f"eram.{name}")
        for key in getattr(module, "__all__", dir(module)):
            each = getattr(module, key)
            is_own = getattr(each, "__module__", "").startswith(f"eram.{name}")
            is_public = hasattr(module, "__all__") or (is_own and not key.startswith("_"))
            is_new = not any(each is other for other in found.values())
            if is_public and is_new and is_documented(each):
                found[f"eram.{name}.{key}"] = each
    return found


def shown() -> set[str]:
    """Return what the page has; a module stands for all that is in it."""
    return set(re.findall(r"(?m)^::: (\S+)$", PAGE.read_text(encoding="utf-8")))


def test_everything_public_is_shown() -> None:
    names = shown()
    missing = {
        path
        for path in public_objects()
        if path not in names and path.rpartition(".")[0] not in names - {"eram"}
    }
    assert missing == set()


def test_nothing_else_is_shown() -> None:
    modules = {path.rpartition(".")[0] for path in public_objects()}
    assert shown() - modules - set(public_objects()) == set()


def test_everything_public_says_what_it_is() -> None:
    silent = {path for path, each in public_objects().items() if not inspect.getdoc(each)}
    assert silent == set()
