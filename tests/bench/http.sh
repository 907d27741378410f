#!/usr/bin/env bash
# What HTTP costs: starts mboold on a checkpoint, and lets clients stream from it.
#
#     tests/bench/http.sh BUILD MODEL.mbool [http_load's options] [-- mboold's options]
#
# To be compared with the decoding figure of the same batch in `mbool bench MODEL.mbool`. For a machine
# that does nothing else.
set -euo pipefail
build=$1 model=$2
shift 2
load=() flags=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    load+=("$1")
    shift
done
[ $# -eq 0 ] || flags=("${@:2}")

out=$(mktemp)
"$build/server/mboold" --model "m=$model" --listen 127.0.0.1:0 --log-level warn "${flags[@]}" >"$out" &
daemon=$!
trap 'kill "$daemon" 2>/dev/null || true; wait "$daemon" || true; rm -f "$out"' EXIT
port=
while [ -z "$port" ]; do
    kill -0 "$daemon"
    port=$(sed -n 's/.*http:\/\/127.0.0.1:\([0-9]*\),.*/\1/p' "$out")
    sleep 0.05
done
"$build/tests/bench/http_load" "$port" m "${load[@]}"
