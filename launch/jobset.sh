#!/usr/bin/env bash
# Runs the main job on Kubernetes, as a JobSet made from launch/jobset.yaml.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage='launch/jobset.sh [run] --image=IMAGE [--hosts=2] [--flag=value ...] -- MAIN JOB'"'"'S FLAGS

Makes the JobSet if it is not there and shows the log of its first host until it ends. Kubernetes starts it again when
it was told to stop or its nodes were taken away; an error of the user'"'"'s ends it. IMAGE is one of launch/Dockerfile.

run      all of it                                   manifest  prints what would be applied
logs     follows it until it ends                    status    of the JobSet
delete   takes it down; its pods are told to save'
flag NAME selw2s "of the JobSet"
flag NAMESPACE default "Kubernetes namespace"
flag IMAGE "" "container image, made from launch/Dockerfile"
flag ACCELERATOR a100 "a100, h100, h200, tpu-v4, tpu-v5e, tpu-v5p, tpu-v6e or cpu"
flag HOSTS 1 "pods of the run, one for each node or TPU host"
flag CHIPS_PER_HOST 8 "GPUs of each pod, or TPU chips (4 but for some v5e and v6e), or CPU cores"
flag NODE_SELECTOR "" "labels of the nodes: cloud.google.com/gke-accelerator=nvidia-a100-80gb,cloud.google.com/gke-spot=true"
flag VOLUME_CLAIM "" "PersistentVolumeClaim to mount at /workdir; empty: the workdir is on gs://"
flag SERVICE_ACCOUNT default "Kubernetes service account, which may write to the workdir"
flag ENV_FILE "" "file of NAME=VALUE lines for the job's environment; becomes the secret NAME-env"
flag GRACE_SECONDS 300 "time to save between SIGTERM and SIGKILL; on spot machines the cloud gives less"
flag MAX_RESTARTS 10 "restarts after failures that are neither of these"
flag PORT 8476 "where the pods of a GPU run find each other"
flag POLL_SECONDS 10 "between looks at the JobSet's state"
parse "$usage" "run manifest logs status delete" "$@"
require NAME NAMESPACE ACCELERATOR SERVICE_ACCOUNT
require_number HOSTS CHIPS_PER_HOST GRACE_SECONDS MAX_RESTARTS PORT POLL_SECONDS
case $ACTION in
  run | manifest)
    require IMAGE
    require_lasting_workdir
    ;;
esac
[[ $ACTION == manifest ]] || require_command kubectl "install it and choose the cluster's context"
case $ACCELERATOR in
  tpu-*) resource=google.com/tpu ;;
  cpu) resource=cpu ;;
  *) resource=nvidia.com/gpu ;;
esac

# json WORD...: a list of strings, which is YAML too.
json() {
  local word comma=""
  printf '['
  for word in "$@"; do
    word=${word//\\/\\\\}
    printf '%s"%s"' "$comma" "${word//\"/\\\"}"
    comma=", "
  done
  printf ']'
}

# {"a": "b", "c": "d"} for a=b,c=d
json_labels() {
  local label all comma=""
  IFS=, read -r -a all <<<"$1"
  printf '{'
  for label in ${all[@]+"${all[@]}"}; do
    [[ $label == ?*=* ]] || die "--node_selector=$1 must be label=value,label=value"
    printf '%s"%s": "%s"' "$comma" "${label%%=*}" "${label#*=}"
    comma=", "
  done
  printf '}'
}

kubectl=(kubectl "--namespace=$NAMESPACE")
labels=$(json_labels "$NODE_SELECTOR")

# fill NAME VALUE: in the text of the caller.
fill() { text=${text//@$1@/"$2"}; }

manifest() {
  local arguments=("--accelerator=$ACCELERATOR" -- "${MAIN_ARGUMENTS[@]}") env_from="[]" text
  if [[ $resource == google.com/tpu ]]; then
    # The cluster tells the pods of a TPU about each other.
    [[ " ${arguments[*]} " == *" --distributed="* ]] || arguments+=(--distributed=on)
  elif ((HOSTS > 1)); then
    # shellcheck disable=SC2016  # Kubernetes expands it
    arguments+=("--coordinator_address=$NAME-hosts-0-0.$NAME:$PORT" "--num_processes=$HOSTS"
      '--process_id=$(JOB_COMPLETION_INDEX)')
  fi
  # NCCL shares memory there; a container has 64 MB of it by itself.
  local volumes='{name: shm, emptyDir: {medium: Memory}}' mounts='{name: shm, mountPath: /dev/shm}'
  if [[ -n $VOLUME_CLAIM ]]; then
    volumes+=", {name: workdir, persistentVolumeClaim: {claimName: $VOLUME_CLAIM}}"
    mounts+=", {name: workdir, mountPath: /workdir}"
  fi
  [[ -z $ENV_FILE ]] || env_from="[{secretRef: {name: $NAME-env}}]"
  text=$(<"$ROOT/launch/jobset.yaml")
  fill NAME "$NAME"
  fill NAMESPACE "$NAMESPACE"
  fill MAX_RESTARTS "$MAX_RESTARTS"
  fill HOSTS "$HOSTS"
  fill GRACE_SECONDS "$GRACE_SECONDS"
  fill SERVICE_ACCOUNT "$SERVICE_ACCOUNT"
  fill NODE_SELECTOR "$labels"
  fill VOLUMES "[$volumes]"
  fill VOLUME_MOUNTS "[$mounts]"
  fill IMAGE "$IMAGE"
  fill ENV_FROM "$env_from"
  fill RESOURCE "$resource"
  fill CHIPS_PER_HOST "$CHIPS_PER_HOST"
  fill ARGS "$(json "${arguments[@]}")"
  sed '/^#/d' <<<"$text"
}

create() {
  local text secret=("${kubectl[@]}" create secret generic "$NAME-env" --dry-run=client --output=yaml)
  local apply=("${kubectl[@]}" apply --filename=-)
  text=$(manifest)
  if [[ -n $(query "${kubectl[@]}" get jobset "$NAME" --ignore-not-found --output=name) ]]; then
    say "$NAME: there already"
  elif [[ $DRY_RUN == true ]]; then
    [[ -z $ENV_FILE ]] || echo "$(quoted "${secret[@]}" "--from-env-file=$ENV_FILE") | $(quoted "${apply[@]}")"
    printf "%s <<'END'\n%s\nEND\n" "$(quoted "${apply[@]}")" "$text"
  else
    # As it was read: kubectl would take export for a part of the name and quotes for parts of the value.
    [[ -z $ENV_FILE ]] || env_lines | "${secret[@]}" --from-env-file=/dev/stdin | run "${apply[@]}"
    run "${apply[@]}" <<<"$text"
  fi
}

# Completed or Failed once it has ended.
terminal_state() { query "${kubectl[@]}" get jobset "$NAME" --output='jsonpath={.status.terminalState}'; }

follow() {
  local state
  local pod="jobset.sigs.k8s.io/jobset-name=$NAME,batch.kubernetes.io/job-completion-index=0"
  while true; do
    # Ends with the pod, and fails while there is none.
    run "${kubectl[@]}" logs --follow --tail=-1 "--selector=$pod" || true
    state=$(terminal_state)
    [[ $DRY_RUN == false ]] || return 0
    case $state in
      Completed) return 0 ;;
      Failed)
        say "$NAME: failed; kubectl --namespace=$NAMESPACE describe jobset $NAME"
        return 1
        ;;
    esac
    sleep "$POLL_SECONDS"
  done
}

case $ACTION in
  run)
    create
    follow
    ;;
  manifest) manifest ;;
  logs) follow ;;
  status) run "${kubectl[@]}" get jobset "$NAME" ;;
  delete) run "${kubectl[@]}" delete jobset "$NAME" --ignore-not-found ;;
esac
