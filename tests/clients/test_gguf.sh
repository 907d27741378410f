#!/usr/bin/env bash
# Goal:   a GGUF file is taken wherever a folder is: by convert, eval and generate.
# Method: the small files of the fuzz corpus, and the smallest real one when it is here; the
#         checkpoint must verify, and say what it was made of.
# Usage:  test_gguf.sh MBOOL CORPUS
set -u
mbool=$1 corpus=$2
run=0 failed=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# expect STATUS 'pattern' COMMAND...: exit status, and a pattern in what it printed anywhere.
expect() {
    local status=$1 pattern=$2 out got
    shift 2
    run=$((run + 1))
    out=$("$@" 2>&1 </dev/null)
    got=$?
    if [ "$got" -ne "$status" ] || ! grep -qE -- "$pattern" <<<"$out"; then
        failed=$((failed + 1))
        printf 'FAILED %s: status %d, wanted %d and /%s/ in:\n%s\n' "$*" "$got" "$status" \
            "$pattern" "$out"
    fi
}

printf 'abababab' >"$work/text"
real=${MB_DATA:-}/models/llama-2-tiny-random.gguf
[ -f "$real" ] || real=
for model in "$corpus/small_f32_llama" "$corpus/small_q8_gpt2" $real; do
    name=$(basename "$model")
    expect 0 'of weights' "$mbool" convert "$model" -o "$work/out.mbool"
    expect 0 ': ok' "$mbool" verify "$work/out.mbool"
    expect 0 "source.file: $name $(stat -L -c %s "$model") bytes" "$mbool" inspect "$work/out.mbool"
    for either in "$model" "$work/out.mbool"; do
        expect 0 '"nll": ' "$mbool" eval --json "$either" --text "$work/text"
        expect 0 '' "$mbool" generate "$either" --prompt ab --max-tokens 3
    done
done
[ -n "$real" ] || echo "SKIPPED no models/llama-2-tiny-random.gguf"

cut=$work/cut.gguf
head -c 900 "$corpus/small_f32_llama" >"$cut"
printf 'no model' >"$work/other"
expect 1 "cut.gguf: (key|tensor) " "$mbool" convert "$cut" -o "$work/none.mbool"
expect 1 "cut.gguf: (key|tensor) " "$mbool" generate "$cut" --prompt ab
expect 1 'magic is not GGUF' "$mbool" convert "$work/other" -o "$work/none.mbool"
expect 1 'checkpoint: header' "$mbool" generate "$work/other" --prompt ab
expect 1 'none.mbool' "$mbool" verify "$work/none.mbool"

echo "CHECKS $run RUN $failed FAILED"
[ "$failed" -eq 0 ]
