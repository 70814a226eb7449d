#!/usr/bin/env bash
# A command that outlives the connection which started it; one to a folder, which holds its log and exit status.
#
#     launch/background.sh start FOLDER COMMAND...    starts it, unless it runs
#     launch/background.sh is_running FOLDER          exits 0 if it runs, else 1
#     launch/background.sh follow FOLDER              shows its log until it ends, and exits as it did
#     launch/background.sh stop FOLDER                SIGTERM to it
set -euo pipefail

action=${1:?give start, is_running, follow or stop} folder=${2:?give a folder}
shift 2
mkdir -p "$folder"

# The command holds the lock as long as it runs; after a reboot nobody does, whatever the file of its id says.
is_running() { ! flock --shared --nonblock "$folder/lock" true; }

case $action in
  start)
    exec 9>"$folder/lock"
    if ! flock --nonblock 9; then
      echo "runs already" >&2
      exit
    fi
    rm -f "$folder/status"
    [[ ! -f $folder/log ]] || mv "$folder/log" "$folder/log.previous"
    : >"$folder/log"
    # shellcheck disable=SC2016  # expanded by the inner shell
    setsid bash -c '
      trap : TERM # goes to the command too, as to all of its group; here its status is still to be written
      folder=$1 status=0
      shift
      "$@" || status=$?
      echo "$status" >"$folder/status"
    ' background "$folder" "$@" >>"$folder/log" 2>&1 </dev/null &
    echo $! >"$folder/pid"
    ;;
  is_running) is_running ;;
  follow)
    if [[ ! -f $folder/log ]]; then
      echo "error: nothing was started in $folder" >&2
      exit 2
    fi
    flock --shared "$folder/lock" true >/dev/null 2>&1 & # ends when the command does
    tail --lines=+1 --follow --sleep-interval=0.1 --pid=$! "$folder/log"
    # Without a status it was killed, or the machine was.
    [[ ! -f $folder/status ]] || exit "$(<"$folder/status")"
    exit 137
    ;;
  stop)
    ! is_running || kill -TERM -- "-$(<"$folder/pid")"
    ;;
  *)
    echo "error: '$action' is not start, is_running, follow or stop" >&2
    exit 2
    ;;
esac
