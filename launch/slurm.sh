#!/usr/bin/env bash
# Submits the main job to Slurm: one node, several nodes as one run, or an array of shards of one sweep.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage='launch/slurm.sh [run] [--nodes=2] [--partition=NAME] [--flag=value ...] -- MAIN JOB'"'"'S FLAGS

Submits launch/slurm_job.sh, unless a job of that name is in the queue. The job is told to stop before its time is over,
saves, and puts itself into the queue again (exit status 75), until it has ended. The workdir must be on a file system
that all nodes see, as must the folder of this script.

run      submits it
stop     tells it to save and stop; it goes back into the queue, unless it is cancelled: scancel --name=NAME
status   its lines of the queue'
flag NAME selw2s "of the job"
flag NODES 1 "nodes of one run"
flag GPUS_PER_NODE 8 "GPUs of each node"
flag TASKS_PER_NODE "" "processes of each node; empty: one for each GPU, which several nodes need"
flag CPUS_PER_TASK 8 "CPU cores of each process"
flag TIME 24:00:00 "time limit of each start"
flag SIGNAL_SECONDS 300 "how long before that limit it is told to save"
flag NUM_SHARDS 0 "divide a sweep over an array of so many jobs, each with --nodes nodes"
flag PARTITION "" "Slurm partition; empty: the default one"
flag ACCOUNT "" "Slurm account; empty: the default one"
flag SBATCH_FLAGS "" "further flags of sbatch, divided by spaces: --sbatch_flags='--qos=high --constraint=a100-80gb'"
flag ACCELERATOR a100 "whose XLA flags: a100, h100, h200, cpu, none"
flag ENV_FILE "" "file of NAME=VALUE lines for the job's environment; the job reads it, so keep it where nodes see it"
flag PYTHON python "interpreter on the nodes that has selw2s_jax"
parse "$usage" "run stop status" "$@"
require NAME TIME ACCELERATOR PYTHON
require_number NODES GPUS_PER_NODE CPUS_PER_TASK SIGNAL_SECONDS NUM_SHARDS
: "${TASKS_PER_NODE:=$GPUS_PER_NODE}"
require_number TASKS_PER_NODE
((NODES == 1 || TASKS_PER_NODE == GPUS_PER_NODE)) ||
  die "--tasks_per_node=$TASKS_PER_NODE must be --gpus_per_node=$GPUS_PER_NODE: on several nodes JAX gives each task one GPU"
require_command sbatch "run this on a login node of the cluster"

submit() {
  local job
  require_main_arguments
  if ((NUM_SHARDS > 0)) && [[ " ${MAIN_ARGUMENTS[*]} " == *" --shard="* ]]; then
    die "--num_shards=$NUM_SHARDS gives each job its --shard; leave --shard out"
  fi
  job=$(query squeue --me --noheader --name="$NAME" --format=%i | sort -u | head -n 1)
  if [[ -n $job ]]; then
    say "$NAME: job $job is in the queue already"
    return
  fi
  local options=(
    --parsable "--job-name=$NAME" "--chdir=$ROOT" "--nodes=$NODES" "--ntasks-per-node=$TASKS_PER_NODE"
    "--cpus-per-task=$CPUS_PER_TASK" "--gpus-per-node=$GPUS_PER_NODE" "--time=$TIME"
    # To the processes, not to the script that waits for them.
    "--signal=TERM@$SIGNAL_SECONDS"
    # A preempted job, too, comes back, and its log goes on.
    --requeue --open-mode=append
  )
  if ((NUM_SHARDS > 0)); then
    options+=("--array=0-$((NUM_SHARDS - 1))" "--output=$NAME-%A_%a.log")
  else
    options+=("--output=$NAME-%j.log")
  fi
  [[ -z $PARTITION ]] || options+=("--partition=$PARTITION")
  [[ -z $ACCOUNT ]] || options+=("--account=$ACCOUNT")
  # shellcheck disable=SC2206  # several words
  [[ -z $SBATCH_FLAGS ]] || options+=($SBATCH_FLAGS)
  local host=("--accelerator=$ACCELERATOR" "--python=$PYTHON")
  [[ -z $ENV_FILE ]] || host+=("--env_file=$(cd "$(dirname "$ENV_FILE")" && pwd)/$(basename "$ENV_FILE")")
  run sbatch "${options[@]}" "$ROOT/launch/slurm_job.sh" "$NUM_SHARDS" "${host[@]}" -- "${MAIN_ARGUMENTS[@]}"
}

case $ACTION in
  run) submit ;;
  stop) run scancel --me "--name=$NAME" --signal=TERM ;;
  status) run squeue --me "--name=$NAME" ;;
esac
