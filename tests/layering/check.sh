#!/usr/bin/env bash
# Goal:   the code keeps the shape that core/README.md and server/README.md promise.
# Method: includes follow the arrow proto <- core <- server, clients -> proto and core; each foreign
#         header stands only in its place; core neither logs nor asks for time or environment;
#         prefixes tell the layer; every header compiles alone; nothing strays to the top level.
set -u
cd "${1:-$(dirname "$0")/../..}" || exit 1
cc=${CC:-gcc}
run=0 failed=0

# check NAME "offending lines": an empty second argument passes.
check() {
    run=$((run + 1))
    if [ -n "$2" ]; then
        failed=$((failed + 1))
        printf 'FAILED %s\n%s\n' "$1" "$2"
    fi
}

sources() { # of a layer
    find "$@" -name '*.[ch]' 2>/dev/null | sort
}

# Project includes of a layer that are not in the allowed layers.
strays() {
    local layer=$1 allowed=$2
    sources "$layer" | xargs -r grep -nE '^[[:space:]]*#[[:space:]]*include[[:space:]]+"' /dev/null |
        grep -vE "include[[:space:]]+\"($allowed)/"
}
check 'proto includes proto only' "$(strays proto 'proto')"
check 'core includes core and proto only' "$(strays core 'core|proto')"
check 'server includes server, core and proto only' "$(strays server 'server|core|proto')"
check 'clients include clients, core and proto only' "$(strays clients 'clients|core|proto')"

# A foreign header and the places where it may stand. Tests may use what they check with.
foreign() {
    local header=$1 places=$2
    check "<$header> stands only in: $places" "$(sources proto core server clients |
        xargs -r grep -nE "include[[:space:]]*<$header" /dev/null | grep -vE "^($places)")"
}
foreign 'microhttpd\.h' 'server/http/'
foreign 'uv\.h' 'server/loop/'
foreign 'jansson\.h' 'proto/json/|server/config/|core/import/|core/template/json_read\.c|clients/cli/'
foreign 'cblas\.h' 'core/tensor/blas\.c'
foreign '(openblas_config|lapacke?)\.h' 'core/tensor/blas\.c'
foreign '(immintrin|x86intrin|emmintrin)\.h' 'core/kernels/x86/'
foreign 'cpuid\.h' 'core/kernels/cpu\.c'
foreign 'pcre2\.h' 'core/tokenizer/'
foreign 'utf8proc\.h' 'core/tokenizer/'
foreign 'zstd\.h' 'core/checkpoint/delta'
foreign 'xxhash\.h' 'core/base/checksum\.c'
foreign 'sqlite3\.h' 'server/store/'
foreign 'gnutls/.*\.h' 'server/access/secret\.c|server/http/tls\.c|server/health\.c'
foreign 'curl/curl\.h' 'clients/'

# Core returns, or calls a progress function; it does not speak, and does not look around.
calls='\b(printf|puts|perror|syslog|getenv|secure_getenv|clock_gettime|gettimeofday|time|clock|setlocale)[[:space:]]*\('
check 'core and proto neither log nor read clock or environment' "$(sources core proto |
    xargs -r grep -nE "$calls|fprintf[[:space:]]*\([[:space:]]*std(err|out)" /dev/null |
    grep -vE ':[[:space:]]*(/?\*|//)')"

# The prefix tells the layer.
check 'mbd_ and mbc_ do not occur in core and proto' \
    "$(sources core proto | xargs -r grep -nwE '(mbd|mbc)_[a-z0-9_]+' /dev/null)"
check 'mbc_ does not occur in server' "$(sources server | xargs -r grep -nwE 'mbc_[a-z0-9_]+' /dev/null)"
check 'mbd_ does not occur in clients' "$(sources clients | xargs -r grep -nwE 'mbd_[a-z0-9_]+' /dev/null)"

check 'no flag that would break reproducible floating point' \
    "$(grep -rnE 'fast-math|-Ofast|funsafe-math' --include=meson.build . | grep -v '#')"

# A header of an instruction set is compiled with its flags, as the files that include it are.
isa_flags() {
    case $1 in
    *_avx2.h) echo "-mavx2 -mfma -mf16c" ;;
    *_avx512.h) echo "-mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512vl -mavx512dq" ;;
    esac
}

alone=
for header in $(find proto core server clients deploy tests -name '*.h' | sort); do
    read -r -a isa <<<"$(isa_flags "$header")"
    out=$("$cc" -std=c11 "${isa[@]}" -D_GNU_SOURCE -Wall -Wextra -pedantic -Werror -I. -fsyntax-only \
        -DMB_VERSION='""' -x c - 2>&1 <<<"#include \"$header\"
typedef int mb_not_empty;") || alone+="$header:
$out
"
done
check 'every header compiles alone' "$alone"

if git rev-parse --is-inside-work-tree >/dev/null 2>&1; then
    check 'nothing strays to the top level' "$(git ls-files | cut -d/ -f1 | sort -u |
        grep -vxE 'meson\.build|README\.md|LICENSE|server|core|proto|clients|tests|deploy|config|\..*')"
fi

printf 'CHECKS %d RUN %d FAILED\n' "$run" "$failed"
[ "$failed" -eq 0 ]
