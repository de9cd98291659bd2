"""`python -m eram COMMAND`, or `eram COMMAND`: the same as `python -m eram.COMMAND`."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

COMMANDS = {
    "worker": "run jobs",
    "tick": "carry out schedules and maintenance, without a worker",
    "install": "install eram into a database, without access to its server's files",
    "dev": "start a PostgreSQL of your own with eram in it",
    "version": "say which version of eram this is",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that the first argument names; return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m eram",
        description="Background jobs as a PostgreSQL extension.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="\n".join(f"  {name:<9} {purpose}" for name, purpose in COMMANDS.items()),
    )
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="one of those below")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="see COMMAND --help")
    chosen = parser.parse_args(argv)
    command = importlib.import_module(f"eram.{chosen.command}")
    return int(command.main(chosen.arguments))


if __name__ == "__main__":
    sys.exit(main())
