"""Async handlers for the tests. They meet their test at the events of sample_jobs."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections import Counter

from sample_jobs import PATIENCE, gates, seen, started

import eram

AT_ONCE = {"strategy": "fixed", "base": "0 seconds"}
SHORT = 0.3

# How many handlers are at it, by name, and the most that there were.
at_it: Counter[str] = Counter()
most: Counter[str] = Counter()


async def opened(name: str) -> None:
    """Wait for a gate without blocking the loop."""
    deadline = time.monotonic() + PATIENCE
    while not gates[name].is_set():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


@eram.job(max_attempts=2, backoff={"strategy": "fixed", "base": "1 hour"})
async def end_by(job, what):
    """End in some way, after having awaited something."""
    await asyncio.sleep(0)
    match what:
        case "result":
            return {"run": job.run}
        case "snooze":
            return eram.Snooze(3600)
        case "cancel":
            return eram.Cancel("not wanted")
        case "discard":
            return eram.Discard("of no use")
        case "retry":
            return eram.Retry(3600, "later")
        case "object":
            return object()
        case "coroutine":
            return asyncio.sleep(0)
        case "ValueError":
            raise ValueError("bad address")
        case "SystemExit":
            sys.exit("leaving")
        case "KeyboardInterrupt":
            raise KeyboardInterrupt
        case "CancelledError":
            raise asyncio.CancelledError
        case "GeneratorExit":
            raise GeneratorExit
        case "StopIteration":
            raise StopIteration
        case "cancelled by itself":
            asyncio.current_task().cancel()
            await asyncio.sleep(0)
        case "cancelled too late":
            asyncio.current_task().cancel()
            return "all the same"
        case "nested":
            await asyncio.gather(end_by(job, "ValueError"), asyncio.sleep(0))
        case "group":
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(end_by(job, "ValueError"))
        case "nested exit":
            await asyncio.create_task(end_by(job, "SystemExit"))
        case "stopped loop":
            asyncio.get_running_loop().stop()
            await asyncio.sleep(0.01)
            return "still here"
        case "closed loop":
            asyncio.get_running_loop().close()
        case "all tasks cancelled":
            for task in asyncio.all_tasks():
                task.cancel()
            await asyncio.sleep(0)
        case "subprocess":
            child = await asyncio.create_subprocess_exec(sys.executable, "-c", "exit(3)")
            return await child.wait()
    return None


@eram.job(timeout=SHORT, max_attempts=1)
async def await_for_ages(job, name, end="let it go"):
    """Wait for more than the timeout, and do something when it comes."""
    started[name].set()
    try:
        await sleep_for_ages()
    except asyncio.CancelledError:
        seen.append((job.cancelled, job.timed_out))
        if end == "raise":
            raise ValueError("on the way out") from None
        if end == "swallow":
            await opened(name)
            return "too late"
        raise
    finally:
        seen.append("tidied up")


async def sleep_for_ages():
    await asyncio.wait_for(asyncio.sleep(PATIENCE), PATIENCE)


@eram.job(timeout=SHORT, max_attempts=1)
async def block_loop(job, name):
    started[name].set()
    hold_on(name)


def hold_on(name):
    assert gates[name].wait(PATIENCE)


@eram.job
async def wait(job, name):
    started[name].set()
    await opened(name)
    return {"run": job.run}


@eram.job
async def meet(job, name):
    """Say how many are at it together, and wait for the gate."""
    at_it[name] += 1
    most[name] = max(most[name], at_it[name])
    await opened(name)
    at_it[name] -= 1


@eram.job
def meet_in_thread(job, name):
    at_it[name] += 1
    most[name] = max(most[name], at_it[name])
    assert gates[name].wait(PATIENCE)
    at_it[name] -= 1


@eram.job
async def leave_behind(job, name, how):
    """Leave a task that nobody awaits."""

    async def linger():
        match how:
            case "raise":
                raise ValueError("nobody cares")
            case "exit":
                sys.exit("nobody cares")
        try:
            await asyncio.sleep(PATIENCE)
        except asyncio.CancelledError:
            seen.append("cancelled")
            while how == "swallow":
                try:
                    await opened(name)
                except asyncio.CancelledError:
                    continue
                break
            raise

    task = asyncio.create_task(linger())
    task.add_done_callback(seen.append)
    await asyncio.sleep(0)


@eram.job
async def fork(job, way):
    """Let a child come out of the handler, or go back to the loop."""
    tick = asyncio.create_task(beat(way))
    await asyncio.sleep(0)
    child = os.fork()
    if child:
        _, status = await asyncio.to_thread(os.waitpid, child, 0)
        tick.cancel()
        return {"child": os.waitstatus_to_exitcode(status)}
    if way == "await":
        await asyncio.sleep(0.05)
        os._exit(7)
    if way == "await what is there":
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        os._exit(7)
    if way == "raise":
        raise ValueError("in the child")
    return "from the child"


async def beat(name):
    """Be called often, as a task of another job would be; in the child never."""
    process = os.getpid()
    while True:
        await asyncio.sleep(0)
        if os.getpid() != process:
            os._exit(8)
