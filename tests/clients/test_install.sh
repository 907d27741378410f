#!/usr/bin/env bash
# Goal:   what 'meson install' puts in place is all there, below DESTDIR and nowhere else, and works.
# Method: install into a fresh folder; pages through groff with warnings, where there is groff;
#         completions through their shells, bash's also asked for words.
#
#     test_install.sh MESON BUILD
set -u
meson=$1 build=$2
. "$(dirname "$0")/common.sh"

DESTDIR=$dir "$meson" install -C "$build" --no-rebuild --quiet >/dev/null
check 'meson install' $?
prefix=$dir$("$meson" introspect --buildoptions "$build" | python3 -c '
import json, sys
print(next(o["value"] for o in json.load(sys.stdin) if o["name"] == "prefix"))')
for file in bin/mbool bin/mboold share/man/man1/mbool.1 share/man/man8/mboold.8 \
    share/man/man5/mboold.conf.5 share/man/man5/mbool-format.5 \
    share/bash-completion/completions/mbool share/bash-completion/completions/mboold \
    share/zsh/site-functions/_mbool share/zsh/site-functions/_mboold \
    share/fish/vendor_completions.d/mbool.fish share/fish/vendor_completions.d/mboold.fish; do
    [ -s "$prefix/$file" ]
    check "$file" $?
done
"$prefix/bin/mbool" --version | grep -q '^mbool [0-9]'
check 'the installed mbool runs' $?

share=$prefix/share
for option in $("$prefix/bin/mbool" run --help | grep -o '^  --[a-z-]*'); do
    grep -q -- "$(echo "$option" | sed 's/-/\\\\-/g')" "$share/man/man1/mbool.1"
    check "mbool(1) has $option" $?
done
if command -v groff >/dev/null; then
    for page in "$share"/man/man*/*; do
        said=$(groff -t -man -Tutf8 -ww -rLL=100n "$page" 2>&1 >/dev/null | grep -v 'adjust line\|break line')
        check "$(basename "$page"): $said" "${#said}"
    done
else
    echo 'SKIPPED no groff here to read manual pages'
fi

# The words that bash offers after the words given, the last of which is being written.
offered() {
    bash -c 'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); "_$1"
        printf "%s\n" "${COMPREPLY[@]}"' - "$share/bash-completion/completions/$1" "$@" 2>&1
}
offered mbool co | grep -qx convert && offered mbool co | grep -qx complete
check 'bash completes commands' $?
[ "$(offered mbool run --temp)" = --temperature ]
check 'bash completes options of a command' $?
[ "$(offered mboold --log-format j)" = json ]
check 'bash completes values' $?
[ "$(offered mboold --heart)" = --heartbeat-timeout ]
check 'bash completes options' $?
for name in mbool mboold; do
    if command -v zsh >/dev/null; then
        zsh -n "$share/zsh/site-functions/_$name"
        check "zsh reads _$name" $?
    else
        echo "SKIPPED no zsh here to read _$name"
    fi
    if command -v fish >/dev/null; then
        fish -n "$share/fish/vendor_completions.d/$name.fish"
        check "fish reads $name.fish" $?
    else
        echo "SKIPPED no fish here to read $name.fish"
    fi
done

report
