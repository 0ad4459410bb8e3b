# Shared by supervise.sh and train.sbatch: where a run is, how it stands, and how a request to stop reaches it. Sourced after lib.sh;
# $home is the project's folder, $me the name for messages.
# shellcheck shell=bash disable=SC2034,SC2154

note() { printf '%s: %s %s\n' "$me" "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$*"; }

# A mistake of the user's.
refuse() {
  printf '%s: %s\n' "$me" "$*" >&2
  exit 2
}

# whole_number NAME VALUE LEAST
whole_number() {
  if ! [[ $2 =~ ^[0-9]{1,9}$ ]] || [ "$2" -lt "$3" ]; then
    refuse "$1 = '$2' is not a whole number from $3 on"
  fi
}

# Sets $train, the program, and $run, the run folder that the config and the assignments name. A mistake in them ends the script here.
find_run() {
  local folder=${PSANN_PROGRAMS:-}
  if [ -z "$folder" ]; then
    case $build in
      /*) folder=$build/src/programs ;;
      *) folder=$home/$build/src/programs ;;
    esac
    [ -x "$folder/psann_train" ] || folder=$(dirname "$(command -v psann_train || echo "$folder/psann_train")")
  fi
  train=$folder/psann_train
  [ -x "$train" ] || refuse "there is no psann_train in '$folder': build it (launch/install.sh), or set PSANN_PROGRAMS"
  run=$("$train" --value run.dir "$@") || exit 2
}

# mark KEY: a value of the run's status.ini; nothing when there is none.
mark() { sed -n "s/^$1 = //p" "$run/status.ini" 2>/dev/null; }

# Changes whenever status.ini is written.
mark_identity() { stat -c '%i %y' "$run/status.ini" 2>/dev/null; }

# The step of the newest checkpoint; 0 without one.
newest_step() {
  local step
  step=$(sed -n 's/^step_0*\([0-9][0-9]*\)\.h5$/\1/p' "$run/checkpoints/latest" 2>/dev/null)
  echo "${step:-0}"
}

# Ranks of psann_train below a process on this machine.
ranks_below() {
  local next
  for next in $(cat "/proc/$1/task/"*/children 2>/dev/null); do
    if [ "$(cat "/proc/$next/comm" 2>/dev/null)" = psann_train ]; then
      echo "$next"
    else
      ranks_below "$next"
    fi
  done
}

# One rank that knows is enough. The launcher is told where none is below it: srun passes SIGUSR1 on, and so do some mpiruns, but not all.
ask_child() {
  local ranks
  ranks=$(ranks_below "$child")
  # shellcheck disable=SC2086
  kill -USR1 ${ranks:-$child} 2>/dev/null
}

# Signals that ask for an end set $asked and reach the ranks of $child, a process in the background, as SIGUSR1.
asked=''
child=''
longest_alone=20 # seconds
on_signal() {
  asked=$1
  [ -z "$child" ] || ask_child
}
catch_signals() {
  local name
  for name in INT TERM HUP USR1; do
    # shellcheck disable=SC2064
    trap "on_signal $name" "$name"
  done
}

# sleep, which a signal ends.
pause() {
  sleep "$1" &
  wait $!
}

# Until $child has ended; its exit code goes to $code. A request to stop is sent again, since the first one may come before the child is
# ready for it. mpirun now and then stays behind when a rank dies while it starts: once its processes are gone for good, it is ended.
await_child() {
  local seconds=0 had_children='' alone=0
  while kill -0 "$child" 2>/dev/null; do
    pause 1
    seconds=$((seconds + 1))
    if [ -n "$asked" ] && [ $((seconds % 5)) = 0 ]; then
      ask_child
    fi
    alone=$((alone + 1))
    if [ -n "$(cat "/proc/$child/task/"*/children 2>/dev/null)" ]; then
      had_children=yes
      alone=0
    fi
    if [ -n "$had_children" ] && [ "$alone" -ge "$longest_alone" ] && kill -0 "$child" 2>/dev/null; then
      note "process $child has had none of its own for $alone s and does not end: it is killed"
      kill -KILL "$child"
    fi
  done
  wait "$child"
  code=$?
  child=''
}
