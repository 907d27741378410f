#include "tests/bench/rounding.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "core/base/checked.h"
#include "core/base/half.h"

/* Ranges that clip tries: all of it, and shares of it down to 1 - 64/80. */
enum { CLIP_TRIES = 65, CLIP_STEPS = 80 };

struct grid {
    float scale, zero, top; /* top is 2^b - 1 */
};

static float on_grid(const struct grid *g, float x)
{
    float u = roundf(x / g->scale) + g->zero;
    return g->scale * (fminf(fmaxf(u, 0), g->top) - g->zero);
}

static struct grid grid_over(float low, float high, unsigned bits)
{
    struct grid g = { .top = (float) ((1u << bits) - 1) };
    g.scale = mb_f16_to_f32(mb_f32_to_f16((high - low) / g.top));
    g.scale = g.scale > 0 ? g.scale : 1; /* a group of zeros, or of next to nothing */
    g.zero = fminf(roundf(-low / g.scale), g.top);
    return g;
}

/* sum_j d_j (x_j - q_j)^2; a NULL d is 1. */
static double harm(const struct grid *g, const float *x, const float *d, size_t n)
{
    double sum = 0;
    for (size_t j = 0; j < n; j++) {
        double e = (double) x[j] - (double) on_grid(g, x[j]);
        sum += (d ? (double) d[j] : 1) * e * e;
    }
    return sum;
}

static struct grid choose_grid(const struct rounding *o, const float *x, const float *d,
                               size_t n)
{
    float low = 0, high = 0;
    for (size_t j = 0; j < n; j++) {
        low = fminf(low, x[j]);
        high = fmaxf(high, x[j]);
    }
    struct grid best = grid_over(low, high, o->bits);
    double least = o->clip ? harm(&best, x, d, n) : 0;
    for (int i = 1; o->clip && i < CLIP_TRIES; i++) {
        float share = 1 - (float) i / CLIP_STEPS;
        struct grid g = grid_over(share * low, share * high, o->bits);
        double h = harm(&g, x, d, n);
        if (h < least) {
            least = h;
            best = g;
        }
    }
    return best;
}

struct job {
    const struct rounding *o;
    const struct mb_factor *factor;
    const float *w;
    size_t n;
    float *ret;
};

static void round_row(void *job, size_t row, size_t worker)
{
    const struct job *r = job;
    size_t n = r->n, group = r->o->group > 0 ? r->o->group : n;
    const struct mb_factor *f = r->factor;
    const float *w = r->w + row * n;
    float *aim = r->ret + row * n;
    struct grid g = { 0 };
    memcpy(aim, w, n * sizeof *aim);
    for (size_t j = 0; j < n; j++) {
        if (j % group == 0) {
            g = choose_grid(r->o, aim + j, f ? f->weight + j : NULL,
                            n - j < group ? n - j : group);
        }
        aim[j] = on_grid(&g, aim[j]);
        for (size_t i = j + 1; f && i < n; i++) {
            aim[i] += (w[j] - aim[j]) * f->feed[j * n + i];
        }
    }
}

void rounding_apply(const struct rounding *o, const float *w, size_t m, size_t n,
                    const struct mb_factor *factor, struct mb_pool *pool, float *ret)
{
    assert(o->bits >= 2);
    assert(o->bits <= 8);
    assert(!factor || factor->n == n);
    struct job job = { .o = o, .factor = factor, .w = w, .n = n, .ret = ret };
    mb_pool_run(pool, m, round_row, &job);
}

double rounding_bits(const struct rounding *o, size_t n)
{
    size_t n_groups = o->group > 0 ? mb_div_up(n, o->group) : 1;
    return o->bits + (16.0 + o->bits) * (double) n_groups / (double) n;
}
