#include "core/tokenizer/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "core/tokenizer/byte_level.h"
#include "core/tokenizer/compiled.h"
#include "core/tokenizer/utf8.h"

/* The token of each byte, as this vocabulary spells it. */
static void find_bytes(struct mb_tokenizer *t)
{
    static const char digits[] = "0123456789ABCDEF";
    for (unsigned byte = 0; byte < 256; byte++) {
        uint8_t text[8] = "<0x00>";
        size_t n = 6;
        if (t->splitter.byte_level) {
            n = mb_utf8_put(mb_byte_level_char((uint8_t) byte), text);
        } else if (t->spec->flags & MB_BPE_BYTE_FALLBACK) {
            text[3] = (uint8_t) digits[byte >> 4];
            text[4] = (uint8_t) digits[byte & 15];
        } else {
            n = 0;
        }
        t->byte_ids[byte] = n ? mb_vocabulary_find(&t->vocabulary, text, n) : MB_NO_ID;
    }
}

static enum mb_status compile(struct mb_tokenizer *t, struct mb_error *err)
{
    enum mb_status st = mb_vocabulary_init(&t->vocabulary, t->spec, err);
    if (st == MB_OK) {
        st = mb_merges_init(&t->merges, t->spec, err);
    }
    if (st == MB_OK) {
        st = mb_splitter_init(&t->splitter, t->spec, err);
    }
    for (unsigned place = 0; place <= MB_ADDED_NORMALIZED && st == MB_OK; place++) {
        st = mb_added_init(&t->added[place], t->spec, (enum mb_added_place) place, err);
    }
    if (st == MB_OK) {
        find_bytes(t);
        st = mb_decode_compile(t, err);
    }
    return st;
}

/* Takes ownership of spec, whatever the outcome; it passes mb_bpe_spec_check. */
static enum mb_status own(struct mb_bpe_spec *spec, struct mb_tokenizer **ret,
                          struct mb_error *err)
{
    struct mb_tokenizer *t = calloc(1, sizeof *t);
    if (!t) {
        mb_bpe_spec_free(spec);
        return mb_fail(err, MB_E_NOMEM, 0, "tokenizer: no memory");
    }
    t->spec = spec;
    enum mb_status st = compile(t, err);
    if (st != MB_OK) {
        mb_tokenizer_free(t);
        return st;
    }
    *ret = t;
    return MB_OK;
}

enum mb_status mb_tokenizer_new(const struct mb_bpe_spec *spec, struct mb_tokenizer **ret,
                                struct mb_error *err)
{
    enum mb_status st = mb_bpe_spec_check(spec, err);
    if (st != MB_OK) {
        return st;
    }
    struct mb_bytes bytes = { 0 };
    mb_bpe_spec_write(spec, &bytes);
    if (bytes.failed) {
        st = mb_fail(err, MB_E_NOMEM, 0, "tokenizer: no memory");
    } else {
        st = mb_tokenizer_from_bytes(bytes.at, bytes.len, ret, err);
    }
    mb_bytes_fini(&bytes);
    return st;
}

enum mb_status mb_tokenizer_from_bytes(const uint8_t *at, size_t n, struct mb_tokenizer **ret,
                                       struct mb_error *err)
{
    struct mb_bpe_spec *spec;
    enum mb_status st = mb_bpe_spec_read(at, n, &spec, err);
    return st == MB_OK ? own(spec, ret, err) : st;
}

void mb_tokenizer_free(struct mb_tokenizer *t)
{
    if (!t) {
        return;
    }
    mb_vocabulary_fini(&t->vocabulary);
    mb_merges_fini(&t->merges);
    mb_splitter_fini(&t->splitter);
    for (unsigned place = 0; place <= MB_ADDED_NORMALIZED; place++) {
        mb_added_fini(&t->added[place]);
    }
    mb_bytes_fini(&t->decoded);
    free(t->decoded_of);
    mb_bpe_spec_free(t->spec);
    free(t);
}

void mb_ids_fini(struct mb_ids *ids)
{
    if (ids) {
        free(ids->at);
        *ids = (struct mb_ids) { 0 };
    }
}

bool mb_ids_push(struct mb_ids *ids, uint32_t id)
{
    if (ids->len == ids->cap) {
        size_t cap = ids->cap ? 2 * ids->cap : 64;
        uint32_t *p = realloc(ids->at, cap * sizeof *p);
        if (!p) {
            return false;
        }
        ids->at = p;
        ids->cap = cap;
    }
    ids->at[ids->len++] = id;
    return true;
}

uint32_t mb_tokenizer_n_vocab(const struct mb_tokenizer *t)
{
    return t->spec->n_tokens;
}

bool mb_tokenizer_is_special(const struct mb_tokenizer *t, uint32_t id)
{
    return id < t->spec->n_tokens && t->spec->tokens[id].flags & MB_TOKEN_SPECIAL;
}

bool mb_tokenizer_find(const struct mb_tokenizer *t, const char *text, uint32_t *ret)
{
    uint32_t id = mb_vocabulary_find(&t->vocabulary, (const uint8_t *) text, strlen(text));
    if (id == MB_NO_ID) {
        return false;
    }
    *ret = id;
    return true;
}

bool mb_tokenizer_bos(const struct mb_tokenizer *t, uint32_t *ret)
{
    const struct mb_bpe_spec *s = t->spec;
    uint32_t id = s->prefix.n > 0 ? s->prefix.at[0] : s->bos;
    if (id == MB_NO_ID) {
        return false;
    }
    *ret = id;
    return true;
}

size_t mb_tokenizer_eos(const struct mb_tokenizer *t, const uint32_t **ret)
{
    *ret = t->spec->eos.at;
    return t->spec->eos.n;
}
