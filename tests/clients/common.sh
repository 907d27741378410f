# What the scripts of this folder share: a folder to work in, checks that are counted, and text to
# learn. The last line of a script is report.
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
run=0 failed=0

check() { # NAME STATUS
    run=$((run + 1))
    if [ "$2" -ne 0 ]; then
        failed=$((failed + 1))
        echo "FAILED $1"
    fi
}

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

# Documents of a few words, all different: word i of document j is picked by arithmetic.
text() { # FROM TO
    awk -v from="$1" -v to="$2" 'BEGIN {
        split("the man and then an old tin hat on a hill that ran in the rain", w, " ")
        for (j = from; j < to; j++) {
            for (i = 0; i < 40; i++) { printf "%s ", w[1 + (i * i * 7 + i * j + j) % 16] }
            print "\n<|endoftext|>"
        }
    }'
}

report() {
    printf 'CHECKS %d RUN %d FAILED\n' "$run" "$failed"
    [ "$failed" -eq 0 ]
}
