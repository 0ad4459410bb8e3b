#!/bin/bash
# Keeps a run going: starts psann_train under mpirun, and starts it again when it fails, from the last whole checkpoint.
#
#   launch/supervise.sh CONFIG [section.key=value …]
#
# Ctrl-C, SIGTERM, SIGHUP and SIGUSR1 to this script ask all ranks to save and to end; it then starts nothing again. Exit codes:
#
#   0    the run is finished, or stopped as it was asked to (a signal, run.max_minutes); status.ini in the run folder says which
#   1    PSANN_MAX_FAILURES launches in a row failed and left no newer checkpoint, or a launch failed after it was asked to stop
#   2    a mistake in the config, the data or the settings below: starting again would not mend it
#   130  a second Ctrl-C reached a rank
#
# Settings, from the environment:
#
#   PSANN_RANKS         ranks on this machine; default: one per GPU, and 1 without GPUs
#   PSANN_LAUNCHER      what stands before psann_train in place of mpirun on this machine, for example "mpirun --hostfile hosts -np 16";
#                       it is split at blanks, and must start a rank on this machine, or pass SIGUSR1 on to the ranks, as srun does
#   PSANN_MAX_FAILURES  3
#   PSANN_BACKOFF_S     seconds before a new start, 5; doubled with each failure without a newer checkpoint, up to 300
#   PSANN_LOG           where all output goes besides the console, at the end; default: supervise.log in the run folder; "none": nowhere
#   PSANN_PROGRAMS      the folder of psann_train; default: the build of this project, then PATH
set -uo pipefail
me=$(basename "$0")
home=$(cd "$(dirname "$0")/.." && pwd) || exit 1
# shellcheck source=launch/lib.sh
. "$home/launch/lib.sh"
# shellcheck source=launch/run_lib.sh
. "$home/launch/run_lib.sh"

longest_backoff=300
orphans_end_within=60 # seconds; ranks whose mpirun was killed end by themselves

settings() {
  [ $# -gt 0 ] || refuse "no config is given: $0 CONFIG [section.key=value …]"
  max_failures=${PSANN_MAX_FAILURES:-3}
  first_backoff=${PSANN_BACKOFF_S:-5}
  whole_number PSANN_MAX_FAILURES "$max_failures" 1
  whole_number PSANN_BACKOFF_S "$first_backoff" 0
  find_run "$@"
  local ranks
  if [ -n "${PSANN_LAUNCHER:-}" ]; then
    read -ra launcher <<<"$PSANN_LAUNCHER"
  else
    ranks=${PSANN_RANKS:-$(gpu_count)}
    [ -n "${PSANN_RANKS:-}" ] || [ "$ranks" != 0 ] || ranks=1
    whole_number PSANN_RANKS "$ranks" 1
    read -ra launcher <<<"$(local_mpirun "$ranks")"
  fi
  command -v "${launcher[0]}" >/dev/null || refuse "there is no program '${launcher[0]}' here: install Open MPI, or set PSANN_LAUNCHER"
}

# The console and the log get the same. The copy outlives signals, and a console that goes away.
copy_to_log() {
  copier=''
  [ "${PSANN_LOG:-}" != none ] || return 0
  local log=${PSANN_LOG:-$run/supervise.log}
  if ! mkdir -p "$run" || ! : >>"$log"; then
    refuse "the log '$log' can't be written: choose another place with PSANN_LOG"
  fi
  exec > >(trap '' INT TERM HUP USR1 && exec tee -p -a "$log") 2>&1
  copier=$!
}

# Ends when the last lines are out, and at the latest after five seconds: an orphan may hold on to the console.
finish() {
  local i
  exec >&- 2>&-
  for ((i = 0; i < 50; i++)); do
    if [ -z "$copier" ] || ! kill -0 "$copier"; then
      break
    fi
    sleep 0.1
  done
  exit "$1"
}

# One launch, from start to end, into $code. It has a session of its own, so that Ctrl-C reaches this script alone; and mpirun, which gives
# the ranks one second when it is told to end, does not hear of it if someone signals all processes at once. Until mpirun and the ranks
# are ready for SIGUSR1 they ignore it.
launch() {
  mark_before=$(mark_identity)
  (
    trap '' USR1
    exec env --block-signal=INT,TERM,HUP setsid "${launcher[@]}" env --ignore-signal=USR1 "$train" "$@" </dev/null
  ) &
  child=$!
  await_child
}

# Ends the script unless the launch is one to start again.
end_unless_failed() {
  local state='' # a launcher that ends with 0 though it started nothing leaves the mark of an earlier launch
  [ "$(mark_identity)" = "$mark_before" ] || state=$(mark state)
  if [ "$code" = 0 ] && [ "$state" = finished ]; then
    note "finished at step $(mark step)"
    finish 0
  elif [ "$code" = 0 ] && [ "$state" = stopped ]; then
    note "stopped at step $(mark step) of $(mark max_steps): $(mark reason)"
    finish 0
  elif [ "$code" = 2 ]; then
    note "not started again: the message above says what to change"
    finish 2
  elif [ "$code" = 130 ]; then
    note "ended by a second Ctrl-C"
    finish 130
  elif [ -n "$asked" ]; then
    note "the launch ended with code $code after SIG$asked; newest checkpoint: step $(newest_step)"
    finish 1
  fi
}

# Rank 0 of a launch whose mpirun was killed may hold the run folder for a moment.
wait_for_orphans() {
  local pid host i
  for ((i = 0; i < orphans_end_within; i++)); do
    read -r pid host 2>/dev/null <"$run/.lock" || return
    if [ "$host" != "$(hostname)" ] || [ "$(cat "/proc/$pid/comm" 2>/dev/null)" != psann_train ]; then
      return
    fi
    pause 1
  done
}

settings "$@"
copy_to_log
catch_signals
reached=$(newest_step)
backoff=$first_backoff
failures=0
launches=0
while :; do
  # run.resume = never, or a path, is meant for the first launch; later ones go on from their own checkpoints.
  resume=()
  if [ "$(newest_step)" -gt 0 ] && [ $((launches + ${SLURM_RESTART_COUNT:-0})) -gt 0 ]; then
    resume=(run.resume=auto)
  fi
  launches=$((launches + 1))
  note "launch $launches of $run; newest checkpoint: step $(newest_step)"
  launch "$@" "${resume[@]}"
  end_unless_failed

  newest=$(newest_step)
  if [ "$newest" -gt "$reached" ]; then
    reached=$newest
    failures=0
    backoff=$first_backoff
  else
    failures=$((failures + 1))
  fi
  if [ "$failures" -ge "$max_failures" ]; then
    note "given up: $failures launches in a row failed without a checkpoint newer than step $reached; the last one ended with code $code"
    finish 1
  fi
  note "the launch ended with code $code; newest checkpoint: step $newest; failures without a newer one: $failures of $max_failures; starting again in $backoff s"
  pause "$backoff"
  if [ "$failures" -gt 0 ]; then
    backoff=$((2 * backoff < longest_backoff ? 2 * backoff : longest_backoff))
  fi
  wait_for_orphans
  if [ -n "$asked" ]; then
    note "stopped by SIG$asked between two launches; newest checkpoint: step $newest"
    finish 0
  fi
done
