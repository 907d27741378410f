#include "core/finetune/trainer.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "core/base/half.h"
#include "core/base/memory.h"
#include "core/base/rng.h"
#include "core/finetune/adam.h"
#include "core/finetune/weights.h"

#define PI 3.14159265358979323846

/* Floats that AdamW trains: a norm, an input scale, a float16 embedding. */
struct vector {
    struct mb_param param;
    float *value;   /* the model's own where that is float32, else a copy */
    uint16_t *half; /* the model's own, where that is float16; else NULL */
    float *m, *v;
    size_t n;
    float unit; /* root mean square at the start */
};

struct mb_trainer {
    struct mb_train_options o;
    struct mb_draft draft;
    struct mb_model *teacher;
    struct mb_gradient *gradient;
    struct mb_flipper *flippers; /* [mb_draft_linears]; w is NULL where none */
    struct vector *vectors;
    size_t n_vectors;
    uint64_t step; /* done */
};

struct mb_train_options mb_train_defaults(void)
{
    return (struct mb_train_options) {
        .gradient = { .ce = 1 },
        .flip = { .mode = MB_FLIP_ACCUMULATE, .start = 0.5, .hysteresis = 0.05 },
        .n_steps = 100,
        .warm_up = 0.05,
        .step = 0.04,
        .coef_step = 0.006,
        .vector_step = 0.001,
        .budget = 0.05,
    };
}

/* Setting up. */

static size_t linear_index(const struct mb_shape *s, const struct mb_param *p)
{
    size_t blocks = (size_t) s->n_layers * MB_BLOCK_LINEARS;
    switch (p->kind) {
    case MB_PARAM_LINEAR:
        return (size_t) p->layer * MB_BLOCK_LINEARS + p->index;
    case MB_PARAM_EMBED:
        return blocks;
    case MB_PARAM_HEAD:
        return blocks + 1;
    default:
        return blocks + 2; /* none */
    }
}

static const struct mb_linear *linear_of(const struct mb_model *m, size_t i)
{
    size_t blocks = (size_t) m->shape.n_layers * MB_BLOCK_LINEARS;
    return i < blocks ? &m->blocks[i / MB_BLOCK_LINEARS].linear[i % MB_BLOCK_LINEARS]
                      : (i == blocks ? &m->embed : &m->head);
}

/* A layer's float weights as the Boolean layer should have them: inputs are scaled by t, so
 * weights are divided by it. */
struct target {
    const struct mb_linear *l;
    const uint16_t *t; /* or NULL */
};

static void target_row(const void *self, size_t row, float *ret)
{
    const struct target *y = self;
    mb_weights_row(y->l, row, ret);
    for (size_t j = 0; y->t && j < y->l->n_cols; j++) {
        float t = mb_f16_to_f32(y->t[j]);
        ret[j] = t != 0 ? ret[j] / t : 0;
    }
}

static enum mb_status add_flipper(struct mb_trainer *t, size_t i, struct mb_error *err)
{
    const struct mb_model *base = t->draft.base;
    size_t blocks = (size_t) base->shape.n_layers * MB_BLOCK_LINEARS;
    struct target target = { .l = NULL };
    struct mb_flip_options o = t->o.flip;
    o.seed = mb_rng_u64(t->o.seed, i, 0);
    if (!t->draft.linears[i].bits) {
        return MB_OK;
    }
    if (t->teacher) {
        enum mb_block_linear l = (enum mb_block_linear)(i % MB_BLOCK_LINEARS);
        target.l = linear_of(t->teacher, i);
        target.t =
            i < blocks
                ? base->blocks[i / MB_BLOCK_LINEARS].input_scale[mb_block_linear_input(l)]
                : (i > blocks ? base->head_input_scale : NULL);
    }
    return mb_flipper_init(&t->flippers[i], &o, &t->draft.linears[i],
                           &linear_of(base, i)->boolean, target.l ? target_row : NULL, &target,
                           t->o.gradient.pool, err);
}

/* value, or the half that is to be copied into one. */
static enum mb_status add_vector(struct mb_trainer *t, struct mb_param p, float *value,
                                 uint16_t *half, size_t n, struct mb_error *err)
{
    struct vector *y = &t->vectors[t->n_vectors];
    double sum = 0;
    if (!value && !half) {
        return MB_OK;
    }
    *y = (struct vector) { .param = p, .value = value, .half = half, .n = n };
    t->n_vectors++;
    y->value = half ? mb_alloc(n, sizeof *y->value) : value;
    y->m = mb_alloc(n, sizeof *y->m);
    y->v = mb_alloc(n, sizeof *y->v);
    if (!y->value || !y->m || !y->v) {
        return mb_fail(err, MB_E_NOMEM, 0, "no memory to train a vector of %zu", n);
    }
    for (size_t i = 0; i < n; i++) {
        y->value[i] = half ? mb_f16_to_f32(half[i]) : value[i];
        sum += (double) y->value[i] * y->value[i];
    }
    y->unit = (float) sqrt(sum / (double) n);
    return MB_OK;
}

static enum mb_status add_block_vectors(struct mb_trainer *t, uint32_t layer,
                                        struct mb_error *err)
{
    const struct mb_shape *s = &t->draft.base->shape;
    float *norm = t->draft.norms + (size_t) 2 * layer * s->width;
    enum mb_status st = add_vector(t, (struct mb_param) { MB_PARAM_ATTN_NORM, layer, 0 }, norm,
                                   NULL, s->width, err);
    if (st == MB_OK) {
        st = add_vector(t, (struct mb_param) { MB_PARAM_FFN_NORM, layer, 0 }, norm + s->width,
                        NULL, s->width, err);
    }
    for (uint32_t i = 0; st == MB_OK && i < MB_BLOCK_INPUTS; i++) {
        st = add_vector(t, (struct mb_param) { MB_PARAM_INPUT_SCALE, layer, i }, NULL,
                        t->draft.scales[layer * MB_BLOCK_INPUTS + i],
                        mb_block_input_width(s, (enum mb_block_input) i), err);
    }
    return st;
}

static enum mb_status add_vectors(struct mb_trainer *t, struct mb_error *err)
{
    const struct mb_shape *s = &t->draft.base->shape;
    struct mb_draft *d = &t->draft;
    size_t n_vocabulary = (size_t) s->n_vocab * s->width;
    enum mb_status st = MB_OK;
    t->vectors = mb_alloc((size_t) s->n_layers * (2 + MB_BLOCK_INPUTS) + 4, sizeof *t->vectors);
    if (!t->vectors) {
        return mb_fail(err, MB_E_NOMEM, 0, "no memory for a trainer");
    }
    for (uint32_t layer = 0; st == MB_OK && layer < s->n_layers; layer++) {
        st = add_block_vectors(t, layer, err);
    }
    if (st == MB_OK) {
        st = add_vector(t, (struct mb_param) { MB_PARAM_FINAL_NORM, 0, 0 },
                        d->norms + (size_t) 2 * s->n_layers * s->width, NULL, s->width, err);
    }
    if (st == MB_OK) {
        st = add_vector(t, (struct mb_param) { MB_PARAM_HEAD_SCALE, 0, 0 }, NULL,
                        d->scales[(size_t) s->n_layers * MB_BLOCK_INPUTS], s->width, err);
    }
    if (st == MB_OK) {
        st = add_vector(t, (struct mb_param) { MB_PARAM_EMBED, 0, 0 }, NULL, d->half_embed,
                        n_vocabulary, err);
    }
    return st == MB_OK ? add_vector(t, (struct mb_param) { MB_PARAM_HEAD, 0, 0 }, NULL,
                                    d->half_head, n_vocabulary, err)
                       : st;
}

static enum mb_status check_options(const struct mb_train_options *o, struct mb_error *err)
{
    const double shares[] = { o->warm_up, o->budget };
    const double steps[] = { o->step, o->coef_step, o->vector_step };
    bool ok = o->n_steps >= 1 && o->n_steps <= MB_TRAIN_STEPS_MAX;
    for (size_t i = 0; i < 2; i++) {
        ok = ok && shares[i] >= 0 && shares[i] <= 1;
    }
    for (size_t i = 0; i < 3; i++) {
        ok = ok && steps[i] >= 0 && steps[i] <= 1;
    }
    return ok ? MB_OK
              : mb_fail(err, MB_E_INVALID, 0,
                        "training options: steps are 1..%u; step sizes and shares 0..1",
                        MB_TRAIN_STEPS_MAX);
}

static enum mb_status set_up(struct mb_trainer *t, struct mb_model *base, struct mb_error *err)
{
    size_t n = mb_draft_linears(&base->shape);
    enum mb_status st = mb_draft_init(&t->draft, base, t->o.vocabulary, err);
    if (st == MB_OK) {
        t->flippers = mb_alloc(n, sizeof *t->flippers);
        st = t->flippers ? MB_OK : mb_fail(err, MB_E_NOMEM, 0, "no memory for a trainer");
    }
    for (size_t i = 0; st == MB_OK && i < n; i++) {
        st = add_flipper(t, i, err);
    }
    if (st == MB_OK) {
        st = add_vectors(t, err);
    }
    return st == MB_OK ? mb_gradient_new(t->draft.model, &t->o.gradient, &t->gradient, err)
                       : st;
}

enum mb_status mb_trainer_new(struct mb_model *base, struct mb_model *teacher,
                              const struct mb_train_options *o, struct mb_trainer **ret,
                              struct mb_error *err)
{
    enum mb_status st = check_options(o, err);
    if (st == MB_OK && teacher) {
        st = mb_gradient_check_teacher(base, teacher, err);
    }
    if (st != MB_OK) {
        return st;
    }
    struct mb_trainer *t = mb_alloc(1, sizeof *t);
    if (!t) {
        return mb_fail(err, MB_E_NOMEM, 0, "no memory for a trainer");
    }
    t->o = *o;
    t->teacher = teacher ? mb_model_ref(teacher) : NULL;
    st = set_up(t, base, err);
    if (st != MB_OK) {
        mb_trainer_free(t);
        return st;
    }
    *ret = t;
    return MB_OK;
}

void mb_trainer_free(struct mb_trainer *t)
{
    if (!t) {
        return;
    }
    for (size_t i = 0; t->flippers && i < mb_draft_linears(&t->draft.base->shape); i++) {
        mb_flipper_fini(&t->flippers[i]);
    }
    for (size_t i = 0; i < t->n_vectors; i++) {
        if (t->vectors[i].half) {
            mb_free(t->vectors[i].value);
        }
        mb_free(t->vectors[i].m);
        mb_free(t->vectors[i].v);
    }
    mb_free(t->flippers);
    mb_free(t->vectors);
    mb_gradient_free(t->gradient);
    mb_draft_fini(&t->draft);
    mb_model_unref(t->teacher);
    mb_free(t);
}

/* A step. */

static double rate_at(const struct mb_train_options *o, uint64_t t)
{
    double n = (double) o->n_steps, warm = o->warm_up * n;
    double rise = (double) t < warm ? (double) t / warm : 1;
    double turn = PI * ((double) t - 0.5) / n;
    return (double) t > n ? 0 : rise * 0.5 * (1 + cos(turn));
}

static struct mb_flipper *flipper_of(const struct mb_trainer *t, const struct mb_param *p)
{
    size_t i = linear_index(&t->draft.base->shape, p);
    bool is_one = i < mb_draft_linears(&t->draft.base->shape) && t->flippers[i].w;
    return is_one ? &t->flippers[i] : NULL;
}

static struct vector *vector_of(const struct mb_trainer *t, const struct mb_param *p)
{
    for (size_t i = 0; i < t->n_vectors; i++) {
        const struct mb_param *q = &t->vectors[i].param;
        if (q->kind == p->kind && q->layer == p->layer && q->index == p->index) {
            return &t->vectors[i];
        }
    }
    return NULL;
}

static bool wants(void *self, const struct mb_param *p)
{
    const struct mb_trainer *t = self;
    return flipper_of(t, p) || (t->o.vector_step > 0 && vector_of(t, p));
}

/* Float16 has no number so large; and t = 0 would end a column for good. */
static float hold(float x, bool is_scale)
{
    const float most = 65504, least = 0x1p-14f;
    x = x < most ? x : most;
    x = x > -most ? x : -most;
    return is_scale && x < least ? least : x;
}

static void step_vector(const struct mb_trainer *t, struct vector *y, const float *g)
{
    double size = t->o.vector_step * y->unit * rate_at(&t->o, t->step + 1);
    struct mb_adam a = mb_adam_at(t->step + 1, size, 0);
    bool is_scale =
        y->param.kind == MB_PARAM_INPUT_SCALE || y->param.kind == MB_PARAM_HEAD_SCALE;
    mb_adam_apply(&a, y->value, g, y->m, y->v, y->n);
    for (size_t i = 0; y->half && i < y->n; i++) {
        y->value[i] = hold(y->value[i], is_scale);
        y->half[i] = mb_f32_to_f16(y->value[i]);
    }
}

static enum mb_status take(void *self, const struct mb_param *p, float *dw,
                           struct mb_error *err)
{
    struct mb_trainer *t = self;
    struct mb_flipper *f = flipper_of(t, p);
    if (!f) {
        step_vector(t, vector_of(t, p), dw);
        return MB_OK;
    }
    double rate = rate_at(&t->o, t->step + 1);
    struct mb_flip_step s = {
        .t = t->step + 1,
        .step = t->o.step * rate,
        .coef_step = t->o.coef_step * rate,
        .budget = t->o.budget * rate,
        .seed = t->o.seed,
        .stream = (uint64_t) (f - t->flippers),
    };
    enum mb_status st = mb_flipper_step(f, &s, dw, t->o.gradient.pool, err);
    if (st == MB_OK && t->o.refresh_every > 0 && s.t % t->o.refresh_every == 0) {
        mb_flipper_refresh(f, t->o.gradient.pool);
    }
    return st;
}

static struct mb_flip_counts count_all(const struct mb_trainer *t, uint64_t *ret_weights)
{
    struct mb_flip_counts sum = { 0 };
    *ret_weights = 0;
    for (size_t i = 0; i < mb_draft_linears(&t->draft.base->shape); i++) {
        uint64_t n_weights;
        struct mb_flip_counts c = mb_trainer_counts(t, i, &n_weights);
        sum.n_flips += c.n_flips;
        sum.n_backs += c.n_backs;
        sum.n_moved += c.n_moved;
        *ret_weights += n_weights;
    }
    return sum;
}

enum mb_status mb_trainer_step(struct mb_trainer *t, const struct mb_train_batch *b,
                               struct mb_train_report *ret, struct mb_error *err)
{
    struct mb_train_report r = { .step = t->step + 1, .rate = rate_at(&t->o, t->step + 1) };
    struct mb_sink sink = { wants, take, t };
    struct mb_flip_counts before = count_all(t, &r.n_weights);
    enum mb_status st =
        mb_gradient_run(t->gradient, t->draft.model, t->teacher, b, &sink, &r.losses, err);
    if (st != MB_OK) {
        return st;
    }
    t->step++;
    r.total = count_all(t, &r.n_weights);
    r.flips = (struct mb_flip_counts) { r.total.n_flips - before.n_flips,
                                        r.total.n_backs - before.n_backs,
                                        r.total.n_moved - before.n_moved };
    *ret = r;
    return MB_OK;
}

enum mb_status mb_trainer_losses(struct mb_trainer *t, const struct mb_train_batch *b,
                                 struct mb_losses *ret, struct mb_error *err)
{
    return mb_gradient_run(t->gradient, t->draft.model, t->teacher, b, NULL, ret, err);
}

const struct mb_draft *mb_trainer_draft(const struct mb_trainer *t)
{
    return &t->draft;
}

struct mb_gradient *mb_trainer_gradient(const struct mb_trainer *t)
{
    return t->gradient;
}

uint64_t mb_trainer_steps_done(const struct mb_trainer *t)
{
    return t->step;
}

double mb_trainer_state_bytes(const struct mb_trainer *t)
{
    double bytes = 0, n = 0;
    for (size_t i = 0; i < mb_draft_linears(&t->draft.base->shape); i++) {
        uint64_t n_weights;
        (void) mb_trainer_counts(t, i, &n_weights);
        bytes +=
            n_weights > 0 ? mb_flipper_state_bytes(&t->flippers[i]) * (double) n_weights : 0;
        n += (double) n_weights;
    }
    for (size_t i = 0; i < t->n_vectors; i++) {
        bytes += (double) t->vectors[i].n * (t->vectors[i].half ? 12 : 8);
    }
    return bytes / n;
}

struct mb_flip_counts mb_trainer_counts(const struct mb_trainer *t, size_t i,
                                        uint64_t *ret_weights)
{
    const struct mb_flipper *f = &t->flippers[i];
    *ret_weights = f->w ? (uint64_t) f->w->shape.n_rows * f->w->shape.n_cols : 0;
    return f->counts;
}

/* State: the step, then flippers and vectors in their order. */

static void save_vector(const struct vector *y, struct mb_bytes *ret)
{
    mb_bytes_put_f32(ret, y->unit);
    mb_bytes_put(ret, y->value, y->n * sizeof *y->value);
    mb_bytes_put(ret, y->m, y->n * sizeof *y->m);
    mb_bytes_put(ret, y->v, y->n * sizeof *y->v);
}

static enum mb_status put_piece(struct mb_bytes *piece, mb_trainer_put_fn *put, void *self,
                                struct mb_error *err)
{
    enum mb_status st = piece->failed ? mb_fail(err, MB_E_NOMEM, 0, "no memory for a snapshot")
                                      : put(self, piece, err);
    mb_bytes_clear(piece);
    return st;
}

enum mb_status mb_trainer_save(const struct mb_trainer *t, mb_trainer_put_fn *put, void *self,
                               struct mb_error *err)
{
    struct mb_bytes piece = { 0 };
    mb_bytes_put_u64(&piece, t->step);
    enum mb_status st = put_piece(&piece, put, self, err);
    for (size_t i = 0; st == MB_OK && i < mb_draft_linears(&t->draft.base->shape); i++) {
        if (t->flippers[i].w) {
            mb_flipper_save(&t->flippers[i], &piece);
            st = put_piece(&piece, put, self, err);
        }
    }
    for (size_t i = 0; st == MB_OK && i < t->n_vectors; i++) {
        save_vector(&t->vectors[i], &piece);
        st = put_piece(&piece, put, self, err);
    }
    mb_bytes_fini(&piece);
    return st;
}

static bool load_vector(struct vector *y, struct mb_cursor *from)
{
    size_t bytes = y->n * sizeof(float);
    y->unit = mb_cursor_f32(from);
    float *to[] = { y->value, y->m, y->v };
    for (size_t i = 0; i < 3; i++) {
        const uint8_t *at = mb_cursor_take(from, bytes);
        if (!at) {
            return false;
        }
        memcpy(to[i], at, bytes);
    }
    for (size_t i = 0; y->half && i < y->n; i++) {
        y->half[i] = mb_f32_to_f16(y->value[i]);
    }
    return true;
}

enum mb_status mb_trainer_load(struct mb_trainer *t, struct mb_cursor *from,
                               struct mb_error *err)
{
    bool ok = true;
    t->step = mb_cursor_u64(from);
    for (size_t i = 0; ok && i < mb_draft_linears(&t->draft.base->shape); i++) {
        ok = !t->flippers[i].w || mb_flipper_load(&t->flippers[i], from);
    }
    for (size_t i = 0; ok && i < t->n_vectors; i++) {
        ok = load_vector(&t->vectors[i], from);
    }
    return ok && !from->failed && from->left == 0 && t->step <= t->o.n_steps
               ? MB_OK
               : mb_fail(err, MB_E_FORMAT, 0, "the saved state is not of this training");
}
