#!/usr/bin/env bash
# Goal:   'mbool inspect' and 'mbool verify' tell a good checkpoint from a damaged one, to people and to
#         programs, and say so in their exit status.
# Method: the golden checkpoints of the fuzz corpus, and one with a byte changed.
# Usage:  test_inspect_verify.sh MBOOL CORPUS
set -u
mbool=$1 corpus=$2
. "$(dirname "$0")/common.sh"

good=$corpus/small_full
damaged=$dir/damaged
cp "$good" "$damaged"
printf '\xff\xff' | dd of="$damaged" bs=1 seek=7200 conv=notrunc 2>/dev/null # in the head
cut=$dir/cut
head -c 7000 "$good" >"$cut"
named=$dir/named # an escape sequence in a text that nothing has verified yet
sed 's/kernels: 3/ker\x1b[2J: 3/' "$good" >"$named"

infinite=$dir/infinite # in the last norm, which nothing has verified
cp "$good" "$infinite"
at=$("$mbool" inspect --json "$good" | grep -A 3 '"final_norm"' | sed -n 's/.*"offset": \([0-9]*\).*/\1/p')
printf '\x00\x00\x80\x7f' | dd of="$infinite" bs=1 seek="$at" conv=notrunc 2>/dev/null
printf 'abcabcabc' >"$dir/text"

expect 0 ': ok, 7296 bytes in 21 sections, digest [0-9a-f]{16}$' "$mbool" verify "$good"
expect 0 '"ok": true' "$mbool" verify --json "$good"
expect 0 '"sections": 21' "$mbool" verify "$good" --json
expect 1 "section 20 'head': checksum" "$mbool" verify "$damaged"
expect 1 '"ok": false' "$mbool" verify --json "$damaged"
expect 1 "\"error\": \"checkpoint: section 20 'head': checksum" "$mbool" verify --json "$damaged"
expect 1 'file_bytes: 7296, but the file has 7000' "$mbool" verify "$cut"
expect 1 'magic: this is not an .mbool file' "$mbool" verify "$0"
expect 1 'none' "$mbool" verify "$dir/none"
expect 2 'wants one argument, a checkpoint; got 0' "$mbool" verify
expect 2 'wants one argument, a checkpoint; got 2' "$mbool" inspect a b
expect 2 'see: mbool inspect --help' "$mbool" inspect --nonsense
expect 0 '"nll": ' "$mbool" eval --json --isa c "$good" --text "$dir/text"
expect 1 'logits are not finite' "$mbool" eval --json --isa c "$infinite" --text "$dir/text"
expect 0 'usage: mbool inspect FILE' "$mbool" inspect --help
if [ -c /dev/full ]; then # whatever is printed, losing it is a failure
    for command in "inspect $good" "inspect --json $good" "verify $good" --help --version; do
        expect 1 'mbool: standard output: No space' bash -c "'$mbool' $command >/dev/full"
    done
fi

expect 0 'vocabulary 20, context 16, separate head' "$mbool" inspect "$good"
expect 0 'tokenizer  20 tokens' "$mbool" inspect "$good"
expect 0 'kernels 2, groups of 32' "$mbool" inspect "$good"
expect 0 'window 4, tied head' "$mbool" inspect "$corpus/small_tied"
expect 0 'tokenizer  none' "$mbool" inspect "$corpus/small_tied"
expect 0 'embed +float16 +20 x 8 +16\.000 +320$' "$mbool" inspect "$corpus/small_half"
expect 0 'ker\?\[2J: 3' "$mbool" inspect "$named"
expect 0 'blocks.0.ffn_down +boolean' "$mbool" inspect "$damaged" # structure only
expect 1 'file_bytes' "$mbool" inspect "$cut"
expect 0 '"bits_per_weight": 20.0245399' "$mbool" inspect --json "$good" # 8 x 3264 / 1304
expect 0 '"kernels": "3"' "$mbool" inspect --json "$good"
expect 0 '"b"' "$mbool" inspect --json "$good" # the second of two values of one key
expect 0 '"chat_template": null' "$mbool" inspect --json "$corpus/small_tied"

report
