#!/bin/bash
# One polartune study on SLURM nodes: `ray symmetric-run` starts Ray on all of them, runs the study on
# the first, and stops Ray. From the shared folder that holds cohorts/, studies/ and .venv/:
#
#   (umask 077; mkdir -p ~/.ray; openssl rand -hex 32 > ~/.ray/auth_token)    # once
#   polartune check-cluster slurm.sh && sbatch slurm.sh studies/paper.yaml
#
# A job that ran out of time is continued by submitting it again.
#SBATCH --job-name=polartune
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --gpus-per-node=1
#SBATCH --time=12:00:00
#SBATCH --signal=TERM@300
#SBATCH --output=polartune-%j.log
set -euo pipefail
umask 077
study=${1:?give a study file: sbatch slurm.sh studies/paper.yaml}
source .venv/bin/activate

# Other users' jobs reach these nodes too. The token is read from ~/.ray/auth_token.
export RAY_AUTH_MODE=token
export RAY_USAGE_STATS_ENABLED=0
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=300
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)

# Ray's sockets need a short, local path. The dashboard listens on the head's loopback, Ray's default.
scratch=/tmp/ray-$SLURM_JOB_ID
status=0
srun --kill-on-bad-exit=0 ray symmetric-run \
    --address "$head:6379" \
    --min-nodes "$SLURM_JOB_NUM_NODES" \
    --temp-dir "$scratch" \
    -- polartune run "$study" --address auto --out runs || status=$?
srun --kill-on-bad-exit=0 rm -rf "$scratch" || true
exit "$status"
