#!/usr/bin/env bash
# The whole story with curl: bring a file, fine-tune, watch, ask the new model, let it go live, roll back.
#
#     mboold --model tiny=tiny.mbool --state-dir /var/lib/mboold
#     clients/examples/fine-tune.sh tiny chats.jsonl 'Once upon a time'
#
# MBOOL_URL says where the daemon is, MBOOL_API_KEY is its key, when it wants one. Needs curl and python3.
set -euo pipefail
if [ $# -ne 3 ]; then
    echo "usage: fine-tune.sh MODEL FILE.jsonl PROMPT" >&2
    exit 2
fi
model=$1 file=$2 prompt=$3
url=${MBOOL_URL:-http://127.0.0.1:8080}

ask() { # PATH [CURL'S OPTIONS]
    local path=$1
    shift
    curl -sS --fail-with-body -H "Authorization: Bearer ${MBOOL_API_KEY:-none}" "$@" "$url$path"
}
post() { # PATH JSON
    ask "$1" -H 'Content-Type: application/json' -d "$2"
}
field() { # NAME, of the JSON on standard input
    python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"
}
json() { # TEXT, as JSON
    python3 -c 'import json, sys; print(json.dumps(sys.argv[1]))' "$1"
}
complete() { # MODEL
    post /v1/completions "{\"model\": $(json "$1"), \"prompt\": $(json "$prompt"), \"max_tokens\": 24, \"temperature\": 0}" |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["choices"][0]["text"])'
}

echo "== $model says: $(complete "$model")"
file_id=$(ask /v1/files -F purpose=fine-tune -F "file=@$file" | field id)
job=$(post /v1/fine_tuning/jobs \
    "{\"model\": $(json "$model"), \"training_file\": \"$file_id\", \"mbool\": {\"steps\": ${STEPS:-40}}}" | field id)
echo "== job $job"
ask "/v1/fine_tuning/jobs/$job/events?stream=true" -N |
    sed -un 's/^data: .*"message":"\([^"]*\)".*/\1/p'
tuned=$(ask "/v1/fine_tuning/jobs/$job" | field fine_tuned_model)
echo "== $tuned says: $(complete "$tuned")"

post "/v1/mbool/models/$model/promote" "{\"to\": \"$tuned\"}" >/dev/null
echo "== promoted, $model says: $(complete "$model")"
post "/v1/mbool/models/$model/rollback" '{}' >/dev/null
echo "== rolled back, $model says: $(complete "$model")"
