/* What does Boolean training gain, against the yardstick of float latent weights?
 *
 *     bench_finetune MODEL.mbool FOLDER TRAIN.txt VALID.txt [KEY=VALUE ...]
 *
 * Trains the model (converted from the folder) on the text, to the distribution of the float
 * model unless ce=1 kl=0, and prints one line: KL to the float model and perplexity on the
 * validation text before and after, as inference computes them; flips; time; bytes of training
 * state per weight, without the gradient engine's memory that all optimizers share. json=1
 * prints the same as JSON.
 *
 * optimizer=accumulate | stochastic | coefficients | latent. The last is the conventional
 * trainer: float latent weights, quantised to the nearest level each step, gradients passed
 * straight through, AdamW. It exists here alone. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "core/base/file.h"
#include "core/base/half.h"
#include "core/base/memory.h"
#include "core/convert/levels.h"
#include "core/finetune/adam.h"
#include "core/finetune/dataset.h"
#include "core/finetune/trainer.h"
#include "core/finetune/weights.h"
#include "core/import/hf.h"
#include "core/infer/evaluate.h"

/* Everything that a run is made of; never freed: the program ends with it. */
struct bench {
    struct mb_model *base, *teacher;
    struct mb_tokenizer *tokenizer;
    struct mb_dataset data;
    struct mb_windows valid;
    struct mb_pool *pool;
    struct mb_kernels kernels;
    struct mb_train_options o;
    const char *optimizer;
    double tokens, window, valid_tokens, threads, log, json;
};

static void fail(const char *what, const struct mb_error *err)
{
    fprintf(stderr, "bench_finetune: %s: %s\n", what, err->what);
    exit(EXIT_FAILURE);
}

static void *need(size_t n, size_t size)
{
    void *p = mb_alloc(n, size);
    if (!p) {
        abort();
    }
    return p;
}

static double now_s(void)
{
    struct timespec t;
    (void) clock_gettime(CLOCK_MONOTONIC, &t);
    return (double) t.tv_sec + (double) t.tv_nsec * 1e-9;
}

/* The yardstick. */

enum { VECTORS_MAX = 8 * 64 };

struct latent {
    struct mb_trainer
        *trainer; /* its draft is what runs; coefficients are trained by its rule */
    struct mb_gradient *gradient;
    const struct mb_train_options *o;
    struct mb_pool *pool;
    const struct mb_model *teacher;
    struct mb_flipper *coefs; /* one a matrix, which never flips */
    float **w, **m, **v;
    uint64_t t;
    double rate, step;
    float *vector_m[VECTORS_MAX], *vector_v[VECTORS_MAX], *vector_w[VECTORS_MAX];
};

/* The matrix as nearest levels of its latent weights. */
static void quantise_row(void *job, size_t row, size_t worker)
{
    void **args = job;
    struct mb_bool_draft *d = args[0];
    const float *w = (const float *) args[1] + row * d->shape.n_cols;
    struct mb_bool_matrix view = mb_bool_draft_view(d);
    uint8_t pattern[MB_GROUP_COLS_MAX];
    for (size_t g = 0; g < mb_bool_groups(&d->shape); g++) {
        float level[1u << MB_KERNELS_MAX], alpha[MB_KERNELS_MAX];
        struct mb_levels l;
        mb_weights_levels(&view, row, g, level);
        for (unsigned k = 0; k < d->shape.n_kernels; k++) {
            alpha[k] = 0.5f * (level[1u << k] - level[0]);
        }
        mb_levels_of(&l, alpha, d->shape.n_kernels);
        for (size_t j = 0; j < mb_bool_group_cols(&d->shape, g); j++) {
            pattern[j] = l.pattern[mb_levels_nearest(&l, w[g * d->shape.group + j])];
        }
        mb_weights_set_patterns(d, row, g, pattern);
    }
}

static bool latent_wants(void *self, const struct mb_param *p)
{
    return p->kind != MB_PARAM_EMBED && p->kind != MB_PARAM_HEAD;
}

static enum mb_status take_matrix(struct latent *y, size_t i, const float *dw,
                                  struct mb_error *err)
{
    const struct mb_draft *d = mb_trainer_draft(y->trainer);
    struct mb_bool_draft *w = &d->linears[i];
    size_t n = (size_t) w->shape.n_rows * w->shape.n_cols;
    struct mb_flip_step s = { .t = y->t, .coef_step = y->o->coef_step * y->rate };
    struct mb_adam a = mb_adam_at(y->t, y->step * y->rate * y->coefs[i].unit, 0);
    enum mb_status st = mb_flipper_step(&y->coefs[i], &s, dw, y->pool, err);
    mb_adam_apply(&a, y->w[i], dw, y->m[i], y->v[i], n);
    void *args[] = { w, y->w[i] };
    mb_pool_run(y->pool, w->shape.n_rows, quantise_row, args);
    return st;
}

/* Norms and input scales as the trainer has them, in as few lines. */
static void take_vector(struct latent *y, const struct mb_param *p, const float *g)
{
    const struct mb_draft *d = mb_trainer_draft(y->trainer);
    const struct mb_shape *s = &d->base->shape;
    static const uint8_t slots[] = { [MB_PARAM_ATTN_NORM] = 4,
                                     [MB_PARAM_FFN_NORM] = 5,
                                     [MB_PARAM_FINAL_NORM] = 6,
                                     [MB_PARAM_HEAD_SCALE] = 7 };
    size_t n = s->width, id = 8 * (size_t) p->layer + slots[p->kind] + p->index;
    float *value = d->norms;
    uint16_t *half = NULL;
    if (p->kind == MB_PARAM_INPUT_SCALE) {
        half = d->scales[p->layer * MB_BLOCK_INPUTS + p->index];
        n = mb_block_input_width(s, (enum mb_block_input) p->index);
    } else if (p->kind == MB_PARAM_HEAD_SCALE) {
        half = d->scales[(size_t) s->n_layers * MB_BLOCK_INPUTS];
    } else {
        value += p->kind == MB_PARAM_FINAL_NORM
                     ? 2 * s->n_layers * n
                     : (2 * p->layer + (p->kind == MB_PARAM_FFN_NORM)) * n;
    }
    if (id >= VECTORS_MAX) {
        abort();
    }
    if (!y->vector_m[id]) {
        y->vector_m[id] = need(n, sizeof(float));
        y->vector_v[id] = need(n, sizeof(float));
        y->vector_w[id] = half ? need(n, sizeof(float)) : value;
        for (size_t j = 0; half && j < n; j++) {
            y->vector_w[id][j] = mb_f16_to_f32(half[j]);
        }
    }
    double sum = 0;
    for (size_t j = 0; j < n; j++) {
        sum += (double) y->vector_w[id][j] * y->vector_w[id][j];
    }
    struct mb_adam a =
        mb_adam_at(y->t, y->o->vector_step * y->rate * sqrt(sum / (double) n), 0);
    mb_adam_apply(&a, y->vector_w[id], g, y->vector_m[id], y->vector_v[id], n);
    for (size_t j = 0; half && j < n; j++) {
        half[j] = mb_f32_to_f16(y->vector_w[id][j]);
    }
}

static enum mb_status latent_take(void *self, const struct mb_param *p, float *dw,
                                  struct mb_error *err)
{
    struct latent *y = self;
    if (p->kind == MB_PARAM_LINEAR) {
        return take_matrix(y, (size_t) p->layer * MB_BLOCK_LINEARS + p->index, dw, err);
    }
    take_vector(y, p, dw);
    return MB_OK;
}

/* Latent weights no further from the level that conversion chose than share of the way to where
 * they would change it: conversion knew why. */
static void keep_level(const struct mb_bool_matrix *from, size_t row, double share, float *w)
{
    uint8_t pattern[MB_GROUP_COLS_MAX];
    for (size_t g = 0; g < mb_bool_groups(&from->shape); g++) {
        float level[1u << MB_KERNELS_MAX], alpha[MB_KERNELS_MAX];
        struct mb_levels l;
        mb_weights_levels(from, row, g, level);
        for (unsigned k = 0; k < from->shape.n_kernels; k++) {
            alpha[k] = 0.5f * (level[1u << k] - level[0]);
        }
        mb_levels_of(&l, alpha, from->shape.n_kernels);
        mb_weights_patterns(from, row, g, pattern);
        for (size_t j = 0; j < mb_bool_group_cols(&from->shape, g); j++) {
            float *x = &w[g * from->shape.group + j], was = level[pattern[j]];
            unsigned at = 0;
            while (l.pattern[at] != pattern[j]) {
                at++;
            }
            if (at + 1 < 1u << from->shape.n_kernels) {
                *x = fminf(*x, was + (float) share * (l.threshold[at] - was));
            }
            if (at > 0) {
                *x = fmaxf(*x, was + (float) share * (l.threshold[at - 1] - was));
            }
        }
    }
}

static void latent_init(struct latent *y, const struct bench *b, struct mb_trainer *t)
{
    const struct mb_draft *d = mb_trainer_draft(t);
    size_t n_matrices = (size_t) b->base->shape.n_layers * MB_BLOCK_LINEARS;
    struct mb_flip_options flip = { .mode = MB_FLIP_STOCHASTIC };
    struct mb_error err;
    *y = (struct latent) {
        .trainer = t, .o = &b->o, .pool = b->pool, .teacher = b->teacher, .step = b->o.step
    };
    y->coefs = need(n_matrices, sizeof *y->coefs);
    y->w = need(n_matrices, sizeof *y->w);
    y->m = need(n_matrices, sizeof *y->m);
    y->v = need(n_matrices, sizeof *y->v);
    for (size_t i = 0; i < n_matrices; i++) {
        uint32_t layer = (uint32_t) (i / MB_BLOCK_LINEARS);
        enum mb_block_linear l = (enum mb_block_linear)(i % MB_BLOCK_LINEARS);
        const uint16_t *scale = b->base->blocks[layer].input_scale[mb_block_linear_input(l)];
        const struct mb_linear *from = &b->teacher->blocks[layer].linear[l];
        size_t m = from->n_rows, n = from->n_cols;
        y->w[i] = need(m, n * sizeof(float));
        y->m[i] = need(m, n * sizeof(float));
        y->v[i] = need(m, n * sizeof(float));
        for (size_t r = 0; r < m; r++) {
            mb_weights_row(from, r, y->w[i] + r * n);
            for (size_t j = 0; scale && j < n; j++) {
                y->w[i][r * n + j] /= mb_f16_to_f32(scale[j]);
            }
            keep_level(&b->base->blocks[layer].linear[l].boolean, r, b->o.flip.start,
                       y->w[i] + r * n);
        }
        if (mb_flipper_init(&y->coefs[i], &flip, &d->linears[i],
                            &b->base->blocks[layer].linear[l].boolean, NULL, NULL, b->pool,
                            &err) != MB_OK) {
            fail("yardstick", &err);
        }
    }
    if (mb_gradient_new(d->model, &b->o.gradient, &y->gradient, &err) != MB_OK) {
        fail("yardstick", &err);
    }
}

static enum mb_status latent_step(struct latent *y, const struct mb_train_batch *batch,
                                  struct mb_train_report *ret, struct mb_error *err)
{
    struct mb_sink sink = { latent_wants, latent_take, y };
    double n = (double) y->o->n_steps, warm = y->o->warm_up * n;
    y->t++;
    y->rate = ((double) y->t < warm ? (double) y->t / warm : 1) * 0.5 *
              (1 + cos(3.14159265358979 * ((double) y->t - 0.5) / n));
    *ret = (struct mb_train_report) { .step = y->t, .rate = y->rate, .n_weights = 1 };
    return mb_gradient_run(y->gradient, mb_trainer_draft(y->trainer)->model, y->teacher, batch,
                           &sink, &ret->losses, err);
}

/* The run. */

static void load(struct bench *b, char **argv)
{
    struct mb_checkpoint *c = NULL;
    struct mb_hf *hf = NULL;
    struct mb_error err;
    struct mb_file_map text;
    if (mb_checkpoint_open(argv[1], &c, &err) != MB_OK ||
        mb_checkpoint_tokenizer(c, &b->tokenizer, &err) != MB_OK ||
        mb_model_from_checkpoint(c, &b->base, &err) != MB_OK) {
        fail(argv[1], &err);
    }
    if (mb_hf_open(argv[2], &hf, &err) != MB_OK ||
        mb_model_from_hf(hf, &b->teacher, &err) != MB_OK) {
        fail(argv[2], &err);
    }
    if (mb_file_map(argv[3], &text, &err) != MB_OK ||
        mb_dataset_add_text(&b->data, b->tokenizer, (const char *) text.at, text.n,
                            (size_t) b->window + 1, &err) != MB_OK) {
        fail(argv[3], &err);
    }
    if (mb_file_map(argv[4], &text, &err) != MB_OK ||
        mb_windows_of_text(b->tokenizer, (const char *) text.at, text.n, b->base->shape.context,
                           (size_t) b->valid_tokens, &b->valid, &err) != MB_OK) {
        fail(argv[4], &err);
    }
}

static struct mb_evaluation evaluate(const struct bench *b, const struct mb_model *m)
{
    struct mb_evaluation e;
    struct mb_error err;
    if (mb_evaluate(m, b->teacher, &b->valid, &b->kernels, b->pool, NULL, &e, &err) != MB_OK) {
        fail("evaluate", &err);
    }
    return e;
}

static bool take_number(struct bench *b, const char *key, double x)
{
    double planes = 0, match = b->o.gradient.match, kl = b->o.gradient.kl,
           ce = b->o.gradient.ce, steps = (double) b->o.n_steps, seed = 0, refresh = 0;
    const struct {
        const char *key;
        double *to;
    } keys[] = {
        { "steps", &steps },
        { "tokens", &b->tokens },
        { "window", &b->window },
        { "valid_tokens", &b->valid_tokens },
        { "threads", &b->threads },
        { "log", &b->log },
        { "json", &b->json },
        { "step", &b->o.step },
        { "coef", &b->o.coef_step },
        { "vector", &b->o.vector_step },
        { "budget", &b->o.budget },
        { "warm_up", &b->o.warm_up },
        { "ce", &ce },
        { "kl", &kl },
        { "match", &match },
        { "seed", &seed },
        { "refresh", &refresh },
        { "code", &planes },
    };
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        if (strcmp(key, keys[i].key) == 0) {
            *keys[i].to = x;
            b->o.n_steps = (uint64_t) steps;
            b->o.gradient.ce = (float) ce;
            b->o.gradient.kl = (float) kl;
            b->o.gradient.match = (float) match;
            b->o.seed = seed > 0 ? (uint64_t) seed : b->o.seed;
            b->o.refresh_every = refresh > 0 ? (uint64_t) refresh : b->o.refresh_every;
            b->o.gradient.code_inputs |= planes > 0;
            return true;
        }
    }
    return false;
}

static bool take(struct bench *b, char *argument)
{
    char *value = strchr(argument, '=');
    if (!value) {
        return false;
    }
    *value++ = '\0';
    if (strcmp(argument, "optimizer") == 0) {
        b->optimizer = value;
        b->o.flip.mode =
            strcmp(value, "accumulate") == 0 ? MB_FLIP_ACCUMULATE : MB_FLIP_STOCHASTIC;
        return true;
    }
    double x = atof(value);
    if (strcmp(argument, "reset") == 0) {
        b->o.flip.reset = x > 0;
    } else if (strcmp(argument, "last") == 0) {
        b->o.flip.last_kernel = x > 0;
    } else if (strcmp(argument, "hysteresis") == 0) {
        b->o.flip.hysteresis = x;
    } else if (strcmp(argument, "start") == 0) {
        b->o.flip.start = x;
    } else if (strcmp(argument, "vocabulary") == 0) {
        b->o.vocabulary = x > 0;
    } else {
        return take_number(b, argument, x);
    }
    return true;
}

static void print(const struct bench *b, const struct mb_evaluation *before,
                  const struct mb_evaluation *after, const struct mb_train_report *r,
                  double state_bytes, double took_s)
{
    struct rusage u = { 0 };
    (void) getrusage(RUSAGE_SELF, &u);
    double n = (double) r->n_weights, flips = (double) r->total.n_flips;
    printf(
        b->json > 0
            ? "{\"optimizer\": \"%s\", \"kernels\": %u, \"steps\": %llu, \"kl_before\": %.6g, "
              "\"kl\": %.6g, \"ppl_before\": %.6g, \"ppl\": %.6g, \"flips\": %.4f, "
              "\"backs\": %.4f, \"moved\": %.4f, \"seconds\": %.1f, \"state_bytes\": %.3f, "
              "\"peak_mib\": %.0f}\n"
            : "%-12s K=%u %llu steps: kl %.4f -> %.4f  ppl %.3f -> %.3f  flips %.2f "
              "backs %.2f moved %.3f  %.1f s  state %.2f B/w  peak %.0f MiB\n",
        b->optimizer, (unsigned) b->base->blocks[0].linear[0].boolean.shape.n_kernels,
        (unsigned long long) b->o.n_steps, before->kl, after->kl, before->ppl, after->ppl,
        flips / n, flips > 0 ? (double) r->total.n_backs / flips : 0,
        (double) r->total.n_moved / n, took_s, state_bytes, (double) u.ru_maxrss / 1024);
}

static void run(struct bench *b)
{
    struct mb_trainer *t = NULL;
    struct mb_batches batches;
    struct mb_error err;
    struct latent latent;
    struct mb_train_report r = { 0 };
    bool is_latent = strcmp(b->optimizer, "latent") == 0;
    if (strcmp(b->optimizer, "coefficients") == 0) {
        b->o.budget = 0;
    }
    if (mb_batches_init(&batches, &b->data, (uint32_t) b->tokens, b->o.seed, &err) != MB_OK ||
        mb_trainer_new(b->base, b->teacher, &b->o, &t, &err) != MB_OK) {
        fail("set up", &err);
    }
    if (is_latent) {
        latent_init(&latent, b, t);
    }
    struct mb_evaluation before = evaluate(b, b->base);
    double from = now_s();
    for (uint64_t i = 0; i < b->o.n_steps; i++) {
        struct mb_train_batch batch = mb_batches_next(&batches);
        enum mb_status st = is_latent ? latent_step(&latent, &batch, &r, &err)
                                      : mb_trainer_step(t, &batch, &r, &err);
        if (st != MB_OK) {
            fail("step", &err);
        }
        if (b->log > 0 && r.step % (uint64_t) b->log == 0) {
            fprintf(stderr, "%llu: loss %.4f ce %.4f kl %.4f match %.4f flips %llu\n",
                    (unsigned long long) r.step, r.losses.total, r.losses.cross_entropy,
                    r.losses.divergence, r.losses.match, (unsigned long long) r.flips.n_flips);
        }
    }
    double took = now_s() - from;
    struct mb_evaluation after = evaluate(b, mb_trainer_draft(t)->model);
    print(b, &before, &after, &r, is_latent ? 12.0 : mb_trainer_state_bytes(t), took);
}

int main(int argc, char **argv)
{
    struct bench b = { .o = mb_train_defaults(),
                       .optimizer = "accumulate",
                       .tokens = 2560,
                       .window = 160,
                       .valid_tokens = 16384,
                       .threads = 2 };
    b.o.gradient.ce = 0;
    b.o.gradient.kl = 1;
    for (int i = 5; i < argc; i++) {
        if (!take(&b, argv[i])) {
            fprintf(stderr, "bench_finetune: what is '%s'?\n", argv[i]);
            return EXIT_FAILURE;
        }
    }
    if (argc < 5) {
        fprintf(stderr,
                "usage: bench_finetune MODEL.mbool FOLDER TRAIN VALID [KEY=VALUE ...]\n");
        return EXIT_FAILURE;
    }
    if (mb_pool_new((size_t) b.threads, 0, &b.pool, NULL) != MB_OK) {
        return EXIT_FAILURE;
    }
    mb_kernels_select(&b.kernels, mb_cpu_detect());
    b.o.gradient.pool = b.pool;
    b.o.gradient.ops = mb_train_ops_select(mb_cpu_detect());
    b.o.gradient.tokens_max = (uint32_t) b.tokens;
    b.o.gradient.positions_max = (uint32_t) b.window;
    load(&b, argv);
    run(&b);
    return EXIT_SUCCESS;
}
