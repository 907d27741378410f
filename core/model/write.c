#include "core/model/write.h"

#include <stdio.h>
#include <string.h>

static enum mb_status no_tensor(const char *name, struct mb_error *err)
{
    return mb_fail(err, MB_E_INVALID, 0, "the model has no tensor '%s'", name);
}

static enum mb_status write_linear(struct mb_checkpoint_writer *w, const char *name,
                                   const struct mb_linear *l, struct mb_error *err)
{
    return l->kind == MB_LINEAR_BOOL
               ? mb_checkpoint_add_bool(w, name, &l->boolean, err)
               : mb_checkpoint_add_f16(w, name, l->dense, l->n_rows, l->n_cols, err);
}

static enum mb_status write_scale(struct mb_checkpoint_writer *w, const char *name,
                                  const uint16_t *scale, uint32_t n, struct mb_error *err)
{
    return scale ? mb_checkpoint_add_f16(w, name, scale, 1, n, err) : no_tensor(name, err);
}

/* part is what stands behind "blocks.<layer>." in name. */
static enum mb_status write_part(struct mb_checkpoint_writer *w, const struct mb_model *m,
                                 const struct mb_block *b, const char *part, const char *name,
                                 struct mb_error *err)
{
    if (strcmp(part, "attn_norm") == 0) {
        return mb_checkpoint_add_f32(w, name, b->attn_norm, m->shape.width, err);
    }
    if (strcmp(part, "ffn_norm") == 0) {
        return mb_checkpoint_add_f32(w, name, b->ffn_norm, m->shape.width, err);
    }
    for (int l = 0; l < MB_BLOCK_LINEARS; l++) {
        if (strcmp(part, mb_block_linear_name((enum mb_block_linear) l)) == 0) {
            return write_linear(w, name, &b->linear[l], err);
        }
    }
    for (int i = 0; i < MB_BLOCK_INPUTS; i++) {
        enum mb_block_input in = (enum mb_block_input) i;
        if (strcmp(part, mb_block_scale_name(in)) == 0) {
            return write_scale(w, name, b->input_scale[i], mb_block_input_width(&m->shape, in),
                               err);
        }
    }
    return no_tensor(name, err);
}

enum mb_status mb_model_write_tensor(struct mb_checkpoint_writer *w, const struct mb_model *m,
                                     const char *name, struct mb_error *err)
{
    const struct mb_shape *s = &m->shape;
    unsigned layer;
    int n = 0;
    if (sscanf(name, "blocks.%u.%n", &layer, &n) == 1 && n > 0 && layer < s->n_layers) {
        return write_part(w, m, &m->blocks[layer], name + n, name, err);
    }
    if (strcmp(name, "rope.inv_freq") == 0) {
        return mb_checkpoint_add_f64(w, name, m->inv_freq, s->head_width / 2, err);
    }
    if (strcmp(name, "final_norm") == 0) {
        return mb_checkpoint_add_f32(w, name, m->final_norm, s->width, err);
    }
    if (strcmp(name, "embed") == 0) {
        return write_linear(w, name, &m->embed, err);
    }
    if (strcmp(name, "head") == 0 && !s->tied_head) {
        return write_linear(w, name, &m->head, err);
    }
    if (strcmp(name, "head_in.t") == 0) {
        return write_scale(w, name, m->head_input_scale, s->width, err);
    }
    return no_tensor(name, err);
}
