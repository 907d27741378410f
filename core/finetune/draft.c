#include "core/finetune/draft.h"

#include <string.h>

#include "core/base/bytes.h"
#include "core/base/memory.h"
#include "core/model/write.h"

static enum mb_status no_memory(struct mb_error *err)
{
    return mb_fail(err, MB_E_NOMEM, 0, "no memory for a model to be trained");
}

static enum mb_status copy_bool(struct mb_bool_draft *to, struct mb_linear *l,
                                struct mb_error *err)
{
    const struct mb_bool_matrix *from = &l->boolean;
    enum mb_status st = mb_bool_draft_init(to, &from->shape, err);
    if (st == MB_OK) {
        to->scale_all = from->scale_all;
        memcpy(to->bits, from->bits, mb_bool_bits_bytes(&from->shape));
        memcpy(to->scale, from->scale, mb_bool_scale_bytes(&from->shape));
        memcpy(to->coef, from->coef, mb_bool_coef_bytes(&from->shape));
        l->boolean = mb_bool_draft_view(to);
    }
    return st;
}

static enum mb_status copy_half(uint16_t **to, struct mb_linear *l, struct mb_error *err)
{
    size_t n = (size_t) l->n_rows * l->n_cols;
    *to = mb_alloc(n, sizeof **to);
    if (!*to) {
        return no_memory(err);
    }
    memcpy(*to, l->dense, n * sizeof **to);
    l->dense = *to;
    return MB_OK;
}

static enum mb_status copy_scale(uint16_t **to, const uint16_t **t, size_t n,
                                 struct mb_error *err)
{
    if (!*t) {
        return MB_OK;
    }
    *to = mb_alloc(n, sizeof **to);
    if (!*to) {
        return no_memory(err);
    }
    memcpy(*to, *t, n * sizeof **to);
    *t = *to;
    return MB_OK;
}

static enum mb_status copy_block(struct mb_draft *d, uint32_t layer, struct mb_error *err)
{
    const struct mb_shape *s = &d->base->shape;
    struct mb_block *b = &d->model->blocks[layer];
    float *norms = d->norms + (size_t) 2 * layer * s->width;
    enum mb_status st = MB_OK;
    *b = d->base->blocks[layer];
    memcpy(norms, b->attn_norm, s->width * sizeof *norms);
    memcpy(norms + s->width, b->ffn_norm, s->width * sizeof *norms);
    b->attn_norm = norms;
    b->ffn_norm = norms + s->width;
    for (int l = 0; st == MB_OK && l < MB_BLOCK_LINEARS; l++) {
        if (b->linear[l].kind != MB_LINEAR_BOOL) {
            char name[MB_TENSOR_NAME_MAX];
            return mb_fail(err, MB_E_INVALID, 0,
                           "%s is not Boolean: only Boolean models are trained by flips",
                           mb_block_tensor_name(
                               name, layer, mb_block_linear_name((enum mb_block_linear) l)));
        }
        st = copy_bool(&d->linears[layer * MB_BLOCK_LINEARS + (size_t) l], &b->linear[l], err);
    }
    for (int i = 0; st == MB_OK && i < MB_BLOCK_INPUTS; i++) {
        st = copy_scale(&d->scales[layer * MB_BLOCK_INPUTS + (size_t) i], &b->input_scale[i],
                        mb_block_input_width(s, (enum mb_block_input) i), err);
    }
    return st;
}

static enum mb_status copy_vocabulary(struct mb_draft *d, struct mb_linear *l, size_t at,
                                      uint16_t **half, struct mb_error *err)
{
    if (l->kind == MB_LINEAR_BOOL) {
        return copy_bool(&d->linears[at], l, err);
    }
    if (l->kind == MB_LINEAR_F16) {
        return copy_half(half, l, err);
    }
    return mb_fail(err, MB_E_INVALID, 0, "embedding and head are neither Boolean nor float16");
}

static enum mb_status copy_ends(struct mb_draft *d, bool with_vocabulary, struct mb_error *err)
{
    const struct mb_shape *s = &d->base->shape;
    struct mb_model *m = d->model;
    float *norm = d->norms + (size_t) 2 * s->n_layers * s->width;
    size_t at = mb_draft_linears(s) - 2;
    enum mb_status st = MB_OK;
    m->inv_freq = d->base->inv_freq;
    m->embed = d->base->embed;
    m->head = d->base->head;
    m->head_input_scale = d->base->head_input_scale;
    memcpy(norm, d->base->final_norm, s->width * sizeof *norm);
    m->final_norm = norm;
    if (with_vocabulary) {
        st = copy_vocabulary(d, &m->embed, at, &d->half_embed, err);
        if (s->tied_head) {
            m->head = m->embed;
        } else if (st == MB_OK) {
            st = copy_vocabulary(d, &m->head, at + 1, &d->half_head, err);
        }
    }
    return st == MB_OK ? copy_scale(&d->scales[(size_t) s->n_layers * MB_BLOCK_INPUTS],
                                    &m->head_input_scale, s->width, err)
                       : st;
}

enum mb_status mb_draft_init(struct mb_draft *d, struct mb_model *base, bool with_vocabulary,
                             struct mb_error *err)
{
    const struct mb_shape *s = &base->shape;
    memset(d, 0, sizeof *d);
    d->base = mb_model_ref(base);
    d->linears = mb_alloc(mb_draft_linears(s), sizeof *d->linears);
    d->norms = mb_alloc((size_t) 2 * s->n_layers + 1, s->width * sizeof *d->norms);
    d->scales = mb_alloc((size_t) s->n_layers * MB_BLOCK_INPUTS + 1, sizeof *d->scales);
    enum mb_status st =
        d->linears && d->norms && d->scales ? mb_model_new(s, &d->model, err) : no_memory(err);
    for (uint32_t layer = 0; st == MB_OK && layer < s->n_layers; layer++) {
        st = copy_block(d, layer, err);
    }
    if (st == MB_OK) {
        st = copy_ends(d, with_vocabulary, err);
    }
    if (st != MB_OK) {
        mb_draft_fini(d);
    }
    return st;
}

void mb_draft_fini(struct mb_draft *d)
{
    if (!d->base) {
        return;
    }
    const struct mb_shape *s = &d->base->shape;
    for (size_t i = 0; d->linears && i < mb_draft_linears(s); i++) {
        mb_bool_draft_fini(&d->linears[i]);
    }
    for (size_t i = 0; d->scales && i <= (size_t) s->n_layers * MB_BLOCK_INPUTS; i++) {
        mb_free(d->scales[i]);
    }
    mb_free(d->linears);
    mb_free(d->norms);
    mb_free(d->scales);
    mb_free(d->half_embed);
    mb_free(d->half_head);
    mb_model_unref(d->model);
    mb_model_unref(d->base);
    memset(d, 0, sizeof *d);
}

/* Writing. */

/* All in the order of the checkpoint it comes from, so that a delta can join the two; the
 * provenance, which grows, stands last. */
static enum mb_status add_all(struct mb_checkpoint_writer *w, const struct mb_model *m,
                              const struct mb_checkpoint *from, const char *note,
                              struct mb_error *err)
{
    struct mb_bytes provenance = { 0 };
    enum mb_status st = MB_OK;
    for (size_t i = 0; st == MB_OK && i < mb_checkpoint_sections(from); i++) {
        const struct mb_section *s = mb_checkpoint_section(from, i);
        if (s->kind != MB_SECTION_BYTES) {
            st = mb_model_write_tensor(w, m, s->name, err);
        } else if (strcmp(s->name, "provenance") == 0) {
            mb_bytes_put(&provenance, mb_checkpoint_data(from, s), s->bytes);
        } else {
            st =
                mb_checkpoint_add_bytes(w, s->name, mb_checkpoint_data(from, s), s->bytes, err);
        }
    }
    /* Where there was none there is no place for one either: a delta joins equal sections. */
    if (st == MB_OK && mb_checkpoint_find(from, "provenance")) {
        mb_bytes_put_text(&provenance, note);
        st = provenance.failed
                 ? mb_fail(err, MB_E_NOMEM, 0, "no memory for the provenance")
                 : mb_checkpoint_add_bytes(w, "provenance", provenance.at, provenance.len, err);
    }
    mb_bytes_fini(&provenance);
    return st;
}

enum mb_status mb_draft_write(const struct mb_draft *d, const struct mb_checkpoint *from,
                              const char *note, const char *path, struct mb_error *err)
{
    struct mb_checkpoint_writer *w = NULL;
    size_t room = mb_checkpoint_sections_max(from), least = mb_checkpoint_sections(from) + 1;
    size_t most = room > least ? room : least;
    enum mb_status st = mb_checkpoint_writer_open(path, &d->model->shape, most, &w, err);
    if (st == MB_OK) {
        st = add_all(w, d->model, from, note, err);
        if (st == MB_OK) {
            return mb_checkpoint_writer_commit(w, err);
        }
        mb_checkpoint_writer_abort(w);
    }
    return st;
}
