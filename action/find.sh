#!/usr/bin/env bash
# First part of a step: finds a Python, and says where its environment is to be and whether that is there already.
# Writes the outputs python, venv, key and ready.
set -euo pipefail

fits() {
  "$1" -I -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

if [ -n "${DEVFLOW_WANTED_PYTHON:-}" ]; then
  candidates=("$DEVFLOW_WANTED_PYTHON")
else
  candidates=(python3 python3.14 python3.13 python3.12 python3.11)
fi
python=""
for name in "${candidates[@]}"; do
  if found="$(command -v -- "$name")" && fits "$found"; then
    python="$found"
    break
  fi
done
if [ -z "$python" ]; then
  if [ -n "${DEVFLOW_WANTED_PYTHON:-}" ]; then
    echo "::error title=Devflow: python::The input python names no Python of 3.11 or later with its venv module."
  else
    echo "::error title=Devflow: python::There is no Python of 3.11 or later with its venv module on the path. Use runs-on: ubuntu-24.04, or actions/setup-python before this step, or name one by the input python."
  fi
  exit 1
fi
if [ "$(uname -s)" != Linux ]; then
  echo "::error title=Devflow: platform_unsupported::Devflow runs on Linux; use runs-on: ubuntu-24.04."
  exit 1
fi

# The program itself: a shim of a version manager asks the current folder, which is a checkout, what it is to be.
python="$("$python" -I -c 'import sys; print(sys.executable)')"
# The folder is not below the runner's temporary one: runners that live on keep it for their next job.
folder="${HOME:-/tmp}/.cache/devflow"
about="$("$python" -I -c 'import os, platform, sys; print(os.path.realpath(sys.executable), sys.version, platform.machine())')"
# Everything that an environment depends on: what is installed, by which Python, for which machine, at which place.
key="$(printf '%s\n' "$about" "$folder" | cat - "$DEVFLOW_ACTION/requirements/runtime.txt" | sha256sum | cut -c 1-32)"
venv="$folder/venv-$key"
ready=false
if [ -f "$venv/complete" ]; then
  ready=true
fi
{
  echo "python=$python"
  echo "venv=$venv"
  echo "key=devflow-$key"
  echo "ready=$ready"
} >> "$GITHUB_OUTPUT"
