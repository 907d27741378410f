#include "core/model/write.h"

static enum mb_status add_linear(struct mb_checkpoint_writer *w, const char *name,
                                 const struct mb_linear *l, struct mb_error *err)
{
    return l->kind == MB_LINEAR_BOOL
               ? mb_checkpoint_add_bool(w, name, &l->boolean, err)
               : mb_checkpoint_add_f16(w, name, l->dense, l->n_rows, l->n_cols, err);
}

static enum mb_status add_block(struct mb_checkpoint_writer *w, const struct mb_model *m,
                                uint32_t layer, struct mb_error *err)
{
    const struct mb_block *b = &m->blocks[layer];
    char name[MB_TENSOR_NAME_MAX];
    uint32_t width = m->shape.width;
    enum mb_status st = mb_checkpoint_add_f32(w, mb_block_tensor_name(name, layer, "attn_norm"),
                                              b->attn_norm, width, err);
    if (st == MB_OK) {
        st = mb_checkpoint_add_f32(w, mb_block_tensor_name(name, layer, "ffn_norm"),
                                   b->ffn_norm, width, err);
    }
    for (int l = 0; st == MB_OK && l < MB_BLOCK_LINEARS; l++) {
        const char *part = mb_block_linear_name((enum mb_block_linear) l);
        st = add_linear(w, mb_block_tensor_name(name, layer, part), &b->linear[l], err);
    }
    for (int i = 0; st == MB_OK && i < MB_BLOCK_INPUTS; i++) {
        const char *part = mb_block_scale_name((enum mb_block_input) i);
        if (b->input_scale[i]) {
            st = mb_checkpoint_add_f16(
                w, mb_block_tensor_name(name, layer, part), b->input_scale[i], 1,
                mb_block_input_width(&m->shape, (enum mb_block_input) i), err);
        }
    }
    return st;
}

enum mb_status mb_model_write(struct mb_checkpoint_writer *w, const struct mb_model *m,
                              struct mb_error *err)
{
    const struct mb_shape *s = &m->shape;
    enum mb_status st =
        mb_checkpoint_add_f64(w, "rope.inv_freq", m->inv_freq, s->head_width / 2, err);
    if (st == MB_OK) {
        st = mb_checkpoint_add_f32(w, "final_norm", m->final_norm, s->width, err);
    }
    if (st == MB_OK) {
        st = add_linear(w, "embed", &m->embed, err);
    }
    if (st == MB_OK && !s->tied_head) {
        st = add_linear(w, "head", &m->head, err);
    }
    if (st == MB_OK && m->head_input_scale) {
        st = mb_checkpoint_add_f16(w, "head_in.t", m->head_input_scale, 1, s->width, err);
    }
    for (uint32_t i = 0; st == MB_OK && i < s->n_layers; i++) {
        st = add_block(w, m, i, err);
    }
    return st;
}
