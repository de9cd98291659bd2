"""Drive a Python peer: `python -P _program.py PEER.py install|produce|work URL`.

It talks in lines of JSON, for what is measured must not include the start of a process. PEER.py has
a class Peer that this program knows by its methods alone:

    Peer(url)                      no connection yet
    install()                      make the tables
    open(connections), close()     connect a producer
    make(number)                   make what enqueue_many takes of a job
    enqueue_many(made)             enqueue a list of these in one call, and commit
    enqueue(number)                enqueue one and commit; called by several tasks at once
    enqueue_stamped(number)        the same in a transaction; returns the time before its commit
    work(note, stop)               work until the event `stop`; handlers call `note(number)`

The peers' own modules are imported by path, and so must not find each other (`-P`).
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import sys
import time
from types import ModuleType
from typing import Any

CALL_JOBS = 1_000

# What a library prints must not get between the answers.
_answers = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)


def say(answer: Any) -> None:
    """Answer with a line."""
    print(json.dumps(answer, separators=(",", ":")), file=_answers, flush=True)


async def listen() -> dict[str, Any] | None:
    """Wait for the next line, or for the end of the input."""
    line = await asyncio.to_thread(sys.stdin.readline)
    return json.loads(line) if line else None


async def produce(peer: Any) -> None:
    """Enqueue as told, until the end of the input."""
    await peer.open(1)
    connections, number = 1, 0
    say({"ready": True})
    while (order := await listen()) is not None:
        jobs, producers = order["jobs"], order.get("producers", 1)
        if producers != connections:
            await peer.close()
            await peer.open(producers)
            connections = producers
        numbers = range(number, number + jobs)
        number += jobs
        if order["do"] == "many":
            say({"seconds": await many(peer, numbers)})
        elif order["do"] == "singly":
            say({"seconds": await singly(peer, numbers, producers)})
        else:
            say({"stamps": await steadily(peer, numbers, order["rate"])})
    await peer.close()


async def many(peer: Any, numbers: range) -> float:
    """Enqueue a thousand a call; what is enqueued is made before."""
    calls = [
        [peer.make(number) for number in numbers[at : at + CALL_JOBS]]
        for at in range(0, len(numbers), CALL_JOBS)
    ]
    begun_at = time.perf_counter()
    for made in calls:
        await peer.enqueue_many(made)
    return time.perf_counter() - begun_at


async def singly(peer: Any, numbers: range, producers: int) -> float:
    """Enqueue one by one, by as many tasks as producers."""

    async def share(own: range) -> None:
        for number in own:
            await peer.enqueue(number)

    begun_at = time.perf_counter()
    await asyncio.gather(*(share(numbers[at::producers]) for at in range(producers)))
    return time.perf_counter() - begun_at


async def steadily(peer: Any, numbers: range, rate: float) -> dict[int, int]:
    """Enqueue one by one at a rate; return when each was about to be committed."""
    stamps = {}
    begun_at = time.perf_counter()
    for position, number in enumerate(numbers):
        await asyncio.sleep(max(0.0, begun_at + position / rate - time.perf_counter()))
        stamps[number] = await peer.enqueue_stamped(number)
    return stamps


async def work(peer: Any) -> None:
    """Work between two lines; say in the end what was handled, and when."""
    started: dict[int, int] = {}
    handled = 0

    def note(number: int) -> None:
        nonlocal handled
        handled += 1
        started.setdefault(number, time.monotonic_ns())

    say({"ready": True})
    await listen()
    stop = asyncio.Event()
    working = asyncio.create_task(peer.work(note, stop))
    listening = asyncio.create_task(listen())
    await asyncio.wait({working, listening}, return_when=asyncio.FIRST_COMPLETED)
    stop.set()
    await working
    say({"handled": handled, "started": started})


def load(path: str) -> ModuleType:
    """Import a peer's file as the module `peer`."""
    spec = importlib.util.spec_from_file_location("peer", path)
    if spec is None or spec.loader is None:
        raise ImportError(path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["peer"] = module
    spec.loader.exec_module(module)
    return module


async def main(module: ModuleType, what: str, url: str) -> None:
    """Do one of the three."""
    peer = module.Peer(url)
    if what == "install":
        await peer.install()
        say({"installed": True})
    else:
        await {"produce": produce, "work": work}[what](peer)


if __name__ == "__main__":
    program = load(sys.argv[1])
    getattr(program, "run", asyncio.run)(main(program, sys.argv[2], sys.argv[3]))
