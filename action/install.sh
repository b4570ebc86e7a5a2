#!/usr/bin/env bash
# Second part of a step: installs the pinned requirements, each by its hash, unless the cache has brought them.
# Writes the output installed. Needs DEVFLOW_BASE_PYTHON, DEVFLOW_VENV, DEVFLOW_ACTION.
set -euo pipefail

complete() {
  [ -f "$DEVFLOW_VENV/complete" ] && "$DEVFLOW_VENV/bin/python" -I -c 'import pydantic, sqlalchemy'
}

if complete; then
  exit 0
fi
mkdir -p "$(dirname "$DEVFLOW_VENV")"
# Two jobs of one self-hosted runner's user may come at the same moment.
exec 9> "$DEVFLOW_VENV.lock"
flock 9
if complete; then
  exit 0
fi
echo "::group::Installing Devflow's pinned requirements (kept in the cache for the next time)"
rm -rf "$DEVFLOW_VENV"
if ! "$DEVFLOW_BASE_PYTHON" -I -m venv "$DEVFLOW_VENV"; then
  echo "::error title=Devflow: python::Python cannot make a virtual environment; on Debian and Ubuntu, install python3-venv."
  exit 1
fi
"$DEVFLOW_VENV/bin/python" -I -m pip install --quiet --disable-pip-version-check --no-input --require-hashes \
  --requirement "$DEVFLOW_ACTION/requirements/runtime.txt"
touch "$DEVFLOW_VENV/complete"
echo "::endgroup::"
echo "installed=true" >> "$GITHUB_OUTPUT"
