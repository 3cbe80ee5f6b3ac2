#!/bin/bash
# Fetches what the container needs: its image, by digest and only if it is absent, and the token.
set -euo pipefail
cd "$(dirname "$0")"
. ./settings.env
. ./kotoe-phase.sh
trap 'report_phase error' ERR

if ! docker image inspect "$IMAGE" >/dev/null 2>&1; then
    report_phase pull
    access_token | docker login --username oauth2accesstoken --password-stdin "https://$REGISTRY"
    docker pull --quiet "$IMAGE"
    docker logout "https://$REGISTRY"
    # Images of earlier deployments would fill the disk.
    new=$(docker image inspect --format '{{.Id}}' "$IMAGE")
    docker image ls --quiet --no-trunc "${IMAGE%@*}" | sort -u | { grep -vxF "$new" || true; } |
        xargs --no-run-if-empty docker image rm --force || true
fi

# /run is in memory, and systemd made this folder for root alone.
umask 077
authorization=$(access_token)
token=$(printf 'Authorization: Bearer %s\n' "$authorization" |
    curl -sS -f -m 10 --retry 5 -H @- "https://secretmanager.googleapis.com/v1/$TOKEN_SECRET:access" |
    sed -n 's/.*"data" *: *"\([^"]*\)".*/\1/p' | base64 -d)
[[ -n $token ]]
printf 'BACKEND_TOKEN=%s\n' "$token" > /run/kotoe/token.env
printf 'Authorization: Bearer %s\n' "$token" > /run/kotoe/authorization
