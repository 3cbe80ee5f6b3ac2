#!/bin/bash
# Once a minute: powers the machine off when nothing was drawn for a while, or when the backend has been out of reach
# for a while. Only work counts: /v1/status knows nothing of open tabs and of those who ask for it.
set -euo pipefail
cd "$(dirname "$0")"
. ./settings.env

power_off() {
    echo "kotoe: powering off: $1"
    systemctl poweroff
    exit 0
}

read -r up_s _ < /proc/uptime
up_s=${up_s%.*}
seen=/run/kotoe-last-ready # since boot, seconds; gone after the next one

status=$(curl -s -f -m 10 -H @/run/kotoe/authorization http://127.0.0.1:8000/v1/status) || status=
if [[ $status =~ \"ready\":\ *true ]] && [[ $status =~ \"idle_seconds\":\ *([0-9]+) ]]; then
    idle_s=${BASH_REMATCH[1]}
    echo "$up_s" > "$seen"
    if ((idle_s >= IDLE_MINUTES * 60)); then
        power_off "no work for $((idle_s / 60)) minutes"
    fi
else
    last_s=$(cat "$seen" 2>/dev/null || echo 0)
    if ((up_s - last_s >= GIVE_UP_MINUTES * 60)); then
        power_off "not ready for $(((up_s - last_s) / 60)) minutes"
    fi
fi
