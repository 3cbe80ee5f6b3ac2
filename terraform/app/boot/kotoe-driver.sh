#!/bin/bash
# Installs the NVIDIA driver: from the network once, from the disk at later boots. Run as `bash FILE`: /var is noexec.
set -euo pipefail
cd "$(dirname "$0")"
. ./settings.env
. ./kotoe-phase.sh

[[ $GPU != none ]] || exit 0
report_phase driver

for ((attempt = 1; ; attempt++)); do
    cos-extensions install gpu -- "-version=$DRIVER_VERSION" && break
    if ((attempt == 5)); then
        report_phase error
        exit 1
    fi
    sleep 15
done

trap 'report_phase error' ERR
if ! mountpoint -q /var/lib/nvidia; then
    mount --bind /var/lib/nvidia /var/lib/nvidia
fi
mount -o remount,exec /var/lib/nvidia
/var/lib/nvidia/bin/nvidia-smi -pm 1
