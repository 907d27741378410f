/* The float model over a Hugging Face folder: the yardstick of conversion, and what evaluation
 * and conversion run. Linear layers are views into the mapped files; norms, which may be of any
 * type and alignment, are converted to float32 once. */
#include <string.h>

#include "core/base/half.h"
#include "core/base/memory.h"
#include "core/import/hf.h"
#include "core/import/hf_names.h"

/* What the model points into. */
struct folder {
    struct mb_hf *hf;
    float *norms; /* [2 n_layers + 1][D] */
};

static void release_folder(void *owner)
{
    struct folder *f = owner;
    mb_hf_free(f->hf);
    mb_free(f->norms);
    mb_free(f);
}

static enum mb_status find(const struct mb_hf *h, const char *name,
                           const struct mb_hf_tensor **ret, struct mb_error *err)
{
    *ret = mb_hf_tensor(h, name);
    return *ret ? MB_OK : mb_fail(err, MB_E_FORMAT, 0, "tensor %s is missing", name);
}

/* Infinities and NaN among n elements: those whose exponent is all ones. A loop without a branch,
 * as fast as memory. */
static size_t count_odd_32(const uint8_t *at, size_t n)
{
    size_t n_odd = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, at + i * sizeof bits, sizeof bits);
        n_odd += (bits & 0x7f800000u) == 0x7f800000u;
    }
    return n_odd;
}

static size_t count_odd_16(const uint8_t *at, size_t n, uint16_t exponent)
{
    size_t n_odd = 0;
    for (size_t i = 0; i < n; i++) {
        uint16_t bits;
        memcpy(&bits, at + i * sizeof bits, sizeof bits);
        n_odd += (bits & exponent) == exponent;
    }
    return n_odd;
}

/* A weight that is no number is refused here, by the name its owner knows it by: further on it
 * is a text of nonsense, or an error hours into a conversion. */
static enum mb_status check_finite(const struct mb_hf_tensor *t, const char *name,
                                   struct mb_error *err)
{
    size_t n = t->n_cols;
    const uint8_t *at = t->data;
    for (size_t row = 0; row < t->n_rows; row++) {
        size_t n_odd = t->kind == MB_LINEAR_F32
                           ? count_odd_32(at + row * n * sizeof(uint32_t), n)
                           : count_odd_16(at + row * n * sizeof(uint16_t), n,
                                          t->kind == MB_LINEAR_F16 ? 0x7c00 : 0x7f80);
        if (n_odd > 0) {
            return mb_fail(err, MB_E_FORMAT, 0,
                           "tensor %s: row %zu has a weight that is infinite or not a number",
                           name, row);
        }
    }
    return MB_OK;
}

static enum mb_status view(const struct mb_hf *h, const char *name, struct mb_linear *ret,
                           struct mb_error *err)
{
    const struct mb_hf_tensor *t;
    enum mb_status st = find(h, name, &t, err);
    if (st == MB_OK) {
        st = check_finite(t, name, err);
    }
    if (st == MB_OK) {
        *ret = (struct mb_linear) {
            .kind = t->kind,
            .n_rows = t->n_rows,
            .n_cols = t->n_cols,
            .dense = t->data,
        };
    }
    return st;
}

static float element(const struct mb_hf_tensor *t, size_t i)
{
    float x;
    uint16_t half;
    if (t->kind == MB_LINEAR_F32) {
        memcpy(&x, (const uint8_t *) t->data + i * sizeof x, sizeof x);
        return x;
    }
    memcpy(&half, (const uint8_t *) t->data + i * sizeof half, sizeof half);
    return t->kind == MB_LINEAR_F16 ? mb_f16_to_f32(half) : mb_bf16_to_f32(half);
}

/* The tensor as n floats at norm. */
static enum mb_status convert_norm(const struct mb_hf *h, const char *name, uint32_t n,
                                   float *norm, struct mb_error *err)
{
    const struct mb_hf_tensor *t;
    enum mb_status st = find(h, name, &t, err);
    if (st != MB_OK) {
        return st;
    }
    if (t->n_rows != 1 || t->n_cols != n) {
        return mb_fail(err, MB_E_FORMAT, 0, "tensor %s is not a vector of %u", name,
                       (unsigned) n);
    }
    st = check_finite(t, name, err);
    for (uint32_t i = 0; i < n && st == MB_OK; i++) {
        norm[i] = element(t, i);
    }
    return st;
}

/* norms has room for this block's two. */
static enum mb_status view_block(const struct mb_hf *h, struct mb_model *m, uint32_t layer,
                                 float *norms, struct mb_error *err)
{
    struct mb_block *b = &m->blocks[layer];
    uint32_t width = m->shape.width;
    char name[MB_HF_NAME_MAX];
    enum mb_status st =
        convert_norm(h, mb_hf_block_name(name, layer, "input_layernorm"), width, norms, err);
    if (st == MB_OK) {
        mb_hf_block_name(name, layer, "post_attention_layernorm");
        st = convert_norm(h, name, width, norms + width, err);
    }
    b->attn_norm = norms;
    b->ffn_norm = norms + width;
    for (int l = 0; st == MB_OK && l < MB_BLOCK_LINEARS; l++) {
        mb_hf_block_name(name, layer, mb_hf_linear_names[l]);
        st = view(h, name, &b->linear[l], err);
    }
    return st;
}

static enum mb_status view_all(const struct mb_hf *h, struct mb_model *m, float *norms,
                               struct mb_error *err)
{
    size_t width = m->shape.width;
    m->inv_freq = mb_hf_inv_freq(h);
    enum mb_status st = view(h, "model.embed_tokens.weight", &m->embed, err);
    if (st == MB_OK && m->shape.tied_head) {
        m->head = m->embed;
    } else if (st == MB_OK) {
        st = view(h, "lm_head.weight", &m->head, err);
    }
    for (uint32_t i = 0; st == MB_OK && i < m->shape.n_layers; i++) {
        st = view_block(h, m, i, norms + i * 2 * width, err);
    }
    float *final_norm = norms + (size_t) m->shape.n_layers * 2 * width;
    if (st == MB_OK) {
        st = convert_norm(h, "model.norm.weight", m->shape.width, final_norm, err);
    }
    m->final_norm = final_norm;
    return st == MB_OK ? mb_model_check(m, err) : st;
}

enum mb_status mb_model_from_hf(struct mb_hf *h, struct mb_model **ret, struct mb_error *err)
{
    const struct mb_shape *shape = mb_hf_shape(h);
    struct mb_model *m = NULL;
    enum mb_status st = mb_model_new(shape, &m, err);
    if (st != MB_OK) {
        return st;
    }
    struct folder *f = mb_alloc(1, sizeof *f);
    float *norms = mb_alloc((2 * (size_t) shape->n_layers + 1) * shape->width, sizeof *norms);
    st = f && norms ? view_all(h, m, norms, err) : mb_fail(err, MB_E_NOMEM, 0, "no memory");
    if (st != MB_OK) {
        mb_model_unref(m); /* release is not set yet: h stays the caller's */
        mb_free(norms);
        mb_free(f);
        return st;
    }
    *f = (struct folder) { .hf = h, .norms = norms };
    m->release = release_folder;
    m->owner = f;
    *ret = m;
    return MB_OK;
}
