#!/bin/bash
# A search on the nodes of a Slurm allocation, which goes on after each requeue:
#   sbatch --nodes=2 docs/clusters/slurm.sh --space dropout --data ~/photos --name photos
#SBATCH --job-name=convsearch
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --gpus-per-node=1
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
# Two minutes before the wall this script hears SIGUSR1, and the search then SIGTERM, on which it leaves in order.
#SBATCH --signal=B:USR1@120
set -eu

export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
TOKEN=$HOME/.ray/auth_token # of this user, on a home that all nodes have, as Slurm's usually is
[ -s "$TOKEN" ] || (umask 077 && ray get-auth-token --generate >/dev/null)

HEAD=$SLURMD_NODENAME # Slurm runs this script on the first node of the allocation
ADDRESS=$(hostname --ip-address | awk '{print $1}')
PORT=$((20000 + SLURM_JOB_ID % 10000)) # two jobs may share a node
GPUS=${SLURM_GPUS_ON_NODE:-0}

node() { # HOST OPTIONS...: a node of Ray that ends with this job's step
    local host=$1
    shift
    # Since Slurm 22.05 a step does not inherit the job's --cpus-per-task, and may be bound to a single CPU without.
    # Ray lets all users of a node into its folder, and obeys whoever writes to the sockets there: it gets one inside
    # a folder of this user's.
    srun --nodes=1 --ntasks=1 --cpus-per-task="$SLURM_CPUS_PER_TASK" --overlap --nodelist="$host" \
        bash -c 'exec ray start --block --temp-dir="$(mktemp -d /tmp/ray-XXXXXX)/ray" "$@"' bash \
        --num-cpus="$SLURM_CPUS_PER_TASK" --num-gpus="$GPUS" "$@" &
}

SEARCH= STOPPED= CODE=143 # where it has to leave before the search begins
leave() {
    STOPPED=1
    [ -z "$SEARCH" ] || kill -TERM "$SEARCH" 2>/dev/null || true
}
trap leave USR1 TERM

node "$HEAD" --head --node-ip-address="$ADDRESS" --port="$PORT" --include-dashboard=false
for _ in $(seq 60); do
    ray status --address="$ADDRESS:$PORT" >/dev/null 2>&1 && break
    sleep 2
done
for host in $(scontrol show hostnames "$SLURM_JOB_NODELIST"); do
    [ "$host" = "$HEAD" ] || node "$host" --address="$ADDRESS:$PORT"
done

# A run that is there is resumed by the same command: nothing is trained twice. No step of its own: srun kills at once
# what it runs when it hears SIGTERM, where the search has to leave in order.
if [ -z "$STOPPED" ]; then
    python -m search.run --address "$ADDRESS:$PORT" "$@" &
    SEARCH=$!
    [ -z "$STOPPED" ] || leave
    CODE=0
    wait "$SEARCH" || CODE=$?
    while kill -0 "$SEARCH" 2>/dev/null; do # the trap ended the wait, not the search
        CODE=0
        wait "$SEARCH" || CODE=$?
    done
fi
if [ "$CODE" -eq 143 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$CODE"
