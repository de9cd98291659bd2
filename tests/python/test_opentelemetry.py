"""The example of docs/python.md traces jobs from the request that enqueues them."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import context_jobs
import pytest
from helpers import eventually
from opentelemetry import propagate, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

PAGE = Path(__file__).parents[2] / "docs" / "python.md"
EXPORTER = InMemorySpanExporter()


@pytest.fixture(scope="module")
def tracer():
    # There can be one in a process.
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(EXPORTER))
    trace.set_tracer_provider(provider)
    return trace.get_tracer("test")


@pytest.fixture
def spans():
    EXPORTER.clear()
    return lambda: {span.name: span for span in EXPORTER.get_finished_spans()}


@pytest.fixture
def span(tmp_path, monkeypatch):
    """The path of the middleware, as the page has it."""
    name = "example_of_tracing"
    (source,) = re.findall(
        r"```python\n# shop/tracing\.py\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL
    )
    (tmp_path / f"{name}.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    yield f"{name}:span"
    monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.mark.parametrize("kind", ["", "_async", "_in_transaction", "_async_in_transaction"])
def test_job_is_a_span_below_that_of_its_producer(conn, start_worker, tracer, spans, span, kind):
    start_worker(allow=["context_jobs"], middleware=[span])
    ids = {}
    with tracer.start_as_current_span("request") as request:
        carrier: dict[str, str] = {}
        propagate.inject(carrier)
        for name in (f"say_mark{kind}", f"fail{kind}"):
            handler = getattr(context_jobs, name).options(meta=carrier)
            ids[f"context_jobs:{name}"] = handler.enqueue(conn).id
    eventually(lambda: ids.keys() <= spans().keys())
    for name, job_id in ids.items():
        found = spans()[name]
        assert found.parent.span_id == request.get_span_context().span_id
        assert found.context.trace_id == request.get_span_context().trace_id
        assert found.kind is trace.SpanKind.CONSUMER
        assert dict(found.attributes) == {
            "job.id": job_id,
            "job.attempt": 1,
            "job.queue": "default",
        }
    assert spans()[f"context_jobs:say_mark{kind}"].status.status_code is trace.StatusCode.UNSET
    failed = spans()[f"context_jobs:fail{kind}"]
    assert failed.status.status_code is trace.StatusCode.ERROR
    assert failed.events[0].attributes["exception.message"] == "in the handler"
