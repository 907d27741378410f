/* A model whose weights are views into the sections of a checkpoint. Nothing is copied. */
#include <stdbool.h>

#include "core/checkpoint/reader.h"
#include "core/model/model.h"

static enum mb_status missing(const char *name, struct mb_error *err)
{
    return mb_fail(err, MB_E_FORMAT, 0, "checkpoint: section %s is missing", name);
}

/* A vector of n elements of the kind; NULL in *ret when it is absent and may be. */
static enum mb_status view_vector(const struct mb_checkpoint *c, const char *name,
                                  enum mb_section_kind kind, uint32_t n, bool required,
                                  const void **ret, struct mb_error *err)
{
    const struct mb_section *s = mb_checkpoint_find(c, name);
    if (!s) {
        *ret = NULL;
        return required ? missing(name, err) : MB_OK;
    }
    if (s->kind != kind || s->n_rows != 1 || s->n_cols != n) {
        return mb_fail(err, MB_E_FORMAT, 0,
                       "checkpoint: section %s is not a vector of %u elements of kind %d", name,
                       (unsigned) n, (int) kind);
    }
    *ret = mb_checkpoint_data(c, s);
    return MB_OK;
}

static enum mb_status view_norm(const struct mb_checkpoint *c, const char *name, uint32_t n,
                                const float **ret, struct mb_error *err)
{
    const void *at = NULL;
    enum mb_status st = view_vector(c, name, MB_SECTION_F32, n, true, &at, err);
    *ret = at;
    return st;
}

static enum mb_status view_scale(const struct mb_checkpoint *c, const char *name, uint32_t n,
                                 const uint16_t **ret, struct mb_error *err)
{
    const void *at = NULL;
    enum mb_status st = view_vector(c, name, MB_SECTION_F16, n, false, &at, err);
    *ret = at;
    return st;
}

/* Boolean or float16; mb_model_check compares the sizes with the shape's. */
static enum mb_status view_linear(const struct mb_checkpoint *c, const char *name,
                                  struct mb_linear *ret, struct mb_error *err)
{
    const struct mb_section *s = mb_checkpoint_find(c, name);
    if (!s) {
        return missing(name, err);
    }
    *ret = (struct mb_linear) { .n_rows = s->n_rows, .n_cols = s->n_cols };
    if (s->kind == MB_SECTION_BOOL) {
        ret->kind = MB_LINEAR_BOOL;
        ret->boolean = mb_checkpoint_bool(c, s);
    } else if (s->kind == MB_SECTION_F16) {
        ret->kind = MB_LINEAR_F16;
        ret->dense = mb_checkpoint_data(c, s);
    } else {
        return mb_fail(err, MB_E_FORMAT, 0,
                       "checkpoint: section %s is neither Boolean nor float16", name);
    }
    return MB_OK;
}

static enum mb_status view_block(const struct mb_checkpoint *c, struct mb_model *m,
                                 uint32_t layer, struct mb_error *err)
{
    struct mb_block *b = &m->blocks[layer];
    char name[MB_TENSOR_NAME_MAX];
    enum mb_status st = view_norm(c, mb_block_tensor_name(name, layer, "attn_norm"),
                                  m->shape.width, &b->attn_norm, err);
    if (st == MB_OK) {
        st = view_norm(c, mb_block_tensor_name(name, layer, "ffn_norm"), m->shape.width,
                       &b->ffn_norm, err);
    }
    for (int l = 0; st == MB_OK && l < MB_BLOCK_LINEARS; l++) {
        st = view_linear(
            c,
            mb_block_tensor_name(name, layer, mb_block_linear_name((enum mb_block_linear) l)),
            &b->linear[l], err);
    }
    for (int i = 0; st == MB_OK && i < MB_BLOCK_INPUTS; i++) {
        st = view_scale(
            c, mb_block_tensor_name(name, layer, mb_block_scale_name((enum mb_block_input) i)),
            mb_block_input_width(&m->shape, (enum mb_block_input) i), &b->input_scale[i], err);
    }
    return st;
}

static enum mb_status view_all(const struct mb_checkpoint *c, struct mb_model *m,
                               struct mb_error *err)
{
    const struct mb_shape *s = &m->shape;
    const void *inv_freq = NULL;
    enum mb_status st = view_vector(c, "rope.inv_freq", MB_SECTION_F64, s->head_width / 2, true,
                                    &inv_freq, err);
    m->inv_freq = inv_freq;
    if (st == MB_OK) {
        st = view_norm(c, "final_norm", s->width, &m->final_norm, err);
    }
    if (st == MB_OK) {
        st = view_linear(c, "embed", &m->embed, err);
    }
    if (st == MB_OK && s->tied_head) {
        m->head = m->embed;
    } else if (st == MB_OK) {
        st = view_linear(c, "head", &m->head, err);
    }
    if (st == MB_OK) {
        st = view_scale(c, "head_in.t", s->width, &m->head_input_scale, err);
    }
    for (uint32_t layer = 0; st == MB_OK && layer < s->n_layers; layer++) {
        st = view_block(c, m, layer, err);
    }
    return st;
}

static void release_checkpoint(void *owner)
{
    mb_checkpoint_free(owner);
}

enum mb_status mb_model_from_checkpoint(struct mb_checkpoint *c, struct mb_model **ret,
                                        struct mb_error *err)
{
    struct mb_model *m = NULL;
    enum mb_status st = mb_model_new(mb_checkpoint_shape(c), &m, err);
    if (st != MB_OK) {
        return st;
    }
    st = view_all(c, m, err);
    if (st == MB_OK) {
        st = mb_model_check(m, err);
    }
    if (st != MB_OK) {
        mb_model_unref(m); /* release is not set yet: c stays the caller's */
        return st;
    }
    m->digest = mb_checkpoint_digest(c);
    m->release = release_checkpoint;
    m->owner = c;
    *ret = m;
    return MB_OK;
}

const struct mb_checkpoint *mb_model_checkpoint(const struct mb_model *m)
{
    return m->release == release_checkpoint ? m->owner : NULL;
}
