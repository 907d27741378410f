#include "core/model/model.h"

#include <assert.h>
#include <stdbool.h>
#include <stdio.h>

#include "core/base/memory.h"

static const struct {
    const char *name;
    enum mb_block_input input;
} linears[MB_BLOCK_LINEARS] = {
    [MB_ATTN_Q] = { "attn_q", MB_IN_ATTN },         [MB_ATTN_K] = { "attn_k", MB_IN_ATTN },
    [MB_ATTN_V] = { "attn_v", MB_IN_ATTN },         [MB_ATTN_O] = { "attn_o", MB_IN_ATTN_O },
    [MB_FFN_GATE] = { "ffn_gate", MB_IN_FFN },      [MB_FFN_UP] = { "ffn_up", MB_IN_FFN },
    [MB_FFN_DOWN] = { "ffn_down", MB_IN_FFN_DOWN },
};

static const struct {
    const char *name, *scale;
} inputs[MB_BLOCK_INPUTS] = {
    [MB_IN_ATTN] = { "attn_in", "attn_in.t" },
    [MB_IN_ATTN_O] = { "attn_o_in", "attn_o_in.t" },
    [MB_IN_FFN] = { "ffn_in", "ffn_in.t" },
    [MB_IN_FFN_DOWN] = { "ffn_down_in", "ffn_down_in.t" },
};

const char *mb_block_linear_name(enum mb_block_linear l)
{
    assert(l < MB_BLOCK_LINEARS);
    return linears[l].name;
}

const char *mb_block_input_name(enum mb_block_input i)
{
    assert(i < MB_BLOCK_INPUTS);
    return inputs[i].name;
}

const char *mb_block_scale_name(enum mb_block_input i)
{
    assert(i < MB_BLOCK_INPUTS);
    return inputs[i].scale;
}

enum mb_block_input mb_block_linear_input(enum mb_block_linear l)
{
    assert(l < MB_BLOCK_LINEARS);
    return linears[l].input;
}

const char *mb_block_tensor_name(char ret[MB_TENSOR_NAME_MAX], uint32_t layer, const char *part)
{
    int n = snprintf(ret, MB_TENSOR_NAME_MAX, "blocks.%u.%s", (unsigned) layer, part);
    assert(n > 0 && n < MB_TENSOR_NAME_MAX);
    (void) n;
    return ret;
}

uint32_t mb_block_input_width(const struct mb_shape *s, enum mb_block_input i)
{
    switch (i) {
    case MB_IN_ATTN_O:
        return (uint32_t) mb_shape_q_width(s);
    case MB_IN_FFN_DOWN:
        return s->ffn_width;
    default:
        return s->width;
    }
}

void mb_block_linear_size(const struct mb_shape *s, enum mb_block_linear l, uint32_t *ret_rows,
                          uint32_t *ret_cols)
{
    *ret_cols = mb_block_input_width(s, mb_block_linear_input(l));
    switch (l) {
    case MB_ATTN_Q:
        *ret_rows = (uint32_t) mb_shape_q_width(s);
        break;
    case MB_ATTN_K:
    case MB_ATTN_V:
        *ret_rows = (uint32_t) mb_shape_kv_width(s);
        break;
    case MB_FFN_GATE:
    case MB_FFN_UP:
        *ret_rows = s->ffn_width;
        break;
    default:
        *ret_rows = s->width;
    }
}

enum mb_status mb_model_new(const struct mb_shape *shape, struct mb_model **ret,
                            struct mb_error *err)
{
    enum mb_status st = mb_shape_check(shape, err);
    if (st != MB_OK) {
        return st;
    }
    struct mb_model *m = mb_alloc(1, sizeof *m);
    struct mb_block *blocks = mb_alloc(shape->n_layers, sizeof *blocks);
    if (!m || !blocks) {
        mb_free(m);
        mb_free(blocks);
        return mb_fail(err, MB_E_NOMEM, 0, "no memory for a model of %u layers",
                       (unsigned) shape->n_layers);
    }
    m->shape = *shape;
    m->blocks = blocks;
    atomic_init(&m->n_refs, 1);
    *ret = m;
    return MB_OK;
}

struct mb_model *mb_model_ref(struct mb_model *m)
{
    unsigned before = atomic_fetch_add_explicit(&m->n_refs, 1, memory_order_relaxed);
    assert(before > 0);
    (void) before;
    return m;
}

void mb_model_unref(struct mb_model *m)
{
    if (!m) {
        return;
    }
    unsigned before = atomic_fetch_sub_explicit(&m->n_refs, 1, memory_order_acq_rel);
    assert(before > 0);
    if (before > 1) {
        return;
    }
    if (m->release) {
        m->release(m->owner);
    }
    mb_free(m->blocks);
    mb_free(m);
}

static enum mb_status check_linear(const struct mb_linear *l, const char *name, uint32_t n_rows,
                                   uint32_t n_cols, struct mb_error *err)
{
    const struct mb_bool_matrix *b = &l->boolean;
    bool present =
        l->kind == MB_LINEAR_BOOL ? b->bits && b->scale && b->coef : l->dense != NULL;
    if (!present) {
        return mb_fail(err, MB_E_FORMAT, 0, "model: %s is missing", name);
    }
    if (l->n_rows != n_rows || l->n_cols != n_cols) {
        return mb_fail(err, MB_E_FORMAT, 0, "model: %s is %u x %u; the shape asks for %u x %u",
                       name, (unsigned) l->n_rows, (unsigned) l->n_cols, (unsigned) n_rows,
                       (unsigned) n_cols);
    }
    if (l->kind != MB_LINEAR_BOOL) {
        return MB_OK;
    }
    if (b->shape.n_rows != n_rows || b->shape.n_cols != n_cols) {
        return mb_fail(err, MB_E_FORMAT, 0,
                       "model: %s: its Boolean matrix is %u x %u, not %u x %u", name,
                       (unsigned) b->shape.n_rows, (unsigned) b->shape.n_cols,
                       (unsigned) n_rows, (unsigned) n_cols);
    }
    return mb_bool_shape_check(&b->shape, err);
}

/* Inputs are coded once for all layers that share them, so these must cut the columns alike. */
static enum mb_status check_groups(const struct mb_block *b, uint32_t layer,
                                   struct mb_error *err)
{
    uint32_t group[MB_BLOCK_INPUTS] = { 0 };
    for (int l = 0; l < MB_BLOCK_LINEARS; l++) {
        if (b->linear[l].kind != MB_LINEAR_BOOL) {
            continue;
        }
        enum mb_block_input i = mb_block_linear_input((enum mb_block_linear) l);
        uint32_t g = b->linear[l].boolean.shape.group;
        if (group[i] != 0 && group[i] != g) {
            char name[MB_TENSOR_NAME_MAX];
            return mb_fail(
                err, MB_E_FORMAT, 0,
                "model: %s has groups of %u columns; a layer with the same input has %u",
                mb_block_tensor_name(name, layer, linears[l].name), (unsigned) g,
                (unsigned) group[i]);
        }
        group[i] = g;
    }
    return MB_OK;
}

static enum mb_status check_block(const struct mb_model *m, uint32_t layer,
                                  struct mb_error *err)
{
    const struct mb_block *b = &m->blocks[layer];
    char name[MB_TENSOR_NAME_MAX];
    if (!b->attn_norm || !b->ffn_norm) {
        return mb_fail(
            err, MB_E_FORMAT, 0, "model: %s is missing",
            mb_block_tensor_name(name, layer, b->attn_norm ? "ffn_norm" : "attn_norm"));
    }
    for (int l = 0; l < MB_BLOCK_LINEARS; l++) {
        uint32_t n_rows, n_cols;
        mb_block_linear_size(&m->shape, (enum mb_block_linear) l, &n_rows, &n_cols);
        enum mb_status st =
            check_linear(&b->linear[l], mb_block_tensor_name(name, layer, linears[l].name),
                         n_rows, n_cols, err);
        if (st != MB_OK) {
            return st;
        }
    }
    return check_groups(b, layer, err);
}

enum mb_status mb_model_check(const struct mb_model *m, struct mb_error *err)
{
    const struct mb_shape *s = &m->shape;
    enum mb_status st = mb_shape_check(s, err);
    if (st != MB_OK) {
        return st;
    }
    if (!m->final_norm || !m->inv_freq) {
        return mb_fail(err, MB_E_FORMAT, 0, "model: %s is missing",
                       m->final_norm ? "rope.inv_freq" : "final_norm");
    }
    for (uint32_t i = 0; i < s->head_width / 2; i++) {
        if (!(m->inv_freq[i] >= 0 && m->inv_freq[i] <= MB_INV_FREQ_MAX)) {
            return mb_fail(err, MB_E_FORMAT, 0, "model: rope.inv_freq[%u] is %g, outside 0..%g",
                           (unsigned) i, m->inv_freq[i], MB_INV_FREQ_MAX);
        }
    }
    st = check_linear(&m->embed, "embed", s->n_vocab, s->width, err);
    if (st == MB_OK) {
        st = check_linear(&m->head, "head", s->n_vocab, s->width, err);
    }
    for (uint32_t layer = 0; st == MB_OK && layer < s->n_layers; layer++) {
        st = check_block(m, layer, err);
    }
    return st;
}
