#include "core/convert/svid_model.h"

#include "core/base/memory.h"
#include "core/convert/svid.h"

/* What the model points into, besides its own weights. */
struct owned {
    struct mb_model *from;
    float **weights; /* [n_layers * MB_BLOCK_LINEARS] */
    size_t n;
};

static void release_owned(void *owner)
{
    struct owned *o = owner;
    for (size_t i = 0; o->weights && i < o->n; i++) {
        mb_free(o->weights[i]);
    }
    mb_free(o->weights);
    mb_model_unref(o->from);
    mb_free(o);
}

struct sum_job {
    const struct mb_svid *svid;
    const struct mb_source *source;
    float *ret; /* [m][n] */
    float *row; /* [workers][n] */
};

/* A row of the sum of kernels: the row less what they leave of it. */
static void sum_row(void *job, size_t part, size_t worker)
{
    const struct sum_job *j = job;
    size_t n = j->svid->n_cols;
    float *rest = j->row + worker * n, *to = j->ret + part * n;
    mb_source_row(j->source, part, rest);
    mb_source_row(j->source, part, to);
    mb_svid_subtract(j->svid, part, j->svid->n_kernels, rest);
    for (size_t i = 0; i < n; i++) {
        to[i] -= rest[i];
    }
}

static enum mb_status replace(struct mb_linear *l, const char *name, unsigned n_kernels,
                              struct mb_pool *pool, float **ret, struct mb_error *err)
{
    struct mb_source source = { .w = *l };
    struct mb_svid svid;
    float largest;
    enum mb_status st = mb_source_check(&source, name, pool, &largest, err);
    if (st != MB_OK || (st = mb_svid_init(&svid, &source, n_kernels, pool, err)) != MB_OK) {
        return st;
    }
    struct sum_job j = { .svid = &svid, .source = &source };
    j.ret = mb_alloc(l->n_rows, l->n_cols * sizeof *j.ret);
    j.row = mb_alloc(mb_pool_threads(pool), l->n_cols * sizeof *j.row);
    if (j.ret && j.row) {
        mb_pool_run(pool, l->n_rows, sum_row, &j);
        l->kind = MB_LINEAR_F32;
        l->dense = j.ret;
        *ret = j.ret;
    } else {
        mb_free(j.ret);
        st = mb_fail(err, MB_E_NOMEM, 0, "%s: no memory for its SVID", name);
    }
    mb_free(j.row);
    mb_svid_fini(&svid);
    return st;
}

static struct owned *owned_new(struct mb_model *from)
{
    struct owned *o = mb_alloc(1, sizeof *o);
    if (!o) {
        return NULL;
    }
    o->n = (size_t) from->shape.n_layers * MB_BLOCK_LINEARS;
    o->weights = mb_alloc(o->n, sizeof *o->weights);
    o->from = mb_model_ref(from);
    if (!o->weights) {
        release_owned(o);
        return NULL;
    }
    return o;
}

static void view_all(struct mb_model *to, const struct mb_model *from, struct owned *owner)
{
    to->inv_freq = from->inv_freq;
    to->embed = from->embed;
    to->head = from->head;
    to->head_input_scale = from->head_input_scale;
    to->final_norm = from->final_norm;
    for (uint32_t i = 0; i < from->shape.n_layers; i++) {
        to->blocks[i] = from->blocks[i];
    }
    to->release = release_owned;
    to->owner = owner;
}

enum mb_status mb_svid_model_new(struct mb_model *m, unsigned n_kernels, struct mb_pool *pool,
                                 const struct mb_progress *progress, struct mb_model **ret,
                                 struct mb_error *err)
{
    struct mb_model *to;
    enum mb_status st = mb_model_new(&m->shape, &to, err);
    if (st != MB_OK) {
        return st;
    }
    struct owned *owner = owned_new(m);
    if (!owner) {
        mb_model_unref(to);
        return mb_fail(err, MB_E_NOMEM, 0, "no memory for the SVID of a model");
    }
    view_all(to, m, owner);
    for (size_t i = 0; st == MB_OK && i < owner->n; i++) {
        uint32_t layer = (uint32_t) (i / MB_BLOCK_LINEARS);
        enum mb_block_linear l = (enum mb_block_linear)(i % MB_BLOCK_LINEARS);
        char name[MB_TENSOR_NAME_MAX];
        mb_block_tensor_name(name, layer, mb_block_linear_name(l));
        st = mb_progress_report(progress, name, i, owner->n)
                 ? replace(&to->blocks[layer].linear[l], name, n_kernels, pool,
                           &owner->weights[i], err)
                 : mb_fail(err, MB_E_CANCELLED, 0, "stopped at %s", name);
    }
    if (st != MB_OK) {
        mb_model_unref(to);
        return st;
    }
    *ret = to;
    return MB_OK;
}
