"""What workers tell the server of their handlers when they start, and when there are more."""

from __future__ import annotations

import contextlib
import importlib
import sys
import threading

import psycopg
import pytest
import sample_jobs
from helpers import PATIENCE, eventually, wait_for_state

import eram
from eram._jobs.finding import Handlers
from eram._runtime import declarations as declarations_module
from eram._runtime.declarations import Declarations

HEADER = "import eram\n"
PING = "@eram.job({options})\ndef {name}(job): pass\n"


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write modules that can be imported, and forget them afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)

    def write(name, **handlers):
        path = tmp_path / f"{name.replace('.', '/')}.py"
        path.parent.mkdir(exist_ok=True)
        body = (PING.format(name=name, options=options) for name, options in handlers.items())
        path.write_text(HEADER + "".join(body))
        importlib.invalidate_caches()
        return path

    yield write
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(
            sys.modules[name].__file__
        ):
            del sys.modules[name]


def handlers(conn):
    rows = conn.execute("select name, alias_of, declared from eram_handlers order by name")
    return {name: alias_of or declared for name, alias_of, declared in rows}


def send(conn, *allow):
    found = Handlers(allow)
    found.load()
    declarations = Declarations(found)
    declarations.send(conn)
    return declarations


def send_until(declarations, conn, condition):
    """Take as many turns as it needs."""

    def has_come():
        declarations.send(conn)
        return condition()

    eventually(has_come)


def test_worker_registers_what_it_may_run(conn, start_worker, write):
    write(
        "shop",
        a="queue='mail', timeout=30, unique=True, backoff='linear', meta={'m': [None]}",
        b="aliases=['shop:old', 'gone.jobs:older']",
        c="",
    )
    write("other", d="priority=1")
    importlib.import_module("other")
    start_worker(allow=["shop"])
    declared = handlers(conn)
    assert list(declared) == ["gone.jobs:older", "shop:a", "shop:b", "shop:c", "shop:old"]
    assert declared["shop:a"].keys() == {"queue", "timeout", "unique", "backoff", "meta"}
    assert declared["shop:b"] == declared["shop:c"] == {}
    assert declared["shop:old"] == declared["gone.jobs:older"] == "shop:b"


def test_any_producer_has_the_defaults_then(conn, start_worker, write):
    write("shop", a="queue='mail', priority=4, max_attempts=2, tags=['t']")
    start_worker(allow=["shop"])
    job_id = conn.execute("select eram_enqueue_job('shop:a')").fetchone()[0]
    row = conn.execute(
        "select queue, priority, max_attempts, tags from eram_jobs where id = %s", (job_id,)
    ).fetchone()
    assert row == ("mail", 4, 2, ["t"])


def test_jobs_under_a_former_name_are_run(conn, start_worker, write):
    before = eram.enqueue(conn, "gone.jobs:old", {})
    write("shop", a="aliases=['gone.jobs:old']")
    start_worker(allow=["shop"])
    after = eram.enqueue(conn, "gone.jobs:old", {})
    for answer in (before, after):
        wait_for_state(conn, answer.id, "completed")


def test_module_that_cannot_be_imported_is_a_warning(conn, start_worker, write, caplog):
    write("broken").write_text("import sys; sys.exit('no way')")
    write("shop", a="")
    start_worker(allow=["absent", "broken", "shop"])
    assert "module absent cannot be imported: ModuleNotFoundError" in caplog.text
    assert "module broken cannot be imported: SystemExit: no way" in caplog.text
    assert list(handlers(conn)) == ["shop:a"]


def test_what_is_imported_later_is_registered_then(conn, start_worker, write):
    write("shop.__init__")
    write("shop.jobs", a="max_attempts=2")
    start_worker(allow=["shop"])
    assert handlers(conn) == {}
    wait_for_state(conn, eram.enqueue(conn, "shop.jobs:a").id, "completed")
    eventually(lambda: handlers(conn) == {"shop.jobs:a": {"max_attempts": 2}})


def test_name_that_is_not_yet_bound_is_found_later(conn, write):
    """The module is in the middle of being imported when the maintenance thread looks."""
    name = "shop"
    write(name, a="", b="priority=1")
    path = write(name, a="")
    path.write_text(
        HEADER + "import threading\nbegun, gate = threading.Event(), threading.Event()\n"
        "def hold(handler):\n    begun.set()\n    gate.wait(30)\n    return handler\n"
        "@hold\n@eram.job\ndef a(job): pass\n"
    )
    found = Handlers([name])
    declarations = Declarations(found)
    importer = threading.Thread(target=found.load)
    importer.start()
    eventually(lambda: hasattr(sys.modules.get(name), "begun"))
    assert sys.modules[name].begun.wait(PATIENCE)
    declarations.send(conn)
    assert handlers(conn) == {}
    sys.modules[name].gate.set()
    importer.join()
    declarations.send(conn)
    assert list(handlers(conn)) == ["shop:a"]


def test_handler_is_registered_where_it_is_defined(conn, write):
    write("shop.__init__").write_text("from shop.jobs import a\nfrom other import d\n")
    write("shop.jobs", a="")
    write("other", d="")
    send(conn, "shop")
    assert list(handlers(conn)) == ["shop.jobs:a"]


def test_last_one_of_a_name_counts(conn, write):
    path = write("shop", a="priority=1")
    path.write_text(path.read_text() + "first = a\n" + PING.format(name="a", options="priority=2"))
    send(conn, "shop")
    assert handlers(conn) == {"shop:a": {"priority": 2}}


def test_reload_declares_anew(conn, write, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    write("shop", a="priority=1, queue='q'", b="")
    declarations = send(conn, "shop")
    write("shop", a="priority=2, max_attempts=3", b="")
    importlib.reload(sys.modules["shop"])
    declarations.send(conn)
    assert handlers(conn) == {"shop:a": {"priority": 2, "max_attempts": 3}, "shop:b": {}}


def test_nothing_new_is_nothing_sent(conn, write, monkeypatch):
    write("shop", a="", b="priority=1")
    calls = []
    register = declarations_module._register

    def note(conn, new):
        calls.append([each["handler"] for each in new])
        register(conn, new)

    monkeypatch.setattr(declarations_module, "_register", note)
    declarations = send(conn, "shop")
    declarations.send(conn)
    assert calls == [["shop:a", "shop:b"]]
    # A handler elsewhere is none of it.
    eram.job(lambda job: None)
    declarations.send(conn)
    assert calls == [["shop:a", "shop:b"]]


def test_second_worker_changes_nothing(conn, write):
    write("shop", a="queue='mail'", b="aliases=['shop:c']")
    send(conn, "shop")
    query = "select xmin::text, ctid::text from eram_handlers order by name"
    before = conn.execute(query).fetchall()
    send(conn, "shop")
    assert conn.execute(query).fetchall() == before


def test_refused_declaration_costs_only_itself(conn, write, caplog):
    write("shop", a="", b="priority=99", c="priority=2")
    declarations = send(conn, "shop")
    send_until(declarations, conn, lambda: len(handlers(conn)) == 2)
    assert handlers(conn) == {"shop:a": {}, "shop:c": {"priority": 2}}
    assert "what shop:b declares is refused by the server: priority" in caplog.text


def test_refused_declaration_is_found_by_halves(conn, write, monkeypatch, caplog):
    options = {f"h{number:03}": "" for number in range(100)}
    write("shop", **{**options, "h037": "priority=99", "h081": "max_attempts=-1"})
    calls = []
    register = declarations_module._register

    def note(conn, new):
        calls.append(len(new))
        register(conn, new)

    monkeypatch.setattr(declarations_module, "_register", note)
    declarations = send(conn, "shop")
    send_until(declarations, conn, lambda: len(handlers(conn)) == 98)
    send_until(declarations, conn, lambda: caplog.text.count("is refused") == 2)
    assert len(calls) < 40
    calls.clear()
    declarations.send(conn)
    assert calls == []


def test_turn_ends_after_a_moment(conn, write, monkeypatch):
    write("shop", a="", b="priority=99", c="")
    monkeypatch.setattr(declarations_module, "TURN_SECONDS", -1)
    calls = []
    register = declarations_module._register

    def note(conn, new):
        calls.append([each["handler"][-1] for each in new])
        register(conn, new)

    monkeypatch.setattr(declarations_module, "_register", note)
    declarations = send(conn, "shop")
    for _ in range(6):
        declarations.send(conn)
    assert calls == [["a", "b", "c"], ["a"], ["b", "c"], ["b"], ["c"]]


def test_locked_table_is_not_waited_for(conn, connect, write):
    """The thread that declares is the one whose heartbeats prove that the worker lives."""
    write("shop", a="priority=1", b="priority=99")
    rival = connect(autocommit=False)
    rival.execute("select eram_set_handler('some:other', '{}')")
    found = Handlers(["shop"])
    found.load()
    declarations = Declarations(found)
    mine = connect()
    mine.execute("set lock_timeout to 0")
    mine.execute("set statement_timeout to '60s'")
    for _ in range(3):
        with pytest.raises(psycopg.errors.LockNotAvailable):
            declarations.send(mine)
    rival.rollback()
    send_until(declarations, mine, lambda: len(handlers(conn)) == 1)
    assert list(handlers(conn)) == ["shop:a"]


def test_alias_of_two_is_said(conn, write, caplog):
    write("shop", a="aliases=['gone:x']", b="aliases=['gone:x']")
    send(conn, "shop")
    assert handlers(conn)["gone:x"] == "shop:b"
    assert '"gone:x" is an alias of "shop:b", not of "shop:a"' in caplog.text


def test_worker_knows_its_aliases_whatever_the_server_says(conn, start_worker, write):
    """A worker with older code has started again, and the alias is a handler of its own again."""
    write("shop", a="aliases=['gone.jobs:old']")
    start_worker(allow=["shop"])
    conn.execute("select eram_register_handler('gone.jobs:old')")
    answer = eram.enqueue(conn, "gone.jobs:old", max_attempts=1)
    wait_for_state(conn, answer.id, "completed")


def test_handler_that_exists_is_no_alias(conn, write, caplog):
    write("shop", a="aliases=['shop:b', 'shop:c']", b="priority=1")
    send(conn, "shop")
    assert handlers(conn) == {"shop:a": {}, "shop:b": {"priority": 1}, "shop:c": "shop:a"}
    assert 'handler "shop:b" exists, so it is no alias of "shop:a"' in caplog.text


def test_role_that_may_not_declare_can_still_work(conn, start_worker, caplog):
    conn.execute(
        "create or replace function eram_register_handler(handler text, queue text default null,"
        " max_attempts integer default null, priority integer default null,"
        " tags text[] default null, unique_by jsonb default null, backoff jsonb default null,"
        " timeout interval default null, meta jsonb default null, aliases text[] default null)"
        " returns void language plpgsql as $$ begin raise insufficient_privilege; end; $$"
    )
    start_worker()
    wait_for_state(conn, sample_jobs.nothing.enqueue(conn).id, "completed")
    assert caplog.text.count("what handlers declare is not known to the server") == 1


def test_what_someone_has_locked_is_declared_later(conn, connect, start_worker, write, caplog):
    write("shop", a="priority=1", b="priority=1")
    conn.execute("select eram_register_handler('shop:a')")
    rival = connect(autocommit=False)
    rival.execute("select from eram_handlers where name = 'shop:a' for update")
    worker = start_worker(allow=["shop"])
    assert "what handlers declare cannot be said now" in caplog.text
    rival.rollback()
    eventually(lambda: handlers(conn) == {"shop:a": {"priority": 1}, "shop:b": {"priority": 1}})
    assert worker.id > 0


def test_many_at_once_do_not_lock_each_other_out(dsn, conn, write):
    """Each declares all of them, with other values than the others."""
    names = [f"h{number}" for number in range(20)]
    write("shop", **{name: f"aliases=['shop:z{name}']" for name in names})
    found = Handlers(["shop"])
    found.load()
    paths, _ = found.loaded()
    errors = []

    def register(priority):
        new = [
            {"handler": path, "priority": priority, "aliases": [f"shop:z{path[5:]}"]}
            for path in sorted(paths)
        ]
        try:
            with psycopg.connect(dsn, autocommit=True) as mine:
                for _ in range(5):
                    with contextlib.suppress(psycopg.errors.LockNotAvailable):
                        declarations_module._register(mine, new)
        except psycopg.Error as error:
            errors.append(error)

    threads = [threading.Thread(target=register, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    declared = handlers(conn)
    assert len(declared) == 40
    # Not always the same for all: who finds that a handler is declared so already leaves it alone,
    # and another may have come to it meanwhile.
    assert all(declared[path]["priority"] in range(8) for path in paths)
