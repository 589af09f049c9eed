#!/usr/bin/env bash
# A sweep on a Slurm allocation: Ray on all of its nodes, the sweep on Ray. From the project's folder, on a file
# system that all nodes share:
#
#   sbatch --nodes=4 --gpus-per-node=4 experiments/executors/slurm.sh --sweep=configs/sweeps/three.py --workdir=runs/three
#
# The arguments are those of `python -m experiments.run`. The job ends when the sweep does. Before the allocation
# ends, Slurm sends SIGTERM (--signal below): the runs save checkpoints, and the same sbatch command resumes.
# PYTHON=…: the interpreter, .venv/bin/python by default; RAY_ARGS=…: more arguments for every `ray start`;
# RAY_HEAD_ARGS=…: for the first.
#SBATCH --job-name=sweep
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --no-kill
#SBATCH --signal=B:TERM@180
#SBATCH --open-mode=append
set -euo pipefail

python=${PYTHON:-.venv/bin/python}
[ -x "$python" ] || { echo "error: no $python here ($PWD); give another with PYTHON=…" >&2; exit 2; }
# Slurm numbers jobs one by one: two of them on one node get two ports and two folders.
port=${RAY_PORT:-$((20000 + SLURM_JOB_ID % 10000))}
ip=$("$python" -c 'import ray; print(ray.util.get_node_ip_address())')
export RAY_USAGE_STATS_ENABLED=0 python port ip
# Who has no token starts nothing on this job's nodes.
RAY_AUTH_TOKEN=$("$python" -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN

# Each node's part. The batch script is on the first node, so task 0 is the head. nproc counts the cores that Slurm
# has given to the job here, and OMP_NUM_THREADS would mislead it.
start='
unset OMP_NUM_THREADS
ray="$python -m ray.scripts.scripts start --block --num-cpus=$(nproc) --disable-usage-stats ${RAY_ARGS:-}"
if [ "$SLURM_PROCID" = 0 ]; then
  exec $ray ${RAY_HEAD_ARGS:-} --head --node-ip-address="$ip" --port="$port" --temp-dir="${TMPDIR:-/tmp}/ray-$SLURM_JOB_ID"
fi
for _ in $(seq 300); do
  (exec 3<>"/dev/tcp/$ip/$port") 2>/dev/null && exec $ray --address="$ip:$port"
  sleep 1
done
echo "error: no head at $ip:$port" >&2
exit 1'
srun --ntasks="$SLURM_NNODES" --ntasks-per-node=1 --cpu-bind=none --no-kill --kill-on-bad-exit=0 --wait=0 \
  bash -c "$start" &
nodes=$!
sweep=
stopped=
trap 'stopped=1; [ -z "$sweep" ] || kill -TERM "$sweep" 2>/dev/null' TERM INT

until (exec 3<>"/dev/tcp/$ip/$port") 2>/dev/null; do
  kill -0 "$nodes" 2>/dev/null || { echo "error: Ray did not start" >&2; exit 1; }
  [ -z "$stopped" ] || break
  sleep 1
done

code=130
if [ -z "$stopped" ]; then
  # Nodes that come later are taken in as they come.
  "$python" -m experiments.run "$@" --executor=ray --ray_address="$ip:$port" &
  sweep=$!
  while kill -0 "$sweep" 2>/dev/null; do  # a signal ends `wait`, not the sweep
    wait "$sweep" && code=0 || code=$?
  done
fi
kill -TERM "$nodes" 2>/dev/null || true
wait "$nodes" 2>/dev/null || true
exit "$code"
