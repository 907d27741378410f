/* What both tokenizer targets do with a spec that was accepted: use it, and hold it to what
 * tokenizer.h promises for any spec and any text. */
#ifndef MB_TESTS_TRY_TOKENIZER_H
#define MB_TESTS_TRY_TOKENIZER_H

#include <stdlib.h>
#include <string.h>

#include "core/tokenizer/spec.h"
#include "core/tokenizer/tokenizer.h"
#include "core/tokenizer/utf8.h"

#define TRY(condition)      \
    do {                    \
        if (!(condition)) { \
            abort();        \
        }                   \
    } while (0)

enum { TRY_IDS_MAX = 1 << 16 };

/* Well-formed UTF-8 is decoded by pieces as it is as a whole. */
static inline void try_streaming(const struct mb_tokenizer *t, const struct mb_ids *ids)
{
    struct mb_error err;
    struct mb_bytes whole = { 0 }, joined = { 0 };
    struct mb_decoder d;
    TRY(mb_tokenizer_decode(t, ids->at, ids->len, false, &whole, &err) == MB_OK);
    mb_decoder_init(&d, t, false, false);
    for (size_t i = 0; i < ids->len; i++) {
        mb_decoder_push(&d, ids->at[i], &joined);
        TRY(mb_utf8_valid(joined.at, joined.len));
    }
    mb_decoder_finish(&d, &joined);
    TRY(mb_utf8_valid(joined.at, joined.len));
    if (mb_utf8_valid(whole.at, whole.len)) {
        TRY(whole.len == joined.len);
        TRY(whole.len == 0 || memcmp(whole.at, joined.at, whole.len) == 0);
    }
    mb_bytes_fini(&whole);
    mb_bytes_fini(&joined);
}

static inline void try_text(const struct mb_tokenizer *t, const void *text, size_t n,
                            unsigned flags)
{
    struct mb_error err;
    struct mb_ids ids = { 0 };
    enum mb_status st = mb_tokenizer_encode(t, text, n, flags, TRY_IDS_MAX, &ids, &err);
    TRY(st == MB_OK || ids.len == 0);
    TRY(ids.len <= TRY_IDS_MAX);
    for (size_t i = 0; i < ids.len; i++) {
        TRY(ids.at[i] < mb_tokenizer_n_vocab(t));
    }
    try_streaming(t, &ids);
    mb_ids_fini(&ids);
}

static inline void try_tokenizer(const struct mb_tokenizer *t, const void *text, size_t n)
{
    static const char sample[] =
        " Hello, wo\xcc\x81rld!  12\n\n\xf0\x9f\xa6\x99 </s> \xff<a>\t";
    try_text(t, sample, sizeof sample - 1, 0);
    try_text(t, sample, sizeof sample - 1, MB_ENCODE_BOS_EOS | MB_ENCODE_PARSE_SPECIAL);
    try_text(t, text, n, 0);
    try_text(t, text, n, MB_ENCODE_PARSE_SPECIAL);
    uint32_t id;
    const uint32_t *eos;
    TRY(!mb_tokenizer_bos(t, &id) || id < mb_tokenizer_n_vocab(t));
    for (size_t i = mb_tokenizer_eos(t, &eos); i-- > 0;) {
        TRY(eos[i] < mb_tokenizer_n_vocab(t));
    }
}

#endif
