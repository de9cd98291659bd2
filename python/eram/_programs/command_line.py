"""What the commands have in common: how they read arguments, speak, and end."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import psycopg

from eram._base.suggest import nearest
from eram._programs.program import open_streams
from eram.errors import EramError

# The exit codes of every command.
FINE = 0
FAILED = 1
MISUSED = 2
# By Ctrl-C: as shells say it.
INTERRUPTED = 130

HELP_WIDTH = 80
# The SQLSTATE class of values that the database refuses: whoever gave them is to blame.
_DATA_EXCEPTION = "22"


class CommandParser(argparse.ArgumentParser):
    """Reads the arguments of one command, and teaches it by `--help`.

    Args:
        command: its name, as in `python -m eram NAME`.
        purpose: what it is for; the first line alone says it in short.
        examples: what to put behind the name.
        exit_codes: what each of them means.
        options: what else `argparse.ArgumentParser` takes.
    """

    def __init__(
        self,
        command: str,
        purpose: str,
        *,
        examples: Sequence[str] = (),
        exit_codes: Mapping[int, str],
        **options: Any,
    ) -> None:
        prog = f"python -m eram {command}"
        super().__init__(
            prog=prog,
            description="\n\n".join(
                textwrap.fill(each, HELP_WIDTH) for each in purpose.split("\n\n")
            ),
            epilog=_epilog(prog, examples, exit_codes),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            **options,
        )

    def add_dsn(self) -> None:
        """Take the option that says where the database is; `dsn_of` reads it."""
        self.add_argument(
            "--dsn", help="where the database is (default: DATABASE_URL, else the PG* variables)"
        )

    def add_json(self) -> None:
        """Take the option of those who want to read the answer by a program."""
        self.add_argument("--json", action="store_true", help="answer with one JSON object")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Read the arguments, of which each is text."""
        for each in sys.argv[1:] if args is None else args:
            try:
                each.encode()
            except UnicodeEncodeError:
                self.error(f"an argument is not in UTF-8: {each!r}")
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and the nearest that is right, and leave with 2."""
        wrong = re.match(r"unrecognized arguments: (--[^ =]+)", message)
        known = [name for name in self._option_string_actions if name.startswith("--")]
        if wrong:
            message += f"; {nearest(wrong[1], known)}"
        super().error(message)


def _epilog(prog: str, examples: Sequence[str], exit_codes: Mapping[int, str]) -> str:
    lines = []
    if examples:
        lines += ["examples:", *(f"  {prog} {each}".rstrip() for each in examples), ""]
    lines.append("exit codes:")
    for code, meaning in exit_codes.items():
        lines += textwrap.wrap(
            f"{code}  {meaning}", HELP_WIDTH, initial_indent="  ", subsequent_indent="     "
        )
    return "\n".join(lines)


def dsn_of(chosen: argparse.Namespace) -> str:
    """Return where the database is: what the option says, else the environment."""
    return chosen.dsn or os.environ.get("DATABASE_URL", "")


def answer(**values: Any) -> None:
    """Print one JSON object."""
    print(json.dumps(values, default=str))


def run(command: str, act: Callable[[], int]) -> int:
    """Do what a command does; return its exit code, and say what went wrong in one place."""
    open_streams()
    try:
        code = act()
        sys.stdout.flush()
    # A full disk, say, or nobody reads it any more.
    except OSError as error:
        print(f"eram {command}: the answer is lost: {error}", file=sys.stderr)
        # What is left of it would be tried again.
        sys.stdout = None
        return FAILED
    except EramError as error:
        print(f"eram {command}: {error}", file=sys.stderr)
        return MISUSED
    except psycopg.Error as error:
        print(f"eram {command}: {describe(error)}", file=sys.stderr)
        return MISUSED if (error.sqlstate or "").startswith(_DATA_EXCEPTION) else FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    return code


def describe(error: psycopg.Error) -> str:
    """Say what the server said, its hint included."""
    lines = [error.diag.message_primary or str(error).strip()]
    if error.diag.message_detail:
        lines.append(f"detail: {error.diag.message_detail}")
    if error.diag.message_hint:
        lines.append(f"hint: {error.diag.message_hint}")
    return "\n".join(lines)
