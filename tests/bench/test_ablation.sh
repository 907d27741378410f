#!/usr/bin/env bash
# Goal:   the ablation still runs: every part of it, the table, the plots; and says what it lacks.
# Method: the quick mode on a small random model, whose figures mean nothing; those that must hold
#         whatever the weights are checked; then the same again, which measures nothing.
# Usage:  test_ablation.sh ABLATION BUILD MAKE_FOLDER
set -u
ablation=$1 build=$2 make_folder=$3
. "$(dirname "$0")/../clients/common.sh"

# The benchmark's programs free nothing: their memory ends with them. mbool's leaks are looked for by
# the tests of its commands.
export ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0

"$make_folder" "$dir/float"
text 0 60 >"$dir/train.txt"
text 100 110 >"$dir/valid.txt"
quick() {
    "$ablation" "$build" --quick --model "$dir/float" --train "$dir/train.txt" --valid "$dir/valid.txt" \
        -o "$dir/out" --threads 2 "$@"
}

quick >"$dir/first" 2>"$dir/first.err"
check "the first run: $(tail -n 3 "$dir/first.err")" $?
[ "$(grep -c '^## ' "$dir/out/table.md")" -eq 7 ]
check 'a table for each part' $?
for plot in ppl kl; do
    python3 -c 'import sys, xml.dom.minidom as x; x.parse(sys.argv[1])' "$dir/out/$plot.svg"
    check "$plot.svg is XML" $?
    for curve in 'Boolean, group 64' 'Boolean, trained by flips' 'successive SVID' 'GPTQ, group 64' \
        'to nearest, clipped, group 64'; do
        grep -q ">$curve<" "$dir/out/$plot.svg"
        check "$plot.svg has a curve of: $curve" $?
    done
done
python3 - "$dir/out/results.json" <<'END'
import json, sys
r = json.load(open(sys.argv[1]))["results"]
base = r["float"]
assert base["kl"] == 0 and base["top1"] == 1, base
assert r["gptq bits=3 group=64"]["bits_per_weight"] == r["rtn bits=3 group=64"]["bits_per_weight"]
assert r["rtn bits=3 group=64"]["kl"] < r["rtn bits=2 group=64"]["kl"]
two = [v for k, v in r.items() if k.startswith("boolean --kernels 2 --group 64 ")]
assert len(two) >= 9 and all(v["bits_per_weight"] == two[0]["bits_per_weight"] for v in two), two
kinds = {k.split()[-1]: v for k, v in r.items() if k.startswith("train ")}
assert set(kinds) == {"coefficients", "stochastic", "accumulate", "latent"}, kinds
assert all(v["tokens"] == base["tokens"] for v in r.values() if "tokens" in v)
END
check 'the figures' $?

cp "$dir/out/table.md" "$dir/table.md"
quick >/dev/null 2>"$dir/again.err"
check 'again' $?
[ ! -s "$dir/again.err" ] && cmp -s "$dir/table.md" "$dir/out/table.md"
check 'again: nothing is measured twice, and the table is the same' $?
expect 1 'measured with other settings' quick --group 32
expect 2 "no part 'colour'" quick --only colour
expect 2 'go together' "$ablation" "$build" --model "$dir/float"
MB_DATA=$dir/nowhere expect 77 'SKIPPED no .*stories3M' "$ablation" "$build"
report
