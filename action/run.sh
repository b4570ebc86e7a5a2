#!/usr/bin/env bash
# Last part of a step: takes the event and drives the run. Inputs come as DEVFLOW_INPUT_... variables.
set -euo pipefail

# What the runner's own services are spoken to with is nothing that this program needs.
for name in "${!ACTIONS_@}"; do
  unset "$name"
done
unset PYTHONHOME PYTHONSTARTUP PYTHONINSPECT
export PYTHONPATH="$DEVFLOW_ACTION"
# One stream, so that the order of lines is kept: some of them are commands to the runner.
exec "$DEVFLOW_VENV/bin/python" -u -P -m app.cli action 2>&1
