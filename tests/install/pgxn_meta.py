"""What is wrong with a META.json by the rules of the PGXN Meta Spec, version 1.0.0."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

SEMVER = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?"
)
TERM = re.compile(r"[^\s/\\\x00-\x1f]{2,}")
TAG = re.compile(r"[^/\\\x00-\x1f]{1,255}")
RANGE = re.compile(r"(?:(?:==|!=|<=|>=|<|>)\s*)?(\S+)")
LICENSES = {
    *("agpl_3", "apache_1_1", "apache_2_0", "artistic_1", "artistic_2", "bsd", "freebsd"),
    *("gfdl_1_2", "gfdl_1_3", "gpl_1", "gpl_2", "gpl_3", "lgpl_2_1", "lgpl_3_0", "mit"),
    *("mozilla_1_0", "mozilla_1_1", "openssl", "perl_5", "postgresql", "qpl_1_0", "ssleay", "sun"),
    *("zlib", "open_source", "restricted", "unrestricted", "unknown"),
}
REQUIRED = {
    *("name", "version", "abstract", "maintainer", "license", "provides", "meta-spec"),
}
KNOWN = REQUIRED | {
    *("description", "generated_by", "tags", "no_index", "prereqs", "release_status", "resources"),
}
PHASES = {"configure", "build", "test", "runtime", "develop"}
RELATIONS = {"requires", "recommends", "suggests", "conflicts"}
STATES = {"stable", "testing", "unstable"}


def problems_of(meta: Mapping[str, Any]) -> list[str]:
    """Say what the specification does not allow, one sentence for each."""
    return list(_problems(meta))


def _problems(meta: Mapping[str, Any]) -> Iterator[str]:
    for key in sorted(REQUIRED - meta.keys()):
        yield f"{key} is missing"
    for key in sorted(meta.keys() - KNOWN):
        # What is one's own begins with x_.
        if not key.lower().startswith("x_"):
            yield f"{key} is not known"
    if not TERM.fullmatch(str(meta.get("name", "eram"))):
        yield "name is no term"
    if "version" in meta and not _is_version(meta["version"]):
        yield "version is not semantic"
    for key in ("abstract", "description", "generated_by"):
        if key in meta and not _is_text(meta[key]):
            yield f"{key} is no text"
    if "maintainer" in meta and not _are_texts(meta["maintainer"]):
        yield "maintainer is no name and no list of names"
    if "license" in meta and not _is_license(meta["license"]):
        yield "license is not known"
    if meta.get("release_status", "stable") not in STATES:
        yield "release_status is not known"
    tags = meta.get("tags", ["x"])
    if not isinstance(tags, list) or not tags or not all(TAG.fullmatch(str(tag)) for tag in tags):
        yield "tags are no list of tags"
    spec = meta.get("meta-spec", {"version": "1.0.0"})
    if not isinstance(spec, dict) or not str(spec.get("version", "")).startswith("1.0."):
        yield "meta-spec is not 1.0"
    yield from _problems_of_provides(
        meta.get("provides", {"eram": {"file": "x", "version": "0.0.0"}})
    )
    yield from _problems_of_prereqs(meta.get("prereqs", {}))


def _problems_of_provides(provides: Any) -> Iterator[str]:
    if not isinstance(provides, dict) or not provides:
        yield "provides names no extension"
        return
    for name, extension in provides.items():
        if not TERM.fullmatch(name):
            yield f"provides {name!r}, which is no term"
        if not _is_text(extension.get("file")) or str(extension["file"]).startswith(("/", "..")):
            yield f"{name} has no file"
        if not _is_version(extension.get("version")):
            yield f"{name} has no semantic version"
        for key in extension.keys() - {"file", "version", "abstract", "docfile"}:
            yield f"{name} has an unknown {key}"


def _problems_of_prereqs(prereqs: Any) -> Iterator[str]:
    for phase, relations in prereqs.items():
        if phase not in PHASES:
            yield f"there is no phase {phase}"
        for relation, extensions in relations.items():
            if relation not in RELATIONS:
                yield f"there is no relation {relation}"
            for name, versions in extensions.items():
                if not TERM.fullmatch(name) or not _is_range(versions):
                    yield f"{name} {versions} is no prerequisite"


def _is_version(value: Any) -> bool:
    return isinstance(value, str) and SEMVER.fullmatch(value) is not None


def _is_range(value: Any) -> bool:
    if value == 0:
        return True
    found = [RANGE.fullmatch(part.strip()) for part in str(value).split(",")]
    return all(each is not None and (each[1] == "0" or _is_version(each[1])) for each in found)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _are_texts(value: Any) -> bool:
    return _is_text(value) or (
        isinstance(value, list) and bool(value) and all(map(_is_text, value))
    )


def _is_license(value: Any) -> bool:
    if isinstance(value, dict):
        return bool(value) and all(str(url).startswith("https://") for url in value.values())
    values = value if isinstance(value, list) else [value]
    return bool(values) and all(each in LICENSES for each in values)
