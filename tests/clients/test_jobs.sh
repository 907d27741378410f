#!/usr/bin/env bash
# Goal:   mbool files and mbool jobs, and the example with curl, take a model from a file to an answer and back.
# Method: a daemon on a small random model, asked by the commands; their output and exit statuses.
set -u
mbool=$1 mboold=$2 make_folder=$3 source=$4
dir=$(mktemp -d)
daemon=
trap 'kill "$daemon" 2>/dev/null; rm -rf "$dir"' EXIT
run=0 failed=0

check() { # NAME STATUS
    run=$((run + 1))
    if [ "$2" -ne 0 ]; then
        failed=$((failed + 1))
        echo "FAILED $1"
    fi
}

"$make_folder" "$dir/float"
"$mbool" convert "$dir/float" -o "$dir/tiny.mbool" --kernels 2 --group 32 >/dev/null 2>&1
for i in 1 2 3 4 5 6; do
    echo "{\"prompt\": \"the man $i and\", \"completion\": \" then an old tin hat on a hill\"}"
done >"$dir/train.jsonl"
"$mboold" --model "tiny=$dir/tiny.mbool" --listen 127.0.0.1:0 --state-dir "$dir/state" --threads 1 \
    --finetune-priority normal --heartbeat-timeout 600 >"$dir/out" 2>"$dir/log" &
daemon=$!
for _ in $(seq 600); do
    MBOOL_HOST=$(sed -n 's/.*listening on http:\/\/\([0-9.:]*\).*/\1/p' "$dir/out")
    [ -z "$MBOOL_HOST" ] || break
    sleep 0.1
done
export MBOOL_HOST

file=$("$mbool" files upload "$dir/train.jsonl")
[[ "$file" == file-* ]]
check "upload: $file" $?
"$mbool" files list | grep -q "$file .*processed .*train.jsonl"
check 'list' $?
"$mbool" files show "$file" --json | grep -q '"object":"file"'
check 'show' $?
job=$("$mbool" jobs create tiny --data "$file" --valid "$dir/train.jsonl" --suffix cli --steps 10 --snapshot-every 5 \
    --promote if_better --seed 3 2>"$dir/err")
[[ "$job" == ftjob-* ]]
check "create: $job" $?
"$mbool" jobs watch "$job" >"$dir/watched"
check 'watch' $?
grep -q 'Checkpoint created at step 5' "$dir/watched" && grep -q 'has successfully completed' "$dir/watched"
check 'its events' $?
"$mbool" jobs watch "$job" --json | grep -c '"object":"fine_tuning.job.event"' >"$dir/count"
[ "$(cat "$dir/count")" -ge 15 ]
check 'the same as JSON' $?
"$mbool" jobs show "$job" | grep -q "$job  *succeeded  *10/10  *tiny  *ft:tiny:cli:"
check 'show a job' $?
"$mbool" models | grep -q 'ft:tiny:cli:.*:ckpt-step-5'
check 'its checkpoint is a model' $?
"$mbool" jobs cancel "$job" 2>"$dir/err"
[ $? -eq 1 ] && grep -q 'has succeeded' "$dir/err"
check 'what is done can not be cancelled' $?
long=$("$mbool" jobs create tiny --data "$file" --steps 100000 2>/dev/null)
"$mbool" jobs pause "$long" >/dev/null
check 'pause' $?
for _ in $(seq 600); do
    "$mbool" jobs show "$long" | grep -q ' paused ' && break
    sleep 0.1
done
"$mbool" jobs resume "$long" | grep -Eq ' (queued|validating_files|running) '
check 'resume' $?
"$mbool" jobs cancel "$long" | grep -q ' cancelled '
check 'cancel' $?
"$mbool" jobs list | head -n 2 | grep -q "$long"
check 'the newest is first' $?
"$mbool" jobs create tiny --data "$dir/train.jsonl" --steps x 2>/dev/null
[ $? -eq 1 ]
check 'no number' $?
"$mbool" jobs create tiny 2>/dev/null
[ $? -eq 2 ]
check 'no data' $?
"$mbool" jobs explode 2>/dev/null
[ $? -eq 2 ]
check 'no such action' $?
"$mbool" files upload "$dir/none.jsonl" 2>/dev/null
[ $? -eq 1 ]
check 'no such file' $?

STEPS=10 MBOOL_URL=http://$MBOOL_HOST "$source/clients/examples/fine-tune.sh" tiny "$dir/train.jsonl" 'the man 1 and' \
    >"$dir/story" 2>&1
check "the story with curl: $(tail -n 1 "$dir/story")" $?
said() { # WHO
    sed -n "s/^== $1 says: //p" "$dir/story"
}
[ -n "$(said 'ft:tiny::[0-9a-f]*')" ] && [ "$(said 'ft:tiny::[0-9a-f]*')" = "$(said 'promoted, tiny')" ]
check 'promoted, it says the same' $?
[ "$(said tiny)" = "$(said 'rolled back, tiny')" ]
check 'rolled back, it says what it said' $?
"$mbool" files delete "$file"
check 'delete' $?
kill "$daemon"
wait "$daemon"
check 'the daemon ends well' $?

echo "CHECKS $run RUN $failed FAILED"
[ "$failed" -eq 0 ]
