#!/usr/bin/env bash
# The consumer's side for real: a fresh virtual environment with the model's own requirements.txt and nothing else (no
# tadscale, no Ray, no DeepSpeed), in which the exported model must give the detections that the training side gives.
# Takes minutes (it installs torch and MLflow), so it stands beside the test suite. Run it from the repository root:
#
#     PYTHON=.venv/bin/python tests/serving/consumer_venv.sh
set -euo pipefail

python=${PYTHON:-python}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$python" -m tests.serving.consumer_case write "$work"
"$python" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --requirement "$work/model/requirements.txt"
cp tests/serving/consumer_check.py "$work"
cd "$work"
venv/bin/python -I consumer_check.py
