"""docs/monitoring: its dashboard, rules and exporter settings name only what eram_metrics has."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

FOLDER = Path(__file__).parents[2] / "docs" / "monitoring"
GRID_WIDTH = 24
# What Prometheus itself puts on whatever it asks for.
SCRAPED = {"instance", "job"}
FUNCTIONS = {"sum", "max", "rate", "increase", "absent"}
WORDS = FUNCTIONS | {"by", "on", "unless", "and", "or"}
PANELS = {"row", "stat", "state-timeline", "table", "timeseries"}

# One sample of every kind.
WORK = """
    select eram_start_worker('w', '{default}', pg_backend_pid());
    select eram_enqueue_job('app:run') from generate_series(1, 3);
    select eram_tick();
    select eram_complete_jobs(array_agg(id), array_agg(run)) from eram_fetch('default', 2, 1);
    update eram_schedules set next_run_at = now() where name = 'eram:recorder';
    select eram_tick();
"""

Families = dict[str, tuple[str, set[str]]]


@pytest.fixture
def families(conn: psycopg.Connection) -> Families:
    """The type and the labels of each family that a database in use has."""
    for statement in WORK.split(";")[:-1]:
        conn.execute(statement)
    found = conn.execute(
        """
        select name, min(type), array_agg(distinct keys.key) filter (where keys is not null)
        from eram_metrics
        left join lateral jsonb_object_keys(labels) as keys (key) on true
        group by name
        """
    ).fetchall()
    return {name: (kind, {*(labels or [])}) for name, kind, labels in found}


def judge(expression: str, families: Families) -> set[str]:
    """Fail if an expression names what there is not; return the labels that it may have."""
    rest, seen = expression, set[str]()
    names = re.findall(r"\beram_\w+", expression)
    assert names, expression
    for name in names:
        assert name in families, f"{name} in {expression}"
        seen |= families[name][1]
    for name, matchers in re.findall(r"\b(eram_\w+)\{([^}]*)\}", expression):
        for matcher in matchers.split(","):
            (label,) = re.fullmatch(r'\s*(\w+)(?:=~|!~|!=|=)"[^"]*"', matcher).groups()
            assert label in families[name][1] | SCRAPED, f"{label} in {expression}"
    for listed in re.findall(r"\b(?:by|on) \(([^)]*)\)", expression):
        assert {each.strip() for each in listed.split(",")} <= seen | SCRAPED, expression
    for name in re.findall(r"\b(?:rate|increase)\((\w+)", expression):
        assert families[name][0] == "counter", expression
    for name in names:
        if families[name][0] == "counter":
            assert re.search(rf"(rate|increase)\({name}\b[^()]*\[", expression), expression

    rest = re.sub(r"\{[^}]*\}|\[[^]]*\]|\b(by|on) \([^)]*\)", " ", rest)
    for pair in ("()", "{}", "[]"):
        assert expression.count(pair[0]) == expression.count(pair[1]), expression
    words = set(re.findall(r"[A-Za-z_]\w*", rest)) - set(names)
    assert words <= WORDS, f"{words - WORDS} in {expression}"
    return seen | SCRAPED


# The dashboard.


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    return json.loads((FOLDER / "dashboard.json").read_text(encoding="utf-8"))


def test_the_dashboard_is_one(dashboard):
    assert dashboard["schemaVersion"] >= 36
    assert dashboard["title"] == dashboard["uid"] == "eram"
    # Whoever imports it gives it an id.
    assert dashboard.get("id") is None
    panels = dashboard["panels"]
    ids = [panel["id"] for panel in panels]
    assert len(ids) == len({*ids}) > 10
    for panel in panels:
        assert panel["type"] in PANELS
        assert panel["title"]
        if panel["type"] != "row":
            assert re.fullmatch(r"[A-Z].*[.;]", panel["description"]), panel["title"]
            assert panel["fieldConfig"]["defaults"]["unit"]
            refs = [target["refId"] for target in panel["targets"]]
            assert len(refs) == len({*refs}) >= 1


def test_the_panels_lie_side_by_side(dashboard):
    places = [panel["gridPos"] for panel in dashboard["panels"]]
    for place in places:
        assert place["w"] > 0 < place["h"]
        assert 0 <= place["x"] <= GRID_WIDTH - place["w"]
        assert place["y"] >= 0
    for one, other in itertools.combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above, (one, other)


def test_the_panels_show_what_there_is(dashboard, families):
    shown = set()
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            expression = target["expr"]
            labels = judge(expression, families)
            shown |= {*re.findall(r"\beram_\w+", expression)}
            for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
                assert label in labels, panel["title"]
                assert re.search(rf"\bby \([^)]*\b{label}\b", expression), panel["title"]
    # All of it but for what says nothing by itself.
    left_out = {"eram_info", "eram_queue_paused", "eram_oldest_snapshot_transactions"}
    assert {*families} - shown == left_out


def test_the_variables_are_defined_and_used(dashboard, families):
    defined = {each["name"]: each for each in dashboard["templating"]["list"]}
    text = json.dumps([dashboard["panels"], dashboard["templating"]])
    used = {*re.findall(r"\$\{?(\w+)\}?", text)} - {"__rate_interval", "__all"}
    assert used == {*defined}
    name, label = re.fullmatch(
        r"label_values\((\w+), (\w+)\)", defined["queue"]["query"]["query"]
    ).groups()
    assert label in families[name][1]
    quantiles = defined["quantile"]["query"].split(",")
    assert quantiles == ["0.5", "0.95", "0.99"]
    sources = {json.dumps(each["datasource"]) for each in dashboard["panels"] if "targets" in each}
    assert sources == {json.dumps({"type": "prometheus", "uid": "${datasource}"})}


def test_a_wrong_expression_is_found(families):
    """That the judge above judges."""
    for wrong in (
        "sum(eram_queue_waiting)",
        "sum(eram_queue_due_jobs",
        'eram_queue_due_jobs{name="a"}',
        "sum by (check) (eram_queue_due_jobs)",
        "rate(eram_queue_due_jobs[5m])",
        "sum(eram_jobs_completed_total)",
        "median(eram_queue_due_jobs)",
        "sum(up)",
    ):
        with pytest.raises(AssertionError):
            judge(wrong, families)


# The rules.


def test_the_rules_are_about_what_there_is(families):
    rules = yaml.safe_load((FOLDER / "alerts.yml").read_text(encoding="utf-8"))
    (group,) = rules["groups"]
    names = [rule["alert"] for rule in group["rules"]]
    assert len(names) == len({*names}) > 5
    for rule in group["rules"]:
        assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}
        assert re.fullmatch(r"Eram[A-Z]\w+", rule["alert"])
        assert re.fullmatch(r"\d+[smh]", rule.get("for", "0s"))
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        labels = judge(rule["expr"], families)
        assert rule["annotations"].keys() == {"summary", "description"}
        for text in rule["annotations"].values():
            for label in re.findall(r"\$labels\.(\w+)", text):
                assert label in labels, rule["alert"]


# The exporters.


def test_the_queries_for_sql_exporter_are_all_of_eram_metrics(families):
    settings = yaml.safe_load((FOLDER / "sql_exporter.yml").read_text(encoding="utf-8"))
    (collector,) = settings["collectors"]
    assert settings["target"]["collectors"] == [collector["collector_name"]]
    found = {}
    for metric in collector["metrics"]:
        assert metric["values"] == [metric["metric_name"]]
        assert metric["query_ref"] == collector["queries"][0]["query_name"]
        assert metric["help"].endswith(".")
        found[metric["metric_name"]] = (metric["type"], {*metric.get("key_labels", [])})
    assert found == families


def test_the_query_for_sql_exporter_yields_each_sample_once(conn):
    settings = yaml.safe_load((FOLDER / "sql_exporter.yml").read_text(encoding="utf-8"))
    (collector,) = settings["collectors"]
    conn.execute("select eram_enqueue_job('app:run')")
    with conn.cursor(row_factory=psycopg.rows.dict_row) as cursor:
        rows = cursor.execute(collector["queries"][0]["query"]).fetchall()
    samples = conn.execute("select name, labels from eram_metrics").fetchall()
    assert len(rows) == len(samples)
    values = {
        metric["metric_name"]: metric.get("key_labels", []) for metric in collector["metrics"]
    }
    seen = []
    for row in rows:
        (name,) = (name for name in values if row[name] is not None)
        seen.append((name, {label: row[label] for label in values[name]}))
    assert sorted(map(repr, seen)) == sorted(map(repr, samples))
