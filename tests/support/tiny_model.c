#include "tests/support/tiny_model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/half.h"
#include "core/base/memory.h"
#include "core/base/rng.h"
#include "core/model/write.h"

const struct tiny_spec tiny_specs[] = {
    {
        .name = "plain: K=3, G=64, grouped heads of 16",
        .shape = { .n_layers = 2,
                   .width = 64,
                   .n_heads = 4,
                   .n_kv_heads = 2,
                   .head_width = 16,
                   .ffn_width = 172,
                   .n_vocab = 97,
                   .context = 256,
                   .n_planes = 8,
                   .norm_eps = 1e-5f },
        .n_kernels = 3,
        .group = 64,
    },
    {
        .name = "ragged: K=2, G=32, heads of 18, 4 planes, window of 5",
        .shape = { .n_layers = 3,
                   .width = 36,
                   .n_heads = 2,
                   .n_kv_heads = 1,
                   .head_width = 18,
                   .ffn_width = 50,
                   .n_vocab = 33,
                   .context = 256,
                   .window = 5,
                   .n_planes = 4,
                   .norm_eps = 1e-5f },
        .n_kernels = 2,
        .group = 32,
        .input_scales = true,
    },
    {
        .name = "half: K=4, one group a row, heads of 8, 6 planes, float16 head",
        .shape = { .n_layers = 2,
                   .width = 40,
                   .n_heads = 5,
                   .n_kv_heads = 5,
                   .head_width = 8,
                   .ffn_width = 172,
                   .n_vocab = 50,
                   .context = 256,
                   .n_planes = 6,
                   .norm_eps = 1e-6f,
                   .tied_head = 1 },
        .n_kernels = 4,
        .group = 192,
        .half_embed = true,
    },
    {
        .name = "fully Boolean: K=1, G=128, one plane",
        .shape = { .n_layers = 2,
                   .width = 48,
                   .n_heads = 6,
                   .n_kv_heads = 3,
                   .head_width = 8,
                   .ffn_width = 130,
                   .n_vocab = 64,
                   .context = 256,
                   .n_planes = 1,
                   .norm_eps = 1e-5f },
        .n_kernels = 1,
        .group = 128,
        .half_embed = true,
        .input_scales = true,
    },
    {
        .name = "wide heads: K=8, G=96, H d above D, window across blocks",
        .shape = { .n_layers = 2,
                   .width = 32,
                   .n_heads = 4,
                   .n_kv_heads = 1,
                   .head_width = 34,
                   .ffn_width = 64,
                   .n_vocab = 257,
                   .context = 256,
                   .window = 40,
                   .n_planes = 7,
                   .norm_eps = 1e-5f },
        .n_kernels = 8,
        .group = 96,
    },
};
_Static_assert(sizeof tiny_specs / sizeof tiny_specs[0] == TINY_SPECS, "count the specs");

enum { OWNED_MAX = 128, GROUP_WORDS_MAX = 8 };

/* What a tiny model points into. */
struct owned {
    size_t n_drafts, n_arrays;
    struct mb_bool_draft drafts[OWNED_MAX];
    void *arrays[OWNED_MAX];
};

struct maker {
    const struct tiny_spec *spec;
    struct owned *owned;
    uint64_t seed, stream; /* each tensor draws from its own stream */
};

static void need(bool ok)
{
    if (!ok) {
        fprintf(stderr, "tiny model: no memory, or too small a table\n");
        abort();
    }
}

static void release(void *owner)
{
    struct owned *o = owner;
    for (size_t i = 0; i < o->n_drafts; i++) {
        mb_bool_draft_fini(&o->drafts[i]);
    }
    for (size_t i = 0; i < o->n_arrays; i++) {
        mb_free(o->arrays[i]);
    }
    mb_free(o);
}

static void *array(struct maker *k, size_t n, size_t size)
{
    need(k->owned->n_arrays < OWNED_MAX);
    void *p = mb_alloc(n, size);
    need(p != NULL);
    k->owned->arrays[k->owned->n_arrays++] = p;
    return p;
}

/* Uniform in [-1, 1). */
static double draw(const struct maker *k, uint64_t i)
{
    return 2 * mb_rng_unit(k->seed, k->stream, i) - 1;
}

static float *norm(struct maker *k, uint32_t n)
{
    float *w = array(k, n, sizeof *w);
    k->stream++;
    for (uint32_t i = 0; i < n; i++) {
        w[i] = (float) (1 + 0.3 * draw(k, i));
    }
    return w;
}

static uint16_t *halves(struct maker *k, size_t n, double mean, double spread)
{
    uint16_t *t = array(k, n, sizeof *t);
    k->stream++;
    for (size_t i = 0; i < n; i++) {
        t[i] = mb_f32_to_f16((float) (mean + spread * draw(k, i)));
    }
    return t;
}

/* One group of one row: random signs, falling coefficients that use the whole range. */
static void set_group(struct maker *k, struct mb_bool_draft *d, size_t row, size_t g)
{
    const struct mb_bool_shape *s = &d->shape;
    uint32_t words[MB_KERNELS_MAX][GROUP_WORDS_MAX];
    const uint32_t *signs[MB_KERNELS_MAX];
    uint8_t coef[MB_KERNELS_MAX];
    size_t cols = mb_bool_group_cols(s, g), n_words = mb_bool_group_words(s, g);
    need(n_words <= GROUP_WORDS_MAX);
    unsigned left = MB_COEF_SUM_MAX;
    for (size_t i = 0; i < s->n_kernels; i++) {
        coef[i] = (uint8_t) (left / 2);
        left -= coef[i];
        signs[i] = words[i];
        for (size_t w = 0; w < n_words; w++) {
            uint64_t at = ((row * mb_bool_groups(s) + g) * MB_KERNELS_MAX + i) * 4096 + w;
            size_t used = cols - w * MB_WORD_COLS;
            uint32_t mask = used >= MB_WORD_COLS ? UINT32_MAX : (1u << used) - 1;
            words[i][w] = (uint32_t) mb_rng_u64(k->seed, k->stream, at) & mask;
        }
    }
    double scale = (1 + 0.5 * draw(k, UINT64_MAX - row * 64 - g)) / 64;
    mb_bool_draft_set(d, row, g, mb_f32_to_f16((float) scale), coef, signs);
}

static struct mb_linear boolean(struct maker *k, uint32_t n_rows, uint32_t n_cols,
                                uint32_t n_kernels)
{
    need(k->owned->n_drafts < OWNED_MAX);
    struct mb_bool_draft *d = &k->owned->drafts[k->owned->n_drafts++];
    struct mb_bool_shape shape = { n_rows, n_cols, k->spec->group, n_kernels };
    need(mb_bool_draft_init(d, &shape, NULL) == MB_OK);
    d->scale_all = (float) (1 / sqrt((double) n_cols));
    k->stream++;
    for (size_t row = 0; row < n_rows; row++) {
        for (size_t g = 0; g < mb_bool_groups(&shape); g++) {
            set_group(k, d, row, g);
        }
    }
    return (struct mb_linear) {
        .kind = MB_LINEAR_BOOL,
        .n_rows = n_rows,
        .n_cols = n_cols,
        .boolean = mb_bool_draft_view(d),
    };
}

static struct mb_linear vocabulary(struct maker *k)
{
    uint32_t v = k->spec->shape.n_vocab, d = k->spec->shape.width;
    if (!k->spec->half_embed) {
        return boolean(k, v, d, 4);
    }
    return (struct mb_linear) {
        .kind = MB_LINEAR_F16,
        .n_rows = v,
        .n_cols = d,
        .dense = halves(k, (size_t) v * d, 0, 0.4),
    };
}

static void fill_block(struct maker *k, struct mb_block *b)
{
    const struct mb_shape *s = &k->spec->shape;
    b->attn_norm = norm(k, s->width);
    b->ffn_norm = norm(k, s->width);
    for (int l = 0; l < MB_BLOCK_LINEARS; l++) {
        uint32_t n_rows, n_cols, K = k->spec->n_kernels;
        mb_block_linear_size(s, (enum mb_block_linear) l, &n_rows, &n_cols);
        b->linear[l] = boolean(k, n_rows, n_cols, 1 + (K - 1 + (uint32_t) l) % K);
    }
    for (int i = 0; k->spec->input_scales && i < MB_BLOCK_INPUTS; i++) {
        b->input_scale[i] = halves(k, mb_block_input_width(s, (enum mb_block_input) i), 1, 0.5);
    }
}

struct mb_model *tiny_model_new(const struct tiny_spec *spec, uint64_t seed)
{
    const struct mb_shape *s = &spec->shape;
    struct mb_error err = { 0 };
    struct mb_model *m = NULL;
    enum mb_status st = mb_model_new(s, &m, &err);
    if (st != MB_OK) {
        fprintf(stderr, "tiny model '%s': %s\n", spec->name, err.what);
        abort();
    }
    struct maker k = { .spec = spec, .seed = seed, .owned = mb_alloc(1, sizeof *k.owned) };
    need(k.owned != NULL);
    m->owner = k.owned;
    m->release = release;

    double *inv_freq = array(&k, s->head_width / 2, sizeof *inv_freq);
    for (uint32_t i = 0; i < s->head_width / 2; i++) {
        inv_freq[i] = pow(10000, -2.0 * i / s->head_width);
    }
    m->inv_freq = inv_freq;
    m->final_norm = norm(&k, s->width);
    m->embed = vocabulary(&k);
    m->head = s->tied_head ? m->embed : vocabulary(&k);
    m->head_input_scale = spec->input_scales ? halves(&k, s->width, 1, 0.5) : NULL;
    for (uint32_t i = 0; i < s->n_layers; i++) {
        fill_block(&k, &m->blocks[i]);
    }
    st = mb_model_check(m, &err);
    if (st != MB_OK) {
        fprintf(stderr, "tiny model '%s': %s\n", spec->name, err.what);
        abort();
    }
    return m;
}

static enum mb_status write_block(struct mb_checkpoint_writer *w, const struct mb_model *m,
                                  uint32_t layer, struct mb_error *err)
{
    static const char *const norms[] = { "attn_norm", "ffn_norm" };
    char name[MB_TENSOR_NAME_MAX];
    enum mb_status st = MB_OK;
    for (int i = 0; st == MB_OK && i < 2; i++) {
        st = mb_model_write_tensor(w, m, mb_block_tensor_name(name, layer, norms[i]), err);
    }
    for (int l = 0; st == MB_OK && l < MB_BLOCK_LINEARS; l++) {
        const char *part = mb_block_linear_name((enum mb_block_linear) l);
        st = mb_model_write_tensor(w, m, mb_block_tensor_name(name, layer, part), err);
    }
    for (int i = 0; st == MB_OK && i < MB_BLOCK_INPUTS; i++) {
        const char *part = mb_block_scale_name((enum mb_block_input) i);
        if (m->blocks[layer].input_scale[i]) {
            st = mb_model_write_tensor(w, m, mb_block_tensor_name(name, layer, part), err);
        }
    }
    return st;
}

enum mb_status tiny_model_add(struct mb_checkpoint_writer *w, const struct mb_model *m,
                              struct mb_error *err)
{
    const struct {
        const char *name;
        bool there;
    } whole[] = {
        { "rope.inv_freq", true },
        { "final_norm", true },
        { "embed", true },
        { "head", !m->shape.tied_head },
        { "head_in.t", m->head_input_scale != NULL },
    };
    enum mb_status st = MB_OK;
    for (size_t i = 0; st == MB_OK && i < sizeof whole / sizeof whole[0]; i++) {
        st = whole[i].there ? mb_model_write_tensor(w, m, whole[i].name, err) : MB_OK;
    }
    for (uint32_t i = 0; st == MB_OK && i < m->shape.n_layers; i++) {
        st = write_block(w, m, i, err);
    }
    return st;
}

enum mb_status tiny_model_write(const struct mb_model *m, const char *path,
                                struct mb_error *err)
{
    struct mb_checkpoint_writer *w = NULL;
    enum mb_status st = mb_checkpoint_writer_open(path, &m->shape, 256, &w, err);
    if (st != MB_OK) {
        return st;
    }
    st = tiny_model_add(w, m, err);
    if (st != MB_OK) {
        mb_checkpoint_writer_abort(w);
        return st;
    }
    return mb_checkpoint_writer_commit(w, err);
}
