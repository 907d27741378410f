#!/usr/bin/env bash
# Goal:   compare finds a figure that dropped, is not misled by a disturbed pair, and says when it
#         can not tell.
# Method: two folders with a fake mbool each, which prints figures of its own and keeps a record of
#         its calls.
# Usage:  test_compare.sh COMPARE
set -u
compare=$1
run=0 failed=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# fake NAME 'SHELL': a build whose mbool runs SHELL to set prompt and decode, n being its call's number.
fake() {
    mkdir -p "$work/$1/clients"
    cat >"$work/$1/clients/mbool" <<END
#!/usr/bin/env bash
echo "$1 \$*" >>"$work/calls"
n=\$(grep -c "^$1 " "$work/calls")
prompt=600 decode=100
$2
echo '{"prompt": [{"tokens": 128, "tokens_per_s": '\$prompt'}],
       "decode": [{"batch": 1, "context": 128, "tokens_per_s": '\$decode'}]}'
END
    chmod +x "$work/$1/clients/mbool"
}

# expect STATUS 'pattern' ARGUMENT...: exit status, and a pattern in what was printed anywhere.
expect() {
    local status=$1 pattern=$2 out got
    shift 2
    run=$((run + 1))
    rm -f "$work/calls"
    out=$("$compare" "$@" 2>&1 </dev/null)
    got=$?
    if [ "$got" -ne "$status" ] || ! grep -qE -- "$pattern" <<<"$out"; then
        failed=$((failed + 1))
        printf 'FAILED %s: status %d, wanted %d and /%s/ in:\n%s\n' "$*" "$got" "$status" \
            "$pattern" "$out"
    fi
}

a=$work/a b=$work/b
fake a ''
fake b 'decode=97'
expect 0 'decode 1 at 128 +100\.0 +97\.0 +0\.970   0\.970 to 0\.970$' "$a" "$b" m
expect 1 'decode 1 at 128 .*DROPPED' --drop 2 "$a" "$b" m
expect 0 'prompt 128 +600\.0 +600\.0 +1\.000' "$a" "$b" m
fake b 'prompt=560'
expect 1 'dropped by more than 5 %: prompt 128$' "$a" "$b" m
fake b '[ $n -le 2 ] && prompt=10' # two pairs of five were disturbed
expect 0 'prompt 128 .* 1\.000   0\.017 to 1\.000$' "$a" "$b" m
fake b '[ $n -le 3 ] && prompt=10'
expect 1 'prompt 128 .*DROPPED' "$a" "$b" m

# In turns, the other one first in every second pair; options for the bench are passed on.
fake b ''
expect 0 'pair 3 of 3' --pairs 3 "$a" "$b" m --prompt 128 --decode 1
run=$((run + 1))
order=$(cut -c1 "$work/calls" | tr -d '\n')
if [ "$order" != abbaab ] || grep -vqE '^[ab] bench m --json --prompt 128 --decode 1$' "$work/calls"; then
    failed=$((failed + 1))
    printf 'FAILED calls:\n%s\n' "$(cat "$work/calls")"
fi
expect 0 'pair 5 of 5' "$a" "$b" m
run=$((run + 1))
if [ "$(sort -u "$work/calls")" != $'a bench m --json --quick\nb bench m --json --quick' ]; then
    failed=$((failed + 1))
    printf 'FAILED calls without options:\n%s\n' "$(cat "$work/calls")"
fi

fake b 'exit 3'
expect 2 'compare: .*/b/clients/mbool bench m .*status 3' "$a" "$b" m
fake b 'echo none; exit'
expect 2 'compare: .*/b/clients/mbool' "$a" "$b" m
fake b 'echo "{\"prompt\": [], \"decode\": []}"; exit'
expect 2 'measured nothing' "$a" "$b" m
fake b 'echo "{\"prompt\": [{\"tokens\": 32, \"tokens_per_s\": 1}], \"decode\": []}"; exit'
expect 2 'different figures' "$a" "$b" m
fake b 'prompt=0'
expect 2 'measured nothing' "$a" "$b" m
expect 2 'No such file' "$a" "$work/nowhere" m
expect 2 'usage: compare' "$a" "$b"
expect 2 'at least one' --pairs 0 "$a" "$b" m

printf 'CHECKS %d RUN %d FAILED\n' "$run" "$failed"
[ "$failed" -eq 0 ]
