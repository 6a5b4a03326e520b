#!/usr/bin/env bash
# Answer times over REST at 500 commands a second, open loop: latency counts from the intended start (autocannon corrects for
# coordinated omission where a rate is given). Needs Node.js; starts and stops its own service.
set -euo pipefail
cd "$(dirname "$0")/.."
rate=${RATE:-500} seconds=${SECONDS_LONG:-20}
cargo build --release --quiet
data=$(mktemp -d)
out=$(mktemp)
./target/release/loyalty up --data "$data" --listen 127.0.0.1:0 > "$out" &
pid=$!
trap 'kill $pid; wait $pid || true; rm -rf "$data" "$out"' EXIT
until address=$(sed -n 's/^listening on //p' "$out") && [ -n "$address" ]; do
    kill -0 $pid
    read -rt 0.1 < <(:) || true
done
sed 's/"mode": "sandbox"/"mode": "live"/' data/demo-program.json | curl -sf -X PUT --data-binary @- "$address/v1/programs/shop/rulebook" > /dev/null
npm install --silent --no-fund --no-audit --prefix "$data/npm" autocannon@8 2> /dev/null
NODE_PATH="$data/npm/node_modules" node bench/rest.js "$address/v1/programs/shop/purchases" "$rate" "$seconds"
