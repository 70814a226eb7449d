# shellcheck shell=bash disable=SC2034 # used by the scripts that source this
# What the launch scripts share: options from flags or the environment, dry runs, messages.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
EXIT_SAVED=75 # of the main job: told to stop, saved; the same command goes on
ACTION=""
MAIN_ARGUMENTS=()
_FLAGS=()
_HELP=""
# Some tools end as if nothing had been when they are interrupted.
trap 'say "interrupted; what was started goes on, and the same command follows it"; exit 130' INT
exec 3>&1 # dry runs print there what would be captured

say() { echo "$*" >&2; }

die() {
  echo "error: $*" >&2
  exit 2
}

# flag NAME DEFAULT HELP: the variable NAME, from --name=VALUE, else from $SELW2S_NAME, else DEFAULT.
# Where the default is true or false, --name alone is true.
flag() {
  local from_environment="SELW2S_$1"
  _FLAGS+=("$1")
  printf -v "$1" '%s' "${!from_environment-$2}"
  printf -v "_DEFAULT_$1" '%s' "$2"
  printf -v "_HELP_$1" '%s' "$3${2:+ (default $2)}"
}

_lower() { tr '[:upper:]' '[:lower:]' <<<"$1"; }

# parse USAGE ACTIONS ARGUMENTS...: reads the action, the flags, and after -- what the main job gets.
parse() {
  local usage=$1 actions=$2 argument
  shift 2
  flag DRY_RUN false "print every command and run none; queries count as finding nothing"
  while (($#)); do
    argument=$1
    shift
    case $argument in
      -h | --help)
        _print_help "$usage" "$actions"
        exit
        ;;
      --)
        MAIN_ARGUMENTS=("$@")
        break
        ;;
      --*) _set_flag "${argument#--}" ;;
      *)
        [[ -z $ACTION && " $actions " == *" $argument "* ]] ||
          die "'$argument' is not understood; give one of: $actions, then --name=value, then -- and the main job's flags"
        ACTION=$argument
        ;;
    esac
  done
  : "${ACTION:=${actions%% *}}"
  _check_booleans
}

_set_flag() {
  local option=${1%%=*} variable default
  variable=$(tr '[:lower:]-' '[:upper:]_' <<<"$option")
  [[ " ${_FLAGS[*]} " == *" $variable "* ]] ||
    die "--$option is not known; see --help, and put flags of the main job after --"
  default=_DEFAULT_$variable
  if [[ $1 == *=* ]]; then
    printf -v "$variable" '%s' "${1#*=}"
  elif [[ ${!default} == true || ${!default} == false ]]; then
    printf -v "$variable" true
  else
    die "--$option needs a value: --$option=VALUE"
  fi
}

_check_booleans() {
  local variable default
  for variable in "${_FLAGS[@]}"; do
    default=_DEFAULT_$variable
    case ${!default}-${!variable} in true-true | true-false | false-true | false-false) ;;
      true-* | false-*) die "$(_option "$variable")=${!variable} must be true or false (SELW2S_$variable)" ;;
    esac
  done
}

_option() { echo "--$(_lower "$1")"; }

_print_help() {
  local variable help
  printf '%s\n\nActions (the first is the default): %s\n' "$1" "$2"
  printf 'Each flag may come from the environment instead: --name from SELW2S_NAME. Dashes are as good as underscores.\n\n'
  for variable in "${_FLAGS[@]}"; do
    help=_HELP_$variable
    printf '  %-20s %s\n' "$(_option "$variable")" "${!help}"
  done
}

# require NAME...: each must have a value.
require() {
  local variable option
  for variable in "$@"; do
    [[ -z ${!variable} ]] || continue
    option=$(_option "$variable")
    die "$option is empty; give $option=VALUE or set SELW2S_$variable"
  done
}

# require_number NAME...
require_number() {
  local variable
  require "$@"
  for variable in "$@"; do
    [[ ${!variable} =~ ^(0|[1-9][0-9]*)$ ]] ||
      die "$(_option "$variable")=${!variable} must be a whole number (SELW2S_$variable)"
  done
}

require_main_arguments() {
  local option
  for option in config workdir; do
    [[ " ${MAIN_ARGUMENTS[*]-} " == *" --$option="[!\ ]* ]] ||
      die "--$option is missing among the main job's flags: ... -- --config=configs/qwen.py --workdir=PLACE"
  done
  [[ "${MAIN_ARGUMENTS[*]}" != *$'\n'* ]] || die "a flag of the main job has a line break"
  [[ -z ${ENV_FILE-} ]] || read_env_file "$ENV_FILE"
}

# read_env_file FILE: its variables into ENV_NAMES and ENV_VALUES. Its lines are NAME=VALUE, with export before and quotes
# around the value as in a shell's file, but nothing is expanded. Values are tokens: of a wrong line only the number is told.
read_env_file() {
  local line number=0 where
  local -
  set +x # what a traced shell prints is in the log, too
  ENV_NAMES=() ENV_VALUES=()
  [[ -r $1 && ! -d $1 ]] || die "--env_file=$1 cannot be read (SELW2S_ENV_FILE)"
  [[ -z $(find -L "$1" -maxdepth 0 -perm -004 2>/dev/null) ]] ||
    say "note: everyone on this machine may read $1: chmod 600 $(quoted "$1")"
  while IFS= read -r line || [[ -n $line ]]; do
    where="$1: line $((++number))"
    ((number > 1)) || line=${line#$'\xef\xbb\xbf'} # a byte order mark
    line=${line%$'\r'}
    [[ $line =~ ^[[:blank:]]*(#.*)?$ ]] && continue
    [[ $line =~ ^[[:blank:]]*(export[[:blank:]]+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)$ ]] || die "$where is not NAME=VALUE"
    ENV_NAMES+=("${BASH_REMATCH[2]}")
    _read_value "${BASH_REMATCH[3]}" "$where"
    [[ ! $(declare -p "${ENV_NAMES[-1]}" 2>/dev/null) =~ ^declare\ -[A-Za-z]*r ]] || die "$where sets what no shell lets be set"
  done <"$1"
}

# _read_value TEXT WHERE: the value that a line of an environment file has behind its =.
_read_value() {
  case $1 in
    \"*) [[ $1 =~ ^\"([^\"]*)\"[[:blank:]]*(#.*)?$ ]] || die "$2: its quotes do not close, or text follows them" ;;
    \'*) [[ $1 =~ ^\'([^\']*)\'[[:blank:]]*(#.*)?$ ]] || die "$2: its quotes do not close, or text follows them" ;;
    [[:blank:]]*) die "$2 has a blank behind =; remove it, or put the value in quotes" ;;
    *[[:blank:]]\#*) die "$2 has a comment behind the value; give it a line of its own, or put the value in quotes" ;;
    *) [[ $1 =~ ^(.*[^[:blank:]])?[[:blank:]]*$ ]] ;;
  esac
  ENV_VALUES+=("${BASH_REMATCH[1]}")
}

# export_env: puts what read_env_file read into the environment.
export_env() {
  local _i -
  set +x
  for ((_i = 0; _i < ${#ENV_NAMES[@]}; _i++)); do export "${ENV_NAMES[_i]}=${ENV_VALUES[_i]}"; done
}

# env_lines: what read_env_file read, without export and quotes.
env_lines() {
  local i -
  set +x
  for ((i = 0; i < ${#ENV_NAMES[@]}; i++)); do printf '%s=%s\n' "${ENV_NAMES[i]}" "${ENV_VALUES[i]}"; done
}

# Other hosts have another working directory, and their own disks go with them.
require_lasting_workdir() {
  require_main_arguments
  [[ " ${MAIN_ARGUMENTS[*]} " == *" --workdir="@(gs://|/)* ]] ||
    die "--workdir must be gs://BUCKET/FOLDER or the absolute path of a file system that all hosts mount"
}

# require_command NAME HOW
require_command() {
  [[ $DRY_RUN == true ]] || command -v "$1" >/dev/null || die "$1 is not on PATH; $2"
}

# quoted WORD...: as a shell, here or on another host, reads them.
quoted() {
  local word space=""
  for word in "$@"; do
    [[ -n $word && ! $word =~ [^[:alnum:]_./:=,@%+-] ]] || word="'${word//\'/\'\\\'\'}'"
    printf '%s%s' "$space" "$word"
    space=" "
  done
}

# run COMMAND...: what changes something.
run() {
  if [[ $DRY_RUN == true ]]; then
    quoted "$@"
    echo
  else
    say "+ $(quoted "$@")"
    "$@"
  fi
}

# query COMMAND...: its output, nothing where it fails.
query() {
  if [[ $DRY_RUN == true ]]; then
    quoted "$@" >&3
    echo >&3
  else
    "$@" 2>/dev/null || true
  fi
}
