"""Dashboard and alerts ask for metrics that somebody shows: the job, Ray, kube-state-metrics."""

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tadscale.runtime.tracking.prometheus import METRICS, PREFIX
from tests.infra.overlays import KUBERNETES, find, pods, rayjob
from tests.infra.schemas import ROOT

MONITORING = KUBERNETES / "components/monitoring"
PLACE = "overlays/production"
BOARD = json.loads((MONITORING / "dashboard.json").read_text())
RULES = [
    rule
    for group in yaml.safe_load((MONITORING / "alerts.yaml").read_text())["spec"]["groups"]
    for rule in group["rules"]
]
OURS = {f"{PREFIX}{name}": set(tags) for name, (_, tags) in METRICS.items()}
# Of kube-state-metrics, docs/metrics/workload/cronjob-metrics.md and job-metrics.md; its names are stable since 2.0.
KUBE_STATE = {
    "kube_cronjob_next_schedule_time": {"namespace", "cronjob"},
    "kube_cronjob_spec_suspend": {"namespace", "cronjob"},
    "kube_job_created": {"namespace", "job_name"},
    "kube_job_failed": {"namespace", "job_name", "condition"},
}
WORDS = {"and", "or", "unless", "on", "by", "without", "ignoring", "bool", "group_left", "group_right", "offset"}


def metrics(expression: str) -> dict[str, set[str]]:
    """The metrics that a PromQL expression reads, with the labels that it matches them by."""
    plain = re.sub(r"\b(by|on|without|ignoring) *\([^)]*\)", " ", expression)
    found: dict[str, set[str]] = {}
    for name, matchers in re.findall(
        r"\b([a-zA-Z_:][\w:]*)\b(?! *\()(?: *\{([^}]*)\})?", re.sub(r"\[[^]]*\]", "", plain)
    ):
        if name not in WORDS and not _inside_braces(plain, name):
            found.setdefault(name, set()).update(re.findall(r"(\w+) *(?:=~|!~|!=|=)", matchers))
    return found


def _inside_braces(expression: str, name: str) -> bool:
    """A label or a value in `{...}`, and nowhere else."""
    return not re.search(rf"\b{re.escape(name)}\b", re.sub(r"\{[^}]*\}", "", expression))


def ray_own() -> str:
    """Text of the dashboards that Ray itself ships: they name what Ray shows."""
    ray = importlib.util.find_spec("ray")
    assert ray is not None
    assert ray.origin is not None
    folder = Path(ray.origin).parent / "dashboard/modules/metrics/dashboards"
    return "".join(path.read_text() for path in sorted(folder.glob("*.py")))


QUERIES = {panel["title"]: [target["expr"] for target in panel["targets"]] for panel in BOARD["panels"]}
EXPRESSIONS = [(title, expr) for title, exprs in QUERIES.items() for expr in exprs]
EXPRESSIONS += [(rule["alert"], rule["expr"]) for rule in RULES]


@pytest.mark.parametrize(("where", "expression"), EXPRESSIONS)
def test_every_metric_is_one_that_is_shown(where: str, expression: str) -> None:
    read = metrics(expression)
    assert read
    for name, labels in read.items():
        if name in OURS:
            assert labels <= OURS[name], f"{where} matches {name} by labels that it does not have"
        elif name in KUBE_STATE:
            assert labels <= KUBE_STATE[name], f"{where} matches {name} by labels that it does not have"
        else:
            assert re.search(rf"\b{re.escape(name)}\b", ray_own()), f"{where} asks for {name}, which nobody shows"


def test_names_are_found_in_an_expression_wherever_they_stand() -> None:
    expression = 'max by (run) (max_over_time(a_b{run=~"$run", x!="c_d"}[1h])) == 0 and on (job) time() - e_f < 3'
    assert metrics(expression) == {"a_b": {"run", "x"}, "e_f": set()}
    assert metrics("(a == 1 unless b)") == {"a": set(), "b": set()}


def test_all_that_the_job_shows_is_on_the_dashboard() -> None:
    asked = {name for _, expression in EXPRESSIONS for name in metrics(expression)}
    assert set(OURS) <= asked


def test_the_variable_of_the_dashboard_is_a_label_of_what_it_filters() -> None:
    variables = {one["name"]: one for one in BOARD["templating"]["list"]}
    name, label = re.findall(r"label_values\((\w+), (\w+)\)", variables["run"]["query"])[0]
    assert label in OURS[name]
    used = set(re.findall(r"\$\{?(\w+)", json.dumps([BOARD["panels"], variables["run"]])))
    assert used == set(variables)


def test_panels_lie_beside_each_other() -> None:
    places = [panel["gridPos"] for panel in BOARD["panels"]]
    cells = [
        (x, y) for at in places for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) == 23  # Grafana's grid has 24 columns
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])


def test_alerts_say_what_is_wrong_and_the_runbook_what_to_do() -> None:
    runbook = (ROOT / "docs/operations.md").read_text()
    assert {rule["alert"] for rule in RULES} == {
        "TadscaleNoProgress",
        "TadscaleWaitsForData",
        "TadscaleQuarantine",
        "TadscaleGateRefused",
        "TadscaleRetrainMissed",
        "TadscaleRetrainFailed",
    }
    for rule in RULES:
        assert rule["labels"]["severity"] in ("info", "warning", "critical")
        assert rule["annotations"]["summary"]
        assert f"`{rule['alert']}`" in runbook


def test_no_progress_says_after_how_long_it_fires() -> None:
    """A step leaves the window first, and only then does the wait begin; a series that begins without a step only waits."""
    (rule,) = [rule for rule in RULES if rule["alert"] == "TadscaleNoProgress"]
    (window,) = map(int, re.findall(r"\[(\d+)m\]", rule["expr"]))
    wait = int(rule["for"].removesuffix("m"))
    says = f"for {window + wait} minutes ({wait} where a stage begins)"
    assert says in rule["annotations"]["summary"]
    assert says in (ROOT / "docs/operations.md").read_text()


def test_what_a_summary_names_is_left_by_its_expression() -> None:
    kept: dict[str, set[str]] = {
        rule["alert"]: {label for name in metrics(rule["expr"]) for label in (OURS | KUBE_STATE).get(name, set())}
        for rule in RULES
    }
    for rule in RULES:
        named = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
        aggregated = re.match(r"max by \(([^)]*)\)", rule["expr"])
        left = set(re.split(r", *", aggregated[1])) if aggregated else kept[rule["alert"]]
        assert named <= left, rule["alert"]


def test_cron_missed_waits_as_long_as_the_cronjob_may_be_late() -> None:
    cron: dict[str, Any] = find(PLACE, "CronJob", "retrain")
    (rule,) = [rule for rule in RULES if rule["alert"] == "TadscaleRetrainMissed"]
    assert f"> {cron['spec']['startingDeadlineSeconds']}" in rule["expr"]
    for rule in RULES:
        for name in re.findall(r'cronjob="(\w+)"', rule["expr"]):
            assert name == cron["metadata"]["name"]


def test_prometheus_finds_every_exporter() -> None:
    spec = find(PLACE, "PodMonitor", "ray")["spec"]
    (endpoint,) = spec["podMetricsEndpoints"]
    (expression,) = spec["selector"]["matchExpressions"]
    for role, pod in pods(PLACE).items():
        ports = {port["name"]: port["containerPort"] for port in pod.spec["containers"][0].get("ports", [])}
        assert (endpoint["port"] in ports) == (pod.labels["tadscale-role"] in expression["values"]), role
        assert ports.get(endpoint["port"], 8080) == 8080  # the port that KubeRay lets Ray export on
    interval_s = int(endpoint["interval"].removesuffix("s"))
    assert interval_s < 15 < rayjob(PLACE)["spec"]["ttlSecondsAfterFinished"]  # the last figures of a job stay for 15 s


def test_grafana_finds_the_dashboard() -> None:
    held = find(PLACE, "ConfigMap", "tadscale-dashboard")
    assert held["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(held["data"]["dashboard.json"]) == BOARD
