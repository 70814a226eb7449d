#!/usr/bin/env bash
# Runs on every host, whoever started it: environment, XLA flags, then the main job in this very process, so that
# signals reach it.
#
#     launch/host.sh --accelerator=a100 [--env_file=FILE] -- --config=configs/qwen.py --workdir=PLACE
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source-path=SCRIPTDIR source=xla_flags.sh
. "$ROOT/launch/xla_flags.sh"

flag ACCELERATOR none "whose XLA flags (launch/xla_flags.sh): a100, h100, h200, tpu-v4, tpu-v5e, tpu-v5p, tpu-v6e, cpu, none"
flag ENV_FILE "" "file of NAME=VALUE lines to put into the environment, for tokens and overrides"
flag PYTHON python "interpreter that has selw2s_jax"
parse "launch/host.sh [--flag=value ...] -- MAIN JOB'S FLAGS" run "$@"
require ACCELERATOR PYTHON

# Before the file, which may name variables of this script.
command=("$PYTHON" -m selw2s_jax.main "${MAIN_ARGUMENTS[@]}") accelerator=$ACCELERATOR start=exec
[[ $DRY_RUN == false ]] || start=run
if [[ -n $ENV_FILE ]]; then
  read_env_file "$ENV_FILE"
  export_env
fi
set_xla_flags "$accelerator"
"$start" "${command[@]}"
