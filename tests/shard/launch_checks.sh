#!/bin/sh
# How a job starts and ends: exit codes, how often a sentence is printed, no hang.
# usage: launch_checks.sh MPIRUN DIST_PROBE
mpirun=$1
probe=$2
failures=0
output=$(mktemp)
trap 'rm -f "$output"' EXIT

# expect CODE SENTENCE TIMES COMMAND...; a hang ends with timeout's code 124
expect() {
  wanted=$1 sentence=$2 times=$3
  shift 3
  timeout 40 env "$@" >"$output" 2>&1 </dev/null
  code=$?
  found=$(grep -c -F -e "$sentence" "$output")
  if [ $code -ne "$wanted" ] || [ "$found" -ne "$times" ]; then
    echo "FAILED: $*: exit code $code (wanted $wanted), '$sentence' printed $found times (wanted $times):"
    sed 's/^/    /' "$output" | head -30
    failures=$((failures + 1))
  else
    echo "ok: $*"
  fi
}

mpi() {
  ranks=$1
  shift
  echo "$mpirun --oversubscribe -np $ranks $probe $*"
}

copies="copies were started instead of one job"
expect 0 "rank 0 of 1 is well" 1 "$probe" well
expect 0 " of 4 is well" 4 $(mpi 4 well)
expect 2 "has no value 'x'" 1 "$probe" all-refuse
for ranks in 1 2 4; do
  expect 2 "the key has no value 'x'; give one of y, z" 1 $(mpi $ranks all-refuse)
  expect 2 "the key of " $ranks $(mpi $ranks each-refuses)
done
expect 2 "the key has no value 'x'" 1 $(mpi 3 agree)
expect 2 "the config differs between ranks: rank 2 on " 1 $(mpi 3 differ)
expect 2 "the key has no value 'x'" 1 $(mpi 3 alone)
expect 2 "the key has no value 'x'" 1 $(mpi 3 alone-at-end)
expect 2 "the key has no value 'x'" 1 $(mpi 3 alone-in-exchange)
expect 137 "exited on signal 9" 1 $(mpi 3 die)

# copies in place of ranks, as each launcher leaves its traces
expect 2 "4 $copies of 4 ranks" 1 OMPI_COMM_WORLD_SIZE=4 OMPI_COMM_WORLD_RANK=0 "$probe" well
expect 2 "$copies" 0 OMPI_COMM_WORLD_SIZE=4 OMPI_COMM_WORLD_RANK=3 "$probe" well
expect 2 "2 $copies of 2 ranks" 1 PMI_SIZE=2 PMI_RANK=0 "$probe" well
expect 2 "8 $copies of 8 ranks" 1 SLURM_STEP_NUM_TASKS=8 SLURM_PROCID=0 "$probe" well
expect 2 "mpirun -np 3" 1 SLURM_NTASKS=3 "$probe" well
expect 0 "rank 0 of 1 is well" 1 SLURM_NTASKS=1 "$probe" well
expect 0 "rank 0 of 1 is well" 1 SLURM_NTASKS=3 $(mpi 1 well) # mpirun inside an allocation, on purpose with one rank
expect 0 " of 2 is well" 2 SLURM_NTASKS=3 $(mpi 2 well)

[ $failures -eq 0 ]
