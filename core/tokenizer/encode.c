/* Encoding: a text on its way from bytes to ids.
 *
 *     any bytes -> UTF-8          what is not UTF-8 rides along as private-use characters
 *     -> stretches between added tokens that stand in the raw text
 *     -> normalized -> stretches between added tokens of the normalized text
 *     -> pieces -> symbols -> merges -> ids
 */
#include <assert.h>
#include <string.h>

#include "core/tokenizer/byte_level.h"
#include "core/tokenizer/compiled.h"
#include "core/tokenizer/utf8.h"

/* The text that is taken at once; everything made of it then has 32-bit offsets. */
#define TEXT_BYTES_MAX (64u << 20)

/* A byte b that belongs to no character travels as U+10FF00 + b, which no normalizer changes
 * and patterns see as a character that is neither letter, number nor space. A text that holds
 * these very characters has them taken apart in the same way, so that no two texts become one.
 * */
enum {
    FOREIGN = 0x10ff00,
    FOREIGN_LEAD = 0xf4,
    FOREIGN_SECOND = 0x8f,
    FOREIGN_THIRD_MIN = 0xbc
};

struct encoder {
    const struct mb_tokenizer *t;
    const struct mb_added *raw_added;
    struct mb_ids *ids;
    size_t n_text;  /* bytes of all that is to be encoded */
    size_t ids_max; /* that it may become, after the len_before that were there */
    size_t len_before;
    struct mb_bytes utf8;
    struct mb_rewrite normal;
    struct mb_pieces pieces;
    struct mb_matcher matcher;
    struct mb_bpe bpe;
    struct mb_bytes word; /* a piece in the byte-level alphabet */
};

static enum mb_status no_memory(struct mb_error *err)
{
    return mb_fail(err, MB_E_NOMEM, 0, "tokenizer: no memory to encode a text");
}

static bool is_foreign(const uint8_t *at, size_t n)
{
    return n >= 4 && at[0] == FOREIGN_LEAD && at[1] == FOREIGN_SECOND &&
           at[2] >= FOREIGN_THIRD_MIN;
}

static bool needs_foreign(const uint8_t *at, size_t n)
{
    for (size_t i = 0; i < n;) {
        if (at[i] < 0x80) {
            i++;
            continue;
        }
        struct mb_utf8 u = mb_utf8_first(at + i, n - i);
        if (u.kind != MB_UTF8_CHAR || u.c >= FOREIGN) {
            return true;
        }
        i += u.n;
    }
    return false;
}

/* Well-formed UTF-8 for any bytes. */
static void put_with_foreign(const uint8_t *at, size_t n, struct mb_bytes *ret)
{
    for (size_t i = 0; i < n;) {
        struct mb_utf8 u = mb_utf8_first(at + i, n - i);
        if (u.kind == MB_UTF8_CHAR && u.c < FOREIGN) {
            mb_bytes_put(ret, at + i, u.n);
        } else {
            for (size_t j = 0; j < u.n; j++) {
                uint8_t stand_in[MB_UTF8_MAX];
                size_t len = mb_utf8_put(FOREIGN + (uint32_t) at[i + j], stand_in);
                mb_bytes_put(ret, stand_in, len);
            }
        }
        i += u.n;
    }
}

static enum mb_status emit(struct encoder *e, uint32_t id, struct mb_error *err)
{
    if (e->ids->len - e->len_before >= e->ids_max) { /* how many more is not counted: R1 */
        return mb_fail(err, MB_E_LIMIT, 0,
                       "a text of %zu bytes is more tokens than the %zu allowed", e->n_text,
                       e->ids_max);
    }
    return mb_ids_push(e->ids, id) ? MB_OK : no_memory(err);
}

/* A token of text; special ones are never made of characters. */
static uint32_t find_plain(const struct mb_tokenizer *t, const uint8_t *at, size_t n)
{
    uint32_t id = mb_vocabulary_find(&t->vocabulary, at, n);
    return id != MB_NO_ID && mb_tokenizer_is_special(t, id) ? MB_NO_ID : id;
}

static bool push_bytes(struct encoder *e, const uint8_t *at, size_t n, bool *ret_known)
{
    *ret_known = false;
    for (size_t i = 0; i < n; i++) {
        if (e->t->byte_ids[at[i]] == MB_NO_ID) {
            return true;
        }
    }
    *ret_known = true;
    for (size_t i = 0; i < n; i++) {
        if (!mb_bpe_push(&e->bpe, e->t->byte_ids[at[i]])) {
            return false;
        }
    }
    return true;
}

/* The symbols of one character of n bytes; *was_unknown is about the one before, then this one.
 * */
static bool push_character(struct encoder *e, const uint8_t *at, size_t n, bool *was_unknown)
{
    const struct mb_tokenizer *t = e->t;
    bool foreign = is_foreign(at, n);
    uint8_t byte = foreign ? (uint8_t) (at[2] << 6 | (at[3] & 0x3f)) : 0;
    uint32_t id = foreign ? MB_NO_ID : find_plain(t, at, n);
    bool known = false;
    if (id == MB_NO_ID && !push_bytes(e, foreign ? &byte : at, foreign ? 1 : n, &known)) {
        return false;
    }
    if (foreign && !known) {
        id = find_plain(t, (const uint8_t *) MB_REPLACEMENT, sizeof MB_REPLACEMENT - 1);
    }
    if (known || id != MB_NO_ID) {
        *was_unknown = false;
        return known || mb_bpe_push(&e->bpe, id);
    }
    bool fused = *was_unknown && t->spec->flags & MB_BPE_FUSE_UNK;
    *was_unknown = true;
    return fused || t->spec->unk == MB_NO_ID || mb_bpe_push(&e->bpe, t->spec->unk);
}

/* The symbols of a byte-level piece: its bytes. */
static bool push_byte(struct encoder *e, uint8_t byte, bool *was_unknown)
{
    uint32_t id = e->t->byte_ids[byte];
    bool fused = *was_unknown && e->t->spec->flags & MB_BPE_FUSE_UNK;
    *was_unknown = id == MB_NO_ID;
    if (id == MB_NO_ID) {
        id = fused ? MB_NO_ID : e->t->spec->unk;
    }
    return id == MB_NO_ID || mb_bpe_push(&e->bpe, id);
}

static bool push_piece(struct encoder *e, const uint8_t *at, size_t n)
{
    bool was_unknown = false;
    bool byte_level = e->t->splitter.byte_level;
    mb_bpe_clear(&e->bpe);
    for (size_t i = 0; i < n;) {
        size_t len = byte_level && !is_foreign(at + i, n - i) ? 1 : mb_utf8_len(at[i]);
        bool ok;
        if (!byte_level) {
            ok = push_character(e, at + i, len, &was_unknown);
        } else if (len == 1) {
            ok = push_byte(e, at[i], &was_unknown);
        } else {
            ok = push_byte(e, (uint8_t) (at[i + 2] << 6 | (at[i + 3] & 0x3f)), &was_unknown);
        }
        if (!ok) {
            return false;
        }
        i += len;
    }
    return true;
}

/* The token that is the whole piece, or MB_NO_ID. */
static uint32_t find_piece(struct encoder *e, const uint8_t *at, size_t n)
{
    if (n > MB_BPE_TOKEN_BYTES_MAX) {
        return MB_NO_ID;
    }
    if (!e->t->splitter.byte_level) {
        return find_plain(e->t, at, n);
    }
    mb_bytes_clear(&e->word);
    for (size_t i = 0; i < n; i++) {
        uint8_t character[MB_UTF8_MAX];
        mb_bytes_put(&e->word, character, mb_utf8_put(mb_byte_level_char(at[i]), character));
    }
    return e->word.failed ? MB_NO_ID : find_plain(e->t, e->word.at, e->word.len);
}

static enum mb_status encode_piece(struct encoder *e, const uint8_t *at, size_t n,
                                   struct mb_error *err)
{
    if (e->t->spec->flags & MB_BPE_IGNORE_MERGES) {
        uint32_t id = find_piece(e, at, n);
        if (e->word.failed) {
            return no_memory(err);
        }
        if (id != MB_NO_ID) {
            return emit(e, id, err);
        }
    }
    if (!push_piece(e, at, n) || !mb_bpe_merge(&e->bpe, &e->t->merges)) {
        return no_memory(err);
    }
    enum mb_status st = MB_OK;
    for (size_t i = 0; i < e->bpe.n && st == MB_OK; i++) {
        st = emit(e, e->bpe.symbols[i].id, err);
    }
    return st;
}

/* Normalized text without added tokens. */
static enum mb_status encode_plain(struct encoder *e, struct mb_text text, bool first,
                                   struct mb_error *err)
{
    if (text.n == 0) {
        return MB_OK;
    }
    enum mb_status st = mb_split(&e->t->splitter, text, first, &e->matcher, &e->pieces, err);
    for (size_t i = 0; i < e->pieces.list.len && st == MB_OK; i++) {
        struct mb_piece p = e->pieces.list.at[i];
        st = encode_piece(e, e->pieces.text.at + p.at, p.n, err);
    }
    return st;
}

typedef enum mb_status stretch_fn(struct encoder *e, struct mb_text text, bool first,
                                  struct mb_error *err);

/* Calls fn for what lies between added tokens, and emits these. */
static enum mb_status between_added(struct encoder *e, const struct mb_added *added,
                                    struct mb_text text, bool first, stretch_fn *fn,
                                    struct mb_error *err)
{
    enum mb_status st = MB_OK;
    size_t from = 0, start, end;
    uint32_t id;
    while (st == MB_OK && mb_added_next(added, text, from, &start, &end, &id)) {
        st = fn(e, (struct mb_text) { text.at + from, start - from }, first && from == 0, err);
        if (st == MB_OK) {
            st = emit(e, id, err);
        }
        from = end;
    }
    if (st == MB_OK) {
        st = fn(e, (struct mb_text) { text.at + from, text.n - from }, first && from == 0, err);
    }
    return st;
}

static enum mb_status encode_raw(struct encoder *e, struct mb_text text, bool first,
                                 struct mb_error *err)
{
    struct mb_text normal;
    enum mb_status st = mb_normalize(e->t->spec, text, &e->normal, &normal, err);
    if (st != MB_OK) {
        return st;
    }
    return between_added(e, &e->t->added[MB_ADDED_NORMALIZED], normal, first, encode_plain,
                         err);
}

static enum mb_status emit_all(struct encoder *e, const struct mb_bpe_ids *ids,
                               struct mb_error *err)
{
    enum mb_status st = MB_OK;
    for (uint32_t i = 0; i < ids->n && st == MB_OK; i++) {
        st = emit(e, ids->at[i], err);
    }
    return st;
}

static enum mb_status encode(struct encoder *e, struct mb_text text, unsigned flags,
                             struct mb_error *err)
{
    if (needs_foreign(text.at, text.n)) {
        put_with_foreign(text.at, text.n, &e->utf8);
        if (e->utf8.failed) {
            return no_memory(err);
        }
        text = (struct mb_text) { e->utf8.at, e->utf8.len };
    }
    enum mb_status st = MB_OK;
    if (flags & MB_ENCODE_BOS_EOS) {
        st = emit_all(e, &e->t->spec->prefix, err);
    }
    if (st == MB_OK) {
        st = between_added(e, e->raw_added, text, true, encode_raw, err);
    }
    if (st == MB_OK && flags & MB_ENCODE_BOS_EOS) {
        st = emit_all(e, &e->t->spec->suffix, err);
    }
    return st;
}

enum mb_status mb_tokenizer_encode(const struct mb_tokenizer *t, const char *text, size_t n,
                                   unsigned flags, size_t ids_max, struct mb_ids *ret,
                                   struct mb_error *err)
{
    if (n > TEXT_BYTES_MAX) {
        return mb_fail(err, MB_E_LIMIT, 0, "a text of %zu bytes is longer than %u", n,
                       TEXT_BYTES_MAX);
    }
    size_t len_before = ret->len;
    bool special = flags & MB_ENCODE_PARSE_SPECIAL;
    struct encoder e = {
        .t = t,
        .raw_added = &t->added[special ? MB_ADDED_PLAIN_OR_SPECIAL : MB_ADDED_PLAIN],
        .ids = ret,
        .n_text = n,
        .ids_max = ids_max,
        .len_before = len_before,
    };
    enum mb_status st = mb_matcher_init(&e.matcher, n, err);
    if (st == MB_OK) {
        st = encode(&e, (struct mb_text) { (const uint8_t *) text, n }, flags, err);
    }
    if (st != MB_OK) {
        ret->len = len_before;
    }
    mb_bytes_fini(&e.utf8);
    mb_rewrite_fini(&e.normal);
    mb_pieces_fini(&e.pieces);
    mb_matcher_fini(&e.matcher);
    mb_bpe_fini(&e.bpe);
    mb_bytes_fini(&e.word);
    return st;
}
