"""`python -m eram.worker`, but bound to the process that started it: it ends when that one does.

Its input is a pipe that nobody writes to, and whose other end nobody but the census has: it ends
when the census does, even by SIGKILL. The jobs in hand are then of no more use to anyone.
"""

from __future__ import annotations

import os
import sys
import threading

from eram.worker import main


def _end_with_input() -> None:
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with_input, daemon=True).start()
    sys.exit(main())
