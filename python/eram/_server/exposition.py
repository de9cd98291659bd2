"""What eram_metrics shows, as the text that Prometheus reads (exposition format 0.0.4)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
QUERY = "select name, type, help, labels, value from eram_metrics"

# A name, a type, a help text, labels, and a value; null is no sample.
Row = tuple[str, str, str, Mapping[str, str], float | None]

# Whole numbers up to here are written as such.
_LARGEST_WHOLE = 2**53

_IN_HELP = str.maketrans({"\\": r"\\", "\n": r"\n"})
_IN_LABELS = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


def exposition(rows: Iterable[Row]) -> str:
    """Write samples as text: those of a family together, in the order of their coming.

    Args:
        rows: the rows of `QUERY`.
    """
    families: dict[str, list[str]] = {}
    for name, kind, meaning, labels, value in rows:
        if value is None:
            continue
        if name not in families:
            said = meaning.translate(_IN_HELP)
            families[name] = [f"# HELP {name} {said}", f"# TYPE {name} {kind}"]
        families[name].append(f"{name}{_labels(labels)} {_number(value)}")
    return "".join(f"{line}\n" for lines in families.values() for line in lines)


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    pairs = (f'{name}="{value.translate(_IN_LABELS)}"' for name, value in labels.items())
    return f"{{{','.join(pairs)}}}"


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if value == int(value) and abs(value) <= _LARGEST_WHOLE:
        return str(int(value))
    return repr(float(value))
