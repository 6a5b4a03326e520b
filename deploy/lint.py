"""Checks Kubernetes objects against the API's schemas, PromQL expressions, and that every metric named is one that the code has."""

import json
import pathlib
import re
import sys

import kubernetes_validate
import promql_parser
import yaml

KUBERNETES = "1.33"
ROOT = pathlib.Path(__file__).resolve().parent.parent


def objects(path):
    """Those of Kubernetes itself are checked; those of the operators have schemas of their own, which are not here."""
    checked = foreign = 0
    for document in yaml.safe_load_all(pathlib.Path(path).read_text()):
        if re.search(r"\.(strimzi\.io|cnpg\.io)/", "." + document["apiVersion"]):
            foreign += 1
            continue
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
        checked += 1
    print(f"{checked} Kubernetes objects fit the API of {KUBERNETES}; {foreign} of operators are not checked")


def expressions():
    alerts = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())
    for group in alerts["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    dashboard = json.loads((ROOT / "deploy/grafana/dashboards/loyalty.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


def metrics():
    sources = [path.read_text() for crate in ("*", "*/*") for path in ROOT.glob(f"{crate}/src/**/*.rs")]
    return {name for text in sources for name in re.findall(r'"(loyalty_[a-z_]+)"', text)}


def main():
    objects(sys.argv[1])
    known = metrics()
    count = 0
    for name, expression in expressions():
        promql_parser.parse(expression)
        for metric in re.findall(r"loyalty_[a-z_]+", expression):
            if metric.removesuffix("_bucket") not in known:
                sys.exit(f"{name}: the code has no metric {metric}")
        count += 1
    print(f"{count} PromQL expressions parse and name metrics that the code has")


main()
