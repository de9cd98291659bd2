"""An engine's configuration: which keys there are, in which units, and what is wrong."""

from __future__ import annotations

import math
import sys

import pytest
import sample_jobs

import eram
from eram._engine.config import KEYS, EngineOptions
from eram._programs.worker_arguments import read_config

MAIN = sys.modules["__main__"]


def plain(job):
    """Nobody decorated it."""


def in_main(job):
    pass


in_main.__module__ = "__main__"


def test_every_key_has_a_type():
    assert set(KEYS) == {*EngineOptions.__annotations__, "handler", "middleware"}


def test_units_are_those_of_eramjs():
    config = eram.Engine(
        prune={"interval": 1_500, "limit": 10, "max_age": 0.5},
        lifeline={"interval": 60_000.0, "rescue_after": 1},
        reindexer={"schedule": " @daily ", "timeout": 0.5},
    ).config
    assert config.schedules == [
        {
            "maintenance": "prune",
            "schedule": "1.5 seconds",
            "options": {"limit": 10, "max_age": 0.5},
        },
        {"maintenance": "lifeline", "schedule": "60 seconds", "options": {"rescue_after": 0.001}},
        {"maintenance": "reindexer", "schedule": "@daily", "options": {"timeout": 0.5}},
    ]
    by_state = {"completed": 60, "discarded": 604_800}
    (prune,) = eram.Engine(prune={"max_age": by_state}).config.schedules
    assert prune == {"maintenance": "prune", "options": {"max_age": by_state}}


def test_cron_entries():
    handler = sample_jobs.mail.options(priority=1)
    entries = eram.Engine(
        cron=[
            ("@daily", "a:b"),
            ["@daily", sample_jobs.nothing, None],
            {
                "schedule": "@daily",
                "handler": handler,
                "args": {"to": "x"},
                "name": "mail",
                "timezone": "Europe/Warsaw",
                "missed": "skip",
                "overlap": False,
                "queue": "other",
                "timeout": 5,
            },
        ]
    ).config.schedules
    assert entries[:2] == [
        {"schedule": "@daily", "handler": "a:b", "args": {}},
        {"schedule": "@daily", "handler": "sample_jobs:nothing", "args": {}},
    ]
    assert entries[2] == {
        "schedule": "@daily",
        "handler": "sample_jobs:mail",
        "args": {"to": "x"},
        "priority": 1,
        "name": "mail",
        "timezone": "Europe/Warsaw",
        "missed": "skip",
        "overlap": False,
        "queue": "other",
        "timeout": 5.0,
    }


def test_application():
    def application(**options):
        return eram.Engine(**options).config.declared_by

    assert application(allow=["shop.jobs", "mail", "shop.more"]) == "mail,shop"
    assert application() == "default"
    assert application(allow=["shop"], application="till") == "till"


def test_options_win_over_the_configuration(monkeypatch, tmp_path):
    path = tmp_path / "eram.toml"
    path.write_text('dsn = "dbname=x"\nallow = ["app"]\nname = "w1"\n')
    for config in (str(path), path, {"dsn": "dbname=x", "allow": ["app"], "name": "w1"}):
        found = eram.Engine(config, name="w2").config
        assert (found.dsn, found.allow, found.name) == ("dbname=x", ["app"], "w2")
    monkeypatch.setenv("DATABASE_URL", "postgresql://host/y")
    assert eram.Engine().config.dsn == "postgresql://host/y"
    assert eram.Engine(path).config.dsn == "dbname=x"
    # A driver knows its own.
    assert eram.Engine(driver={"type": "psycopg"}).config.dsn == ""


def test_a_workers_file_and_an_engines_are_one(tmp_path):
    path = tmp_path / "eram.toml"
    path.write_text(
        'allow = ["app"]\nlog_level = "warning"\nprocesses = 2\nlog_format = "json"\n'
        "[queues]\nmail = 3\n[[cron]]\nschedule = '@daily'\nhandler = 'app:x'\n"
    )
    config = read_config(["--config", str(path), "--queue", "other=1"], {})
    assert config.queues == {"other": 1}
    assert config.schedules == [{"schedule": "@daily", "handler": "app:x", "args": {}}]
    assert config.declares
    assert eram.Engine(path).config.schedules == config.schedules
    # The command line alone says nothing of schedules.
    assert not read_config(["--allow", "app"], {}).declares


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"querues": {}}, 'no option "querues"; did you mean "queues"'),
        ({"max_age": 60}, 'no option "max_age"; it belongs to "prune"'),
        ({"rescue_after": 60}, 'it belongs to "lifeline"'),
        ({"db": 1}, 'no option "db"; it is called "dsn" here'),
        ({1: 2}, "the keys of a configuration are strings, got 1"),
        ([], "a configuration must have keys"),
        ("absent.toml", r"absent\.toml cannot be read"),
        ("postgresql://host/db", "this is a dsn"),
        ({"queues": {"default": {"limits": 1}}}, 'queue "default" has no option "limits"'),
        ({"queues": {"default": {}}}, 'limit of queue "default" must be a number from 1 to 1000'),
        ({"queues": {"default": {"limit": "10"}}}, "from 1 to 1000, got '10'"),
        ({"queues": {"default": {"limit": math.nan}}}, "from 1 to 1000, got nan"),
        ({"queues": ["default"]}, "queues must have names and limits"),
        ({"prune": True}, r'prune must have keys \("interval", "limit", "max_age"\), got True'),
        ({"prune": {"maxAge": 1}}, 'prune has no option "maxAge"; it is called "max_age" here'),
        ({"prune": {"interval": 30}}, r"milliseconds, from 1000 .*1000 is a second.*, got 30$"),
        ({"prune": {"interval": "30 s"}}, "prune.interval must be milliseconds"),
        ({"prune": {"interval": True}}, "prune.interval must be milliseconds"),
        ({"prune": {"interval": 1000.5}}, "must be whole milliseconds, got 1000.5"),
        ({"prune": {"interval": 1e300}}, "prune.interval must be milliseconds"),
        ({"prune": {"interval": None}}, "prune.interval must be milliseconds"),
        ({"prune": {"limit": 0}}, "prune.limit must be jobs at a time, from 1"),
        ({"prune": {"limit": 2.5}}, "must be whole jobs"),
        ({"prune": {"max_age": -1}}, "prune.max_age must be seconds, from 0 .*, got -1"),
        ({"prune": {"max_age": math.nan}}, "prune.max_age must be seconds"),
        ({"prune": {"max_age": math.inf}}, "prune.max_age must be seconds"),
        ({"prune": {"max_age": "1 day"}}, "prune.max_age must be seconds"),
        ({"prune": {"max_age": {"complete": 1}}}, 'did you mean "completed"'),
        ({"prune": {"max_age": {"completed": "1"}}}, r"prune.max_age.completed must be seconds"),
        ({"lifeline": {"rescueAfter": 1}}, 'it is called "rescue_after" here'),
        ({"lifeline": {"rescue_after": 0}}, "lifeline.rescue_after must be milliseconds"),
        ({"lifeline": {"rescue_after": False}}, "lifeline.rescue_after must be milliseconds"),
        ({"lifeline": {"interval": 10**400}}, "lifeline.interval must be milliseconds"),
        ({"reindexer": {"index": []}}, 'did you mean "indexes"'),
        ({"reindexer": {"indexes": "a"}}, "must be a list of names of indexes, got 'a'"),
        ({"reindexer": {"indexes": [1]}}, "must be a list of names of indexes"),
        ({"reindexer": {"schedule": 5}}, "reindexer.schedule must be a schedule"),
        ({"reindexer": {"timeout": 0}}, "reindexer.timeout must be seconds for each index"),
        ({"reindexer": {"timeout": 15_000_000}}, "reindexer.timeout must be seconds"),
        ({"reindexer": {"timezone": 1}}, "reindexer.timezone must be a time zone"),
        ({"cron": "* * * * *"}, "cron must be a list"),
        ({"cron": {}}, "cron must be a list"),
        ({"cron": [["@daily"]]}, r"cron\[0\] must be \[schedule, handler\]"),
        ({"cron": [["@daily", "a:b", {}, 1]]}, r"cron\[0\] must be"),
        ({"cron": ["@daily"]}, r"cron\[0\] must have keys"),
        ({"cron": [["@daily", "a:b"], [5, "a:b"]]}, r"cron\[1\]: schedule must be a schedule"),
        ({"cron": [["@daily", "a:b", [1]]]}, r"cron\[0\]: args must be a mapping"),
        ({"cron": [["@daily", "a:b", {1: 2}]]}, r"cron\[0\]: args must be a mapping"),
        ({"cron": [["@daily", "a:b", {"x": object()}]]}, r"cron\[0\]: it cannot be stored as JSON"),
        ({"cron": [["@daily", "a:b", {"x": math.nan}]]}, r"cron\[0\]: it cannot be stored"),
        ({"cron": [["@daily", "a b:c"]]}, 'must be a path "module:function" or a name'),
        ({"cron": [["@daily", " "]]}, 'must be a path "module:function" or a name'),
        ({"cron": [["@daily", plain]]}, "decorated with @eram.job"),
        ({"cron": [["@daily", eram.job(in_main)]]}, "under @engine.job"),
        ({"cron": [["@daily", sample_jobs.mail]]}, r'cron\[0\]: .* lacks the argument "to"'),
        ({"cron": [{"schedule": "@daily"}]}, r'cron\[0\] has no "handler"'),
        ({"cron": [{"scedule": "@daily", "handler": "a:b"}]}, 'did you mean "schedule"'),
        ({"cron": [{"schedule": "@daily", "handler": "a:b", "missed": "al"}]}, 'mean "all"'),
        ({"cron": [{"schedule": "@daily", "handler": "a:b", "missed": []}]}, "missed is"),
        (
            {"cron": [{"schedule": "@daily", "handler": "a:b", "overlap": 0}]},
            "true or false, got 0",
        ),
        ({"cron": [{"schedule": "@daily", "handler": "a:b", "priority": "1"}]}, "priority must be"),
        ({"cron": [{"schedule": "@daily", "handler": "a:b", "timeout": -1}]}, "not negative"),
        ({"cron": [{"schedule": "@daily", "handler": "a:b", "name": 1}]}, "name must be a string"),
        ({"driver": "psycopg"}, "driver must be"),
        ({"driver": {"type": "typeorm"}}, r"driver\.type"),
        ({"handler": 5}, "handler must be a function of the job, or its path, got 5"),
        ({"handler": ""}, "handler must be a function"),
        ({"handler": int}, "handler cannot run jobs: .* parameters that cannot be seen"),
        ({"handler": lambda: None}, r"handler cannot run jobs: .* must take \(job\)"),
        ({"middleware": [1]}, "middleware must be functions of a job .*; got 1"),
        ({"middleware": ["span"]}, 'middleware "span" is no path'),
        ({"dsn": 1}, "dsn must be a string, got 1"),
        ({"schedules": []}, 'it is called "cron" here'),
        ({"queues": {"": 1}}, "a queue must have a name"),
        ({"queues": {" mail": 1}}, "the name of a queue must have no .* blanks .*, got ' mail'"),
        ({"queues": {"a\0b": 1}}, r"the name of a queue must have no control .*, got 'a\\x00b'"),
        ({"queues": {"a\ud800": 1}}, "the name of a queue must have no control"),
        ({"queues": {129 * "x": 1}}, "a queue has a name of 129 characters, and 128 are allowed"),
        ({"name": 256 * "x"}, "the worker has a name of 256 characters, and 255 are allowed"),
        ({"name": "a\n"}, "the name of the worker must have no control characters"),
        ({"application": "a\0"}, "the name of the application must have no control characters"),
        ({"allow": [200 * "x", 56 * "y"]}, "the application has a name of 257 characters"),
        ({"middleware": "a:b"}, "middleware must be a list"),
        ({"application": 5}, "application must be the name of an application, got 5"),
        ({"application": " "}, "application must be the name of an application"),
        ({"poll_interval": 1000_000}, "poll_interval must be seconds"),
        ({"log_format": "xml"}, "log_format must be one of"),
        ({"processes": 0}, "processes must be a number"),
    ],
)
def test_wrong_configuration(config, message):
    with pytest.raises(eram.ConfigError, match=message):
        eram.Engine(config)


def test_wrong_file_is_named(tmp_path):
    path = tmp_path / "eram.toml"
    path.write_text("[prune]\nintervall = 1\n")
    with pytest.raises(eram.ConfigError, match=r'eram\.toml: prune .*did you mean "interval"'):
        eram.Engine(path)
