#!/bin/bash
# Becomes `docker run` of the backend.
set -euo pipefail
cd "$(dirname "$0")"
. ./settings.env
. ./kotoe-phase.sh
report_phase loading

device=cpu
gpu=()
if [[ $GPU != none ]]; then
    # `--gpus all` needs NVIDIA's container toolkit, which Container-Optimized OS does not have.
    device=cuda
    gpu=(--volume /var/lib/nvidia/lib64:/usr/local/nvidia/lib64:ro
        --volume /var/lib/nvidia/bin:/usr/local/nvidia/bin:ro
        --env LD_LIBRARY_PATH=/usr/local/nvidia/lib64)
    for node in /dev/nvidia[0-9]* /dev/nvidiactl /dev/nvidia-uvm; do
        gpu+=(--device "$node")
    done
fi

# A named volume takes the owner of /data from the image.
exec docker run --rm --name kotoe-backend \
    --publish 8000:8000 \
    --volume kotoe-data:/data \
    --read-only --tmpfs /tmp:exec --cap-drop ALL --security-opt no-new-privileges --shm-size 1g \
    --log-driver gcplogs --log-opt mode=non-blocking \
    --env-file /run/kotoe/token.env \
    --env BACKEND_HOST=0.0.0.0 \
    --env BACKEND_PORT=8000 \
    --env BACKEND_DATA_DIR=/data \
    --env "BACKEND_DEVICE=$device" \
    --env "BACKEND_GALLERY=$BACKEND_GALLERY" \
    --env "BACKEND_MODEL=$BACKEND_MODEL" \
    "${gpu[@]}" \
    "$IMAGE"
