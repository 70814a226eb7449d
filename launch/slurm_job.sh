#!/usr/bin/env bash
# The batch script that slurm.sh submits, in the folder of the repository:
#
#     slurm_job.sh NUM_SHARDS HOST_FLAGS... -- MAIN JOB'S FLAGS
#
# Runs one process for each task, and puts the job back into the queue where it has saved and is to go on.
set -euo pipefail

num_shards=$1 job=$SLURM_JOB_ID
shift
if ((num_shards > 0)); then
  set -- "$@" "--shard=$SLURM_ARRAY_TASK_ID/$num_shards"
  job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID # SLURM_JOB_ID may stand for the whole array
fi
# Preemption tells this script as well; it waits for the processes, which save.
trap : TERM
# srun does not take this from the job by itself.
export SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-1}"
status=0
# The first process to have saved must not take the others with it.
srun --kill-on-bad-exit=0 launch/host.sh "$@" || status=$?
if ((status == 75)); then
  echo "job $job has saved and goes back into the queue" >&2
  # After a preemption Slurm has done so already.
  scontrol requeue "$job" || true
fi
exit "$status"
