# shellcheck shell=bash
# Sourced by the others: tells how far the boot is, to the console and to whoever may read the guest attributes.

metadata=http://metadata.google.internal/computeMetadata/v1/instance

# report KEY VALUE: a guest attribute of the namespace `app`.
report() {
    curl -sS -f -m 5 --retry 3 -o /dev/null -X PUT -H 'Metadata-Flavor: Google' --data "$2" \
        "$metadata/guest-attributes/app/$1" || echo "kotoe: could not report $1" >&2
}

# report_phase boot|driver|pull|loading|ready|error: the words and the form that the page reads.
report_phase() {
    echo "kotoe: phase $1"
    report phase "$1 $(date +%s)"
}

# access_token: of the machine's account, good for an hour.
access_token() {
    curl -sS -f -m 10 --retry 5 --retry-connrefused -H 'Metadata-Flavor: Google' \
        "$metadata/service-accounts/default/token" | sed -n 's/.*"access_token" *: *"\([^"]*\)".*/\1/p'
}
