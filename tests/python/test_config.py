"""The options of a worker: where they come from, and what is wrong with them."""

from __future__ import annotations

import pytest

import eram
from eram._programs.worker_arguments import read_config


def write(tmp_path, text):
    path = tmp_path / "worker.toml"
    path.write_text(text)
    return str(path)


def test_defaults():
    config = read_config(["--allow", "app"], {})
    assert (config.dsn, dict(config.queues), config.allow) == ("", {"default": 10}, ["app"])
    assert (config.poll_interval, config.grace_period, config.log_level) == (1.0, 15.0, "info")
    assert config.maintenance is True


def test_command_line():
    arguments = ["--dsn", "dbname=x", "--queue", "default=10", "--queue", "a=b=2"]
    arguments += ["--allow", "app.jobs", "--allow", "mail", "--poll-interval", "0.5"]
    arguments += ["--grace-period", "0", "--name", "w1", "--log-level", "debug"]
    arguments += ["--no-maintenance"]
    config = read_config(arguments, {})
    assert (config.dsn, config.name, config.log_level) == ("dbname=x", "w1", "debug")
    assert config.queues == {"default": 10, "a=b": 2}
    assert config.allow == ["app.jobs", "mail"]
    assert (config.poll_interval, config.grace_period) == (0.5, 0)
    assert config.maintenance is False


def test_file(tmp_path):
    path = write(
        tmp_path,
        """
        dsn = "dbname=x"
        allow = ["app.jobs"]
        poll_interval = 2
        grace_period = 30
        maintenance = false
        name = "w1"
        log_level = "warning"
        [queues]
        default = 10
        mail = { limit = 2 }
        """,
    )
    config = read_config(["--config", path], {"DATABASE_URL": "dbname=y"})
    assert (config.dsn, config.allow, config.name) == ("dbname=x", ["app.jobs"], "w1")
    assert config.queues == {"default": 10, "mail": 2}
    assert (config.poll_interval, config.grace_period, config.log_level) == (2, 30, "warning")
    assert config.maintenance is False


def test_command_line_wins_over_file(tmp_path):
    path = write(
        tmp_path,
        'dsn = "dbname=x"\nallow = ["app"]\nname = "w1"\nmaintenance = false\n[queues]\nmail = 3\n',
    )
    arguments = ["--config", path, "--queue", "default=1", "--dsn", "dbname=z", "--maintenance"]
    config = read_config(arguments, {})
    assert (config.dsn, config.queues, config.name) == ("dbname=z", {"default": 1}, "w1")
    assert config.maintenance is True


def test_dsn_from_the_environment():
    config = read_config(["--allow", "app"], {"DATABASE_URL": "postgresql://host/x"})
    assert config.dsn == "postgresql://host/x"


def test_worker_without_allowed_modules_names_the_option():
    with pytest.raises(eram.ConfigError, match=r"--allow myapp\.jobs"):
        read_config([], {})
    with pytest.raises(eram.ConfigError, match=r"--allow myapp\.jobs"):
        eram.Worker("", allow=[])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("querues = 1", 'no option "querues"; did you mean "queues"'),
        ("poll-interval = 1", 'did you mean "poll_interval"'),
        ("xyzzy = 1", 'there are: "dsn", "queues"'),
        ("[queues.mail]\nlimits = 1", 'queue "mail" has no option "limits"; did you mean "limit"'),
        ("[queues.mail]", 'limit of queue "mail"'),
        ("[queues]\nmail = 0", "from 1 to 1000, got 0"),
        ("[queues]\nmail = true", "from 1 to 1000, got True"),
        ("[queues]\nmail = '3'", "from 1 to 1000, got '3'"),
        ("[queues]", "queues must have names"),
        ("queues = 3", "queues must have names"),
        ("allow = 'app'", "allow must be a list"),
        ("allow = ['app:job']", "name modules"),
        ("allow = ['app.']", "name modules"),
        ("allow = [1]", "name modules"),
        ("poll_interval = 0", "must be seconds, from 0.01 to 3600, got 0"),
        ("poll_interval = 1e-300", "must be seconds"),
        ("poll_interval = 60_000", "must be seconds"),
        ("poll_interval = inf", "must be seconds"),
        (f"poll_interval = 1{400 * '0'}", "must be seconds"),
        (f"poll_interval = 1{5000 * '0'}", "cannot be read"),
        ("poll_interval = true", "must be seconds"),
        ("poll_interval = nan", "must be seconds"),
        ("poll_interval = '1 s'", "must be seconds"),
        ("grace_period = -1", "must be seconds, from 0 to 86400, got -1"),
        ("grace_period = inf", "must be seconds"),
        ("grace_period = 1e9", "must be seconds"),
        ("dsn = 1", "dsn must be a string"),
        ("dsn = 'nonsense'", "dsn cannot be read"),
        ("maintenance = 0", "maintenance must be true or false, got 0"),
        ("name = 1", "name must be a string"),
        ("log_level = 'loud'", "log_level must be one of"),
        ("allow = [", "cannot be read"),
    ],
)
def test_wrong_file(tmp_path, text, message):
    path = write(tmp_path, text)
    arguments = ["--config", path]
    if "allow" not in text:
        arguments += ["--allow", "app"]
    with pytest.raises(eram.ConfigError, match=message):
        read_config(arguments, {})


def test_file_that_is_not_utf8_is_named(tmp_path):
    path = tmp_path / "worker.toml"
    path.write_bytes('name = "\u017c"'.encode("iso-8859-2"))
    with pytest.raises(eram.ConfigError, match=r"worker\.toml cannot be read: .*utf-8"):
        read_config(["--config", str(path), "--allow", "app"], {})


def test_missing_file_is_named(tmp_path):
    with pytest.raises(eram.ConfigError, match=r"absent\.toml cannot be read"):
        read_config(["--config", str(tmp_path / "absent.toml")], {})


@pytest.mark.parametrize("queue", ["default", "default=", "default=ten", "=3", "default=-1"])
def test_wrong_queue(queue):
    with pytest.raises(eram.ConfigError):
        read_config(["--allow", "app", "--queue", queue], {})


def test_queue_is_named_once():
    with pytest.raises(eram.ConfigError, match='--queue names "x" twice'):
        read_config(["--allow", "app", "--queue", "x=1", "--queue", "x=2"], {})


@pytest.mark.parametrize("argument", ["--quit", "--quee=3", "--log-level=loud", "--allo=app"])
def test_wrong_argument_ends_the_program(argument, capsys):
    with pytest.raises(SystemExit) as caught:
        read_config(["--allow", "app", argument], {})
    assert caught.value.code == 2
    assert argument.partition("=")[0] in capsys.readouterr().err
