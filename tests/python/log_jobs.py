"""Handlers that log, by loggers of their own and through others'."""

from __future__ import annotations

import asyncio
import logging
import threading

import eram

logger = logging.getLogger("shop.mail")


def send(to):
    """As a library would: by a logger of its own, without knowing of jobs."""
    logging.getLogger("smtp.client").info("sent to %s", to)


@eram.job
def mail(job, to):
    logger.info("sending", extra={"to": to, "size": 3})
    send(to)


@eram.job
async def mail_async(job, to):
    await asyncio.gather(asyncio.to_thread(send, to), asyncio.create_task(notify()))


async def notify():
    logger.warning("from a task")


@eram.job
def fail(job):
    try:
        int("bad address")
    except ValueError:
        logger.exception("it went wrong")


@eram.job
def spawn(job):
    thread = threading.Thread(target=send, args=("elsewhere",))
    thread.start()
    thread.join()
