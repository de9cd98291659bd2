"""`python -m eram COMMAND`, or `eram COMMAND`.

Those that are modules of their own are also run by `python -m eram.COMMAND`, which is the same.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from eram._base.suggest import nearest
from eram._programs import command_line

COMMANDS = {
    "worker": "run jobs",
    "tick": "carry out schedules and maintenance, without a worker",
    "enqueue": "enqueue a job",
    "web": "show it all on a page, for a browser",
    "check": "say whether all is well in a database",
    "top": "show a database live in a terminal",
    "metrics": "print what is measured, as Prometheus reads it",
    "install": "install eram into a database, without access to its server's files",
    "upgrade": "bring the eram of a database to the version of this package",
    "uninstall": "remove eram from a database",
    "dev": "start a PostgreSQL of your own with eram in it",
    "version": "say which version of eram this is",
}
# eram.enqueue is a function, which a module of that name would hide.
_MODULES = {"enqueue": "_programs.enqueue_command"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that the first argument names; return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m eram",
        description="Background jobs as a PostgreSQL extension.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_epilog(),
        allow_abbrev=False,
    )
    parser.add_argument("command", metavar="COMMAND", help="one of those below")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="see COMMAND --help")
    chosen = parser.parse_args(argv)
    if chosen.command not in COMMANDS:
        parser.error(
            f'there is no command "{chosen.command}"; {nearest(chosen.command, tuple(COMMANDS))}'
        )
    module = _MODULES.get(chosen.command, chosen.command)
    command = importlib.import_module(f"eram.{module}")
    return int(command.main(chosen.arguments))


def _epilog() -> str:
    lines = ["commands:", *(f"  {name:<9} {purpose}" for name, purpose in COMMANDS.items())]
    lines += [
        "",
        "examples:",
        "  python -m eram worker --allow myapp.jobs",
        "  python -m eram check --help",
        "",
        "exit codes of all commands:",
        f"  {command_line.FINE}  all is well",
        f"  {command_line.FAILED}  something is wrong, or could not be done",
        f"  {command_line.MISUSED}  wrong usage or configuration, such as a database without eram",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
