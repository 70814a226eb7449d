#!/usr/bin/env bash
# Runs the main job by SkyPilot, on whichever cloud has the machines, as the managed job of launch/sky.yaml.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage='launch/sky.sh [run] [--gpus=A100-80GB:8] [--num_nodes=2] [--flag=value ...] -- MAIN JOB'"'"'S FLAGS

Launches the managed job, unless one of that name is going on, and follows its log. SkyPilot starts it again, on other
machines if need be, when it was told to stop (exit status 75) or its machines were taken away.

run      all of it              logs     follows it
stop     cancels it             status   of all managed jobs'
flag NAME selw2s "of the managed job"
flag GPUS A100-80GB:8 "accelerators of each machine, in SkyPilot's names"
flag NUM_NODES 1 "machines of the run"
flag CAPACITY spot "spot or on-demand"
flag INFRA "" "where: gcp/us-central1, aws, k8s, ...; empty: the cheapest"
flag ACCELERATOR a100 "whose XLA flags: a100, h100, h200, tpu-v5e, ..., none"
flag EXTRAS gpu,gs "extras of the package: gpu or tpu, and gs for gs://"
flag ENV_FILE "" "file of NAME=VALUE lines for the job's environment"
parse "$usage" "run logs stop status" "$@"
require NAME GPUS CAPACITY ACCELERATOR EXTRAS
require_number NUM_NODES
case $CAPACITY in
  spot) spot=--use-spot ;;
  on-demand) spot=--no-use-spot ;;
  *) die "--capacity=$CAPACITY must be spot or on-demand" ;;
esac
require_command sky "pip install 'skypilot[gcp]' (or another cloud), then sky check"

launch() {
  require_lasting_workdir
  if query sky jobs queue --skip-finished | grep --quiet --word-regexp --fixed-strings -e " $NAME "; then
    say "$NAME: going on already"
    return
  fi
  local options=(
    "--name=$NAME" "--gpus=$GPUS" "--num-nodes=$NUM_NODES" "$spot" "--workdir=$ROOT"
    --env "SELW2S_ARGUMENTS=$(quoted "${MAIN_ARGUMENTS[@]}")"
    --env "SELW2S_ACCELERATOR=$ACCELERATOR" --env "SELW2S_EXTRAS=$EXTRAS"
  )
  [[ -z $INFRA ]] || options+=("--infra=$INFRA")
  [[ -z $ENV_FILE ]] || options+=("--env-file=$ENV_FILE")
  run sky jobs launch --yes --detach-run "${options[@]}" "$ROOT/launch/sky.yaml"
}

follow() { run sky jobs logs --follow "--name=$NAME"; }

case $ACTION in
  run)
    launch
    follow
    ;;
  logs) follow ;;
  stop) run sky jobs cancel --yes "--name=$NAME" ;;
  status) run sky jobs queue ;;
esac
