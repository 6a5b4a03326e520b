#!/usr/bin/env bash
# Rehearses the upgrade of a book from the release before: tests/rehearse-upgrade.sh OLD_BINARY NEW_BINARY
# The old binary writes a book and serves it; the new one refuses it, upgrades it and serves it; the old one then refuses it.
set -euo pipefail
old=$1 new=$2
data=$(mktemp -d)
trap 'rm -rf "$data"' EXIT
chmod 777 "$data"
here=$(cd "$(dirname "$0")/.." && pwd)

refuses() { # BINARY WORDS
    if said=$(timeout 60 "$1" up --data "$data" --listen 127.0.0.1:0 2>&1); then
        echo "FAILED: $1 serves a book that it should refuse"; exit 1
    fi
    grep -q "$2" <<<"$said" || { echo "FAILED: $1 does not say «$2»: $said"; exit 1; }
    echo "ok: $1 refuses the book: $(tail -1 <<<"$said")"
}

"$old" demo --data "$data" --exit --listen 127.0.0.1:0 >/dev/null
echo "ok: the old release wrote a book"
refuses "$new" "loyalty upgrade"
"$new" upgrade --data "$data"
"$new" verify --data "$data"
refuses "$old" "upgrade it"
"$new" demo --data "$data" --exit --listen 127.0.0.1:0 >/dev/null
echo "ok: the new release goes on with the book; running its demo again books nothing twice"
"$new" verify --data "$data"
echo "1 passed, 0 failed"
