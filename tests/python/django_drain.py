"""Drain jobs in a transaction of Django's, as its TestCase has one; run as a program."""

from __future__ import annotations

import sys

import django
from django.conf import settings
from django.db import connection, transaction
from psycopg.conninfo import conninfo_to_dict

import eram
from eram import testing


@eram.job(transaction=True)
def add_word(job: eram.Job, conn: object, word: str, mistake: str = "") -> None:
    with connection.cursor() as cursor:
        cursor.execute("insert into words values (%s)", [word])
        if mistake == "raise":
            raise ValueError(word)
        if mistake == "break":
            try:
                cursor.execute("select 1 / 0")
            except Exception:
                return


def main() -> None:
    known = conninfo_to_dict(sys.argv[1])
    database = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": known["dbname"],
        "USER": known["user"],
        "PASSWORD": known["password"],
        "HOST": known["host"],
        "PORT": known["port"],
    }
    settings.configure(DATABASES={"default": database})
    django.setup()
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("create temporary table words (word text)")
        for word, mistake in (("one", ""), ("two", "raise"), ("three", "break"), ("four", "")):
            add_word.enqueue(connection, word=word, mistake=mistake)
        drained = testing.drain(connection, raises=False)
        assert drained.counts == {"completed": 2, "failed": 2}, drained.runs
        testing.advance(connection, 60)
        testing.assert_enqueued(connection, add_word, {"word": "three"}, count=1)
        with connection.cursor() as cursor:
            cursor.execute("select word from words order by word")
            assert cursor.fetchall() == [("four",), ("one",)]
        transaction.set_rollback(True)


if __name__ == "__main__":
    # Where handlers are found, this is another module.
    sys.path.insert(0, sys.path[0])
    import django_drain

    add_word = django_drain.add_word
    main()
