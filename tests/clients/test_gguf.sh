#!/usr/bin/env bash
# Goal:   a GGUF file is taken wherever a folder is: by convert, eval and generate.
# Method: the small files of the fuzz corpus, and the smallest real one when it is here; the
#         checkpoint must verify, and say what it was made of.
# Usage:  test_gguf.sh MBOOL CORPUS
set -u
mbool=$1 corpus=$2
. "$(dirname "$0")/common.sh"

printf 'abababab' >"$dir/text"
real=${MB_DATA:-}/models/llama-2-tiny-random.gguf
[ -f "$real" ] || real=
for model in "$corpus/small_f32_llama" "$corpus/small_q8_gpt2" $real; do
    name=$(basename "$model")
    expect 0 'of weights' "$mbool" convert "$model" -o "$dir/out.mbool"
    expect 0 ': ok' "$mbool" verify "$dir/out.mbool"
    expect 0 "source.file: $name $(stat -L -c %s "$model") bytes" "$mbool" inspect "$dir/out.mbool"
    for either in "$model" "$dir/out.mbool"; do
        expect 0 '"nll": ' "$mbool" eval --json "$either" --text "$dir/text"
        expect 0 '' "$mbool" generate "$either" --prompt ab --max-tokens 3
    done
done
[ -n "$real" ] || echo "SKIPPED no models/llama-2-tiny-random.gguf"

cut=$dir/cut.gguf
head -c 900 "$corpus/small_f32_llama" >"$cut"
printf 'no model' >"$dir/other"
expect 1 "cut.gguf: (key|tensor) " "$mbool" convert "$cut" -o "$dir/none.mbool"
expect 1 "cut.gguf: (key|tensor) " "$mbool" generate "$cut" --prompt ab
expect 1 'magic is not GGUF' "$mbool" convert "$dir/other" -o "$dir/none.mbool"
expect 1 'checkpoint: header' "$mbool" generate "$dir/other" --prompt ab
expect 1 'none.mbool' "$mbool" verify "$dir/none.mbool"

report
