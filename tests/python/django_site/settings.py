"""Settings of Django for the tests, whose database is said in the environment."""

from __future__ import annotations

import os

from psycopg.conninfo import conninfo_to_dict

_place = conninfo_to_dict(os.environ.get("DJANGO_SITE_DSN", ""))

SECRET_KEY = "for tests"  # noqa: S105 - of nothing
USE_TZ = True
INSTALLED_APPS = ["django_site", "django_tasks"]
TASKS = {
    "default": {
        "BACKEND": "eram.django_tasks.EramBackend",
        "QUEUES": [],
        "OPTIONS": {"max_attempts": 2, "backoff": [0.05]},
    }
}
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": _place.get("dbname"),
        "USER": _place.get("user"),
        "PASSWORD": _place.get("password"),
        "HOST": _place.get("host"),
        "PORT": _place.get("port"),
        "CONN_MAX_AGE": None,
        "OPTIONS": {"application_name": "django site"},
    },
    "lite": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"},
}
