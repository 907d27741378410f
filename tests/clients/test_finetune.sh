#!/usr/bin/env bash
# Goal:   mbool finetune makes a better model of a worse one, says what it does, and can be stopped and
#         gone on with to the same bits.
# Method: a small random model as a user would train it: to its float original, and to chat data;
#         Ctrl-C after the first steps; wrong files and options.
set -u
mbool=$1 make_folder=$2
. "$(dirname "$0")/common.sh"

# The last figure of a field in the events of a kind.
figure() { # EVENT FIELD FILE
    grep "\"event\":\"$1\"" "$3" | sed -n "s/.*\"$2\":\([-0-9.e]*\).*/\1/p" | tail -n 1
}
first() { # EVENT FIELD FILE
    grep "\"event\":\"$1\"" "$3" | sed -n "s/.*\"$2\":\([-0-9.e]*\).*/\1/p" | head -n 1
}

"$make_folder" "$dir/float"
text 0 60 >"$dir/train.txt"
text 100 110 >"$dir/valid.txt"
"$mbool" convert "$dir/float" -o "$dir/k2.mbool" --kernels 2 --group 32 --head-kernels float16 >/dev/null
check 'convert' $?

# To the float model: closer on text that was not learned from.
"$mbool" finetune "$dir/k2.mbool" --data "$dir/train.txt" --valid "$dir/valid.txt" \
    --teacher "$dir/float" --steps 40 --batch-tokens 256 -o "$dir/a.mbool" --json >"$dir/a.json"
check 'finetune to a teacher' $?
before=$(first valid kl "$dir/a.json") after=$(figure valid kl "$dir/a.json")
awk -v b="${before:-0}" -v a="${after:-1}" 'BEGIN { exit !(a > 0 && a < 0.8 * b) }'
check "KL on the validation text falls: ${before:-?} to ${after:-?}" $?
[ "$(grep -c '"event":"step"' "$dir/a.json")" -eq 40 ]
check 'an event for each step' $?
[ "$(figure done flips "$dir/a.json")" -gt 0 ]
check 'weights flip' $?
"$mbool" verify "$dir/a.mbool" >/dev/null
check 'the result verifies' $?
"$mbool" inspect "$dir/a.mbool" | grep -q 'finetune.steps: 40'
check 'the result says how it was made' $?
"$mbool" generate "$dir/a.mbool" --prompt 'the man' --max-tokens 4 >/dev/null
check 'the result runs' $?
[ ! -e "$dir/a.mbool.state" ]
check 'no state is left behind' $?

# The same again with another number of threads, then stopped and gone on with.
train() { # OUT [OPTION ...]
    out=$1
    shift
    "$mbool" finetune "$dir/k2.mbool" --data "$dir/train.txt" --steps 40 --batch-tokens 256 \
        -o "$out" "$@"
}
train "$dir/whole.mbool" --threads 1 2>/dev/null
check 'finetune to a text' $?
train "$dir/part.mbool" --threads 2 --json >"$dir/part.json" 2>"$dir/part.err" &
job=$!
for _ in $(seq 600); do
    grep -q '"step":2,' "$dir/part.json" && break
    sleep 0.02
done
kill -INT $job
wait $job
status=$?
if [ "$status" -eq 130 ]; then
    grep -q -- '--resume' "$dir/part.err"
    check 'Ctrl-C says how to go on' $?
    "$mbool" verify "$dir/part.mbool" >/dev/null
    check 'Ctrl-C leaves a model that verifies' $?
    train "$dir/part.mbool" --resume --step 0.5 2>"$dir/err"
    [ $? -eq 1 ] && grep -q 'finetune.sizes' "$dir/err"
    check 'other options do not go on from it' $?
    train "$dir/part.mbool" --resume 2>/dev/null
    check 'it goes on' $?
else
    [ "$status" -eq 0 ]
    check "it was done before it could be stopped: $status" $?
fi
cmp -s "$dir/whole.mbool" "$dir/part.mbool"
check 'stopped and resumed, and with other threads, it is the same file' $?

# A delta joins the trained model and what it was.
"$mbool" delta make "$dir/k2.mbool" "$dir/whole.mbool" -o "$dir/delta" &&
    "$mbool" delta apply "$dir/delta" "$dir/k2.mbool" -o "$dir/applied.mbool" &&
    cmp "$dir/applied.mbool" "$dir/whole.mbool" &&
    "$mbool" delta revert "$dir/delta" "$dir/whole.mbool" -o "$dir/reverted.mbool" &&
    cmp "$dir/reverted.mbool" "$dir/k2.mbool"
check 'a delta makes either of the other' $?

# Chat data, without state, only the last kernel.
printf '%s\n' '{"messages": [{"role": "user", "content": "the man"}, {"role": "assistant", "content": "and then"}]}' \
    '{"prompt": "an old", "completion": " tin hat"}' >"$dir/chat.jsonl"
"$mbool" finetune "$dir/k2.mbool" --data "$dir/chat.jsonl" --optimizer stochastic \
    --kernels-trained last --steps 3 -o "$dir/c.mbool" 2>/dev/null
check 'finetune to chat data' $?

# Mistakes.
printf '%s\n' '{"prompt": "a", "completion": "b"}' '{"prompt": "a"}' >"$dir/bad.jsonl"
"$mbool" finetune "$dir/k2.mbool" --data "$dir/bad.jsonl" -o "$dir/x.mbool" 2>"$dir/err"
[ $? -eq 1 ] && grep -q 'bad.jsonl: line 2: .*completion' "$dir/err"
check 'a bad line is named' $?
"$mbool" finetune "$dir/k2.mbool" --data "$dir/train.txt" -o "$dir/x.mbool" --resume 2>"$dir/err"
[ $? -eq 1 ] && grep -q 'x.mbool.state' "$dir/err"
check 'there is nothing to resume' $?
"$mbool" finetune "$dir/k2.mbool" --data "$dir/train.txt" -o "$dir/x.mbool" --kl 1 2>"$dir/err"
[ $? -eq 2 ] && grep -q -- '--teacher' "$dir/err"
check 'a divergence wants a teacher' $?
"$mbool" finetune "$dir/k2.mbool" -o "$dir/x.mbool" 2>/dev/null
[ $? -eq 2 ]
check 'data are wanted' $?
[ ! -e "$dir/x.mbool" ]
check 'a mistake writes nothing' $?

report
