#!/usr/bin/env bash
# What sky.yaml runs on each machine, in the folder of the repository.
set -euo pipefail

eval "set -- ${SELW2S_ARGUMENTS:?}"
if ((SKYPILOT_NUM_NODES > 1)); then
  read -r first_node <<<"$SKYPILOT_NODE_IPS"
  set -- "$@" "--coordinator_address=$first_node:8476" "--num_processes=$SKYPILOT_NUM_NODES" \
    "--process_id=$SKYPILOT_NODE_RANK"
fi
exec launch/host.sh "--python=${SELW2S_PYTHON:-.venv/bin/python}" -- "$@"
