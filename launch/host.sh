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

command=("$PYTHON" -m selw2s_jax.main "${MAIN_ARGUMENTS[@]}") flags_for=$ACCELERATOR
[[ -z $ENV_FILE ]] || read_env_file "$ENV_FILE"
if [[ $DRY_RUN == true ]]; then
  set_xla_flags "$flags_for"
  run "${command[@]}"
  exit
fi
# Last, as the file may name variables of this script.
[[ -z $ENV_FILE ]] || export_env
set_xla_flags "$flags_for"
exec "${command[@]}"
