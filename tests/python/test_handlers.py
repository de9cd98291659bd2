"""Handlers: what may be one, what they are called, and how a worker finds them."""

from __future__ import annotations

import functools
import sys

import pytest
import sample_jobs

import eram
from eram._jobs.finding import Handlers


def test_handler_is_still_the_function():
    assert sample_jobs.mail(None, "x@example.com") == {"to": "x@example.com", "subject": "hello"}
    assert sample_jobs.wait.__doc__.startswith("Say that")
    assert sample_jobs.mail.__name__ == "mail"


def test_handler_is_named_by_module_and_function():
    assert sample_jobs.mail.path == "sample_jobs:mail"
    assert sample_jobs.mail.options(priority=1).path == "sample_jobs:mail"


def test_local_function_has_no_path():
    @eram.job
    def local(job):
        pass

    with pytest.raises(eram.HandlerDefinitionError, match="top of a module"):
        _ = local.path


def test_lambda_has_no_path():
    with pytest.raises(eram.HandlerDefinitionError, match="top of a module"):
        _ = eram.job(lambda job: None).path


def test_function_of_the_main_program_has_no_path(monkeypatch):
    def main_job(job):
        pass

    monkeypatch.setattr(main_job, "__module__", "__main__")
    monkeypatch.setattr(main_job, "__qualname__", "main_job")
    with pytest.raises(eram.HandlerDefinitionError, match="module of its own"):
        _ = eram.job(main_job).path


async def async_generator(job):
    yield


def generator(job):
    yield


def no_parameters():
    pass


def keyword_job(*, job):
    pass


def positional_only(job, to, /):
    pass


def star_args(job, *to):
    pass


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (async_generator, "never run"),
        (generator, "never run"),
        (no_parameters, r"must take \(job\)"),
        (keyword_job, r"must take \(job\)"),
        (positional_only, '"to"'),
        (star_args, r'"\*to"'),
        (functools.partial(keyword_job, job=1), "only a function"),
        (dict, "only a function"),
    ],
)
def test_what_cannot_be_a_handler_is_refused_at_decoration(function, message):
    with pytest.raises(eram.HandlerDefinitionError, match=message):
        eram.job(function)


@pytest.mark.parametrize("function", [lambda job: None, lambda job, *, session: None])
def test_handler_with_a_transaction_must_take_the_session(function):
    with pytest.raises(eram.HandlerDefinitionError, match=r"must take \(job, session\)"):
        eram.job(transaction=True)(function)


def plain(job, to=None):
    pass


def with_session(job, session, to=None):
    pass


def with_session_by_position(job, session, /, to=None):
    pass


def with_keyword_session(job, to=None, *, session=None):
    pass


async def async_with_session(job, session):
    pass


@pytest.mark.parametrize(
    ("function", "transaction", "takes_session", "without_driver", "with_driver"),
    [
        (plain, None, False, False, True),
        (plain, False, False, False, False),
        (plain, True, True, True, True),
        (with_session, None, True, True, True),
        # An argument like any other.
        (with_session, False, False, False, False),
        (with_session, True, True, True, True),
        (with_session_by_position, None, True, True, True),
        (with_keyword_session, None, False, False, True),
        (async_with_session, None, True, True, True),
    ],
)
def test_who_has_a_session_and_who_runs_in_a_transaction(
    function, transaction, takes_session, without_driver, with_driver
):
    handler = eram.job(transaction=transaction)(function)
    assert handler.takes_session is takes_session
    assert handler.wants_transaction(has_driver=False) is without_driver
    assert handler.wants_transaction(has_driver=True) is with_driver


@pytest.mark.parametrize("transaction", [1, "yes", []])
def test_transaction_is_said_by_a_boolean(transaction):
    with pytest.raises(TypeError, match="transaction must be True, False or None"):
        eram.job(transaction=transaction)(with_session)


def test_async_functions_are_told_apart():
    assert eram.job(async_with_session).is_async
    assert not eram.job(with_session).is_async


@pytest.mark.parametrize(
    ("args", "named", "expected"),
    [
        (("x",), {}, {"to": "x"}),
        (("x", "y"), {}, {"to": "x", "subject": "y"}),
        (("x",), {"subject": "y"}, {"to": "x", "subject": "y"}),
        ((), {"to": "x"}, {"to": "x"}),
    ],
)
def test_arguments_by_position_get_their_names(args, named, expected):
    assert sample_jobs.mail.named_args(args, named) == expected


@pytest.mark.parametrize(
    ("handler", "args", "named", "message"),
    [
        (sample_jobs.mail, (1, 2, 3), {}, "takes 2 arguments by position, got 3"),
        (sample_jobs.mail, (1,), {"to": 2}, 'is given the argument "to" twice'),
        (sample_jobs.describe, (1,), {}, "takes no arguments by position, got 1"),
        (sample_jobs.note, (1, 2), {}, "takes 1 argument by position, got 2"),
    ],
)
def test_arguments_by_position_that_do_not_fit_are_refused(handler, args, named, message):
    with pytest.raises(eram.ArgumentsError, match=message):
        handler.named_args(args, named)


def test_unknown_option_of_a_handler_names_the_right_one():
    with pytest.raises(TypeError, match='"max_attempt"; did you mean "max_attempts"'):
        eram.job(max_attempt=3)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({}, 'lacks the argument "to"'),
        ({"to": "x", "subjekt": "y"}, 'take the argument "subjekt"; did you mean "subject"?'),
        ({"too": "x"}, 'does not take the argument "too"; did you mean "to"?'),
        ({"to": "x", "job": 1}, 'does not take the argument "job"'),
        ({"to": "x", "b": 1, "a": 2}, 'does not take the arguments "a", "b"'),
    ],
)
def test_arguments_that_do_not_fit_are_refused(args, message):
    with pytest.raises(eram.ArgumentsError, match=message):
        sample_jobs.mail.check_args(args)


def test_handler_of_any_arguments_still_has_its_job_from_the_worker():
    sample_jobs.echo.check_args({"anything": 1})
    with pytest.raises(eram.ArgumentsError, match='"job"'):
        sample_jobs.echo.check_args({"job": 1})


def test_handler_that_reads_the_args_itself_takes_any():
    sample_jobs.describe.check_args({"anything": 1, "job": 2})


def test_handlers_are_found_by_path():
    assert Handlers(["sample_jobs"]).resolve("sample_jobs:mail") is sample_jobs.mail


@pytest.mark.parametrize(
    ("path", "is_allowed"),
    [
        ("allowed.jobs:ping", True),
        ("allowed.jobs.deep:ping", True),
        ("allowed.jobs2:ping", False),
        ("allowed:ping", False),
        ("sample_jobs:nothing", False),
        ("os:system", False),
    ],
)
def test_prefixes_allow_whole_dotted_parts(tmp_path, monkeypatch, path, is_allowed):
    source = "import eram\n@eram.job\ndef ping(job): pass\n"
    for name in (
        "allowed/__init__.py",
        "allowed/jobs/__init__.py",
        "allowed/jobs/deep.py",
        "allowed/jobs2.py",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "allowed"]:
        monkeypatch.delitem(sys.modules, name)

    handlers = Handlers(["allowed.jobs"])
    if is_allowed:
        assert isinstance(handlers.resolve(path), eram.Handler)
    else:
        with pytest.raises(eram.HandlerNotFoundError, match=r"may run \(allowed: allowed.jobs\)"):
            handlers.resolve(path)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("sample_jobs:absent", "does not exist"),
        ("sample_jobs.absent:f", "cannot be imported: ModuleNotFoundError"),
        ("sample_jobs:plain", "is not a job"),
        ("sample_jobs:not_callable", "is not a job"),
        ("sample_jobs:os.system", "is not a job"),
        ("sample_jobs", "is no path"),
        ("sample_jobs:", "is no path"),
        ("sample_jobs.mail", "is no path"),
        ("sample_jobs:mail\n", "is no path"),
        ("", "is no path"),
    ],
)
def test_handler_that_cannot_be_run_says_why(path, reason):
    with pytest.raises(eram.HandlerNotFoundError, match=reason) as caught:
        Handlers(["sample_jobs"]).resolve(path)
    assert caught.value.path == path


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("raise ValueError('at import')", "ValueError: at import"),
        ("import sys; sys.exit('gone')", "SystemExit: gone"),
        ("def (", "SyntaxError"),
    ],
)
def test_module_may_do_anything_while_it_is_imported(tmp_path, monkeypatch, statement, reason):
    (tmp_path / "broken_jobs.py").write_text(statement)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(eram.HandlerNotFoundError, match=reason):
        Handlers(["broken_jobs"]).resolve("broken_jobs:f")


UNSAYABLE = "class Odd(Exception):\n    def __str__(self): raise SystemExit\n"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("def __getattr__(name): raise SystemExit('no ' + name)", "looked up: SystemExit: no ping"),
        (
            f"{UNSAYABLE}def __getattr__(name): raise Odd",
            "looked up: Odd: (its message cannot be shown)",
        ),
        (f"{UNSAYABLE}raise Odd", "imported: Odd: (its message cannot be shown)"),
        (
            "class Odd:\n    def __repr__(self): raise SystemExit('no words')\nping = Odd()",
            "looked up: SystemExit: no words",
        ),
    ],
)
def test_module_may_do_anything_while_a_name_is_looked_up(tmp_path, monkeypatch, source, reason):
    (tmp_path / "odd_jobs.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "odd_jobs", raising=False)
    with pytest.raises(eram.HandlerNotFoundError) as caught:
        Handlers(["odd_jobs"]).resolve("odd_jobs:ping")
    assert caught.value.reason.endswith(reason)


def test_failure_to_find_a_handler_is_not_remembered(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    handlers = Handlers(["later_jobs"])
    with pytest.raises(eram.HandlerNotFoundError):
        handlers.resolve("later_jobs:ping")
    (tmp_path / "later_jobs.py").write_text("import eram\n@eram.job\ndef ping(job): pass\n")
    assert handlers.resolve("later_jobs:ping").path == "later_jobs:ping"
    monkeypatch.delitem(sys.modules, "later_jobs")
