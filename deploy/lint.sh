#!/usr/bin/env bash
# The form of what is deployed: compose file, Kubernetes objects, PromQL, dashboard. Needs Python 3 with venv, and kubectl for the Kubernetes part.
set -euo pipefail
cd "$(dirname "$0")/.."
tools=target/lint
if ! [ -x "$tools/bin/check-jsonschema" ]; then
    python3 -m venv "$tools"
    "$tools/bin/pip" install --quiet --disable-pip-version-check check-jsonschema==0.33.2 kubernetes-validate==1.33.1 promql-parser==0.5.0 pyyaml==6.0.2
fi
"$tools/bin/check-jsonschema" --builtin-schema vendor.compose-spec deploy/compose.yaml
if ! command -v kubectl > /dev/null; then
    echo "kubectl is missing: install it (https://kubernetes.io/docs/tasks/tools/) to check deploy/kubernetes" >&2
    exit 1
fi
kubectl kustomize deploy/kubernetes > "$tools/kubernetes.yaml"
"$tools/bin/python" deploy/lint.py "$tools/kubernetes.yaml"
