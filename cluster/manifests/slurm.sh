#!/bin/bash
# A Ray cluster for the length of one Slurm job, and one muster launch on it:
#
#   sbatch slurm.sh dreml --name cub-L48 --storage /shared/store …      # what follows `muster launch`
#
# If the time runs out, send the same line again: the run of this name goes on where it was.
#
#SBATCH --job-name=muster
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=32
#SBATCH --gpus-per-node=4
#SBATCH --time=24:00:00
# Whole nodes: Ray believes that every CPU and GPU it is given is its own.
#SBATCH --exclusive
# So that `trap` below still runs before Slurm kills the job at its time limit.
#SBATCH --signal=B:TERM@60

set -euo pipefail

# Not `ray symmetric-run`: it ends in `ray stop`, which kills every Ray process of the user on the node.
# Started with --block under srun, Ray's processes belong to Slurm's step and end with it.

export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0 RAY_JOB_STOP_WAIT_TIME_S=10
# On a file system that all nodes see, readable by its owner alone. Other users can reach the nodes' ports;
# without the token they would run code as you.
export RAY_AUTH_TOKEN_PATH=${MUSTER_TOKEN_DIR:-$HOME}/.muster-token-$SLURM_JOB_ID
unset RAY_AUTH_TOKEN RAY_ADDRESS RAY_API_SERVER_ADDRESS # they would win over the lines above and below
(
    umask 077
    python3 -c 'import secrets; print(secrets.token_hex(32), end="")' > "$RAY_AUTH_TOKEN_PATH"
)
steps=()
finish() {
    trap - EXIT TERM
    ((${#steps[@]} == 0)) || kill "${steps[@]}" 2> /dev/null || true
    wait
    rm -f "$RAY_AUTH_TOKEN_PATH"
}
trap finish EXIT
trap 'exit 143' TERM

# This script runs on the first node of the allocation, and so does the head.
mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head_node=${nodes[0]}
# Set HEAD_IP if the first address is not on the fast network.
head_ip=${HEAD_IP:-$(hostname -I | cut -d ' ' -f 1)}
# Ports from the job's number, so that a cluster that is still going down is not mistaken for this one.
gcs_port=$((20000 + SLURM_JOB_ID % 5000))
dashboard_port=$((25000 + SLURM_JOB_ID % 5000))
client_port=$((30000 + SLURM_JOB_ID % 2000))
address=http://$head_ip:$dashboard_port

common=(
    --block # or srun would return, and Slurm would kill what Ray had started
    --num-cpus="${SLURM_CPUS_PER_TASK:-1}"
    --num-gpus="${SLURM_GPUS_ON_NODE:-0}"
    --dashboard-agent-listen-port=0 # any free one
    --temp-dir="/tmp/muster-slurm-$SLURM_JOB_ID/ray" # short, and not the /tmp/ray of another user
    --disable-usage-stats
)
# Ray makes its folders writable by everybody, so they get a parent that is closed to others.
in_private='umask 077; mkdir "/tmp/muster-slurm-$SLURM_JOB_ID" && exec "$@"'
# --overlap: the head and the launch share this node's CPUs with the batch script.
srun --overlap --nodes=1 --ntasks=1 --nodelist="$head_node" \
    bash -c "$in_private" - ray start --head --node-ip-address="$head_ip" --port="$gcs_port" \
    --dashboard-host="$head_ip" --dashboard-port="$dashboard_port" --include-dashboard=true \
    --ray-client-server-port="$client_port" "${common[@]}" &
steps+=($!)

ready() {
    python3 - "$address" << 'PYTHON'
import sys, urllib.request
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
opener.open(sys.argv[1] + "/api/authentication_mode", timeout=5).read()
PYTHON
}
for ((waited = 0; ; waited++)); do
    ready 2> /dev/null && break
    if ! kill -0 "${steps[0]}" 2> /dev/null || ((waited == 120)); then
        echo "the Ray head on $head_node did not come up; its messages are above" >&2
        exit 1
    fi
    sleep 1
done

# The others join when they are up. Nothing waits for them: members start on the nodes that are there.
if ((SLURM_JOB_NUM_NODES > 1)); then
    srun --overlap --nodes=$((SLURM_JOB_NUM_NODES - 1)) --ntasks=$((SLURM_JOB_NUM_NODES - 1)) \
        --exclude="$head_node" \
        bash -c "$in_private" - ray start --address="$head_ip:$gcs_port" "${common[@]}" &
    steps+=($!)
fi

# In the background and waited for, as bash runs a trap only between commands.
muster launch "$@" --address "$address" &
launch=$!
steps+=("$launch")
wait "$launch" # ends with the launch's own exit code
