#include "core/checkpoint/sections.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/checkpoint/reader.h"

/* The widths that sizes are made of. */
enum size { ONE, WIDTH, Q_WIDTH, KV_WIDTH, FFN_WIDTH, VOCAB, HALF_HEAD };

static uint32_t size_of(const struct mb_shape *s, enum size z)
{
    switch (z) {
    case ONE:
        return 1;
    case WIDTH:
        return s->width;
    case Q_WIDTH:
        return (uint32_t) mb_shape_q_width(s);
    case KV_WIDTH:
        return (uint32_t) mb_shape_kv_width(s);
    case FFN_WIDTH:
        return s->ffn_width;
    case VOCAB:
        return s->n_vocab;
    case HALF_HEAD:
        return s->head_width / 2;
    }
    return 0;
}

#define KIND(k) (1u << MB_SECTION_##k)

struct rule {
    const char *name;
    unsigned kinds; /* set of KIND */
    enum size n_rows, n_cols;
    enum { MUST, MAY, UNTIED } presence; /* UNTIED: exactly when the head is not tied */
    uint32_t bytes_max;                  /* of KIND(BYTES) */
};

static const struct rule rules[] = {
    /* FORMAT.md: sections */
    { "embed", KIND(BOOL) | KIND(F16), VOCAB, WIDTH, MUST, 0 },
    { "head", KIND(BOOL) | KIND(F16), VOCAB, WIDTH, UNTIED, 0 },
    { "head_in.t", KIND(F16), ONE, WIDTH, MAY, 0 },
    { "final_norm", KIND(F32), ONE, WIDTH, MUST, 0 },
    { "rope.inv_freq", KIND(F64), ONE, HALF_HEAD, MUST, 0 },
    { "tokenizer", KIND(BYTES), ONE, ONE, MAY, MB_FORMAT_TOKENIZER_MAX },
    { "chat_template", KIND(BYTES), ONE, ONE, MAY, MB_FORMAT_TEMPLATE_MAX },
    { "provenance", KIND(BYTES), ONE, ONE, MAY, MB_FORMAT_PROVENANCE_MAX },
};

static const struct rule block_rules[] = {
    /* each after "blocks.N." */
    { "attn_norm", KIND(F32), ONE, WIDTH, MUST, 0 },
    { "attn_in.t", KIND(F16), ONE, WIDTH, MAY, 0 },
    { "attn_q", KIND(BOOL), Q_WIDTH, WIDTH, MUST, 0 },
    { "attn_k", KIND(BOOL), KV_WIDTH, WIDTH, MUST, 0 },
    { "attn_v", KIND(BOOL), KV_WIDTH, WIDTH, MUST, 0 },
    { "attn_o_in.t", KIND(F16), ONE, Q_WIDTH, MAY, 0 },
    { "attn_o", KIND(BOOL), WIDTH, Q_WIDTH, MUST, 0 },
    { "ffn_norm", KIND(F32), ONE, WIDTH, MUST, 0 },
    { "ffn_in.t", KIND(F16), ONE, WIDTH, MAY, 0 },
    { "ffn_gate", KIND(BOOL), FFN_WIDTH, WIDTH, MUST, 0 },
    { "ffn_up", KIND(BOOL), FFN_WIDTH, WIDTH, MUST, 0 },
    { "ffn_down_in.t", KIND(F16), ONE, FFN_WIDTH, MAY, 0 },
    { "ffn_down", KIND(BOOL), WIDTH, FFN_WIDTH, MUST, 0 },
};
enum {
    N_RULES = sizeof rules / sizeof rules[0],
    N_BLOCK_RULES = sizeof block_rules / sizeof block_rules[0],
};

static void block_name(char ret[MB_FORMAT_NAME_BYTES], uint32_t layer, const char *part)
{
    (void) snprintf(ret, MB_FORMAT_NAME_BYTES, "blocks.%u.%s", layer, part);
}

static const struct rule *find_rule(const struct mb_shape *s, const char *name)
{
    for (size_t i = 0; i < N_RULES; i++) {
        if (strcmp(rules[i].name, name) == 0) {
            return rules[i].presence == UNTIED && s->tied_head ? NULL : &rules[i];
        }
    }
    unsigned layer;
    int n = 0;
    if (sscanf(name, "blocks.%4u.%n", &layer, &n) != 1 || n == 0 || layer >= s->n_layers) {
        return NULL;
    }
    char again[MB_FORMAT_NAME_BYTES]; /* one spelling only: not "blocks.007." */
    block_name(again, layer, name + n);
    for (size_t i = 0; i < N_BLOCK_RULES; i++) {
        if (strcmp(block_rules[i].name, name + n) == 0 && strcmp(again, name) == 0) {
            return &block_rules[i];
        }
    }
    return NULL;
}

enum mb_status mb_sections_check_name(const char *name, struct mb_error *err)
{
    size_t n = strnlen(name, MB_FORMAT_NAME_BYTES);
    if (n == 0 || n == MB_FORMAT_NAME_BYTES) {
        return mb_fail(err, MB_E_FORMAT, 0, "name: not of 1..%d characters",
                       MB_FORMAT_NAME_BYTES - 1);
    }
    for (size_t i = 0; i < MB_FORMAT_NAME_BYTES; i++) {
        char c = name[i];
        bool allowed = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_';
        if (i < n ? !allowed : c != '\0') {
            return mb_fail(err, MB_E_FORMAT, 0, "name: byte %zu is %s", i,
                           i < n ? "not one of a-z 0-9 . _" : "not the zero of its padding");
        }
    }
    return MB_OK;
}

static enum mb_status wrong(const char *field, uint64_t got, uint64_t want,
                            struct mb_error *err)
{
    return mb_fail(err, MB_E_FORMAT, 0, "%s: %llu, the shape asks for %llu", field,
                   (unsigned long long) got, (unsigned long long) want);
}

static enum mb_status check_bool(const struct mb_format_entry *e, struct mb_error *err)
{
    struct mb_bool_shape b = { e->n_rows, e->n_cols, e->group, e->n_kernels };
    if (mb_bool_shape_check(&b, err) != MB_OK) {
        return MB_E_FORMAT;
    }
    if (!isfinite(e->scale_all) || e->scale_all < 0) {
        return mb_fail(err, MB_E_FORMAT, 0,
                       "scale_all: %g is not a finite number of at least 0",
                       (double) e->scale_all);
    }
    size_t want = mb_format_bool_bytes(&b);
    return e->bytes == want ? MB_OK : wrong("bytes", e->bytes, want, err);
}

/* Fields that only Boolean matrices have are zero elsewhere. */
static enum mb_status check_plain(const struct rule *r, const struct mb_format_entry *e,
                                  struct mb_error *err)
{
    static const uint32_t element[MB_SECTION_KINDS] = {
        [MB_SECTION_F64] = 8,
        [MB_SECTION_F32] = 4,
        [MB_SECTION_F16] = 2,
    };
    uint32_t scale_bits;
    memcpy(&scale_bits, &e->scale_all, sizeof scale_bits);
    if (e->group != 0 || e->n_kernels != 0 || scale_bits != 0) {
        return mb_fail(err, MB_E_FORMAT, 0, "%s: not zero, and this is no Boolean matrix",
                       e->group != 0       ? "group"
                       : e->n_kernels != 0 ? "n_kernels"
                                           : "scale_all");
    }
    if (e->kind == MB_SECTION_BYTES) {
        return e->bytes <= r->bytes_max
                   ? MB_OK
                   : mb_fail(err, MB_E_FORMAT, 0, "bytes: %llu are more than %u",
                             (unsigned long long) e->bytes, r->bytes_max);
    }
    uint64_t want = (uint64_t) e->n_rows * e->n_cols * element[e->kind];
    return e->bytes == want ? MB_OK : wrong("bytes", e->bytes, want, err);
}

enum mb_status mb_sections_check_entry(const struct mb_shape *s,
                                       const struct mb_format_entry *e, struct mb_error *err)
{
    enum mb_status st = mb_sections_check_name(e->name, err);
    if (st != MB_OK) {
        return st;
    }
    const struct rule *r = find_rule(s, e->name);
    if (!r) {
        return mb_fail(err, MB_E_FORMAT, 0, "name: not a section of this format and shape");
    }
    if (e->kind == 0 || e->kind >= MB_SECTION_KINDS || !(r->kinds & 1u << e->kind)) {
        return mb_fail(err, MB_E_FORMAT, 0, "kind: %u is not what this section holds", e->kind);
    }
    bool sized = e->kind != MB_SECTION_BYTES;
    uint32_t n_rows = sized ? size_of(s, r->n_rows) : 0;
    uint32_t n_cols = sized ? size_of(s, r->n_cols) : 0;
    if (e->n_rows != n_rows) {
        return wrong("n_rows", e->n_rows, n_rows, err);
    }
    if (e->n_cols != n_cols) {
        return wrong("n_cols", e->n_cols, n_cols, err);
    }
    for (size_t i = 0; i < sizeof e->reserved; i++) {
        if (e->reserved[i] != 0) {
            return mb_fail(err, MB_E_FORMAT, 0, "reserved: byte %zu is not zero", i);
        }
    }
    return e->kind == MB_SECTION_BOOL ? check_bool(e, err) : check_plain(r, e, err);
}

static int by_name(const void *a, const void *b, void *entries)
{
    const struct mb_format_entry *e = entries;
    return strcmp(e[*(const uint32_t *) a].name, e[*(const uint32_t *) b].name);
}

void mb_sections_order(const struct mb_format_entry *entries, size_t n, uint32_t *order)
{
    for (size_t i = 0; i < n; i++) {
        order[i] = (uint32_t) i;
    }
    qsort_r(order, n, sizeof *order, by_name, (void *) (uintptr_t) entries);
}

size_t mb_sections_find(const struct mb_format_entry *entries, const uint32_t *order, size_t n,
                        const char *name)
{
    size_t lo = 0, hi = n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int sign = strcmp(name, entries[order[mid]].name);
        if (sign == 0) {
            return order[mid];
        }
        if (sign < 0) {
            hi = mid;
        } else {
            lo = mid + 1;
        }
    }
    return n;
}

/* Linears that read the same input share its coding, and so its groups. */
static enum mb_status check_groups(const struct mb_format_entry *entries, const uint32_t *order,
                                   size_t n, uint32_t layer, struct mb_error *err)
{
    static const char *const pairs[][2] = { { "attn_q", "attn_k" },
                                            { "attn_q", "attn_v" },
                                            { "ffn_gate", "ffn_up" } };
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        char a[MB_FORMAT_NAME_BYTES], b[MB_FORMAT_NAME_BYTES];
        block_name(a, layer, pairs[i][0]);
        block_name(b, layer, pairs[i][1]);
        uint32_t x = entries[mb_sections_find(entries, order, n, a)].group;
        uint32_t y = entries[mb_sections_find(entries, order, n, b)].group;
        if (x != y) {
            return mb_fail(
                err, MB_E_FORMAT, 0,
                "checkpoint: section '%s': group: %u, but '%s' of the same input has %u", b, y,
                a, x);
        }
    }
    return MB_OK;
}

static enum mb_status check_present(const struct mb_format_entry *entries,
                                    const uint32_t *order, size_t n, const char *name,
                                    struct mb_error *err)
{
    if (mb_sections_find(entries, order, n, name) == n) {
        return mb_fail(err, MB_E_FORMAT, 0, "checkpoint: section '%s' is missing", name);
    }
    return MB_OK;
}

enum mb_status mb_sections_check_all(const struct mb_shape *s,
                                     const struct mb_format_entry *entries,
                                     const uint32_t *order, size_t n, struct mb_error *err)
{
    for (size_t i = 1; i < n; i++) {
        if (strcmp(entries[order[i - 1]].name, entries[order[i]].name) == 0) {
            return mb_fail(err, MB_E_FORMAT, 0,
                           "checkpoint: section %u '%s': name: occurs twice", order[i],
                           entries[order[i]].name);
        }
    }
    enum mb_status st = MB_OK;
    for (size_t i = 0; i < N_RULES && st == MB_OK; i++) {
        if (rules[i].presence == MUST || (rules[i].presence == UNTIED && !s->tied_head)) {
            st = check_present(entries, order, n, rules[i].name, err);
        }
    }
    for (uint32_t layer = 0; layer < s->n_layers && st == MB_OK; layer++) {
        for (size_t i = 0; i < N_BLOCK_RULES && st == MB_OK; i++) {
            char name[MB_FORMAT_NAME_BYTES];
            block_name(name, layer, block_rules[i].name);
            if (block_rules[i].presence == MUST) {
                st = check_present(entries, order, n, name, err);
            }
        }
        if (st == MB_OK) {
            st = check_groups(entries, order, n, layer, err);
        }
    }
    return st;
}
