#!/usr/bin/env python3
"""Goal:   every metric and label that rules and dashboard ask for is one that the daemon says, and
        the rules fire when they should.
Method: names and labels of /metrics (print_metrics, from the daemon's own table) against those
        of each expression, by a small lexer of PromQL; promtool, where it is, runs the rules on
        made-up series."""

import json
import re
import subprocess
import sys

import yaml

import checks
from checks import check

# Labels that Prometheus adds when it scrapes.
SCRAPED = {"job", "instance"}
# Words of PromQL that stand where a metric may, or before a list of labels.
WORDS = {"and", "or", "unless", "bool", "offset", "inf", "nan", "group_left", "group_right"}
GROUPING = {"by", "without", "on", "ignoring"}
TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|\$\{?\w+\}?|\d+[smhdwy]\b|[A-Za-z_:][\w:]*|=~|!~|!=|.', re.S)


def tokens(expr):
    return [t for t in TOKEN.findall(expr) if not t.isspace()]


def until(ts, i, end):
    """The index of the first end at or after i."""
    while ts[i] != end:
        i += 1
    return i


def asked(expr):
    """Pairs (metric, labels) that an expression names; metric None: labels of a grouping."""
    ts = tokens(expr) + [""]
    i = 0
    while i < len(ts) - 1:
        t, after = ts[i], ts[i + 1]
        if t == "[":
            i = until(ts, i, "]")
        elif t in GROUPING and after == "(":
            end = until(ts, i, ")")
            yield None, {x for x in ts[i + 2:end] if x != ","}
            i = end
        elif re.fullmatch(r"[A-Za-z_:][\w:]*", t) and t not in WORDS and after not in {"(", "by", "without"}:
            labels = set()
            if after == "{":
                end = until(ts, i, "}")
                labels = {ts[k] for k in range(i + 2, end) if ts[k + 1] in ("=", "=~", "!=", "!~")}
                i = end
            yield t, labels
        i += 1


def exposed(text):
    """{series name: labels} of an exposition."""
    known = {}
    for line in text.splitlines():
        if line and line[0] != "#":
            name, labels = re.match(r"([\w:]+)(?:\{(.*)\})? ", line).groups()
            known.setdefault(name, set()).update(re.findall(r'(\w+)="', labels or ""))
    return known


def test_lexer():
    """It finds what is there: else the rest would pass for want of names."""
    found = list(asked('histogram_quantile(0.9, sum by (job, le) (rate(a_bucket{x=~"b c{",y!="z"}[5m])))'
                       ' > 2 * b_total offset 12h and on (job) time() - c{job=~"$job"} > 0'))
    check(found == [(None, {"job", "le"}), ("a_bucket", {"x", "y"}), ("b_total", set()),
                    (None, {"job"}), ("c", {"job"})], f"lexer: {found}")


def rule_expressions():
    groups = yaml.safe_load(checks.text("prometheus", "rules.yaml"))["groups"]
    for group in groups:
        for rule in group["rules"]:
            check({"summary", "description"} <= set(rule["annotations"]), f"{rule['alert']}: annotations")
            check(rule["labels"]["severity"] in ("critical", "warning"), f"{rule['alert']}: severity")
            yield rule["alert"], rule["expr"]


def panels(dashboard):
    for panel in dashboard["panels"]:
        yield panel
        yield from panel.get("panels", [])


def dashboard_expressions(dashboard):
    for panel in panels(dashboard):
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            inside = re.fullmatch(r"label_values\((.*), *(\w+)\)", variable["query"]["query"])
            yield variable["name"], inside.group(1)


def test_names(known, source, expressions):
    n = 0
    for where, expr in expressions:
        for metric, labels in asked(expr):
            n += 1
            if metric is None:
                everywhere = set().union(*known.values())
                check(labels <= everywhere | SCRAPED, f"{source}: {where}: no metric has {labels}")
            elif check(metric in known or metric == "up", f"{source}: {where}: there is no {metric}"):
                check(labels <= known.get(metric, set()) | SCRAPED, f"{source}: {where}: {metric} has no {labels}")
    check(n >= 10, f"{source}: only {n} metrics were found")


def test_dashboard(dashboard):
    ids = [p["id"] for p in panels(dashboard)]
    check(len(ids) == len(set(ids)), "dashboard: two panels have one id")
    taken = set()
    for p in panels(dashboard):
        g = p["gridPos"]
        cells = {(x, y) for x in range(g["x"], g["x"] + g["w"]) for y in range(g["y"], g["y"] + g["h"])}
        check(g["x"] + g["w"] <= 24 and not cells & taken, f"dashboard: '{p['title']}' overlaps")
        taken |= cells
        check(p["type"] == "row" or p["datasource"]["uid"] == "${datasource}",
              f"dashboard: '{p['title']}' names a data source of somebody's")


def test_promtool(metrics):
    promtool = checks.tool("promtool")
    if promtool:
        folder = checks.path("prometheus")
        checks.check_command([promtool, "check", "rules", "rules.yaml"], "rules", cwd=folder)
        checks.check_command([promtool, "test", "rules", "rules_test.yaml"], "rules", cwd=folder)
        checks.check_command([promtool, "check", "metrics"], "metrics", input=metrics)
        # Where the container has its rules is not where they are here.
        config = checks.text("prometheus", "prometheus.yml").replace("/etc/prometheus/", folder + "/")
        checks.check_command([promtool, "check", "config", "/dev/stdin"], "config", input=config)


def main():
    metrics = subprocess.run([sys.argv[1]], check=True, capture_output=True, text=True).stdout
    known = exposed(metrics)
    dashboard = json.loads(checks.text("grafana", "mboold.json"))
    test_lexer()
    test_names(known, "rules", rule_expressions())
    test_names(known, "dashboard", dashboard_expressions(dashboard))
    test_dashboard(dashboard)
    test_promtool(metrics)
    checks.finish()


main()
