#!/usr/bin/env bash
# Runs a command and fails if it leaves processes or network namespaces behind; removes them.
# Processes are known by a mark in their environment, namespaces by the prefixes of the laboratory
# and the demonstration and by the process that made them, whose number is in their names: while it
# is there, they are those of another run.
set -euo pipefail

TULLE_LAB_RUN="run-$$-$(date +%s)"
export TULLE_LAB_RUN
readonly PREFIXES="tulle-lab- tulle-demo-"

marked() {
    local environ
    for environ in /proc/[0-9]*/environ; do
        if grep -qazx "TULLE_LAB_RUN=$TULLE_LAB_RUN" "$environ" 2>/dev/null; then
            environ=${environ#/proc/}
            echo "${environ%/environ}"
        fi
    done | grep -vx -e "$$" -e "$BASHPID" || true
}

namespaces() {
    local prefix
    for prefix in $PREFIXES; do
        ip netns list 2>/dev/null | awk -v p="$prefix" 'index($1, p) == 1 { print $1 }' || true
    done
}

in_use() {
    local owner=${1#tulle-*-}
    [ -d "/proc/${owner%%-*}" ]
}

before=$(namespaces)
status=0
"$@" || status=$?

for pid in $(marked); do
    [ -r "/proc/$pid/cmdline" ] || continue
    command=$(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null || true)
    [ -n "$command" ] || continue
    case $command in *leftovers.sh* | grep\ * | awk\ *) continue ;; esac
    printf 'leftovers: process %s still runs: %s\n' "$pid" "$command" >&2
    kill -KILL "$pid" 2>/dev/null || true
    status=1
done
for namespace in $(namespaces); do
    grep -qxF "$namespace" <<<"$before" && continue
    in_use "$namespace" && continue
    printf 'leftovers: network namespace %s still exists\n' "$namespace" >&2
    ip netns delete "$namespace" || true
    status=1
done
exit "$status"
