#!/usr/bin/env bash
# Installs the package on a rented machine into .venv beside its code; does nothing where that is done already.
#
#     launch/install.sh tpu,gs
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

extras=${1:?give the extras: tpu,gs or gpu,gs}
wanted="$extras $(cat pyproject.toml constraints.txt | sha256sum)"
if [[ -f .venv/.installed && $(<.venv/.installed) == "$wanted" ]]; then
  echo "installed already" >&2
  exit
fi
# uv brings a Python of its own: images of TPU VMs come with 3.10.
python3 -m pip install --quiet --user uv
python3 -m uv venv --quiet --allow-existing --python 3.11 .venv
python3 -m uv pip install --quiet --python .venv/bin/python --constraint constraints.txt --editable ".[$extras]"
echo "$wanted" >.venv/.installed
