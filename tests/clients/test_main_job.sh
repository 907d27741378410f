#!/usr/bin/env bash
# Goal:   the main job works from end to end where no real model is: convert, verify, inspect, evaluate,
#         generate, serve, complete.
# Method: a small random model, written by make_folder, through the programs as a user runs them. The
#         measure is the float model: more kernels must come closer to it, on text that was not
#         used to calibrate, and HTTP must say what the command says.
set -u
mbool=$1 mboold=$2 make_folder=$3
. "$(dirname "$0")/common.sh"

daemon=
trap '[ -z "$daemon" ] || kill "$daemon" 2>/dev/null; rm -rf "$dir"' EXIT
figure() { # FIELD FILE
    sed -n "s/.*\"$1\": *\([-0-9.e]*\).*/\1/p" "$2" | head -n 1
}

"$make_folder" "$dir/float"
check 'a folder is made' $?
text 0 60 >"$dir/train.txt"
text 100 130 >"$dir/valid.txt"

before=1e9
for k in 1 2 3 4; do
    file=$dir/k$k.mbool
    "$mbool" convert "$dir/float" -o "$file" --kernels "$k" --group 32 --head-kernels float16 \
        --calibrate "$dir/train.txt" --json >"$dir/convert.json"
    check "convert with $k kernels" $?
    "$mbool" verify "$file" >/dev/null
    check "verify $k kernels" $?
    "$mbool" inspect "$file" --json | grep -q '"kernels": *'"$k"
    check "inspect shows $k kernels" $?
    "$mbool" eval "$file" --text "$dir/valid.txt" --reference "$dir/float" --json >"$dir/eval.json"
    check "eval $k kernels" $?
    kl=$(figure kl "$dir/eval.json")
    awk -v now="${kl:-nan}" -v before="$before" 'BEGIN { exit !(now > 0 && now < 0.7 * before) }'
    check "$k kernels are closer to the float model: KL ${kl:-missing} after $before" $?
    before=${kl:-0}
done

"$mbool" convert "$dir/float" -o "$dir/again.mbool" --kernels 3 --group 32 --head-kernels float16 \
    --calibrate "$dir/train.txt" --threads 1 >/dev/null
cmp -s "$dir/again.mbool" "$dir/k3.mbool"
check 'the same bytes with one thread' $?

# A weight that is not a number is refused by its tensor's name, whoever reads it.
cp -r "$dir/float" "$dir/odd"
weights=$dir/odd/model.safetensors
header=$(od -An -t u8 -N 8 "$weights" | tr -d ' ')
name=model.layers.0.mlp.up_proj.weight
at=$(head -c $((8 + header)) "$weights" | tail -c +9 | tr '}' '\n' |
    sed -n "s/.*\"$name\".*\"data_offsets\": *\[\([0-9]*\).*/\1/p")
printf '\377\377\377\377' | dd of="$weights" bs=1 seek=$((8 + header + at)) conv=notrunc 2>/dev/null
for command in "convert -o $dir/odd.mbool" "eval --text $dir/valid.txt" 'generate --prompt a'; do
    # shellcheck disable=SC2086
    "$mbool" $command "$dir/odd" >"$dir/out" 2>"$dir/err"
    [ $? -eq 1 ] && grep -q "tensor $name: row 0 has a weight that is infinite or not" "$dir/err"
    check "${command%% *} refuses a weight that is not a number" $?
done

# Ctrl-C says so and ends with 130, also before the bar is there: a text so long that it may still be
# tokenized, or the work just begun.
yes 'the man and then an old tin hat' | head -c 30000000 >"$dir/long.txt"
for command in "eval $dir/k3.mbool --text" "convert $dir/float -o $dir/no.mbool --calibrate"; do
    # shellcheck disable=SC2086
    ended=1 # a program that has not begun to listen for it ends with 130 too, and says nothing
    for delay in 0.1 0.05 0.2 0.03 0.4 0.07 0.8 1.6; do # too early for the program, or too late for its work
        timeout --preserve-status --signal=INT "$delay" "$mbool" $command "$dir/long.txt" >"$dir/out" 2>"$dir/err"
        [ $? -eq 130 ] && grep -q "mbool ${command%% *}: " "$dir/err" && ended=0 && break
    done
    check "Ctrl-C ends ${command%% *}" "$ended"
done
rm "$dir/long.txt"

"$mboold" --model "tiny=$dir/k3.mbool" --listen 127.0.0.1:0 >"$dir/out" 2>"$dir/log" &
daemon=$!
url=
for _ in $(seq 200); do
    url=$(sed -n 's/.*listening on \(http:[^,]*\).*/\1/p' "$dir/out" "$dir/log" | head -n 1)
    [ -n "$url" ] && curl -sf "$url/readyz" >/dev/null && break
    sleep 0.1
done
[ -n "$url" ]
check 'the daemon listens' $?

body='{"model": "tiny", "prompt": "the old man", "max_tokens": 24, "temperature": 0, "ignore_eos": true'
curl -s "$url/v1/completions" -H 'Content-Type: application/json' -d "$body}" >"$dir/whole.json"
grep -q '"completion_tokens": *24' "$dir/whole.json"
check 'a completion of 24 tokens comes back' $?
curl -sN "$url/v1/completions" -H 'Content-Type: application/json' -d "$body, \"stream\": true}" >"$dir/stream"
[ "$(grep -c '^data: ' "$dir/stream")" -gt 3 ] && [ "$(tail -n 2 "$dir/stream" | head -n 1)" = 'data: [DONE]' ]
check 'a stream comes back, and ends' $?

# Sixteen at once say what one alone says (A1).
pids=()
for i in $(seq 16); do
    curl -s "$url/v1/completions" -H 'Content-Type: application/json' -d "$body}" >"$dir/one.$i" &
    pids+=($!)
done
wait "${pids[@]}"
want=$(sed 's/.*"text": *\("[^,]*\),.*/\1/' "$dir/whole.json")
same=0
for i in $(seq 16); do
    [ "$(sed 's/.*"text": *\("[^,]*\),.*/\1/' "$dir/one.$i")" = "$want" ] && same=$((same + 1))
done
[ "$same" -eq 16 ]
check "sixteen at once get the same text ($same of 16)" $?

kill -TERM "$daemon"
wait "$daemon"
check 'SIGTERM ends it with status 0' $?
daemon=

report
