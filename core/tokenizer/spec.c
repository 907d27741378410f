#include "core/tokenizer/spec.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { MAGIC = 0x4550424d /* "MBPE" */, VERSION = 1 };
enum { TOKEN_BYTES_MIN = 3, MERGE_BYTES = 12 }; /* on disk */

struct mb_bpe_spec *mb_bpe_spec_new(void)
{
    struct mb_bpe_spec *s = calloc(1, sizeof *s);
    if (s) {
        s->unk = MB_NO_ID;
        s->bos = MB_NO_ID;
    }
    return s;
}

void mb_bpe_spec_free(struct mb_bpe_spec *s)
{
    if (!s) {
        return;
    }
    mb_bytes_fini(&s->text);
    free(s->tokens);
    free(s->merges);
    free(s);
}

struct mb_bpe_text mb_bpe_spec_text(struct mb_bpe_spec *s, const void *at, size_t n)
{
    size_t start = s->text.len;
    if (n > UINT32_MAX - 1 || start > UINT32_MAX - 1 - n) {
        s->text.failed = true;
    }
    mb_bytes_put(&s->text, at, n);
    if (s->text.failed) {
        return (struct mb_bpe_text) { 0 };
    }
    return (struct mb_bpe_text) { (uint32_t) start, (uint32_t) n };
}

/* Doubles an array of at least one element more than n. */
static void *grow(void *array, uint32_t n, uint32_t *cap, size_t size)
{
    uint32_t want = *cap < 64 ? 64 : *cap;
    while (want <= n) {
        want *= 2; /* n is below the bounds of spec.h: no overflow */
    }
    void *p = realloc(array, want * size);
    if (p) {
        *cap = want;
    }
    return p;
}

enum mb_status mb_bpe_spec_token(struct mb_bpe_spec *s, uint32_t id, const void *text, size_t n,
                                 uint32_t flags, struct mb_error *err)
{
    if (id >= MB_BPE_TOKENS_MAX) {
        return mb_fail(err, MB_E_LIMIT, 0, "token id %u is not below %u", id,
                       MB_BPE_TOKENS_MAX);
    }
    if (id >= s->tokens_cap) {
        struct mb_bpe_token *p = grow(s->tokens, id, &s->tokens_cap, sizeof *p);
        if (!p) {
            return mb_fail(err, MB_E_NOMEM, 0, "token %u: no memory", id);
        }
        s->tokens = p;
    }
    struct mb_bpe_text copy = mb_bpe_spec_text(s, text, n);
    if (s->text.failed) {
        return mb_fail(err, MB_E_NOMEM, 0, "token %u: no memory for its text", id);
    }
    while (s->n_tokens <= id) {
        s->tokens[s->n_tokens++] = (struct mb_bpe_token) { 0 };
    }
    s->tokens[id] = (struct mb_bpe_token) { copy, flags | MB_TOKEN_PRESENT };
    return MB_OK;
}

enum mb_status mb_bpe_spec_merge(struct mb_bpe_spec *s, struct mb_bpe_merge m,
                                 struct mb_error *err)
{
    if (s->n_merges >= MB_BPE_MERGES_MAX) {
        return mb_fail(err, MB_E_LIMIT, 0, "more than %u merges", MB_BPE_MERGES_MAX);
    }
    if (s->n_merges >= s->merges_cap) {
        struct mb_bpe_merge *p = grow(s->merges, s->n_merges, &s->merges_cap, sizeof *p);
        if (!p) {
            return mb_fail(err, MB_E_NOMEM, 0, "merge %u: no memory", s->n_merges);
        }
        s->merges = p;
    }
    s->merges[s->n_merges++] = m;
    return MB_OK;
}

enum mb_status mb_bpe_spec_step(struct mb_bpe_spec *s, enum mb_bpe_stage stage,
                                struct mb_bpe_step step, struct mb_error *err)
{
    assert(stage < MB_BPE_STAGES);
    struct mb_bpe_steps *steps = &s->stages[stage];
    if (steps->n >= MB_BPE_STEPS_MAX) {
        return mb_fail(err, MB_E_LIMIT, 0, "more than %u steps in a stage", MB_BPE_STEPS_MAX);
    }
    steps->at[steps->n++] = step;
    return MB_OK;
}

enum mb_status mb_bpe_ids_add(struct mb_bpe_ids *ids, uint32_t id, struct mb_error *err)
{
    if (ids->n >= MB_BPE_IDS_MAX) {
        return mb_fail(err, MB_E_LIMIT, 0, "more than %u ids in a list", MB_BPE_IDS_MAX);
    }
    ids->at[ids->n++] = id;
    return MB_OK;
}

bool mb_bpe_ids_has(const struct mb_bpe_ids *ids, uint32_t id)
{
    for (uint32_t i = 0; i < ids->n; i++) {
        if (ids->at[i] == id) {
            return true;
        }
    }
    return false;
}

static void put_text(struct mb_bytes *b, const struct mb_bpe_spec *s, struct mb_bpe_text t)
{
    assert(t.n <= UINT16_MAX);
    mb_bytes_put_u16(b, (uint16_t) t.n);
    mb_bytes_put(b, mb_bpe_at(s, t), t.n);
}

static void put_steps(struct mb_bytes *b, const struct mb_bpe_spec *s,
                      const struct mb_bpe_steps *steps)
{
    mb_bytes_put_u8(b, (uint8_t) steps->n);
    for (uint32_t i = 0; i < steps->n; i++) {
        const struct mb_bpe_step *p = &steps->at[i];
        mb_bytes_put_u8(b, p->kind);
        mb_bytes_put_u8(b, p->flags);
        mb_bytes_put_u8(b, p->mode);
        mb_bytes_put_u8(b, p->count_start);
        mb_bytes_put_u8(b, p->count_stop);
        put_text(b, s, p->pattern);
        put_text(b, s, p->content);
    }
}

static void put_ids(struct mb_bytes *b, const struct mb_bpe_ids *ids)
{
    mb_bytes_put_u8(b, (uint8_t) ids->n);
    for (uint32_t i = 0; i < ids->n; i++) {
        mb_bytes_put_u32(b, ids->at[i]);
    }
}

void mb_bpe_spec_write(const struct mb_bpe_spec *s, struct mb_bytes *ret)
{
    const uint32_t head[] = {
        MAGIC, VERSION, s->flags, s->unk, s->bos, s->n_tokens, s->n_merges
    };
    for (size_t i = 0; i < sizeof head / sizeof *head; i++) {
        mb_bytes_put_u32(ret, head[i]);
    }
    for (uint32_t i = 0; i < s->n_tokens; i++) {
        mb_bytes_put_u8(ret, (uint8_t) s->tokens[i].flags);
        put_text(ret, s, s->tokens[i].text);
    }
    for (uint32_t i = 0; i < s->n_merges; i++) {
        mb_bytes_put_u32(ret, s->merges[i].left);
        mb_bytes_put_u32(ret, s->merges[i].right);
        mb_bytes_put_u32(ret, s->merges[i].result);
    }
    for (size_t i = 0; i < MB_BPE_STAGES; i++) {
        put_steps(ret, s, &s->stages[i]);
    }
    put_ids(ret, &s->prefix);
    put_ids(ret, &s->suffix);
    put_ids(ret, &s->eos);
}

static enum mb_status cut_short(struct mb_error *err, const char *where)
{
    return mb_fail(err, MB_E_FORMAT, 0, "tokenizer: %s: cut short", where);
}

static struct mb_bpe_text read_text(struct mb_cursor *c, struct mb_bpe_spec *s)
{
    uint16_t n = mb_cursor_u16(c);
    const uint8_t *at = mb_cursor_take(c, n);
    return at ? mb_bpe_spec_text(s, at, n) : (struct mb_bpe_text) { 0 };
}

static enum mb_status read_head(struct mb_cursor *c, struct mb_bpe_spec *s,
                                struct mb_error *err)
{
    uint32_t magic = mb_cursor_u32(c);
    uint32_t version = mb_cursor_u32(c);
    s->flags = mb_cursor_u32(c);
    s->unk = mb_cursor_u32(c);
    s->bos = mb_cursor_u32(c);
    uint32_t n_tokens = mb_cursor_u32(c);
    uint32_t n_merges = mb_cursor_u32(c);
    if (c->failed) {
        return cut_short(err, "header");
    }
    if (magic != MAGIC) {
        return mb_fail(err, MB_E_FORMAT, 0, "tokenizer: header: magic is not MBPE");
    }
    if (version != VERSION) {
        return mb_fail(err, MB_E_UNSUPPORTED, 0,
                       "tokenizer: version %u is not supported; supported: %d", version,
                       VERSION);
    }
    /* Asked before anything is allocated: memory stays in proportion to the bytes given. */
    if (n_tokens > MB_BPE_TOKENS_MAX || n_tokens > c->left / TOKEN_BYTES_MIN) {
        return mb_fail(err, MB_E_FORMAT, 0, "tokenizer: n_tokens: %u is too many", n_tokens);
    }
    if (n_merges > MB_BPE_MERGES_MAX || n_merges > c->left / MERGE_BYTES) {
        return mb_fail(err, MB_E_FORMAT, 0, "tokenizer: n_merges: %u is too many", n_merges);
    }
    s->tokens = calloc(n_tokens ? n_tokens : 1, sizeof *s->tokens);
    s->merges = calloc(n_merges ? n_merges : 1, sizeof *s->merges);
    if (!s->tokens || !s->merges) {
        return mb_fail(err, MB_E_NOMEM, 0, "tokenizer: no memory for %u tokens and %u merges",
                       n_tokens, n_merges);
    }
    s->n_tokens = s->tokens_cap = n_tokens;
    s->n_merges = s->merges_cap = n_merges;
    return MB_OK;
}

static enum mb_status read_steps(struct mb_cursor *c, struct mb_bpe_spec *s,
                                 struct mb_bpe_steps *ret, struct mb_error *err)
{
    uint32_t n = mb_cursor_u8(c);
    if (n > MB_BPE_STEPS_MAX) {
        return mb_fail(err, MB_E_FORMAT, 0, "tokenizer: %u steps in a stage, at most %u", n,
                       MB_BPE_STEPS_MAX);
    }
    for (ret->n = 0; ret->n < n; ret->n++) {
        struct mb_bpe_step *p = &ret->at[ret->n];
        p->kind = mb_cursor_u8(c);
        p->flags = mb_cursor_u8(c);
        p->mode = mb_cursor_u8(c);
        p->count_start = mb_cursor_u8(c);
        p->count_stop = mb_cursor_u8(c);
        p->pattern = read_text(c, s);
        p->content = read_text(c, s);
    }
    return c->failed ? cut_short(err, "steps") : MB_OK;
}

static enum mb_status read_ids(struct mb_cursor *c, const char *name, struct mb_bpe_ids *ret,
                               struct mb_error *err)
{
    uint32_t n = mb_cursor_u8(c);
    if (n > MB_BPE_IDS_MAX) {
        return mb_fail(err, MB_E_FORMAT, 0, "tokenizer: %s: %u ids, at most %u", name, n,
                       MB_BPE_IDS_MAX);
    }
    for (ret->n = 0; ret->n < n; ret->n++) {
        ret->at[ret->n] = mb_cursor_u32(c);
    }
    return c->failed ? cut_short(err, name) : MB_OK;
}

static enum mb_status read_all(struct mb_cursor *c, struct mb_bpe_spec *s, struct mb_error *err)
{
    enum mb_status st = read_head(c, s, err);
    if (st != MB_OK) {
        return st;
    }
    for (uint32_t i = 0; i < s->n_tokens; i++) {
        s->tokens[i].flags = mb_cursor_u8(c);
        s->tokens[i].text = read_text(c, s);
    }
    for (uint32_t i = 0; i < s->n_merges; i++) {
        s->merges[i].left = mb_cursor_u32(c);
        s->merges[i].right = mb_cursor_u32(c);
        s->merges[i].result = mb_cursor_u32(c);
    }
    if (c->failed) {
        return cut_short(err, "tokens and merges");
    }
    for (size_t i = 0; i < MB_BPE_STAGES && st == MB_OK; i++) {
        st = read_steps(c, s, &s->stages[i], err);
    }
    if (st == MB_OK) {
        st = read_ids(c, "prefix", &s->prefix, err);
    }
    if (st == MB_OK) {
        st = read_ids(c, "suffix", &s->suffix, err);
    }
    if (st == MB_OK) {
        st = read_ids(c, "eos", &s->eos, err);
    }
    if (st == MB_OK && c->left > 0) {
        st = mb_fail(err, MB_E_FORMAT, 0, "tokenizer: %zu bytes after the end", c->left);
    }
    if (st == MB_OK && s->text.failed) {
        st = mb_fail(err, MB_E_NOMEM, 0, "tokenizer: no memory for its texts");
    }
    return st;
}

enum mb_status mb_bpe_spec_read(const uint8_t *at, size_t n, struct mb_bpe_spec **ret,
                                struct mb_error *err)
{
    struct mb_bpe_spec *s = mb_bpe_spec_new();
    if (!s) {
        return mb_fail(err, MB_E_NOMEM, 0, "tokenizer: no memory");
    }
    struct mb_cursor c = mb_cursor_of(at, n);
    enum mb_status st = read_all(&c, s, err);
    if (st == MB_OK) {
        st = mb_bpe_spec_check(s, err);
    }
    if (st != MB_OK) {
        mb_bpe_spec_free(s);
        return st;
    }
    *ret = s;
    return MB_OK;
}
