/* Attention of a step: rotate, store, attend.
 *
 * A unit of work is a piece (neighbouring tokens of one sequence) with one key head: tiles of 8
 * queries that pass together over the blocks of the sequence's past, so that each block of keys and
 * values is read once for all of them. The order in which a query meets its past is that of the
 * absolute blocks and segments of the cache, so a token's result does not depend on how its prompt
 * was cut (A1). When there are few units and long pasts, the segments of a unit are computed by
 * several threads, and merged in the same order. */
#include <math.h>
#include <string.h>

#include "core/infer/stepper.h"

struct angle_job {
    struct mb_stepper *s;
    const double *inv_freq;
    const uint32_t *position;
};

static void angles_of_token(const void *args, size_t t)
{
    const struct angle_job *j = args;
    size_t half = j->s->shape.head_width / 2;
    for (size_t i = 0; i < half; i++) {
        double sin, cos;
        mb_sincos((double) j->position[t] * j->inv_freq[i], &sin, &cos);
        j->s->sin[t * half + i] = (float) sin;
        j->s->cos[t * half + i] = (float) cos;
    }
}

/* Consecutive tokens of a sequence, as many as fill the tiles of a unit. */
static void cut_into_pieces(struct mb_stepper *s, const struct mb_batch *b)
{
    size_t n_heads = mb_step_heads_per_key(s), room = MB_STEP_UNIT_TILES * MB_ATTEND_ROWS;
    size_t tokens_max = n_heads < room ? room / n_heads : 1;
    s->n_pieces = 0;
    for (uint32_t t = 0; t < b->n_tokens; t++) {
        struct mb_step_piece *p = s->n_pieces > 0 ? &s->pieces[s->n_pieces - 1] : NULL;
        if (p && b->seq[t] == b->seq[p->token] && p->n_tokens < tokens_max) {
            p->n_tokens++;
        } else {
            s->pieces[s->n_pieces++] = (struct mb_step_piece) { .token = t, .n_tokens = 1 };
        }
    }
}

void mb_step_prepare(struct mb_stepper *s, const struct mb_model *m, const struct mb_batch *b)
{
    struct angle_job j = { .s = s, .inv_freq = m->inv_freq, .position = b->position };
    mb_step_for_tokens(s, b->n_tokens, s->shape.head_width, angles_of_token, &j);
    cut_into_pieces(s, b);
}

struct attend_job {
    struct mb_stepper *s;
    struct mb_kv_cache *kv;
    uint32_t kv_layer;
    const struct mb_batch *b;
    float qk_scale;
    size_t n_units; /* pieces times key heads */
    size_t units_per_part;
    size_t unit_tiles, wave; /* of a split: tiles of the largest unit, segments of a wave */
    size_t first;            /* the wave's first segment, counted from a unit's own first */
};

static void rotate_and_store(const void *args, size_t t)
{
    const struct attend_job *j = args;
    struct mb_stepper *s = j->s;
    const struct mb_kernels *k = s->kernels;
    size_t d = s->shape.head_width, half = d / 2;
    const float *cos = s->cos + t * half, *sin = s->sin + t * half;
    float *q_t = s->q + t * mb_shape_q_width(&s->shape);
    for (size_t h = 0; h < s->shape.n_heads; h++) {
        k->rope(q_t + h * d, cos, sin, d);
    }

    uint32_t position = j->b->position[t];
    const struct mb_kv_seq *seq = mb_kv_seq(j->kv, j->b->seq[t]);
    uint32_t block = seq->blocks[position / MB_KV_BLOCK];
    mb_kv_store_fn *store = mb_kv_type(j->kv) == MB_KV_F16 ? k->kv_store_f16 : k->kv_store_f32;
    float *k_t = s->k + t * mb_shape_kv_width(&s->shape);
    const float *v_t = s->v + t * mb_shape_kv_width(&s->shape);
    for (uint32_t h = 0; h < s->shape.n_kv_heads; h++) {
        k->rope(k_t + h * d, cos, sin, d);
        store(mb_kv_k(j->kv, block, j->kv_layer, h), mb_kv_v(j->kv, block, j->kv_layer, h),
              k_t + h * d, v_t + h * d, d, position % MB_KV_BLOCK);
    }
}

/* Piece, key head and past of a unit. */
struct unit {
    const struct mb_step_piece *piece;
    uint32_t kv_head;
    size_t begin, end; /* positions that any of its tokens sees */
    size_t n_tiles;
};

static size_t first_seen(const struct mb_stepper *s, size_t position)
{
    size_t window = s->shape.window;
    return window != 0 && position >= window ? position + 1 - window : 0;
}

/* Unit i: key heads one after the other, so that their past is still in a near cache; within
 * one, the last pieces first, whose pasts are the longest. */
static struct unit unit_at(const struct attend_job *j, size_t i)
{
    const struct mb_stepper *s = j->s;
    const struct mb_step_piece *p = &s->pieces[s->n_pieces - 1 - i % s->n_pieces];
    size_t position = j->b->position[p->token];
    size_t rows = p->n_tokens * mb_step_heads_per_key(s);
    return (struct unit) {
        .piece = p,
        .kv_head = (uint32_t) (i / s->n_pieces),
        .begin = first_seen(s, position),
        .end = position + p->n_tokens,
        .n_tiles = mb_div_up(rows, MB_ATTEND_ROWS),
    };
}

static size_t segment_of(size_t position)
{
    return position / MB_ATTEND_SEGMENT;
}

static size_t segments_of(const struct unit *u)
{
    return segment_of(u->end - 1) - segment_of(u->begin) + 1;
}

/* Makes the rows of a unit's tiles fresh; q is packed where the tiles point. */
static void start_tiles(const struct attend_job *j, const struct unit *u,
                        struct mb_attend_tile *tiles)
{
    const struct mb_stepper *s = j->s;
    size_t d = s->shape.head_width, n_heads = mb_step_heads_per_key(s);
    size_t n_rows = u->piece->n_tokens * n_heads;
    for (size_t i = 0; i < n_rows; i++) {
        struct mb_attend_tile *t = &tiles[i / MB_ATTEND_ROWS];
        size_t r = i % MB_ATTEND_ROWS, token = u->piece->token + i / n_heads;
        size_t position = j->b->position[token];
        const float *q = s->q + token * mb_shape_q_width(&s->shape) +
                         (u->kv_head * n_heads + i % n_heads) * d;
        t->n_rows = r + 1;
        t->begin[r] = (uint32_t) first_seen(s, position);
        t->end[r] = (uint32_t) position + 1;
        for (size_t e = 0; e < d; e++) {
            t->q[e * MB_ATTEND_ROWS + r] = q[e];
        }
    }
    mb_step_fresh_tiles(s, tiles, u->n_tiles);
}

/* The tiles of segment take their queries from those of from, and are made fresh. */
static void start_segment(const struct mb_stepper *s, struct mb_attend_tile *segment,
                          const struct mb_attend_tile *from, size_t n_tiles)
{
    for (size_t i = 0; i < n_tiles; i++) {
        segment[i].n_rows = from[i].n_rows;
        memcpy(segment[i].begin, from[i].begin, sizeof from->begin);
        memcpy(segment[i].end, from[i].end, sizeof from->end);
        segment[i].q = from[i].q;
    }
    mb_step_fresh_tiles(s, segment, n_tiles);
}

/* A block of the unit's past: for one tile as it lies in the cache; for several widened once, when
 * it is float16, which all of them would do again. next is the block after it, or itself. */
static void attend_block(const struct attend_job *j, const struct unit *u,
                         struct mb_attend_tile *tiles, float *widened, const void *kv,
                         const void *next, size_t base)
{
    const struct mb_kernels *k = j->s->kernels;
    size_t d = j->s->shape.head_width;
    bool half = mb_kv_type(j->kv) == MB_KV_F16;
    if (half && u->n_tiles > 1) {
        k->widen_f16(widened, kv, 2 * MB_KV_BLOCK * d);
        half = false;
        kv = next = widened;
    }
    mb_attend_fn *attend = half ? k->attend_f16 : k->attend_f32;
    for (size_t i = 0; i < u->n_tiles; i++) {
        if (tiles[i].end[tiles[i].n_rows - 1] > base) { /* the row that sees furthest */
            attend(&tiles[i], d, kv, base, j->qk_scale, i + 1 < u->n_tiles ? kv : next);
        }
    }
}

/* Tiles over the blocks of one segment. */
static void attend_segment(const struct attend_job *j, const struct unit *u,
                           struct mb_attend_tile *tiles, float *widened, size_t segment)
{
    const struct mb_kv_seq *seq = mb_kv_seq(j->kv, j->b->seq[u->piece->token]);
    size_t base = segment * MB_ATTEND_SEGMENT, end = base + MB_ATTEND_SEGMENT;
    base = u->begin > base ? u->begin / MB_KV_BLOCK * MB_KV_BLOCK : base;
    end = u->end < end ? u->end : end;
    for (; base < end; base += MB_KV_BLOCK) {
        const uint32_t *block = &seq->blocks[base / MB_KV_BLOCK];
        const void *kv = mb_kv_k(j->kv, *block, j->kv_layer, u->kv_head), *next = kv;
        if (base + MB_KV_BLOCK < u->end) {
            next = mb_kv_k(j->kv, block[1], j->kv_layer, u->kv_head);
        }
        attend_block(j, u, tiles, widened, kv, next, base);
    }
}

static void merge_segment(const struct attend_job *j, const struct unit *u,
                          struct mb_attend_tile *tiles, const struct mb_attend_tile *segment,
                          size_t number)
{
    for (size_t i = 0; i < u->n_tiles; i++) {
        j->s->kernels->attend_merge(&tiles[i], &segment[i], j->s->shape.head_width,
                                    number * MB_ATTEND_SEGMENT);
    }
}

static void finish_unit(const struct attend_job *j, const struct unit *u,
                        const struct mb_attend_tile *tiles)
{
    const struct mb_stepper *s = j->s;
    size_t d = s->shape.head_width, n_heads = mb_step_heads_per_key(s);
    for (size_t i = 0; i < u->piece->n_tokens * n_heads; i++) {
        size_t token = u->piece->token + i / n_heads;
        size_t head = u->kv_head * n_heads + i % n_heads;
        s->kernels->attend_finish(s->in + token * mb_shape_q_width(&s->shape) + head * d,
                                  &tiles[i / MB_ATTEND_ROWS], i % MB_ATTEND_ROWS, d);
    }
}

/* A unit by one worker, segment after segment. */
static void attend_unit(const struct attend_job *j, const struct unit *u,
                        const struct mb_step_worker *w)
{
    size_t first = segment_of(u->begin);
    start_tiles(j, u, w->tiles);
    attend_segment(j, u, w->tiles, w->widened, first);
    for (size_t i = 1; i < segments_of(u); i++) {
        start_segment(j->s, w->segment, w->tiles, u->n_tiles);
        attend_segment(j, u, w->segment, w->widened, first + i);
        merge_segment(j, u, w->tiles, w->segment, first + i);
    }
    finish_unit(j, u, w->tiles);
}

static void attend_part(void *job, size_t part, size_t worker)
{
    const struct attend_job *j = job;
    size_t i = part * j->units_per_part, end = i + j->units_per_part;
    for (end = end < j->n_units ? end : j->n_units; i < end; i++) {
        struct unit u = unit_at(j, i);
        attend_unit(j, &u, &j->s->workers[worker]);
    }
}

/* Split units. Each has 1 + wave sets of tiles among the stepper's partials: set 0 is what has been
 * merged so far, set 1 + i holds the wave's segment i until it is merged. */

static struct mb_attend_tile *partials_of(const struct attend_job *j, size_t unit, size_t set)
{
    return j->s->partials + (unit * (1 + j->wave) + set) * j->unit_tiles;
}

/* How many segments of the unit the wave has. */
static size_t segments_in_wave(const struct attend_job *j, const struct unit *u)
{
    size_t n = segments_of(u);
    n = n > j->first ? n - j->first : 0;
    return n < j->wave ? n : j->wave;
}

/* All segments of the wave are computed: merges them in order, and finishes after the last. */
static void merge_wave(const struct attend_job *j, size_t unit, const struct unit *u)
{
    struct mb_attend_tile *tiles = partials_of(j, unit, 0);
    size_t n = segments_in_wave(j, u);
    for (size_t i = 0; i < n; i++) {
        if (j->first + i > 0) {
            merge_segment(j, u, tiles, partials_of(j, unit, 1 + i),
                          segment_of(u->begin) + j->first + i);
        }
    }
    if (j->first + n == segments_of(u)) {
        finish_unit(j, u, tiles);
    }
}

/* Part: segment i of the wave, of one unit. Whoever computes a unit's last one merges them. */
static void split_part(void *job, size_t part, size_t worker)
{
    const struct attend_job *j = job;
    size_t unit = part / j->wave, i = part % j->wave;
    struct unit u = unit_at(j, unit);
    size_t n = segments_in_wave(j, &u);
    if (i >= n) {
        return;
    }
    const struct mb_step_worker *w = &j->s->workers[worker];
    struct mb_attend_tile *segment = partials_of(j, unit, j->first + i == 0 ? 0 : 1 + i);
    start_tiles(j, &u, w->tiles);
    start_segment(j->s, segment, w->tiles, u.n_tiles);
    attend_segment(j, &u, segment, w->widened, segment_of(u.begin) + j->first + i);
    if (atomic_fetch_add_explicit(&j->s->partials_done[unit], 1, memory_order_acq_rel) + 1 ==
        n) {
        merge_wave(j, unit, &u);
    }
}

/* The past of the batch in positions, and the most that a unit has. */
struct past {
    size_t positions, segments_max, tiles_max;
};

static struct past past_of(const struct attend_job *j)
{
    struct past p = { 0 };
    for (uint32_t t = 0; t < j->b->n_tokens; t++) {
        p.positions += j->b->position[t] + 1 - first_seen(j->s, j->b->position[t]);
    }
    for (size_t i = 0; i < j->s->n_pieces; i++) {
        struct unit u = unit_at(j, i);
        size_t n = segments_of(&u);
        p.segments_max = n > p.segments_max ? n : p.segments_max;
        p.tiles_max = u.n_tiles > p.tiles_max ? u.n_tiles : p.tiles_max;
    }
    return p;
}

/* Segments of a wave when splitting is worth it, else 0. */
static size_t wave_of(const struct attend_job *j, size_t segments_max)
{
    const struct mb_stepper *s = j->s;
    if (segments_max < 2 || j->n_units > s->split_units_max) {
        return 0;
    }
    size_t sets = s->n_partials / (j->n_units * j->unit_tiles);
    return sets < 2 ? 0 : sets - 1 < segments_max ? sets - 1 : segments_max;
}

static void attend_split(struct attend_job *j, size_t segments_max)
{
    for (j->first = 0; j->first < segments_max; j->first += j->wave) {
        for (size_t i = 0; i < j->n_units; i++) {
            atomic_store_explicit(&j->s->partials_done[i], 0, memory_order_relaxed);
        }
        mb_pool_run(j->s->pool, j->n_units * j->wave, split_part, j);
    }
}

void mb_step_attend(struct mb_stepper *s, struct mb_kv_cache *kv, uint32_t kv_layer,
                    const struct mb_batch *b)
{
    enum { WORK_PER_PRODUCT = 8 }; /* an element of q k and one of p v, as kernels do them */
    struct attend_job j = {
        .s = s,
        .kv = kv,
        .kv_layer = kv_layer,
        .b = b,
        .qk_scale = (float) (1.0 / sqrt((double) s->shape.head_width)),
    };
    size_t q_width = mb_shape_q_width(&s->shape);
    mb_step_for_tokens(s, b->n_tokens, q_width, rotate_and_store, &j);

    j.n_units = s->n_pieces * s->shape.n_kv_heads;
    struct past past = past_of(&j);
    size_t work = past.positions * q_width * WORK_PER_PRODUCT;
    size_t n_parts = mb_pool_threads(s->pool) == 1 ? 1 : work / s->part_work;
    j.unit_tiles = past.tiles_max;
    j.wave = n_parts > 1 ? wave_of(&j, past.segments_max) : 0;
    if (j.wave > 0) {
        attend_split(&j, past.segments_max);
    } else {
        j.units_per_part = mb_div_up(j.n_units, n_parts > 0 ? n_parts : 1);
        mb_pool_run(s->pool, mb_div_up(j.n_units, j.units_per_part), attend_part, &j);
    }
    mb_step_lap(s, MB_PHASE_ATTEND);
}
