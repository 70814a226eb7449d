#!/usr/bin/env bash
# Runs the main job on a Cloud TPU, made for it: a TPU VM, or a queued resource where capacity is short.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage='launch/tpu_vm.sh [run] --name=NAME --zone=ZONE --project=PROJECT --accelerator_type=v5p-8 -- MAIN JOB'"'"'S FLAGS

Makes the TPU if it is not there, installs the package on all its hosts, starts the main job and shows its log; starts
it again when it was told to stop (exit status 75), on a new TPU when the old one was taken away. Ends as the job does.
Any step may be repeated: what exists is kept, what runs is followed.

run      all of it; the TPU stays (--delete_after takes it down once the job has ended well)
create   makes it and waits until it is ready        install  brings the code as it is here, and its libraries
start    starts the job on all hosts                 logs     follows it
stop     tells it to save and stop                   status   state of the TPU
delete   takes it down; the workdir is elsewhere and stays'
flag NAME selw2s "of the TPU, and of its queued resource"
flag ZONE "" "Google Cloud zone, such as us-east5-a"
flag PROJECT "" "Google Cloud project"
flag ACCELERATOR_TYPE "" "v4-32, v5litepod-16, v5p-8, v6e-16, ..."
flag RUNTIME_VERSION "" "software of the TPU VM; empty: the one for its generation"
flag CAPACITY on-demand "on-demand, spot or reserved"
flag QUEUED false "ask by a queued resource, which waits until there is one"
flag SERVICE_ACCOUNT "" "the TPU runs as it; empty: the project's default"
flag ENV_FILE "" "file of NAME=VALUE lines for the job's environment; copied to the hosts, readable by you alone"
flag FOLDER selw2s_jax "folder of the code on the hosts, in the home folder"
flag PYTHON .venv/bin/python "interpreter on the hosts, within that folder"
flag POLL_SECONDS 30 "between looks at the TPU's state"
flag MAX_RESTARTS 100 "how often the job is started again"
flag DELETE_AFTER false "delete the TPU once the job has ended well"
parse "$usage" "run create install start logs stop status delete" "$@"
require NAME ZONE PROJECT ACCELERATOR_TYPE CAPACITY FOLDER PYTHON
require_number POLL_SECONDS MAX_RESTARTS
case $CAPACITY in on-demand | spot | reserved) ;; *) die "--capacity=$CAPACITY must be on-demand, spot or reserved" ;; esac
case $ACTION in run | start) require_lasting_workdir ;; esac
require_command gcloud "install the Google Cloud CLI and log in"

case $ACCELERATOR_TYPE in
  v4-*) generation=tpu-v4 default_version=tpu-ubuntu2204-base ;;
  v5litepod-*) generation=tpu-v5e default_version=v2-alpha-tpuv5-lite ;;
  v5p-*) generation=tpu-v5p default_version=v2-alpha-tpuv5 ;;
  v6e-*) generation=tpu-v6e default_version=v2-alpha-tpuv6e ;;
  *) die "--accelerator_type=$ACCELERATOR_TYPE must start with v4-, v5litepod-, v5p- or v6e-" ;;
esac
: "${RUNTIME_VERSION:=$default_version}"
place=("--zone=$ZONE" "--project=$PROJECT")
restarts=0

tpu() { run gcloud compute tpus "$@" "${place[@]}" --quiet; }

state_of() { query gcloud compute tpus "$1" describe "$NAME" "${place[@]}" "--format=value($2)"; }

# READY once the job can run there; empty where there is none.
tpu_state() { state_of tpu-vm state; }

# ACTIVE, WAITING_FOR_RESOURCES, SUSPENDED, ...
queue_state() { state_of queued-resources state.state; }

create() {
  local options=("--accelerator-type=$ACCELERATOR_TYPE")
  case $CAPACITY in spot | reserved) options+=("--$CAPACITY") ;; esac
  [[ -z $SERVICE_ACCOUNT ]] || options+=("--service-account=$SERVICE_ACCOUNT")
  if [[ $QUEUED == true ]]; then
    tpu queued-resources create "$NAME" --node-id="$NAME" --runtime-version="$RUNTIME_VERSION" "${options[@]}" --async
  else
    tpu tpu-vm create "$NAME" --version="$RUNTIME_VERSION" "${options[@]}"
  fi
}

delete() {
  if [[ $QUEUED == true ]]; then
    tpu queued-resources delete "$NAME" --force # with its TPU VM
  else
    tpu tpu-vm delete "$NAME"
  fi
}

# Makes the TPU, unless it is there; one that was taken away is deleted first.
ensure_ready() {
  local state shown=none
  while true; do
    if [[ $QUEUED == true ]]; then
      state=$(queue_state)
      [[ $state != ACTIVE ]] || state="ACTIVE, $(tpu_state)"
    else
      state=$(tpu_state)
    fi
    [[ $state == "$shown" || $DRY_RUN == true ]] || say "$NAME: ${state:-not there}"
    shown=$state
    case ${state#ACTIVE, } in
      READY) return ;;
      PREEMPTED | TERMINATED | STOPPED | SUSPENDED) delete || true ;;
      FAILED) die "$NAME: the request failed; gcloud compute tpus queued-resources describe $NAME says why, delete removes it" ;;
      "")
        if [[ -z $state ]] && ! create; then
          # At the start there is someone to read why; later, capacity may come back.
          ((restarts > 0)) || die "$NAME could not be made; try --queued, another --zone or another --capacity"
        fi
        [[ $DRY_RUN == false ]] || return 0
        ;;
    esac
    sleep "$POLL_SECONDS"
  done
}

on_all_hosts() { tpu tpu-vm ssh "$NAME" --worker=all --command="$1"; }

is_running() {
  [[ $DRY_RUN == false ]] && on_all_hosts "cd $FOLDER && launch/background.sh is_running run" >/dev/null 2>&1
}

install() {
  local package status=0 unpack="mkdir -p $FOLDER && tar -xzf selw2s_jax.tar.gz -C $FOLDER"
  package=$(mktemp -d)
  {
    run tar --create --gzip --file="$package/selw2s_jax.tar.gz" --exclude=__pycache__ --directory="$ROOT" \
      README.md pyproject.toml constraints.txt selw2s_jax configs launch &&
      tpu tpu-vm scp "$package/selw2s_jax.tar.gz" "$NAME:" --worker=all &&
      on_all_hosts "$unpack && cd $FOLDER && launch/install.sh tpu,gs"
  } || status=$?
  rm -rf "$package"
  return "$status"
}

start() {
  local host=(launch/host.sh "--accelerator=$generation" "--python=$PYTHON")
  if [[ -n $ENV_FILE ]]; then
    # Nobody else may read it, not for a moment: a file that is there keeps its permissions when it is copied over.
    on_all_hosts "rm -f selw2s_jax.env && (umask 077 && : >selw2s_jax.env)" || return
    tpu tpu-vm scp "$ENV_FILE" "$NAME:selw2s_jax.env" --worker=all || return
    on_all_hosts "chmod 600 selw2s_jax.env && mv selw2s_jax.env $FOLDER/run.env" || return
    host+=(--env_file=run.env)
  fi
  # The hosts of one TPU are one run, and JAX finds the others by itself.
  [[ " ${MAIN_ARGUMENTS[*]} " == *" --distributed="* ]] || MAIN_ARGUMENTS+=(--distributed=on)
  on_all_hosts "cd $FOLDER && launch/background.sh start run $(quoted "${host[@]}" -- "${MAIN_ARGUMENTS[@]}")"
}

follow() { on_all_hosts "cd $FOLDER && launch/background.sh follow run"; }

run_until_it_ends() {
  local status
  while true; do
    status=0
    ensure_ready
    { is_running || { install && start; }; } && follow || status=$?
    [[ $DRY_RUN == false && $status != 0 ]] || break
    # With the TPU still there it is the job's own failure, or that of its libraries; 255 is ssh's.
    if ((status != EXIT_SAVED && status != 255)) && [[ $(tpu_state) == READY ]]; then break; fi
    restarts=$((restarts + 1))
    ((restarts <= MAX_RESTARTS)) || die "$NAME: given up after $MAX_RESTARTS restarts (--max_restarts)"
    say "$NAME: ended with status $status; going on, restart $restarts"
    sleep "$POLL_SECONDS"
  done
  if ((status == 0)) && [[ $DELETE_AFTER == true ]]; then delete; fi
  return "$status"
}

case $ACTION in
  run) run_until_it_ends ;;
  create) ensure_ready ;;
  install) install ;;
  start) start ;;
  logs) follow ;;
  stop) on_all_hosts "cd $FOLDER && launch/background.sh stop run" ;;
  status)
    echo "$NAME: $(tpu_state)"
    if [[ $QUEUED == true ]]; then echo "queued resource $NAME: $(queue_state)"; fi
    ;;
  delete) if [[ $DRY_RUN == true || -n $(tpu_state)$(queue_state) ]]; then delete; else say "$NAME: not there"; fi ;;
esac
