#!/bin/bash
# Train on a few machines that you reach by ssh, without a scheduler.
#
#     examples/launch/ssh.sh gpu1 gpu2 -- story-33m --data prepared --out runs/first
#
# What follows -- is what follows `storylm train`. Every machine needs the same folder ($DIR, by default the one you are
# in now) on a file system they share, with storylm installed in its .venv, and has to reach the first machine by the
# name given here, port $PORT. ssh should get in without asking for a password.
#
# Ctrl-C saves on the machines and waits for it; the same command goes on. A lost connection stops nothing.

# shellcheck disable=SC2029,SC2087 # what goes to the other machines is filled in here
set -euo pipefail

hosts=()
while (($#)) && [[ $1 != -- ]]; do
    hosts+=("$1")
    shift
done
if ((${#hosts[@]} == 0 || $# < 2)); then
    echo "usage: $0 HOST... -- PRESET [whatever else storylm train takes]" >&2
    exit 2
fi
shift

dir=${DIR:-$PWD}
id=$(date +%s)-$$ # the torchruns of one start find together by it
# Followed by the machine's number: where its torchrun's process id stands; $TMPDIR is that machine's.
# shellcheck disable=SC2016
pid_file='${TMPDIR:-/tmp}'/storylm-torchrun-$id

# Trains on machine number $1, until it ends.
run() {
    local number=$1 code=0
    shift
    trap '' INT # Ctrl-C is for this script, not for ssh
    # 30 seconds, torchrun's own choice, may be too short to end a step that compiles, and save.
    ssh "${hosts[number]}" bash <<END || code=$?
cd $(printf %q "$dir") || exit
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=150
.venv/bin/torchrun --nnodes ${#hosts[@]} --nproc-per-node ${NPROC:-gpu} --max-restarts 3 \
    --rdzv-backend c10d --rdzv-id $id --rdzv-endpoint ${hosts[0]#*@}:${PORT:-29500} \
    -m storylm train $(printf '%q ' "$@") &
echo \$! >"$pid_file-$number"
wait \$!
code=\$?
rm "$pid_file-$number"
exit \$code
END
    if ((code)); then stop; fi # or the other machines would wait for this one
    return "$code"
}

# SIGTERM to every torchrun that still runs: it passes it on, its processes save, and it ends with 1.
stop() {
    local number
    for number in "${!hosts[@]}"; do
        ssh "${hosts[number]}" "test ! -e \"$pid_file-$number\" || kill -TERM \$(cat \"$pid_file-$number\")" </dev/null || true
    done
}

trap stop INT TERM
machines=()
for number in "${!hosts[@]}"; do
    run "$number" "$@" &
    machines+=($!)
done

status=0
for machine in "${machines[@]}"; do
    while kill -0 "$machine" 2>/dev/null; do wait "$machine" || true; done # a trap ends `wait` early
    wait "$machine" || status=$?
done
exit "$status"
