#include "core/synth/synth.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "core/base/half.h"
#include "core/base/memory.h"
#include "core/base/rng.h"
#include "core/checkpoint/writer.h"
#include "core/synth/vocabulary.h"

/* Sizes as the authors of the models published them; llama-7b is that of Llama 2. */
static const struct mb_synth_model models[] = {
    { .name = "tinyllama-1.1b",
      .shape = { .n_layers = 22,
                 .width = 2048,
                 .n_heads = 32,
                 .n_kv_heads = 4,
                 .head_width = 64,
                 .ffn_width = 5632,
                 .n_vocab = 32000,
                 .context = 2048,
                 .n_planes = 8,
                 .norm_eps = 1e-5f },
      .rope_theta = 10000 },
    { .name = "llama-7b",
      .shape = { .n_layers = 32,
                 .width = 4096,
                 .n_heads = 32,
                 .n_kv_heads = 32,
                 .head_width = 128,
                 .ffn_width = 11008,
                 .n_vocab = 32000,
                 .context = 4096,
                 .n_planes = 8,
                 .norm_eps = 1e-5f },
      .rope_theta = 10000 },
    { .name = "llama3-8b",
      .shape = { .n_layers = 32,
                 .width = 4096,
                 .n_heads = 32,
                 .n_kv_heads = 8,
                 .head_width = 128,
                 .ffn_width = 14336,
                 .n_vocab = 128256,
                 .context = 8192,
                 .n_planes = 8,
                 .norm_eps = 1e-5f },
      .rope_theta = 500000 },
    { .name = "qwen2.5-0.5b",
      .shape = { .n_layers = 24,
                 .width = 896,
                 .n_heads = 14,
                 .n_kv_heads = 2,
                 .head_width = 64,
                 .ffn_width = 4864,
                 .n_vocab = 151936,
                 .context = 32768,
                 .n_planes = 8,
                 .norm_eps = 1e-6f,
                 .tied_head = 1 },
      .rope_theta = 1000000 },
};
enum { N_MODELS = sizeof models / sizeof models[0] };

const struct mb_synth_model *mb_synth_model_at(size_t i)
{
    return i < N_MODELS ? &models[i] : NULL;
}

const struct mb_synth_model *mb_synth_model_find(const char *name)
{
    for (size_t i = 0; i < N_MODELS; i++) {
        if (strcmp(models[i].name, name) == 0) {
            return &models[i];
        }
    }
    return NULL;
}

/* What a group's coefficients and scale are drawn from. */
enum { N_COEFS = 16, N_SCALES = 256 };

struct palette {
    uint8_t coef[N_COEFS][MB_KERNELS_MAX];
    uint16_t scale[N_SCALES]; /* float16 of 3/4..5/4 */
    double rms;               /* of scale * sum_k c_k B_k */
};

struct synth {
    const struct mb_synth_options *o;
    const struct mb_progress *progress;
    struct mb_checkpoint_writer *writer;
    uint64_t done, total; /* bytes */
    uint64_t stream;      /* of random numbers: one a section */
};

/* Number i of the section's stream: mb_rng_u64 with all but the counter mixed in before. */
static uint64_t stream_key(struct synth *s)
{
    return mb_rng_mix(mb_rng_mix(s->o->seed) ^ s->stream++);
}

/* s in 3/4..5/4, half-way of N_SCALES equal steps. */
static double scale_at(unsigned i)
{
    return 0.75 + 0.5 * (i + 0.5) / N_SCALES;
}

/* Coefficients fall by ratios of 0.45 to 0.62 from kernel to kernel: the best four levels for
 * normal weights have 0.54. Each is rounded down and at least 1, which keeps the sum at most
 * 127 for every K. */
static void palette_init(struct palette *p, uint32_t n_kernels)
{
    double square = 0;
    for (unsigned i = 0; i < N_COEFS; i++) {
        double ratio = 0.45 + 0.17 * i / (N_COEFS - 1), part = 1, all = 0;
        for (uint32_t k = 0; k < n_kernels; k++, part *= ratio) {
            all += part;
        }
        part = MB_COEF_SUM_MAX / all;
        unsigned sum = 0;
        for (uint32_t k = 0; k < n_kernels; k++, part *= ratio) {
            unsigned c = part < 1 ? 1 : (unsigned) part;
            p->coef[i][k] = (uint8_t) c;
            square += (double) (c * c) / N_COEFS;
            sum += c;
        }
        assert(sum <= MB_COEF_SUM_MAX);
    }
    double scale_square = 0;
    for (unsigned i = 0; i < N_SCALES; i++) {
        p->scale[i] = mb_f32_to_f16((float) scale_at(i));
        scale_square += scale_at(i) * scale_at(i) / N_SCALES;
    }
    p->rms = sqrt(square * scale_square);
}

/* Bits of whole tiles, 64 from a number, then B1: none beyond the last row and column. */
static void fill_bits(struct mb_bool_draft *d, uint64_t key)
{
    const struct mb_bool_shape *s = &d->shape;
    size_t n = mb_bool_bits_bytes(s) / sizeof *d->bits, groups = mb_bool_groups(s);
    assert(n % 2 == 0);
    for (size_t i = 0; i < n; i += 2) {
        uint64_t r = mb_rng_mix(key ^ i);
        d->bits[i] = (uint32_t) r;
        d->bits[i + 1] = (uint32_t) (r >> 32);
    }
    uint32_t in_last = s->n_cols % MB_WORD_COLS; /* columns of the last word, 0: all */
    uint32_t mask = in_last ? (UINT32_C(1) << in_last) - 1 : UINT32_MAX;
    size_t words = mb_bool_group_words(s, groups - 1);
    for (size_t tile = 0; in_last && tile < mb_bool_tiles(s); tile++) {
        uint32_t *at = d->bits + mb_bool_bits_at(s, tile, groups - 1);
        for (uint32_t k = 0; k < s->n_kernels; k++) {
            for (size_t row = 0; row < MB_TILE_ROWS; row++) {
                at[((k + 1) * words - 1) * MB_TILE_ROWS + row] &= mask;
            }
        }
    }
    size_t rows = s->n_rows % MB_TILE_ROWS; /* of the last tile, 0: all */
    uint32_t *last = d->bits + mb_bool_bits_at(s, mb_bool_tiles(s) - 1, 0);
    for (uint32_t *at = last; rows && at < d->bits + n; at += MB_TILE_ROWS) {
        memset(at + rows, 0, (MB_TILE_ROWS - rows) * sizeof *at);
    }
}

static void fill_coefs(struct mb_bool_draft *d, const struct palette *p, uint64_t key)
{
    const struct mb_bool_shape *s = &d->shape;
    size_t groups = mb_bool_groups(s);
    for (size_t row = 0; row < s->n_rows; row++) {
        size_t tile = row / MB_TILE_ROWS, lane = row % MB_TILE_ROWS;
        for (size_t g = 0; g < groups; g++) {
            uint64_t r = mb_rng_mix(key ^ (row * groups + g));
            d->scale[mb_bool_scale_at(s, tile, g) + lane] = p->scale[r % N_SCALES];
            const uint8_t *coef = p->coef[r / N_SCALES % N_COEFS];
            uint8_t *to = d->coef + mb_bool_coef_at(s, tile, g) + lane;
            for (uint32_t k = 0; k < s->n_kernels; k++) {
                to[k * MB_TILE_ROWS] = coef[k];
            }
        }
    }
}

static enum mb_status step_done(struct synth *s, const char *name, uint64_t bytes,
                                struct mb_error *err)
{
    s->done += bytes;
    return mb_progress_report(s->progress, name, s->done, s->total)
               ? MB_OK
               : mb_fail(err, MB_E_CANCELLED, 0, "stopped at %s", name);
}

static struct mb_bool_shape bool_shape(const struct mb_synth_options *o, uint32_t n_rows,
                                       uint32_t n_cols, uint32_t n_kernels)
{
    uint32_t row = (n_cols + MB_WORD_COLS - 1) / MB_WORD_COLS * MB_WORD_COLS;
    return (struct mb_bool_shape) { n_rows, n_cols, o->group ? o->group : row, n_kernels };
}

/* The bytes of a matrix in the file, but for padding. */
static uint64_t matrix_bytes(const struct mb_bool_shape *s)
{
    return s->n_kernels == 0
               ? (uint64_t) s->n_rows * s->n_cols * sizeof(uint16_t)
               : mb_bool_bits_bytes(s) + mb_bool_scale_bytes(s) + mb_bool_coef_bytes(s);
}

static enum mb_status add_bool(struct synth *s, const char *name,
                               const struct mb_bool_shape *shape, double rms,
                               struct mb_error *err)
{
    struct mb_bool_draft d;
    struct palette p;
    uint64_t bits_key = stream_key(s), coef_key = stream_key(s);
    enum mb_status st = mb_bool_draft_init(&d, shape, err);
    if (st != MB_OK) {
        return st;
    }
    palette_init(&p, shape->n_kernels);
    fill_bits(&d, bits_key);
    fill_coefs(&d, &p, coef_key);
    d.scale_all = (float) (rms / p.rms);
    struct mb_bool_matrix view = mb_bool_draft_view(&d);
    st = mb_checkpoint_add_bool(s->writer, name, &view, err);
    mb_bool_draft_fini(&d);
    return st == MB_OK ? step_done(s, name, matrix_bytes(shape), err) : st;
}

/* About normal: a sum of four uniform numbers has variance 4 / 12. */
static float normal_of(uint64_t r)
{
    double sum = 0;
    for (int i = 0; i < 4; i++, r >>= 16) {
        sum += (double) (r & 0xffff) + 0.5;
    }
    return (float) ((sum / 65536 - 2) * sqrt(3));
}

static enum mb_status add_half(struct synth *s, const char *name,
                               const struct mb_bool_shape *shape, double rms,
                               struct mb_error *err)
{
    size_t n = (size_t) shape->n_rows * shape->n_cols;
    uint64_t key = stream_key(s);
    uint16_t *half = mb_alloc(n, sizeof *half);
    if (!half) {
        return mb_fail(err, MB_E_NOMEM, 0, "%s: no memory", name);
    }
    for (size_t i = 0; i < n; i++) {
        half[i] = mb_f32_to_f16((float) rms * normal_of(mb_rng_mix(key ^ i)));
    }
    enum mb_status st =
        mb_checkpoint_add_f16(s->writer, name, half, shape->n_rows, shape->n_cols, err);
    mb_free(half);
    return st == MB_OK ? step_done(s, name, matrix_bytes(shape), err) : st;
}

/* Embedding or head. */
static enum mb_status add_tokens(struct synth *s, const char *name, struct mb_error *err)
{
    const struct mb_shape *h = &s->o->shape;
    struct mb_bool_shape shape = bool_shape(s->o, h->n_vocab, h->width, s->o->head_kernels);
    double rms = 1 / sqrt(h->width);
    return shape.n_kernels ? add_bool(s, name, &shape, rms, err)
                           : add_half(s, name, &shape, rms, err);
}

/* A float of 3/4..5/4 by number. */
static float near_one(uint64_t r)
{
    return (float) scale_at(r % N_SCALES);
}

static enum mb_status add_norm(struct synth *s, const char *name, struct mb_error *err)
{
    size_t n = s->o->shape.width;
    uint64_t key = stream_key(s);
    float *norm = mb_alloc(n, sizeof *norm);
    if (!norm) {
        return mb_fail(err, MB_E_NOMEM, 0, "%s: no memory", name);
    }
    for (size_t i = 0; i < n; i++) {
        norm[i] = near_one(mb_rng_mix(key ^ i));
    }
    enum mb_status st = mb_checkpoint_add_f32(s->writer, name, norm, n, err);
    mb_free(norm);
    return st;
}

static enum mb_status add_input_scale(struct synth *s, const char *name, uint32_t n,
                                      struct mb_error *err)
{
    uint64_t key = stream_key(s);
    uint16_t *t = mb_alloc(n, sizeof *t);
    if (!t) {
        return mb_fail(err, MB_E_NOMEM, 0, "%s: no memory", name);
    }
    for (size_t i = 0; i < n; i++) {
        t[i] = mb_f32_to_f16(near_one(mb_rng_mix(key ^ i)));
    }
    enum mb_status st = mb_checkpoint_add_f16(s->writer, name, t, 1, n, err);
    mb_free(t);
    return st;
}

static enum mb_status add_linear(struct synth *s, uint32_t layer, enum mb_block_linear l,
                                 struct mb_error *err)
{
    const struct mb_shape *h = &s->o->shape;
    char name[MB_TENSOR_NAME_MAX];
    uint32_t n_rows, n_cols;
    mb_block_linear_size(h, l, &n_rows, &n_cols);
    struct mb_bool_shape shape = bool_shape(s->o, n_rows, n_cols, s->o->n_kernels);
    double rms = 1 / sqrt(n_cols);
    if (l == MB_ATTN_O || l == MB_FFN_DOWN) {
        rms /= sqrt(2.0 * h->n_layers);
    }
    mb_block_tensor_name(name, layer, mb_block_linear_name(l));
    return add_bool(s, name, &shape, rms, err);
}

static enum mb_status add_block(struct synth *s, uint32_t layer, struct mb_error *err)
{
    static const char *const norms[] = { "attn_norm", "ffn_norm" };
    char name[MB_TENSOR_NAME_MAX];
    enum mb_status st = MB_OK;
    for (int i = 0; st == MB_OK && i < 2; i++) {
        st = add_norm(s, mb_block_tensor_name(name, layer, norms[i]), err);
    }
    for (int i = 0; st == MB_OK && i < MB_BLOCK_INPUTS; i++) {
        enum mb_block_input in = (enum mb_block_input) i;
        mb_block_tensor_name(name, layer, mb_block_scale_name(in));
        st = add_input_scale(s, name, mb_block_input_width(&s->o->shape, in), err);
    }
    for (int l = 0; st == MB_OK && l < MB_BLOCK_LINEARS; l++) {
        st = add_linear(s, layer, (enum mb_block_linear) l, err);
    }
    return st;
}

static enum mb_status add_frequencies(struct synth *s, struct mb_error *err)
{
    double inv_freq[MB_HEAD_WIDTH_MAX / 2];
    struct mb_rope_params rope = { .theta = s->o->rope_theta };
    mb_rope_frequencies(&rope, s->o->shape.head_width, inv_freq);
    return mb_checkpoint_add_f64(s->writer, "rope.inv_freq", inv_freq,
                                 s->o->shape.head_width / 2, err);
}

/* "synth.group: 128", or what stands for 0. */
static void put_option(struct mb_bytes *text, const char *name, uint32_t v, const char *zero)
{
    if (v > 0) {
        mb_bytes_printf(text, "synth.%s: %u\n", name, (unsigned) v);
    } else {
        mb_bytes_printf(text, "synth.%s: %s\n", name, zero);
    }
}

/* Tokenizer, and how the file was made. */
static enum mb_status add_tokenizer(struct synth *s, struct mb_error *err)
{
    struct mb_bytes text = { 0 };
    enum mb_status st = mb_synth_vocabulary(s->o->shape.n_vocab, &text, err);
    if (st == MB_OK) {
        st = mb_checkpoint_add_bytes(s->writer, "tokenizer", text.at, text.len, err);
    }
    mb_bytes_fini(&text);
    return st;
}

static enum mb_status add_provenance(struct synth *s, struct mb_error *err)
{
    const struct mb_synth_options *o = s->o;
    struct mb_bytes text = { 0 };
    mb_bytes_put_text(&text, "source: random\n");
    mb_bytes_printf(&text, "synth.kernels: %u\n", (unsigned) o->n_kernels);
    put_option(&text, "group", o->group, "row");
    put_option(&text, "head_kernels", o->head_kernels, "float16");
    mb_bytes_printf(&text, "synth.seed: %llu\n", (unsigned long long) o->seed);
    enum mb_status st =
        text.failed ? mb_fail(err, MB_E_NOMEM, 0, "no memory for the provenance")
                    : mb_checkpoint_add_bytes(s->writer, "provenance", text.at, text.len, err);
    mb_bytes_fini(&text);
    return st;
}

static enum mb_status check_options(const struct mb_synth_options *o, struct mb_error *err)
{
    enum mb_status st = mb_shape_check(&o->shape, err);
    if (st != MB_OK) {
        return st;
    }
    if (o->shape.n_vocab < MB_SYNTH_VOCAB_MIN) {
        return mb_fail(err, MB_E_INVALID, 0, "n_vocab: %u is less than %u",
                       (unsigned) o->shape.n_vocab, MB_SYNTH_VOCAB_MIN);
    }
    if (o->head_kernels > MB_KERNELS_MAX) {
        return mb_fail(err, MB_E_INVALID, 0, "head_kernels: %u is outside 0..%u",
                       (unsigned) o->head_kernels, MB_KERNELS_MAX);
    }
    if (!(o->rope_theta >= 1)) { /* frequencies are at most 1 then; NaN is none */
        return mb_fail(err, MB_E_INVALID, 0, "rope_theta: %g is less than 1", o->rope_theta);
    }
    struct mb_bool_shape shape = bool_shape(o, 1, o->shape.width, o->n_kernels);
    return mb_bool_shape_check(&shape, err);
}

static uint64_t total_bytes(const struct mb_synth_options *o)
{
    const struct mb_shape *h = &o->shape;
    struct mb_bool_shape tokens = bool_shape(o, h->n_vocab, h->width, o->head_kernels);
    uint64_t sum = matrix_bytes(&tokens) * (h->tied_head ? 1 : 2);
    for (int l = 0; l < MB_BLOCK_LINEARS; l++) {
        uint32_t n_rows, n_cols;
        mb_block_linear_size(h, (enum mb_block_linear) l, &n_rows, &n_cols);
        struct mb_bool_shape shape = bool_shape(o, n_rows, n_cols, o->n_kernels);
        sum += matrix_bytes(&shape) * h->n_layers;
    }
    return sum;
}

enum mb_status mb_synth(const char *path, const struct mb_synth_options *o,
                        const struct mb_progress *progress, struct mb_error *err)
{
    enum { PER_BLOCK = 2 + MB_BLOCK_INPUTS + MB_BLOCK_LINEARS, OTHERS = 6 };
    enum mb_status st = check_options(o, err);
    if (st != MB_OK) {
        return st;
    }
    struct synth s = { .o = o, .progress = progress, .total = total_bytes(o) };
    st = mb_checkpoint_writer_open(path, &o->shape, o->shape.n_layers * PER_BLOCK + OTHERS,
                                   &s.writer, err);
    if (st != MB_OK) {
        return st;
    }
    st = add_tokenizer(&s, err);
    if (st == MB_OK) {
        st = add_frequencies(&s, err);
    }
    if (st == MB_OK) {
        st = add_tokens(&s, "embed", err);
    }
    for (uint32_t i = 0; st == MB_OK && i < o->shape.n_layers; i++) {
        st = add_block(&s, i, err);
    }
    if (st == MB_OK) {
        st = add_norm(&s, "final_norm", err);
    }
    if (st == MB_OK && !o->shape.tied_head) {
        st = add_tokens(&s, "head", err);
    }
    if (st == MB_OK) {
        st = add_provenance(&s, err);
    }
    if (st != MB_OK) {
        mb_checkpoint_writer_abort(s.writer);
        return st;
    }
    return mb_checkpoint_writer_commit(s.writer, err);
}
