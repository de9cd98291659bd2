"""`python -m eram version`: say which version of eram this is."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from eram import _extension


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m eram.version", description=__doc__)
    parser.parse_args(argv)
    print(f"eram {_extension.version()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
