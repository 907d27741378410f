#include "core/convert/calibration.h"

#include <assert.h>
#include <string.h>

#include "core/base/half.h"
#include "core/base/memory.h"
#include "core/infer/step.h"

/* A batch is as many whole windows as fit: enough tokens to share what a step costs, few enough
 * that its activations are small beside the residual streams. */
enum { BATCH_TOKENS = 1024, BATCH_WINDOWS = 16 };

struct side {
    const struct mb_model *model;
    struct mb_stepper *stepper;
    float *stream;  /* [tokens][D], of all windows */
    float *scratch; /* [batch][D]: the stream inside the block in hand */
    float *input;   /* [batch][widest]: what the tap saw */
};

struct mb_calibration {
    const struct mb_windows *windows;
    const struct mb_kernels *kernels;
    struct mb_pool *pool;
    struct mb_shape shape;
    struct side original, converted;
    struct mb_kv_cache *kv; /* of one block, used by both in turn */
    size_t *first;          /* [n_batches + 1]: batch i is windows [first[i], first[i + 1]) */
    size_t n_batches;
    size_t batch_max; /* tokens */
    uint32_t *position, *seq;
    float *owed; /* [batch][D] */
};

static size_t window_tokens(const struct mb_windows *w, size_t i)
{
    return w->start[i + 1] - w->start[i];
}

/* Fills first, and returns the most windows in a batch. */
static size_t cut_batches(struct mb_calibration *c, size_t *ret_longest)
{
    const struct mb_windows *w = c->windows;
    size_t tokens = 0, most = 0;
    c->first[0] = 0;
    for (size_t i = 0; i < w->n; i++) {
        size_t n = window_tokens(w, i), begin = c->first[c->n_batches];
        *ret_longest = n > *ret_longest ? n : *ret_longest;
        if ((tokens + n > BATCH_TOKENS && i > begin) || i - begin == BATCH_WINDOWS) {
            c->first[++c->n_batches] = i;
            begin = i;
            tokens = 0;
        }
        tokens += n;
        c->batch_max = tokens > c->batch_max ? tokens : c->batch_max;
        most = i + 1 - begin > most ? i + 1 - begin : most;
    }
    c->first[++c->n_batches] = w->n;
    return most;
}

static enum mb_status side_init(struct mb_calibration *c, struct side *s,
                                const struct mb_model *m, struct mb_error *err)
{
    struct mb_stepper_options o = {
        .kernels = c->kernels,
        .pool = c->pool,
        .tokens_max = (uint32_t) c->batch_max,
        .logits_max = 1,
    };
    size_t widest = 0;
    for (int i = 0; i < MB_BLOCK_INPUTS; i++) {
        size_t n = mb_block_input_width(&c->shape, (enum mb_block_input) i);
        widest = n > widest ? n : widest;
    }
    s->model = m;
    s->stream = mb_alloc(mb_windows_tokens(c->windows), c->shape.width * sizeof(float));
    s->scratch = mb_alloc(c->batch_max, c->shape.width * sizeof(float));
    s->input = mb_alloc(c->batch_max, widest * sizeof(float));
    if (!s->stream || !s->scratch || !s->input) {
        return mb_fail(err, MB_E_NOMEM, 0, "no memory for the residual stream of %zu tokens",
                       mb_windows_tokens(c->windows));
    }
    return mb_stepper_new(m, &o, &s->stepper, err);
}

static void side_fini(struct side *s)
{
    mb_stepper_free(s->stepper);
    mb_free(s->stream);
    mb_free(s->scratch);
    mb_free(s->input);
}

/* A cache for one block: each window of a batch is a sequence, and all start at position 0
 * again in every step, as a block's step counts no positions. */
static enum mb_status cache_init(struct mb_calibration *c, size_t n_seqs, size_t longest,
                                 struct mb_error *err)
{
    struct mb_shape one = c->shape;
    uint32_t blocks = mb_kv_blocks_for((uint32_t) longest);
    one.n_layers = 1;
    enum mb_status st = mb_kv_new(&one, MB_KV_F32, (uint32_t) n_seqs * blocks,
                                  (uint32_t) n_seqs, (uint32_t) longest, &c->kv, err);
    for (uint32_t i = 0; st == MB_OK && i < n_seqs; i++) {
        st = mb_kv_reserve(c->kv, i, (uint32_t) longest, err);
    }
    return st;
}

static size_t first_token(const struct mb_calibration *c, size_t batch)
{
    return c->windows->start[c->first[batch]];
}

static struct mb_batch batch_of(struct mb_calibration *c, size_t batch)
{
    size_t first = first_token(c, batch), n = 0;
    for (size_t w = c->first[batch]; w < c->first[batch + 1]; w++) {
        for (size_t i = 0; i < window_tokens(c->windows, w); i++, n++) {
            c->position[n] = (uint32_t) i;
            c->seq[n] = (uint32_t) (w - c->first[batch]);
        }
    }
    return (struct mb_batch) {
        .n_tokens = (uint32_t) n,
        .token = c->windows->ids.at + first,
        .position = c->position,
        .seq = c->seq,
    };
}

static enum mb_status embed(struct mb_calibration *c, struct side *s, struct mb_error *err)
{
    enum mb_status st = MB_OK;
    for (size_t i = 0; st == MB_OK && i < c->n_batches; i++) {
        struct mb_batch b = batch_of(c, i);
        float *x = s->stream + first_token(c, i) * c->shape.width;
        st = mb_step_embed(s->stepper, s->model, &b, x, err);
    }
    return st;
}

enum mb_status mb_calibration_new(const struct mb_model *original,
                                  const struct mb_model *converted, const struct mb_windows *w,
                                  const struct mb_kernels *kernels, struct mb_pool *pool,
                                  struct mb_calibration **ret, struct mb_error *err)
{
    struct mb_calibration *c = mb_alloc(1, sizeof *c);
    if (!c) {
        return mb_fail(err, MB_E_NOMEM, 0, "no memory for calibration");
    }
    *c = (struct mb_calibration) { .windows = w, .kernels = kernels, .pool = pool };
    c->shape = converted->shape;
    size_t longest = 0, most = 0;
    c->first = mb_alloc(w->n + 1, sizeof *c->first);
    if (c->first) {
        most = cut_batches(c, &longest);
        c->position = mb_alloc(c->batch_max, sizeof *c->position);
        c->seq = mb_alloc(c->batch_max, sizeof *c->seq);
        c->owed = mb_alloc(c->batch_max, c->shape.width * sizeof *c->owed);
    }
    enum mb_status st = MB_OK;
    if (!c->first || !c->position || !c->seq || !c->owed) {
        st = mb_fail(err, MB_E_NOMEM, 0, "no memory for calibration");
    }
    if (st == MB_OK && (st = cache_init(c, most, longest, err)) == MB_OK &&
        (st = side_init(c, &c->converted, converted, err)) == MB_OK &&
        (st = embed(c, &c->converted, err)) == MB_OK && original != converted &&
        (st = side_init(c, &c->original, original, err)) == MB_OK) {
        st = embed(c, &c->original, err);
    }
    if (st != MB_OK) {
        mb_calibration_free(c);
        return st;
    }
    *ret = c;
    return MB_OK;
}

void mb_calibration_free(struct mb_calibration *c)
{
    if (!c) {
        return;
    }
    side_fini(&c->original);
    side_fini(&c->converted);
    mb_kv_free(c->kv);
    mb_free(c->first);
    mb_free(c->position);
    mb_free(c->seq);
    mb_free(c->owed);
    mb_free(c);
}

size_t mb_calibration_batches(const struct mb_calibration *c)
{
    return c->n_batches;
}

struct tap {
    enum mb_block_input wanted;
    float *ret;
    bool seen;
};

/* Keeps the wanted input, and stops the block there. */
static bool see(void *self, uint32_t layer, enum mb_block_input input, const float *x,
                uint32_t n_tokens, uint32_t width)
{
    struct tap *t = self;
    if (input != t->wanted) {
        return true;
    }
    memcpy(t->ret, x, (size_t) n_tokens * width * sizeof *x);
    t->seen = true;
    return false;
}

/* Leaves the input in s->input, and in s->scratch the stream that its layer adds to. */
static enum mb_status look(struct mb_calibration *c, struct side *s, size_t batch,
                           uint32_t layer, enum mb_block_input input, struct mb_error *err)
{
    struct mb_batch b = batch_of(c, batch);
    struct tap t = { .wanted = input, .ret = s->input };
    struct mb_tap tap = { .see = see, .self = &t };
    size_t width = c->shape.width;
    memcpy(s->scratch, s->stream + first_token(c, batch) * width,
           b.n_tokens * width * sizeof(float));
    enum mb_status st =
        mb_step_block(s->stepper, s->model, layer, c->kv, 0, &b, &tap, s->scratch, err);
    return t.seen ? MB_OK : st;
}

/* dx = t x' - x in place of x'. */
static void subtract(float *dx, const float *x, const uint16_t *t, size_t n_tokens,
                     size_t width)
{
    for (size_t i = 0; i < n_tokens; i++) {
        for (size_t j = 0; j < width; j++) {
            float scale = t ? mb_f16_to_f32(t[j]) : 1;
            dx[i * width + j] = scale * dx[i * width + j] - x[i * width + j];
        }
    }
}

enum mb_status mb_calibration_observe(struct mb_calibration *c, size_t batch, uint32_t layer,
                                      enum mb_block_input input, struct mb_statistics *s,
                                      struct mb_error *err)
{
    size_t width = mb_block_input_width(&c->shape, input), d = c->shape.width;
    size_t n = c->windows->start[c->first[batch + 1]] - first_token(c, batch);
    assert(s->n_cols == width);
    enum mb_status st = look(c, &c->converted, batch, layer, input, err);
    if (st == MB_OK && !c->original.model) {
        mb_statistics_add(s, c->pool, n, c->converted.input, NULL, NULL);
        return MB_OK;
    }
    if (st == MB_OK) {
        st = look(c, &c->original, batch, layer, input, err);
    }
    if (st != MB_OK) {
        return st;
    }
    bool adds = input == MB_IN_ATTN_O || input == MB_IN_FFN_DOWN;
    subtract(c->original.input, c->converted.input,
             c->converted.model->blocks[layer].input_scale[input], n, width);
    for (size_t i = 0; adds && i < n * d; i++) {
        c->owed[i] = c->original.scratch[i] - c->converted.scratch[i];
    }
    mb_statistics_add(s, c->pool, n, c->converted.input, c->original.input,
                      adds ? c->owed : NULL);
    return MB_OK;
}

void mb_calibration_observe_head(struct mb_calibration *c, size_t batch,
                                 struct mb_statistics *s)
{
    size_t d = c->shape.width, first = first_token(c, batch);
    size_t n = c->windows->start[c->first[batch + 1]] - first;
    struct side *sides[] = { &c->converted, &c->original };
    for (size_t i = 0; i < 2 && sides[i]->model; i++) {
        for (size_t t = 0; t < n; t++) {
            c->kernels->rmsnorm(sides[i]->input + t * d, sides[i]->stream + (first + t) * d,
                                sides[i]->model->final_norm, d, c->shape.norm_eps);
        }
    }
    if (c->original.model) {
        subtract(c->original.input, c->converted.input, NULL, n, d);
    }
    mb_statistics_add(s, c->pool, n, c->converted.input, c->original.input, NULL);
}

enum mb_status mb_calibration_advance(struct mb_calibration *c, size_t batch, uint32_t layer,
                                      struct mb_error *err)
{
    struct mb_batch b = batch_of(c, batch);
    size_t at = first_token(c, batch) * c->shape.width;
    enum mb_status st = MB_OK;
    if (c->original.model) {
        st = mb_step_block(c->original.stepper, c->original.model, layer, c->kv, 0, &b, NULL,
                           c->original.stream + at, err);
    }
    return st != MB_OK ? st
                       : mb_step_block(c->converted.stepper, c->converted.model, layer, c->kv,
                                       0, &b, NULL, c->converted.stream + at, err);
}
