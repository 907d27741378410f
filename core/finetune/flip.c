#include "core/finetune/flip.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "core/base/checked.h"
#include "core/base/half.h"
#include "core/base/memory.h"
#include "core/base/rng.h"
#include "core/convert/coefs.h"
#include "core/convert/levels.h"
#include "core/finetune/adam.h"
#include "core/finetune/weights.h"

/* Units of evidence in half the group's largest distance: the rest of the 127 is for weights of
 * the outermost levels, which are held beyond them. */
#define HALF_UNITS   100
#define EVIDENCE_MAX 127
/* No single gradient says more than this many of its usual size. */
#define MOVE_MAX     4.0f
#define DECAY        0.95 /* of R and C */

enum { PART_ROWS = MB_TILE_ROWS, PATTERNS_MAX = 1 << MB_KERNELS_MAX };

/* Where each pattern of a row and group can go: up and down, and after how many units. */
struct ladder {
    float unit; /* of evidence, in weights */
    uint8_t up[PATTERNS_MAX], down[PATTERNS_MAX];
    uint8_t up_half[PATTERNS_MAX], down_half[PATTERNS_MAX]; /* units to the middle between */
    uint8_t up_at[PATTERNS_MAX], down_at[PATTERNS_MAX]; /* where it goes; 0: no such level */
};

/* What one step has beside the optimizer itself. */
struct work {
    struct mb_flipper *f;
    const struct mb_flip_step *s;
    const float *dw;
    struct mb_adam adam;
    size_t m, n, n_groups;
    float *col_part;   /* [parts][n]: sums of G^2 */
    double *row_sum;   /* [m]: sum of G^2 */
    float *col_factor; /* [n]: sqrt(mean(R) / C) */
    float *dalpha;     /* [m][groups][K] */
    uint32_t *over;    /* [parts][EVIDENCE_MAX + 1]: weights by units past the threshold */
    double *wanted;    /* [parts]: sum of probabilities */
    struct mb_flip_counts *counts; /* [parts] */
    unsigned cut;                  /* flips need as many units past the threshold ... */
    double cut_share;              /* ... and of those with exactly so many, this share flips */
    double all_share;              /* by which probabilities are multiplied */
};

static void coefs_of(const struct mb_bool_matrix *w, size_t row, size_t g, float *ret_alpha)
{
    const struct mb_bool_shape *s = &w->shape;
    size_t tile = row / MB_TILE_ROWS, r = row % MB_TILE_ROWS;
    float scale = w->scale_all * mb_f16_to_f32(w->scale[mb_bool_scale_at(s, tile, g) + r]);
    const uint8_t *c = w->coef + mb_bool_coef_at(s, tile, g) + r;
    for (size_t k = 0; k < s->n_kernels; k++) {
        ret_alpha[k] = scale * (float) c[k * MB_TILE_ROWS];
    }
}

static void set_coefs(struct mb_bool_draft *w, size_t row, size_t g, const float *alpha)
{
    const struct mb_bool_shape *s = &w->shape;
    size_t tile = row / MB_TILE_ROWS, r = row % MB_TILE_ROWS;
    float scaled[MB_KERNELS_MAX];
    struct mb_coefs c;
    for (size_t k = 0; k < s->n_kernels; k++) {
        scaled[k] = alpha[k] / (w->scale_all / MB_COEFS_UNIT);
    }
    mb_coefs_round(&c, scaled, s->n_kernels);
    w->scale[mb_bool_scale_at(s, tile, g) + r] = c.half;
    for (size_t k = 0; k < s->n_kernels; k++) {
        w->coef[mb_bool_coef_at(s, tile, g) + k * MB_TILE_ROWS + r] = c.c[k];
    }
}

static uint8_t units(float distance)
{
    return distance < 1 ? 1 : (uint8_t) lrintf(fminf(distance, EVIDENCE_MAX));
}

/* Neighbours in the order of all levels. Zero when the group is dead: all levels are 0. */
static bool climb_all(struct ladder *l, const float *alpha, unsigned n_kernels, float threshold)
{
    struct mb_levels v;
    float most = 0;
    unsigned n = 1u << n_kernels;
    mb_levels_of(&v, alpha, n_kernels);
    for (unsigned i = 0; i + 1 < n; i++) {
        float distance = v.value[i + 1] - v.value[i];
        most = distance > most ? distance : most;
    }
    l->unit = 0.5f * most / HALF_UNITS;
    memset(l->up_at, 0, sizeof l->up_at);
    memset(l->down_at, 0, sizeof l->down_at);
    for (unsigned i = 0; l->unit > 0 && i + 1 < n; i++) {
        float half = 0.5f * (v.value[i + 1] - v.value[i]) / l->unit;
        unsigned low = v.pattern[i], high = v.pattern[i + 1];
        l->up[low] = (uint8_t) high;
        l->down[high] = (uint8_t) low;
        l->up_half[low] = l->down_half[high] = units(half);
        l->up_at[low] = l->down_at[high] = units(half * threshold);
    }
    return l->unit > 0;
}

static bool climb_last(struct ladder *l, const float *alpha, unsigned n_kernels,
                       float threshold)
{
    unsigned bit = 1u << (n_kernels - 1);
    l->unit = alpha[n_kernels - 1] / HALF_UNITS;
    for (unsigned p = 0; p < 1u << n_kernels; p++) {
        uint8_t at = units(HALF_UNITS * threshold);
        l->up[p] = l->down[p] = (uint8_t) (p ^ bit);
        l->up_half[p] = l->down_half[p] = HALF_UNITS;
        l->up_at[p] = p & bit ? 0 : at;
        l->down_at[p] = p & bit ? at : 0;
    }
    return l->unit > 0;
}

static bool climb(const struct mb_flipper *f, size_t row, size_t g, struct ladder *ret)
{
    struct mb_bool_matrix w = mb_bool_draft_view(f->w);
    float alpha[MB_KERNELS_MAX], threshold = 1 + (float) f->o.hysteresis;
    coefs_of(&w, row, g, alpha);
    return f->o.last_kernel ? climb_last(ret, alpha, w.shape.n_kernels, threshold)
                            : climb_all(ret, alpha, w.shape.n_kernels, threshold);
}

/* Life. */

void mb_flipper_fini(struct mb_flipper *f)
{
    mb_free(f->evidence);
    mb_free(f->row);
    mb_free(f->col);
    mb_free(f->alpha);
    mb_free(f->alpha_m);
    mb_free(f->alpha_v);
    mb_free(f->moved);
    memset(f, 0, sizeof *f);
}

static size_t n_alpha(const struct mb_flipper *f)
{
    const struct mb_bool_shape *s = &f->w->shape;
    return (size_t) s->n_rows * mb_bool_groups(s) * s->n_kernels;
}

static bool allocate(struct mb_flipper *f)
{
    const struct mb_bool_shape *s = &f->w->shape;
    size_t m = s->n_rows, n = s->n_cols;
    f->evidence = f->o.mode == MB_FLIP_ACCUMULATE ? mb_alloc(m, n) : NULL;
    f->row = mb_alloc(m, sizeof *f->row);
    f->col = mb_alloc(n, sizeof *f->col);
    f->alpha = mb_alloc(n_alpha(f), sizeof *f->alpha);
    f->alpha_m = mb_alloc(n_alpha(f), sizeof *f->alpha_m);
    f->alpha_v = mb_alloc(n_alpha(f), sizeof *f->alpha_v);
    f->moved = mb_alloc(m, mb_bool_words(s) * sizeof *f->moved);
    return (f->evidence || f->o.mode != MB_FLIP_ACCUMULATE) && f->row && f->col && f->alpha &&
           f->alpha_m && f->alpha_v && f->moved;
}

/* What a level leaves of a target as evidence, no nearer than share to what would flip. */
static int8_t evidence_of(const struct ladder *l, unsigned p, float rest, float share)
{
    float most = l->up_at[p] ? share * (float) l->up_half[p] : EVIDENCE_MAX;
    float least = l->down_at[p] ? -share * (float) l->down_half[p] : -EVIDENCE_MAX;
    float e = rest / l->unit;
    e = e < most ? e : most;
    return (int8_t) truncf(e > least ? e : least);
}

static void start_row(struct mb_flipper *f, size_t row, const float *target)
{
    const struct mb_bool_shape *s = &f->w->shape;
    struct mb_bool_matrix view = mb_bool_draft_view(f->w);
    uint8_t pattern[MB_GROUP_COLS_MAX];
    float level[PATTERNS_MAX], share = (float) f->o.start;
    for (size_t g = 0; g < mb_bool_groups(s); g++) {
        struct ladder l;
        size_t first = g * s->group;
        if (!climb(f, row, g, &l)) {
            continue;
        }
        mb_weights_patterns(&view, row, g, pattern);
        mb_weights_levels(&view, row, g, level);
        for (size_t j = 0; j < mb_bool_group_cols(s, g); j++) {
            f->evidence[row * s->n_cols + first + j] =
                evidence_of(&l, pattern[j], target[first + j] - level[pattern[j]], share);
        }
    }
}

struct start_job {
    struct mb_flipper *f;
    mb_flip_target_fn *target;
    const void *self;
    float *row; /* [workers][n] */
};

/* A target for each weight of a row that may be anywhere around its level. */
static void guess_row(const struct mb_flipper *f, size_t row, float *ret)
{
    const struct mb_bool_shape *s = &f->w->shape;
    struct mb_bool_matrix view = mb_bool_draft_view(f->w);
    float share = (float) f->o.start;
    uint8_t pattern[MB_GROUP_COLS_MAX];
    mb_bool_row(&view, row, ret);
    for (size_t g = 0; g < mb_bool_groups(s); g++) {
        struct ladder l;
        bool alive = climb(f, row, g, &l);
        mb_weights_patterns(&view, row, g, pattern);
        for (size_t j = 0; alive && j < mb_bool_group_cols(s, g); j++) {
            size_t at = g * s->group + j;
            unsigned p = pattern[j];
            float u = (float) (2 * mb_rng_unit(f->o.seed, row, at) - 1);
            bool up = (u > 0 && l.up_at[p]) || !l.down_at[p];
            ret[at] += u * share * (float) (up ? l.up_half[p] : l.down_half[p]) * l.unit;
        }
    }
}

static void start_part(void *job, size_t part, size_t worker)
{
    const struct start_job *j = job;
    float *row = j->row + worker * j->f->w->shape.n_cols;
    if (j->target) {
        j->target(j->self, part, row);
    } else {
        guess_row(j->f, part, row);
    }
    start_row(j->f, part, row);
}

/* A scale below 0 is allowed, and means that all signs of its group are the other way. From here on
 * no group has one. */
static void make_positive(struct mb_bool_draft *w, size_t row, size_t g)
{
    const struct mb_bool_shape *s = &w->shape;
    struct mb_bool_matrix view = mb_bool_draft_view(w);
    uint16_t *scale =
        &w->scale[mb_bool_scale_at(s, row / MB_TILE_ROWS, g) + row % MB_TILE_ROWS];
    uint8_t pattern[MB_GROUP_COLS_MAX];
    if (!(*scale & 0x8000)) {
        return;
    }
    *scale &= 0x7fff;
    mb_weights_patterns(&view, row, g, pattern);
    for (size_t j = 0; j < mb_bool_group_cols(s, g); j++) {
        pattern[j] ^= (uint8_t) ((1u << s->n_kernels) - 1);
    }
    mb_weights_set_patterns(w, row, g, pattern);
}

/* Half the largest distance between neighbouring levels, as a mean over the matrix; and alpha as
 * it is stored. */
static void measure(struct mb_flipper *f)
{
    const struct mb_bool_shape *s = &f->w->shape;
    struct mb_bool_matrix view = mb_bool_draft_view(f->w);
    size_t n_groups = mb_bool_groups(s);
    double sum = 0;
    for (size_t i = 0; i < s->n_rows; i++) {
        for (size_t g = 0; g < n_groups; g++) {
            struct ladder l;
            make_positive(f->w, i, g);
            coefs_of(&view, i, g, f->alpha + (i * n_groups + g) * s->n_kernels);
            if (climb(f, i, g, &l)) {
                sum += (double) l.unit * HALF_UNITS * (double) mb_bool_group_cols(s, g);
            }
        }
    }
    f->unit = (float) (sum / ((double) s->n_rows * s->n_cols));
}

enum mb_status mb_flipper_init(struct mb_flipper *f, const struct mb_flip_options *o,
                               struct mb_bool_draft *w, const struct mb_bool_matrix *base,
                               mb_flip_target_fn *target, const void *target_self,
                               struct mb_pool *pool, struct mb_error *err)
{
    *f = (struct mb_flipper) { .o = *o, .w = w, .base = base };
    struct start_job j = { .f = f, .target = target, .self = target_self };
    bool ok = allocate(f);
    if (ok && f->evidence && o->start > 0) {
        j.row = mb_alloc(mb_pool_threads(pool), w->shape.n_cols * sizeof *j.row);
        ok = j.row != NULL;
    }
    if (!ok) {
        mb_flipper_fini(f);
        return mb_fail(err, MB_E_NOMEM, 0, "no memory to train a matrix of %u x %u",
                       (unsigned) w->shape.n_rows, (unsigned) w->shape.n_cols);
    }
    measure(f);
    if (j.row) {
        mb_pool_run(pool, w->shape.n_rows, start_part, &j);
        mb_free(j.row);
    }
    return MB_OK;
}

/* First pass: sums of squares. */

static void square_part(void *job, size_t part, size_t worker)
{
    struct work *k = job;
    float *col = k->col_part + part * k->n;
    size_t end = (part + 1) * PART_ROWS < k->m ? (part + 1) * PART_ROWS : k->m;
    memset(col, 0, k->n * sizeof *col);
    for (size_t i = part * PART_ROWS; i < end; i++) {
        const float *g = k->dw + i * k->n;
        float lane[16] = { 0 };
        for (size_t j = 0; j < k->n; j++) {
            float square = g[j] * g[j];
            col[j] += square;
            lane[j % 16] += square;
        }
        double sum = 0;
        for (size_t l = 0; l < 16; l++) {
            sum += lane[l];
        }
        k->row_sum[i] = sum;
    }
}

/* R, C and what follows from them. Returns false, having changed nothing, when a gradient is not
 * finite. */
static bool update_moments(struct work *k)
{
    struct mb_flipper *f = k->f;
    double total = 0, unbias = 1 / (1 - pow(DECAY, (double) k->s->t)), mean = 0;
    for (size_t i = 0; i < k->m; i++) {
        total += k->row_sum[i];
    }
    if (!isfinite(total)) {
        return false;
    }
    for (size_t i = 0; i < k->m; i++) {
        f->row[i] = (float) (DECAY * f->row[i] + (1 - DECAY) * k->row_sum[i] / (double) k->n);
        mean += f->row[i] * unbias / (double) k->m;
    }
    for (size_t j = 0; j < k->n; j++) {
        double sum = 0;
        for (size_t part = 0; part < mb_div_up(k->m, PART_ROWS); part++) {
            sum += k->col_part[part * k->n + j];
        }
        f->col[j] = (float) (DECAY * f->col[j] + (1 - DECAY) * sum / (double) k->m);
        double c = f->col[j] * unbias;
        k->col_factor[j] = c > 0 ? (float) sqrt(mean / c) : 0;
    }
    return true;
}

/* Second pass: what every weight wants. */

/* The wanted move in units of evidence. */
static inline float move_of(float g, float row_factor, float col_factor, float scale)
{
    float x = g * row_factor * col_factor;
    x = x < MOVE_MAX ? x : MOVE_MAX;
    x = x > -MOVE_MAX ? x : -MOVE_MAX;
    return -scale * x;
}

/* 16 random bits for each weight, of a matrix's own stream: four from each number. */
struct dice {
    uint64_t seed, stream, bits;
};

static inline float throw(struct dice * d, uint64_t weight)
{
    if (weight % 4 == 0 || d->bits == 0) {
        d->bits = mb_rng_u64(d->seed, d->stream, weight / 4) >> weight % 4 * 16;
    }
    float u = (float) (d->bits & 0xffff) * 0x1p-16f;
    d->bits >>= 16;
    return u;
}

static struct dice dice_of(const struct work *k, uint64_t use)
{
    return (struct dice) { .seed = k->s->seed,
                           .stream = mb_rng_mix(k->s->stream * 4 + use) + k->s->t };
}

static float row_factor(const struct work *k, size_t i)
{
    double r = k->f->row[i] / (1 - pow(DECAY, (double) k->s->t));
    return r > 0 ? (float) (1 / sqrt(r)) : 0;
}

static int8_t add_evidence(int8_t e, float x, float u)
{
    float sum = floorf((float) e + x + u);
    sum = sum < EVIDENCE_MAX ? sum : EVIDENCE_MAX;
    return (int8_t) (sum > -EVIDENCE_MAX ? sum : -EVIDENCE_MAX);
}

/* How far past its threshold evidence is, and where the weight would go; -1 for nowhere. */
static inline int past(const struct ladder *l, unsigned p, int e)
{
    if (e > 0 && l->up_at[p] && e >= l->up_at[p]) {
        return e - l->up_at[p];
    }
    if (e < 0 && l->down_at[p] && -e >= l->down_at[p]) {
        return -e - l->down_at[p];
    }
    return -1;
}

static void want_group(struct work *k, size_t part, size_t i, size_t g, float factor,
                       const uint8_t *pattern, struct dice *dice)
{
    const struct mb_bool_shape *s = &k->f->w->shape;
    struct ladder l;
    size_t at = i * k->n + g * s->group, first = g * s->group;
    if (!climb(k->f, i, g, &l)) {
        return;
    }
    float scale = (float) k->s->step * k->f->unit / l.unit;
    for (size_t j = 0; j < mb_bool_group_cols(s, g); j++) {
        float x = move_of(k->dw[at + j], factor, k->col_factor[first + j], scale);
        unsigned p = pattern[j];
        if (k->f->evidence) {
            int8_t *e = &k->f->evidence[at + j];
            *e = add_evidence(*e, x, throw(dice, at + j));
            int over = past(&l, p, *e);
            if (over >= 0) {
                k->over[part * (EVIDENCE_MAX + 1) + (unsigned) over]++;
            }
        } else {
            unsigned half = x > 0 ? l.up_half[p] : l.down_half[p];
            bool can = x > 0 ? l.up_at[p] : l.down_at[p];
            float chance = can ? fabsf(x) / (2 * (float) half) : 0;
            k->wanted[part] += chance < 1 ? chance : 1;
        }
    }
}

/* d loss / d alpha_k = sum_j sigma_k G, by sums over columns of one pattern. */
static void alpha_gradient(const struct work *k, const float *g, const uint8_t *pattern,
                           size_t n, float *ret)
{
    float sum[PATTERNS_MAX];
    unsigned n_kernels = k->f->w->shape.n_kernels;
    memset(sum, 0, (1u << n_kernels) * sizeof *sum);
    for (size_t j = 0; j < n; j++) {
        sum[pattern[j]] += g[j];
    }
    for (unsigned kernel = 0; kernel < n_kernels; kernel++) {
        float d = 0;
        for (unsigned p = 0; p < 1u << n_kernels; p++) {
            d += p >> kernel & 1 ? sum[p] : -sum[p];
        }
        ret[kernel] = d;
    }
}

static void want_part(void *job, size_t part, size_t worker)
{
    struct work *k = job;
    const struct mb_bool_shape *s = &k->f->w->shape;
    struct mb_bool_matrix view = mb_bool_draft_view(k->f->w);
    struct dice dice = dice_of(k, 0);
    uint8_t pattern[MB_GROUP_COLS_MAX];
    size_t end = (part + 1) * PART_ROWS < k->m ? (part + 1) * PART_ROWS : k->m;
    for (size_t i = part * PART_ROWS; i < end; i++) {
        float factor = row_factor(k, i);
        for (size_t g = 0; g < k->n_groups; g++) {
            mb_weights_patterns(&view, i, g, pattern);
            dice.bits = 0;
            want_group(k, part, i, g, factor, pattern, &dice);
            alpha_gradient(k, k->dw + i * k->n + g * s->group, pattern,
                           mb_bool_group_cols(s, g),
                           k->dalpha + (i * k->n_groups + g) * s->n_kernels);
        }
    }
}

/* The budget: how far past its threshold a weight has to be. */
static void choose_cut(struct work *k)
{
    double budget = k->s->budget * (double) k->m * (double) k->n, wanted = 0, above = 0;
    k->cut = 0;
    k->cut_share = k->all_share = 1;
    for (size_t part = 0; part < mb_div_up(k->m, PART_ROWS); part++) {
        wanted += k->wanted[part];
    }
    k->all_share = wanted > budget ? budget / wanted : 1;
    for (unsigned over = EVIDENCE_MAX + 1; over-- > 0;) {
        double here = 0;
        for (size_t part = 0; part < mb_div_up(k->m, PART_ROWS); part++) {
            here += k->over[part * (EVIDENCE_MAX + 1) + over];
        }
        if (above + here > budget) {
            k->cut = over;
            k->cut_share = (budget - above) / here;
            return;
        }
        above += here;
    }
}

/* Third pass: the moves. */

/* Which way a weight moves now: 1 up, -1 down, 0 stays. */
static int decide(const struct work *k, const struct ladder *l, unsigned p, int e, float x,
                  float u)
{
    if (k->f->evidence) {
        int over = past(l, p, e);
        if (over < (int) k->cut || (over == (int) k->cut && u >= k->cut_share)) {
            return 0;
        }
        return e > 0 ? 1 : -1;
    }
    unsigned half = x > 0 ? l->up_half[p] : l->down_half[p];
    bool can = x > 0 ? l->up_at[p] : l->down_at[p];
    double chance = can ? k->all_share * fabsf(x) / (2 * (double) half) : 0;
    return u < chance ? (x > 0 ? 1 : -1) : 0;
}

static void move_weight(struct work *k, const struct ladder *l, size_t at, int way,
                        uint8_t *pattern)
{
    int half = way > 0 ? l->up_half[*pattern] : l->down_half[*pattern];
    if (k->f->evidence) {
        int e = k->f->evidence[at];
        e = k->f->o.reset ? 0 : e - way * 2 * half;
        e = e < EVIDENCE_MAX ? e : EVIDENCE_MAX;
        k->f->evidence[at] = (int8_t) (e > -EVIDENCE_MAX ? e : -EVIDENCE_MAX);
    }
    *pattern = way > 0 ? l->up[*pattern] : l->down[*pattern];
}

static void count_move(struct work *k, size_t part, size_t i, size_t col, bool back)
{
    size_t n_words = mb_bool_words(&k->f->w->shape);
    uint32_t *word = &k->f->moved[i * n_words + col / MB_WORD_COLS];
    uint32_t bit = UINT32_C(1) << col % MB_WORD_COLS;
    k->counts[part].n_flips++;
    k->counts[part].n_backs += back;
    k->counts[part].n_moved += !(*word & bit);
    *word |= bit;
}

static void move_group(struct work *k, size_t part, size_t i, size_t g, float factor,
                       const struct ladder *l, struct dice *dice)
{
    const struct mb_bool_shape *s = &k->f->w->shape;
    struct mb_bool_matrix view = mb_bool_draft_view(k->f->w);
    uint8_t pattern[MB_GROUP_COLS_MAX], before[MB_GROUP_COLS_MAX];
    size_t first = g * s->group, at = i * k->n + first, n = mb_bool_group_cols(s, g);
    bool moved = false;
    float scale = (float) k->s->step * k->f->unit / l->unit;
    mb_weights_patterns(&view, i, g, pattern);
    for (size_t j = 0; j < n; j++) {
        float x = k->f->evidence
                      ? 0
                      : move_of(k->dw[at + j], factor, k->col_factor[first + j], scale);
        int e = k->f->evidence ? k->f->evidence[at + j] : 0;
        int way = decide(k, l, pattern[j], e, x, throw(dice, at + j));
        if (way == 0) {
            continue;
        }
        if (!moved) {
            mb_weights_patterns(k->f->base, i, g, before);
            moved = true;
        }
        move_weight(k, l, at + j, way, &pattern[j]);
        count_move(k, part, i, first + j, pattern[j] == before[j]);
    }
    if (moved) {
        mb_weights_set_patterns(k->f->w, i, g, pattern);
    }
}

/* Keeps the order of storage: each at least 0 and at most the one before it. */
static void project(float *alpha, unsigned n_kernels)
{
    for (unsigned k = 0; k < n_kernels; k++) {
        float most = k > 0 ? alpha[k - 1] : alpha[k];
        alpha[k] = alpha[k] < most ? alpha[k] : most;
        alpha[k] = alpha[k] > 0 ? alpha[k] : 0;
    }
}

static void move_coefs(struct work *k, size_t i, size_t g, float half)
{
    unsigned n_kernels = k->f->w->shape.n_kernels;
    size_t at = (i * k->n_groups + g) * n_kernels;
    float *alpha = k->f->alpha + at;
    for (unsigned kernel = 0; kernel < n_kernels; kernel++) {
        float move = mb_adam_move(&k->adam, k->dalpha[at + kernel], &k->f->alpha_m[at + kernel],
                                  &k->f->alpha_v[at + kernel]);
        alpha[kernel] += k->adam.step * half * move;
    }
    project(alpha, n_kernels);
    set_coefs(k->f->w, i, g, alpha);
}

static void move_part(void *job, size_t part, size_t worker)
{
    struct work *k = job;
    struct dice dice = dice_of(k, 1);
    struct ladder l;
    size_t end = (part + 1) * PART_ROWS < k->m ? (part + 1) * PART_ROWS : k->m;
    for (size_t i = part * PART_ROWS; i < end; i++) {
        float factor = k->f->evidence ? 0 : row_factor(k, i);
        for (size_t g = 0; g < k->n_groups; g++) {
            if (!climb(k->f, i, g, &l)) { /* a dead group has nothing to move */
                continue;
            }
            dice.bits = 0;
            move_group(k, part, i, g, factor, &l, &dice);
            if (k->s->coef_step > 0) {
                move_coefs(k, i, g, l.unit * HALF_UNITS);
            }
        }
    }
}

static bool work_init(struct work *k)
{
    size_t parts = mb_div_up(k->m, PART_ROWS);
    k->col_part = mb_alloc(parts, k->n * sizeof *k->col_part);
    k->row_sum = mb_alloc(k->m, sizeof *k->row_sum);
    k->col_factor = mb_alloc(k->n, sizeof *k->col_factor);
    k->dalpha = mb_alloc(n_alpha(k->f), sizeof *k->dalpha);
    k->over = mb_alloc(parts, (EVIDENCE_MAX + 1) * sizeof *k->over);
    k->wanted = mb_alloc(parts, sizeof *k->wanted);
    k->counts = mb_alloc(parts, sizeof *k->counts);
    return k->col_part && k->row_sum && k->col_factor && k->dalpha && k->over && k->wanted &&
           k->counts;
}

static void work_fini(struct work *k)
{
    mb_free(k->col_part);
    mb_free(k->row_sum);
    mb_free(k->col_factor);
    mb_free(k->dalpha);
    mb_free(k->over);
    mb_free(k->wanted);
    mb_free(k->counts);
}

enum mb_status mb_flipper_step(struct mb_flipper *f, const struct mb_flip_step *s,
                               const float *dw, struct mb_pool *pool, struct mb_error *err)
{
    const struct mb_bool_shape *shape = &f->w->shape;
    size_t parts = mb_div_up(shape->n_rows, PART_ROWS);
    struct work k = { .f = f, .s = s, .dw = dw, .m = shape->n_rows, .n = shape->n_cols };
    enum mb_status st = MB_OK;
    k.n_groups = mb_bool_groups(shape);
    k.adam = mb_adam_at(s->t, s->coef_step, 0);
    if (!work_init(&k)) {
        st = mb_fail(err, MB_E_NOMEM, 0, "no memory for a step of a matrix of %u x %u",
                     (unsigned) shape->n_rows, (unsigned) shape->n_cols);
    } else {
        mb_pool_run(pool, parts, square_part, &k);
        if (!update_moments(&k)) {
            st = mb_fail(err, MB_E_INVALID, 0, "a gradient is not finite");
        }
    }
    if (st == MB_OK) {
        mb_pool_run(pool, parts, want_part, &k);
        choose_cut(&k);
        mb_pool_run(pool, parts, move_part, &k);
        for (size_t part = 0; part < parts; part++) {
            f->counts.n_flips += k.counts[part].n_flips;
            f->counts.n_backs += k.counts[part].n_backs;
            f->counts.n_moved += k.counts[part].n_moved;
        }
    }
    work_fini(&k);
    return st;
}

/* Closed form. */

static void refresh_group(struct mb_flipper *f, size_t i, size_t g)
{
    const struct mb_bool_shape *s = &f->w->shape;
    struct mb_bool_matrix view = mb_bool_draft_view(f->w);
    uint8_t pattern[MB_GROUP_COLS_MAX], map[PATTERNS_MAX];
    float target[MB_GROUP_COLS_MAX], level[PATTERNS_MAX];
    float *alpha = f->alpha + (i * mb_bool_groups(s) + g) * s->n_kernels;
    size_t n = mb_bool_group_cols(s, g), at = i * s->n_cols + g * s->group;
    struct ladder l;
    struct mb_quadratic q;
    if (!climb(f, i, g, &l)) {
        return;
    }
    mb_weights_patterns(&view, i, g, pattern);
    mb_weights_levels(&view, i, g, level);
    for (size_t j = 0; j < n; j++) {
        target[j] = level[pattern[j]] + l.unit * (float) f->evidence[at + j];
    }
    mb_quadratic_of(&q, s->n_kernels, pattern, target, NULL, n);
    mb_quadratic_solve(&q, alpha);
    mb_coefs_canonical(alpha, NULL, s->n_kernels, map);
    for (size_t j = 0; j < n; j++) {
        pattern[j] = map[pattern[j]];
    }
    mb_weights_set_patterns(f->w, i, g, pattern);
    set_coefs(f->w, i, g, alpha);
    mb_weights_levels(&view, i, g, level);
    bool alive = climb(f, i, g, &l);
    for (size_t j = 0; j < n; j++) { /* weight and evidence together stay what they were */
        f->evidence[at + j] =
            alive ? evidence_of(&l, pattern[j], target[j] - level[pattern[j]], 1) : 0;
    }
}

static void refresh_row(void *job, size_t part, size_t worker)
{
    struct mb_flipper *f = job;
    for (size_t g = 0; g < mb_bool_groups(&f->w->shape); g++) {
        refresh_group(f, part, g);
    }
}

void mb_flipper_refresh(struct mb_flipper *f, struct mb_pool *pool)
{
    if (f->evidence) { /* without, levels already are all that there is */
        mb_pool_run(pool, f->w->shape.n_rows, refresh_row, f);
    }
}

/* State. */

double mb_flipper_state_bytes(const struct mb_flipper *f)
{
    const struct mb_bool_shape *s = &f->w->shape;
    double n = (double) s->n_rows * s->n_cols, bytes = f->evidence ? n : 0;
    bytes += (double) (3 * n_alpha(f) + s->n_rows + s->n_cols) * sizeof(float);
    bytes += (double) s->n_rows * (double) mb_bool_words(s) * sizeof(uint32_t);
    return bytes / n;
}

/* The arrays of the state, in the order of the file. */
enum { ARRAYS = 10 };
struct array {
    void *at;
    size_t n;
};

static void arrays_of(const struct mb_flipper *f, struct array ret[ARRAYS])
{
    const struct mb_bool_shape *s = &f->w->shape;
    size_t m = s->n_rows, n = s->n_cols, alphas = n_alpha(f) * sizeof(float);
    const struct array all[ARRAYS] = {
        { f->w->bits, mb_bool_bits_bytes(s) },
        { f->w->scale, mb_bool_scale_bytes(s) },
        { f->w->coef, mb_bool_coef_bytes(s) },
        { f->evidence, f->evidence ? m * n : 0 },
        { f->row, m * sizeof *f->row },
        { f->col, n * sizeof *f->col },
        { f->alpha, alphas },
        { f->alpha_m, alphas },
        { f->alpha_v, alphas },
        { f->moved, m * mb_bool_words(s) * sizeof *f->moved },
    };
    memcpy(ret, all, sizeof all);
}

void mb_flipper_save(const struct mb_flipper *f, struct mb_bytes *ret)
{
    struct array all[ARRAYS];
    arrays_of(f, all);
    mb_bytes_put_f32(ret, f->unit);
    mb_bytes_put_u64(ret, f->counts.n_flips);
    mb_bytes_put_u64(ret, f->counts.n_backs);
    mb_bytes_put_u64(ret, f->counts.n_moved);
    for (size_t i = 0; i < ARRAYS; i++) {
        mb_bytes_put_u64(ret, all[i].n);
        mb_bytes_put(ret, all[i].at, all[i].n);
    }
}

bool mb_flipper_load(struct mb_flipper *f, struct mb_cursor *from)
{
    struct array all[ARRAYS];
    arrays_of(f, all);
    f->unit = mb_cursor_f32(from);
    f->counts.n_flips = mb_cursor_u64(from);
    f->counts.n_backs = mb_cursor_u64(from);
    f->counts.n_moved = mb_cursor_u64(from);
    for (size_t i = 0; i < ARRAYS; i++) {
        const uint8_t *at =
            mb_cursor_u64(from) == all[i].n ? mb_cursor_take(from, all[i].n) : NULL;
        if (!at) {
            return false;
        }
        if (all[i].n > 0) {
            memcpy(all[i].at, at, all[i].n);
        }
    }
    struct mb_bool_matrix view = mb_bool_draft_view(f->w);
    return !from->failed && mb_bool_check(&view, NULL) == MB_OK;
}
