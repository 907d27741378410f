/* A checkpoint of a model far too small to say anything, with every section that the format
 * knows and every size ragged: what the tests of the format and the seeds of its fuzzing are
 * made of. */
#ifndef MB_TESTS_TINY_CHECKPOINT_H
#define MB_TESTS_TINY_CHECKPOINT_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/rng.h"
#include "core/checkpoint/writer.h"
#include "core/tokenizer/spec.h"

#define TINY_SHAPE                                                                      \
    {                                                                                   \
        .n_layers = 2, .width = 40, .n_heads = 2, .n_kv_heads = 1, .head_width = 8,     \
        .ffn_width = 50, .n_vocab = 20, .context = 32, .n_planes = 8, .norm_eps = 1e-5f \
    }

static const struct mb_shape tiny_shape = TINY_SHAPE;

struct tiny_options {
    struct mb_shape shape;
    uint32_t n_kernels, group;
    bool optional; /* the sections that may be absent */
    bool half;     /* embedding and head in float16 */
};

static const struct tiny_options tiny_full = { TINY_SHAPE, 3, 32, true, false };

/* The letters a to s, and "ab": as bytes of a tokenizer section. */
static inline void tiny_tokenizer(struct mb_bytes *ret)
{
    struct mb_bpe_spec *spec = mb_bpe_spec_new();
    struct mb_error err;
    if (!spec) {
        ret->failed = true;
        return;
    }
    for (uint32_t id = 0; id < 20; id++) {
        char letter = (char) ('a' + id);
        (void) mb_bpe_spec_token(spec, id, id < 19 ? &letter : "ab", id < 19 ? 1 : 2,
                                 MB_TOKEN_PRESENT, &err);
    }
    (void) mb_bpe_spec_merge(spec, (struct mb_bpe_merge) { 0, 1, 19 }, &err);
    mb_bpe_spec_write(spec, ret);
    mb_bpe_spec_free(spec);
}

/* Valid contents that depend on nothing but seed. */
static inline void tiny_fill(struct mb_bool_draft *d, uint64_t seed)
{
    const struct mb_bool_shape *s = &d->shape;
    static uint32_t words[MB_KERNELS_MAX][MB_GROUP_COLS_MAX / MB_WORD_COLS];
    d->scale_all = 0.5f;
    for (size_t row = 0; row < s->n_rows; row++) {
        for (size_t g = 0; g < mb_bool_groups(s); g++) {
            uint8_t coef[MB_KERNELS_MAX];
            const uint32_t *signs[MB_KERNELS_MAX];
            size_t n_words = mb_bool_group_words(s, g);
            size_t spare = n_words * MB_WORD_COLS - mb_bool_group_cols(s, g);
            for (size_t k = 0; k < s->n_kernels; k++) {
                coef[k] = (uint8_t) (8 - k);
                signs[k] = words[k];
                for (size_t w = 0; w < n_words; w++) {
                    uint64_t at = (row * 64 + g) * 64 + k * 8 + w;
                    words[k][w] = (uint32_t) mb_rng_u64(seed, 1, at);
                }
                words[k][n_words - 1] &= UINT32_MAX >> spare;
            }
            mb_bool_draft_set(d, row, g, (uint16_t) (0x3c00 + row % 7), coef, signs);
        }
    }
}

static inline enum mb_status tiny_add_bool(struct mb_checkpoint_writer *w, const char *name,
                                           const struct tiny_options *o, uint32_t n_rows,
                                           uint32_t n_cols, struct mb_error *err)
{
    struct mb_bool_shape shape = { n_rows, n_cols, o->group, o->n_kernels };
    struct mb_bool_draft d;
    enum mb_status st = mb_bool_draft_init(&d, &shape, err);
    if (st != MB_OK) {
        return st;
    }
    tiny_fill(&d, n_rows * 1000 + n_cols);
    struct mb_bool_matrix m = mb_bool_draft_view(&d);
    st = mb_checkpoint_add_bool(w, name, &m, err);
    mb_bool_draft_fini(&d);
    return st;
}

static inline enum mb_status tiny_add_embed(struct mb_checkpoint_writer *w, const char *name,
                                            const struct tiny_options *o, struct mb_error *err)
{
    const struct mb_shape *s = &o->shape;
    if (!o->half) {
        return tiny_add_bool(w, name, o, s->n_vocab, s->width, err);
    }
    uint16_t *at = calloc((size_t) s->n_vocab * s->width, sizeof *at);
    if (!at) {
        return mb_fail(err, MB_E_NOMEM, 0, "tiny");
    }
    for (size_t i = 0; i < (size_t) s->n_vocab * s->width; i++) {
        at[i] = (uint16_t) (0x3000 + i % 1000);
    }
    enum mb_status st = mb_checkpoint_add_f16(w, name, at, s->n_vocab, s->width, err);
    free(at);
    return st;
}

static inline enum mb_status tiny_add_block(struct mb_checkpoint_writer *w,
                                            const struct tiny_options *o, unsigned layer,
                                            struct mb_error *err)
{
    const struct mb_shape *s = &o->shape;
    uint32_t q = (uint32_t) mb_shape_q_width(s), kv = (uint32_t) mb_shape_kv_width(s);
    const struct {
        const char *name;
        char kind; /* n: norm, t: input scale, b: Boolean */
        uint32_t n_rows, n_cols;
    } rows[] = {
        { "attn_norm", 'n', 1, s->width },
        { "attn_in.t", 't', 1, s->width },
        { "attn_q", 'b', q, s->width },
        { "attn_k", 'b', kv, s->width },
        { "attn_v", 'b', kv, s->width },
        { "attn_o_in.t", 't', 1, q },
        { "attn_o", 'b', s->width, q },
        { "ffn_norm", 'n', 1, s->width },
        { "ffn_in.t", 't', 1, s->width },
        { "ffn_gate", 'b', s->ffn_width, s->width },
        { "ffn_up", 'b', s->ffn_width, s->width },
        { "ffn_down_in.t", 't', 1, s->ffn_width },
        { "ffn_down", 'b', s->width, s->ffn_width },
    };
    float norm[64];
    uint16_t t[64];
    for (size_t i = 0; i < 64; i++) {
        norm[i] = 1 + (float) i / 64;
        t[i] = (uint16_t) (0x3c00 + i);
    }
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char name[64];
        (void) snprintf(name, sizeof name, "blocks.%u.%s", layer, rows[i].name);
        enum mb_status st = MB_OK;
        if (rows[i].kind == 'n') {
            st = mb_checkpoint_add_f32(w, name, norm, rows[i].n_cols, err);
        } else if (rows[i].kind == 'b') {
            st = tiny_add_bool(w, name, o, rows[i].n_rows, rows[i].n_cols, err);
        } else if (o->optional) {
            st = mb_checkpoint_add_f16(w, name, t, 1, rows[i].n_cols, err);
        }
        if (st != MB_OK) {
            return st;
        }
    }
    return MB_OK;
}

/* The sections that are text for someone else. */
static inline enum mb_status tiny_add_texts(struct mb_checkpoint_writer *w,
                                            struct mb_error *err)
{
    static const char how[] = "source: tiny\nfile: a\nfile: b\nkernels: 3\n";
    static const char chat[] = "{% for m in messages %}{{ m.content }}{% endfor %}";
    struct mb_bytes tokenizer = { 0 };
    tiny_tokenizer(&tokenizer);
    enum mb_status st = mb_checkpoint_add_bytes(w, "chat_template", chat, sizeof chat - 1, err);
    if (st == MB_OK) {
        st = mb_checkpoint_add_bytes(w, "provenance", how, sizeof how - 1, err);
    }
    if (st == MB_OK) {
        st = mb_checkpoint_add_bytes(w, "tokenizer", tokenizer.at, tokenizer.len, err);
    }
    mb_bytes_fini(&tokenizer);
    return st;
}

/* Widths up to 64. */
static inline enum mb_status tiny_write(const char *path, const struct tiny_options *o,
                                        struct mb_error *err)
{
    const struct mb_shape *s = &o->shape;
    struct mb_checkpoint_writer *w;
    double inv_freq[32];
    float norm[64];
    uint16_t t[64];
    for (size_t i = 0; i < 64; i++) {
        inv_freq[i / 2] = 1.0 / (double) (1 + i);
        norm[i] = 1;
        t[i] = 0x3c00;
    }

    enum mb_status st = mb_checkpoint_writer_open(path, s, 13 * s->n_layers + 8, &w, err);
    if (st != MB_OK) {
        return st;
    }
    if ((o->optional && (st = tiny_add_texts(w, err)) != MB_OK) ||
        (st = mb_checkpoint_add_f64(w, "rope.inv_freq", inv_freq, s->head_width / 2, err)) !=
            MB_OK ||
        (st = tiny_add_embed(w, "embed", o, err)) != MB_OK) {
        mb_checkpoint_writer_abort(w);
        return st;
    }
    for (unsigned i = 0; i < s->n_layers && st == MB_OK; i++) {
        st = tiny_add_block(w, o, i, err);
    }
    if (st != MB_OK ||
        (st = mb_checkpoint_add_f32(w, "final_norm", norm, s->width, err)) != MB_OK ||
        (o->optional &&
         (st = mb_checkpoint_add_f16(w, "head_in.t", t, 1, s->width, err)) != MB_OK) ||
        (!s->tied_head && (st = tiny_add_embed(w, "head", o, err)) != MB_OK)) {
        mb_checkpoint_writer_abort(w);
        return st;
    }
    return mb_checkpoint_writer_commit(w, err);
}

#endif
