#!/bin/bash
# Train on a Slurm cluster, on one node or many, for longer than one job may last.
#
#     sbatch examples/launch/slurm.sh story-33m --data prepared --out runs/first
#
# What follows the script's name is what follows `storylm train`. Submit from a folder that every node sees (the run
# folder has to be on a shared file system too), with storylm installed in .venv there, or in $VENV.
#
# Before the time is up, training saves and the job queues itself again; the same command then goes on where it
# stopped, to the bit. `scancel JOBID` ends it for good.

#SBATCH --job-name=storylm
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1        # one torchrun on each node; it starts a process for each GPU
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --time=04:00:00
#SBATCH --signal=B:USR1@180        # three minutes before the limit, and to this script (B), not to the training
#SBATCH --requeue                  # the job may be queued again, by itself or after a node has failed
#SBATCH --open-mode=append         # ... and goes on writing to the same log
#SBATCH --output=%x-%j.log

set -euo pipefail
export PATH="${VENV:-$PWD/.venv}/bin:$PATH"
export SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-1}" # srun does not take it over from sbatch by itself

# On SIGTERM torchrun asks its processes to stop and kills them after this many seconds. They finish their step, which
# may be the first one and compile, and save. By itself it would wait 30.
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=150

first_node=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed -n 1p)

stopping=
stop() {
    stopping=yes
    echo "$(date): the time is nearly up: saving"
    # Not `kill $training`: srun answers a SIGTERM by killing what it runs, and a SIGUSR1 that it passed on would kill
    # torchrun. scancel with a signal only sends it, to all processes of the training on all nodes.
    scancel --signal=TERM "$SLURM_JOB_ID"
}
trap stop USR1

# The first torchrun to fail must not take the others along while they save, whatever the cluster's defaults: hence
# --kill-on-bad-exit=0 and --wait=0. A process that dies is started again with all others, up to three times.
srun --kill-on-bad-exit=0 --wait=0 torchrun \
    --nnodes "$SLURM_NNODES" \
    --nproc-per-node "${SLURM_GPUS_ON_NODE:-1}" \
    --max-restarts 3 \
    --rdzv-backend c10d \
    --rdzv-id "$SLURM_JOB_ID" \
    --rdzv-endpoint "$first_node:$((20000 + SLURM_JOB_ID % 10000))" \
    -m storylm train "$@" &
training=$!

# In the background, because bash runs a trap only between two commands or inside `wait`, which it ends early.
while kill -0 "$training" 2>/dev/null; do wait "$training" || true; done
status=0
wait "$training" || status=$?

if [[ $stopping && $status -ne 0 ]]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
