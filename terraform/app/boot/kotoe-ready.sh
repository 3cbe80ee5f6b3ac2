#!/bin/bash
# Waits until the backend's model has drawn, and tells. Runs after every start of the container; ends with it.
set -euo pipefail
cd "$(dirname "$0")"
. ./kotoe-phase.sh

until curl -s -f -m 5 -o /dev/null http://127.0.0.1:8000/readyz; do
    sleep 1
done
report_phase ready
