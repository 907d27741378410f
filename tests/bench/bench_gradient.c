/* How fast is a training step, against what the machine multiplies at best?
 *
 * Steps of the gradient engine on random Boolean models of real shapes (with fewer layers), with
 * where the time goes. Rates count the products of the linear layers alone: 6 operations per
 * weight and token. The yardstick is one large product on as many threads. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/base/half.h"
#include "core/base/memory.h"
#include "core/base/rng.h"
#include "core/finetune/gradient.h"
#include "core/finetune/product.h"

enum { THREADS = 2, SIDE = 2048 };

static const struct bench {
    const char *name;
    struct mb_shape shape;
    uint32_t n_kernels, group, seq, n_seqs;
    bool recompute;
} benches[] = {
    { "stories3M, 16 x 160 tokens",
      { 6, 192, 6, 2, 32, 512, 4096, 512, 0, 8, 1e-5f, 1 },
      3,
      64,
      160,
      16,
      false },
    { "1.1B, 2 of 22 layers, 1 x 512 tokens",
      { 2, 2048, 32, 4, 64, 5632, 32000, 2048, 0, 8, 1e-5f, 0 },
      3,
      128,
      512,
      1,
      false },
    { "1.1B, 2 of 22 layers, 1 x 512 tokens, recomputed",
      { 2, 2048, 32, 4, 64, 5632, 32000, 2048, 0, 8, 1e-5f, 0 },
      3,
      128,
      512,
      1,
      true },
};

static void *need(size_t n, size_t size)
{
    void *p = mb_alloc(n, size);
    if (!p) {
        abort();
    }
    return p;
}

static uint64_t now_ns(void)
{
    struct timespec t;
    (void) clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t) t.tv_sec * 1000000000u + (uint64_t) t.tv_nsec;
}

/* Random signs; never freed: the program ends with its models. */
static struct mb_linear boolean(const struct bench *b, uint32_t n_rows, uint32_t n_cols)
{
    struct mb_bool_draft d;
    struct mb_bool_shape s = { n_rows, n_cols, b->group, b->n_kernels };
    if (n_cols % MB_WORD_COLS != 0 || n_rows % MB_TILE_ROWS != 0 ||
        mb_bool_draft_init(&d, &s, NULL) != MB_OK) {
        abort();
    }
    for (size_t i = 0; i < mb_bool_bits_bytes(&s) / sizeof *d.bits; i++) {
        d.bits[i] = (uint32_t) mb_rng_u64(1, n_rows, i);
    }
    for (size_t i = 0; i < mb_bool_scale_bytes(&s) / sizeof *d.scale; i++) {
        d.scale[i] = mb_f32_to_f16(0.02f);
    }
    for (size_t i = 0; i < mb_bool_coef_bytes(&s); i++) {
        d.coef[i] = (uint8_t) (64 >> i / MB_TILE_ROWS % b->n_kernels);
    }
    d.scale_all = (float) (1 / sqrt(n_cols));
    return (struct mb_linear) { MB_LINEAR_BOOL, n_rows, n_cols, NULL, mb_bool_draft_view(&d) };
}

static const float *ones(size_t n)
{
    float *x = need(n, sizeof *x);
    for (size_t i = 0; i < n; i++) {
        x[i] = 1;
    }
    return x;
}

static struct mb_model *model_of(const struct bench *b, double *ret_weights)
{
    struct mb_model *m = NULL;
    const struct mb_shape *s = &b->shape;
    if (mb_model_new(s, &m, NULL) != MB_OK) {
        abort();
    }
    double *inv_freq = need(s->head_width / 2, sizeof *inv_freq);
    for (uint32_t i = 0; i < s->head_width / 2; i++) {
        inv_freq[i] = pow(10000, -2.0 * i / s->head_width);
    }
    m->inv_freq = inv_freq;
    m->final_norm = ones(s->width);
    m->embed = boolean(b, s->n_vocab, s->width);
    m->head = m->embed;
    *ret_weights = (double) s->n_vocab * s->width;
    for (uint32_t layer = 0; layer < s->n_layers; layer++) {
        m->blocks[layer].attn_norm = m->blocks[layer].ffn_norm = m->final_norm;
        for (int l = 0; l < MB_BLOCK_LINEARS; l++) {
            uint32_t n_rows, n_cols;
            mb_block_linear_size(s, (enum mb_block_linear) l, &n_rows, &n_cols);
            m->blocks[layer].linear[l] = boolean(b, n_rows, n_cols);
            *ret_weights += (double) n_rows * n_cols;
        }
    }
    return m;
}

/* Weights of the blocks, and the vocabulary too: all gradients are made, and dropped. */
static bool wants(void *self, const struct mb_param *p)
{
    return true;
}

static enum mb_status drop(void *self, const struct mb_param *p, float *dw,
                           struct mb_error *err)
{
    return MB_OK;
}

static struct mb_train_batch batch_of(const struct bench *b)
{
    uint32_t n = b->seq * b->n_seqs;
    uint32_t *start = need(b->n_seqs + 1, sizeof *start), *token = need(n, sizeof *token);
    for (uint32_t i = 0; i <= b->n_seqs; i++) {
        start[i] = i * b->seq;
    }
    for (uint32_t i = 0; i < n; i++) {
        token[i] = (uint32_t) (mb_rng_u64(2, 0, i) % b->shape.n_vocab);
    }
    return (struct mb_train_batch) { n, b->n_seqs, start, token, token, ones(n) };
}

static double best_product(struct mb_pool *pool)
{
    const float *a = ones((size_t) SIDE * SIDE), *b = ones((size_t) SIDE * SIDE);
    float *c = need((size_t) SIDE * SIDE, sizeof *c);
    double best = 0;
    for (int i = 0; i < 5; i++) {
        uint64_t from = now_ns();
        mb_product(pool, SIDE, SIDE, SIDE, (struct mb_operand) { MB_AS_IS, a, SIDE },
                   (struct mb_operand) { MB_TRANSPOSED, b, SIDE }, 0, c, SIDE);
        double rate = 2.0 * SIDE * SIDE * SIDE / (double) (now_ns() - from);
        best = rate > best ? rate : best;
    }
    return best;
}

static void run(const struct bench *b, struct mb_pool *pool, double peak)
{
    double n_weights;
    struct mb_model *m = model_of(b, &n_weights);
    struct mb_train_batch batch = batch_of(b);
    struct mb_gradient_options o = {
        .pool = pool,
        .ops = mb_train_ops_select(mb_cpu_detect()),
        .tokens_max = batch.n_tokens,
        .positions_max = b->seq,
        .recompute = b->recompute,
        .ce = 1,
    };
    struct mb_gradient *g = NULL;
    struct mb_sink sink = { wants, drop, NULL };
    struct mb_losses losses;
    uint64_t times[MB_GRADIENT_PHASES], best = UINT64_MAX;
    if (mb_gradient_new(m, &o, &g, NULL) != MB_OK) {
        abort();
    }
    for (int i = 0; i < 3; i++) {
        mb_gradient_set_clock(g, now_ns);
        uint64_t from = now_ns();
        if (mb_gradient_run(g, m, NULL, &batch, &sink, &losses, NULL) != MB_OK) {
            abort();
        }
        uint64_t took = now_ns() - from;
        if (took < best) {
            best = took;
            mb_gradient_times(g, times);
        }
    }
    double rate = 6 * n_weights * batch.n_tokens / (double) best;
    printf("%s\n  %.1f ms a step, %.0f tokens/s, %.0f GFLOP/s, %.0f %% of the best product\n ",
           b->name, (double) best * 1e-6, batch.n_tokens * 1e9 / (double) best, rate,
           100 * rate / peak);
    for (int p = 0; p < MB_GRADIENT_PHASES; p++) {
        printf(" %s %.1f %%", mb_gradient_phase_name((enum mb_gradient_phase) p),
               100 * (double) times[p] / (double) best);
    }
    printf("\n");
    mb_gradient_free(g);
}

int main(void)
{
    struct mb_pool *pool = NULL;
    if (mb_pool_new(THREADS, 0, &pool, NULL) != MB_OK) {
        return EXIT_FAILURE;
    }
    double peak = best_product(pool);
    printf("%d threads, operations %s, BLAS %s: a product of %d makes %.0f GFLOP/s\n", THREADS,
           mb_train_ops_select(mb_cpu_detect())->name, mb_blas_name(), SIDE, peak);
    for (size_t i = 0; i < sizeof benches / sizeof benches[0]; i++) {
        run(&benches[i], pool, peak);
    }
    mb_pool_free(pool);
    return EXIT_SUCCESS;
}
