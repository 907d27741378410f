#include "core/import/gguf_model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/checked.h"
#include "core/base/file.h"
#include "core/base/half.h"
#include "core/base/memory.h"
#include "core/import/gguf.h"
#include "core/import/gguf_tokenizer.h"

#define TEMPLATE_BYTES_MAX (1u << 20) /* templates in the wild are under 20 KB */

/* Planes of coded activations: 8 is where the loss is not measurable (DESIGN: the arithmetic
 * contract). */
enum { PLANES = 8, NAME_MAX_BYTES = 96 };

/* A tensor that the model is made of. */
struct entry {
    char name[NAME_MAX_BYTES]; /* as a folder calls it */
    const struct mb_gguf_tensor *source;
    struct mb_hf_tensor tensor;
    void *owned; /* tensor.data, when it is no view */
};

struct mb_gguf_model {
    struct mb_file_map map; /* empty when the bytes are someone else's */
    struct mb_gguf *file;
    struct mb_shape shape;
    double *inv_freq;      /* [head_width / 2] */
    struct entry *entries; /* by name once complete */
    size_t n_entries;
    char *chat_template;
};

/* Keys that change the arithmetic in ways that are not computed here; 0 and absence do not. */
static enum mb_status refuse_keys(const struct mb_gguf *g, struct mb_error *err)
{
    static const char *const absent[] = {
        "llama.logit_scale",
        "llama.embedding_scale",
        "llama.residual_scale",
        "llama.attention.scale",
        "llama.attention.clamp_kqv",
        "llama.attention.max_alibi_bias",
        "llama.attn_logit_softcapping",
        "llama.final_logit_softcapping",
        "llama.attention.temperature_scale",
        "llama.attention.sliding_window_pattern",
    };
    static const char *const zero[] = { "llama.expert_count", "split.count" };
    for (size_t i = 0; i < sizeof absent / sizeof absent[0]; i++) {
        if (mb_gguf_find(g, absent[i])) {
            return mb_fail(err, MB_E_UNSUPPORTED, 0,
                           "key '%s' is not supported; supported: models without it",
                           absent[i]);
        }
    }
    for (size_t i = 0; i < sizeof zero / sizeof zero[0]; i++) {
        uint32_t n = 0;
        enum mb_status st = mb_gguf_u32(g, zero[i], MB_GGUF_OPTIONAL, 0, UINT32_MAX, &n, err);
        if (st != MB_OK) {
            return st;
        }
        if (n > i) { /* a file in one part is whole */
            return mb_fail(err, MB_E_UNSUPPORTED, 0,
                           "key '%s': %u is not supported; supported: models without it",
                           zero[i], (unsigned) n);
        }
    }
    bool causal = true;
    enum mb_status st =
        mb_gguf_bool(g, "llama.attention.causal", MB_GGUF_OPTIONAL, &causal, err);
    return st != MB_OK || causal
               ? st
               : mb_fail(
                     err, MB_E_UNSUPPORTED, 0,
                     "key 'llama.attention.causal': false is not supported; supported: true");
}

static enum mb_status check_architecture(const struct mb_gguf *g, struct mb_error *err)
{
    const struct mb_gguf_value *v = NULL;
    enum mb_status st = mb_gguf_text(g, "general.architecture", MB_GGUF_REQUIRED, &v, err);
    if (st == MB_OK && !mb_gguf_text_is(v, "llama")) {
        st = mb_fail(err, MB_E_UNSUPPORTED, 0,
                     "architecture %.*s is not supported; supported in a GGUF file: llama",
                     (int) (v->bytes < 60 ? v->bytes : 60), (const char *) v->at);
    }
    return st == MB_OK ? refuse_keys(g, err) : st;
}

/* Keys that say how wide a head is: of keys, of values and of what rotates. All must agree. */
static enum mb_status read_head_width(const struct mb_gguf *g, struct mb_shape *s,
                                      struct mb_error *err)
{
    static const char *const same[] = { "llama.attention.value_length",
                                        "llama.rope.dimension_count" };
    enum mb_status st = mb_gguf_u32(g, "llama.attention.key_length", MB_GGUF_OPTIONAL, 2,
                                    MB_HEAD_WIDTH_MAX, &s->head_width, err);
    if (st == MB_OK && s->head_width == 0) {
        if (s->width % s->n_heads != 0) {
            return mb_fail(err, MB_E_FORMAT, 0,
                           "key 'llama.attention.key_length': missing, and head_count %u does "
                           "not divide embedding_length %u",
                           (unsigned) s->n_heads, (unsigned) s->width);
        }
        s->head_width = s->width / s->n_heads;
    }
    for (size_t i = 0; i < sizeof same / sizeof same[0] && st == MB_OK; i++) {
        uint32_t n = s->head_width;
        st = mb_gguf_u32(g, same[i], MB_GGUF_OPTIONAL, 0, UINT32_MAX, &n, err);
        if (st == MB_OK && n != s->head_width) {
            st = mb_fail(err, MB_E_UNSUPPORTED, 0,
                         "key '%s': %u is not supported; supported: the width of a head, %u",
                         same[i], (unsigned) n, (unsigned) s->head_width);
        }
    }
    return st;
}

static enum mb_status read_vocabulary(const struct mb_gguf *g, struct mb_shape *s,
                                      struct mb_error *err)
{
    const struct mb_gguf_tensor *t = mb_gguf_tensor(g, "token_embd.weight");
    if (!t) {
        return mb_fail(err, MB_E_FORMAT, 0, "tensor 'token_embd.weight' is missing");
    }
    if (t->dims[1] > MB_VOCAB_MAX) {
        return mb_fail(err, MB_E_LIMIT, 0,
                       "tensor 'token_embd.weight': %llu rows are more than "
                       "%u",
                       (unsigned long long) t->dims[1], MB_VOCAB_MAX);
    }
    s->n_vocab = (uint32_t) t->dims[1];
    s->tied_head = mb_gguf_tensor(g, "output.weight") == NULL;
    return MB_OK;
}

static const struct mb_shape_names names = {
    .n_layers = "key 'llama.block_count'",
    .width = "key 'llama.embedding_length'",
    .n_heads = "key 'llama.attention.head_count'",
    .n_kv_heads = "key 'llama.attention.head_count_kv'",
    .head_width = "key 'llama.attention.key_length'",
    .ffn_width = "key 'llama.feed_forward_length'",
    .n_vocab = "tensor 'token_embd.weight': rows",
    .context = "key 'llama.context_length'",
    .window = "key 'llama.attention.sliding_window'",
    .n_planes = "planes", /* ours; a file does not say */
    .norm_eps = "key 'llama.attention.layer_norm_rms_epsilon'",
    .tied_head = "tensor 'output.weight'",
};

static enum mb_status read_shape(const struct mb_gguf *g, struct mb_shape *ret,
                                 struct mb_error *err)
{
    struct mb_shape s = { .n_planes = PLANES };
    const struct {
        const char *key;
        uint32_t max, *at;
    } rows[] = {
        { "llama.embedding_length", MB_WIDTH_MAX, &s.width },
        { "llama.block_count", MB_LAYERS_MAX, &s.n_layers },
        { "llama.feed_forward_length", MB_COLS_MAX, &s.ffn_width },
        { "llama.context_length", MB_CONTEXT_MAX, &s.context },
        { "llama.attention.head_count", MB_HEADS_MAX, &s.n_heads },
    };
    enum mb_status st = MB_OK;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0] && st == MB_OK; i++) {
        st = mb_gguf_u32(g, rows[i].key, MB_GGUF_REQUIRED, 1, rows[i].max, rows[i].at, err);
    }
    double eps = 0;
    s.n_kv_heads = s.n_heads;
    if (st != MB_OK ||
        (st = mb_gguf_u32(g, "llama.attention.head_count_kv", MB_GGUF_OPTIONAL, 1, MB_HEADS_MAX,
                          &s.n_kv_heads, err)) != MB_OK ||
        (st = read_head_width(g, &s, err)) != MB_OK ||
        (st = mb_gguf_u32(g, "llama.attention.sliding_window", MB_GGUF_OPTIONAL, 0,
                          MB_CONTEXT_MAX, &s.window, err)) != MB_OK ||
        (st = mb_gguf_f64(g, "llama.attention.layer_norm_rms_epsilon", MB_GGUF_REQUIRED, 1e-30,
                          1, &eps, err)) != MB_OK ||
        (st = read_vocabulary(g, &s, err)) != MB_OK) {
        return st;
    }
    s.norm_eps = (float) eps;
    st = mb_shape_check_as(&s, &names, err);
    if (st == MB_OK) {
        *ret = s;
    }
    return st == MB_E_INVALID ? MB_E_FORMAT : st;
}

/* Scaling without a type is linear, as in llama.cpp; older files call its factor scale_linear. */
static enum mb_status read_rope(const struct mb_gguf *g, struct mb_rope_params *ret,
                                struct mb_error *err)
{
    *ret = (struct mb_rope_params) { .theta = 10000 };
    const struct mb_gguf_value *type = NULL;
    enum mb_status st =
        mb_gguf_f64(g, "llama.rope.freq_base", MB_GGUF_OPTIONAL, 1, 1e12, &ret->theta, err);
    if (st == MB_OK) {
        st = mb_gguf_text(g, "llama.rope.scaling.type", MB_GGUF_OPTIONAL, &type, err);
    }
    if (st != MB_OK || (type && mb_gguf_text_is(type, "none"))) {
        return st;
    }
    if (type && !mb_gguf_text_is(type, "linear")) {
        return mb_fail(err, MB_E_UNSUPPORTED, 0,
                       "key 'llama.rope.scaling.type': %.*s is not supported; supported: none, "
                       "linear",
                       (int) (type->bytes < 60 ? type->bytes : 60), (const char *) type->at);
    }
    const char *key = "llama.rope.scaling.factor";
    if (!mb_gguf_find(g, key)) {
        key = "llama.rope.scale_linear";
    }
    return mb_gguf_f64(g, key, MB_GGUF_OPTIONAL, 1, 1e6, &ret->linear_factor, err);
}

/* Llama 3's scaling comes as the tensor rope_freqs.weight: what to divide each frequency by. */
static enum mb_status divide_frequencies(struct mb_gguf_model *m, struct mb_error *err)
{
    const struct mb_gguf_tensor *t = mb_gguf_tensor(m->file, "rope_freqs.weight");
    uint32_t n = m->shape.head_width / 2;
    if (!t) {
        return MB_OK;
    }
    if (t->dtype != MB_GGUF_TENSOR_F32 || t->n_dims != 1 || t->dims[0] != n) {
        return mb_fail(err, MB_E_FORMAT, 0, "tensor '%s': not a vector of %u in F32", t->name,
                       (unsigned) n);
    }
    struct mb_cursor c = mb_cursor_of(t->data, t->bytes);
    for (uint32_t i = 0; i < n; i++) {
        float factor = mb_cursor_f32(&c);
        if (!(factor >= 1e-3F && factor <= 1e6F)) {
            return mb_fail(err, MB_E_FORMAT, 0,
                           "tensor '%s': element %u: %g is not in 1e-3..1e6", t->name,
                           (unsigned) i, (double) factor);
        }
        m->inv_freq[i] /= (double) factor;
    }
    return MB_OK;
}

static enum mb_status read_config(struct mb_gguf_model *m, struct mb_error *err)
{
    struct mb_rope_params rope;
    enum mb_status st;
    if ((st = check_architecture(m->file, err)) != MB_OK ||
        (st = read_shape(m->file, &m->shape, err)) != MB_OK ||
        (st = read_rope(m->file, &rope, err)) != MB_OK) {
        return st;
    }
    m->inv_freq = calloc(m->shape.head_width / 2, sizeof *m->inv_freq);
    if (!m->inv_freq) {
        return mb_fail(err, MB_E_NOMEM, 0, "no memory for the frequencies");
    }
    mb_rope_frequencies(&rope, m->shape.head_width, m->inv_freq);
    return divide_frequencies(m, err);
}

/* Q8_0 as float32: a float16 (11 bits) by an int8 (8 bits) has at most 19 significant bits, and
 * is exact. ret has n_blocks * 32 floats. */
static void expand_q8_0(const uint8_t *at, size_t n_blocks, float *ret)
{
    for (size_t b = 0; b < n_blocks; b++, at += MB_GGUF_Q8_0_BYTES) {
        float scale = mb_f16_to_f32((uint16_t) (at[0] | at[1] << 8));
        for (size_t i = 0; i < MB_GGUF_Q8_0_WEIGHTS; i++) {
            *ret++ = scale * (float) (int8_t) at[2 + i];
        }
    }
}

/* Rows of a query or key projection, of heads of d rows, from llama.cpp's order to that of
 * transformers. llama.cpp rotates neighbours (2j, 2j + 1); transformers, and the rope kernel here,
 * rotate (j, j + d/2). Its converter reorders the rows of each head for that (LlamaModel.permute
 * in convert_hf_to_gguf.py: reshape(heads, 2, d/2, cols).swapaxes(1, 2)); this is the inverse:
 *
 *     ret[h d + s d/2 + j] = rows[h d + 2 j + s],   s < 2, j < d/2 */
static void unpermute(const uint8_t *rows, size_t n_heads, size_t d, size_t row_bytes,
                      uint8_t *ret)
{
    for (size_t h = 0; h < n_heads; h++) {
        for (size_t i = 0; i < d; i++) {
            size_t from = 2 * (i % (d / 2)) + i / (d / 2);
            memcpy(ret + (h * d + i) * row_bytes, rows + (h * d + from) * row_bytes, row_bytes);
        }
    }
}

/* Replaces what e points to by memory of its own of n bytes; NULL when refused. */
static void *own(struct entry *e, size_t n)
{
    void *p = mb_alloc(n, 1);
    if (p) {
        mb_free(e->owned);
        e->owned = p;
        e->tensor.data = p;
    }
    return p;
}

/* The view or copy of one tensor: d is the width of a head whose rows are out of order, or 0. */
static enum mb_status fill_entry(const struct mb_gguf_tensor *t, size_t d, struct entry *e,
                                 struct mb_error *err)
{
    static const enum mb_linear_kind kinds[] = {
        [MB_GGUF_TENSOR_F32] = MB_LINEAR_F32,
        [MB_GGUF_TENSOR_F16] = MB_LINEAR_F16,
        [MB_GGUF_TENSOR_BF16] = MB_LINEAR_BF16,
        [MB_GGUF_TENSOR_Q8_0] = MB_LINEAR_F32,
    };
    size_t row_bytes = t->bytes / e->tensor.n_rows, bytes;
    const uint8_t *rows = t->data;
    uint8_t *ordered = NULL;
    e->tensor.kind = kinds[t->dtype];
    e->tensor.data = t->data;
    if (d > 0) {
        rows = ordered = own(e, t->bytes);
        if (!ordered) {
            return mb_fail(err, MB_E_NOMEM, 0, "tensor '%s': no memory", t->name);
        }
        unpermute(t->data, e->tensor.n_rows / d, d, row_bytes, ordered);
    }
    if (t->dtype != MB_GGUF_TENSOR_Q8_0) {
        return MB_OK;
    }
    size_t n_blocks = t->bytes / MB_GGUF_Q8_0_BYTES;
    void *floats = mb_checked_mul(n_blocks, MB_GGUF_Q8_0_WEIGHTS * sizeof(float), &bytes)
                       ? mb_alloc(bytes, 1)
                       : NULL;
    if (!floats) {
        return mb_fail(err, MB_E_NOMEM, 0, "tensor '%s': no memory", t->name);
    }
    expand_q8_0(rows, n_blocks, floats);
    mb_free(e->owned);
    e->owned = floats;
    e->tensor.data = floats;
    return MB_OK;
}

/* Demands a tensor of n_rows x n_cols; a vector (n_rows 0) has one dimension. */
static enum mb_status take(struct mb_gguf_model *m, const char *name, const char *hf_name,
                           uint32_t n_rows, uint32_t n_cols, size_t d, struct mb_error *err)
{
    const struct mb_gguf_tensor *t = mb_gguf_tensor(m->file, name);
    if (!t) {
        return mb_fail(err, MB_E_FORMAT, 0, "tensor '%s' is missing", name);
    }
    uint32_t n_dims = n_rows > 0 ? 2 : 1;
    n_rows = n_rows > 0 ? n_rows : 1;
    if (t->n_dims != n_dims || t->dims[1] != n_rows || t->dims[0] != n_cols) {
        return mb_fail(err, MB_E_FORMAT, 0,
                       "tensor '%s': %llu rows of %llu (%u dimensions), the keys ask for %u "
                       "rows of %u",
                       name, (unsigned long long) t->dims[1], (unsigned long long) t->dims[0],
                       (unsigned) t->n_dims, (unsigned) n_rows, (unsigned) n_cols);
    }
    struct entry *e = &m->entries[m->n_entries++];
    (void) snprintf(e->name, sizeof e->name, "%s", hf_name);
    e->source = t;
    e->tensor.n_rows = n_rows;
    e->tensor.n_cols = n_cols;
    return fill_entry(t, d, e, err);
}

enum { LAYER_TENSORS = 9, OTHER_TENSORS = 3 };

static enum mb_status take_layer(struct mb_gguf_model *m, uint32_t layer, struct mb_error *err)
{
    const struct mb_shape *s = &m->shape;
    uint32_t q = (uint32_t) mb_shape_q_width(s), kv = (uint32_t) mb_shape_kv_width(s);
    const struct {
        const char *name, *hf_name;
        uint32_t n_rows, n_cols, d;
    } rows[LAYER_TENSORS] = {
        { "attn_norm", "input_layernorm", 0, s->width, 0 },
        { "attn_q", "self_attn.q_proj", q, s->width, s->head_width },
        { "attn_k", "self_attn.k_proj", kv, s->width, s->head_width },
        { "attn_v", "self_attn.v_proj", kv, s->width, 0 },
        { "attn_output", "self_attn.o_proj", s->width, q, 0 },
        { "ffn_norm", "post_attention_layernorm", 0, s->width, 0 },
        { "ffn_gate", "mlp.gate_proj", s->ffn_width, s->width, 0 },
        { "ffn_up", "mlp.up_proj", s->ffn_width, s->width, 0 },
        { "ffn_down", "mlp.down_proj", s->width, s->ffn_width, 0 },
    };
    for (size_t i = 0; i < LAYER_TENSORS; i++) {
        char name[NAME_MAX_BYTES], hf_name[NAME_MAX_BYTES];
        (void) snprintf(name, sizeof name, "blk.%u.%s.weight", (unsigned) layer, rows[i].name);
        (void) snprintf(hf_name, sizeof hf_name, "model.layers.%u.%s.weight", (unsigned) layer,
                        rows[i].hf_name);
        enum mb_status st =
            take(m, name, hf_name, rows[i].n_rows, rows[i].n_cols, rows[i].d, err);
        if (st != MB_OK) {
            return st;
        }
    }
    return MB_OK;
}

static bool is_taken(const struct mb_gguf_model *m, const struct mb_gguf_tensor *t)
{
    for (size_t i = 0; i < m->n_entries; i++) {
        if (m->entries[i].source == t) {
            return true;
        }
    }
    return strcmp(t->name, "rope_freqs.weight") == 0;
}

/* A tensor that nothing asked for is a bias, a norm or a layer that would silently not be
 * computed. Names are unique, so that counting tells whether there is one. */
static enum mb_status refuse_others(const struct mb_gguf_model *m, struct mb_error *err)
{
    size_t known = m->n_entries + (mb_gguf_tensor(m->file, "rope_freqs.weight") != NULL);
    if (mb_gguf_tensors(m->file) == known) {
        return MB_OK;
    }
    const struct mb_gguf_tensor *t = mb_gguf_tensor_at(m->file, 0);
    for (size_t i = 0; t && is_taken(m, t); i++) {
        t = mb_gguf_tensor_at(m->file, i + 1);
    }
    return mb_fail(
        err, MB_E_UNSUPPORTED, 0,
        "tensor '%s' is not supported; supported: the tensors of llama with %u layers "
        "and no biases",
        t ? t->name : "?", (unsigned) m->shape.n_layers);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct entry *) a)->name, ((const struct entry *) b)->name);
}

static enum mb_status read_tensors(struct mb_gguf_model *m, struct mb_error *err)
{
    const struct mb_shape *s = &m->shape;
    m->entries =
        calloc((size_t) s->n_layers * LAYER_TENSORS + OTHER_TENSORS, sizeof *m->entries);
    if (!m->entries) {
        return mb_fail(err, MB_E_NOMEM, 0, "no memory for the tensors");
    }
    enum mb_status st;
    if ((st = take(m, "token_embd.weight", "model.embed_tokens.weight", s->n_vocab, s->width, 0,
                   err)) != MB_OK ||
        (st = take(m, "output_norm.weight", "model.norm.weight", 0, s->width, 0, err)) !=
            MB_OK) {
        return st;
    }
    if (!s->tied_head) {
        st = take(m, "output.weight", "lm_head.weight", s->n_vocab, s->width, 0, err);
    }
    for (uint32_t i = 0; i < s->n_layers && st == MB_OK; i++) {
        st = take_layer(m, i, err);
    }
    qsort(m->entries, m->n_entries, sizeof *m->entries, by_name);
    return st == MB_OK ? refuse_others(m, err) : st;
}

static enum mb_status read_template(struct mb_gguf_model *m, struct mb_error *err)
{
    static const char key[] = "tokenizer.chat_template";
    const struct mb_gguf_value *v = NULL;
    enum mb_status st = mb_gguf_text(m->file, key, MB_GGUF_OPTIONAL, &v, err);
    if (st != MB_OK || !v) {
        return st;
    }
    if (v->bytes > TEMPLATE_BYTES_MAX) {
        return mb_fail(err, MB_E_LIMIT, 0, "key '%s': %zu bytes are more than %u", key,
                       v->bytes, TEMPLATE_BYTES_MAX);
    }
    if (v->bytes > 0 && memchr(v->at, '\0', v->bytes)) {
        return mb_fail(err, MB_E_FORMAT, 0, "key '%s': has a zero byte", key);
    }
    m->chat_template = strndup((const char *) v->at, v->bytes);
    return m->chat_template ? MB_OK : mb_fail(err, MB_E_NOMEM, 0, "no memory");
}

static enum mb_status read_all(struct mb_gguf_model *m, const void *at, size_t n,
                               struct mb_error *err)
{
    enum mb_status st;
    if ((st = mb_gguf_of_memory(at, n, &m->file, err)) != MB_OK ||
        (st = read_config(m, err)) != MB_OK || (st = read_tensors(m, err)) != MB_OK) {
        return st;
    }
    return read_template(m, err);
}

enum mb_status mb_gguf_model_of_memory(const void *at, size_t n, struct mb_gguf_model **ret,
                                       struct mb_error *err)
{
    struct mb_gguf_model *m = calloc(1, sizeof *m);
    if (!m) {
        return mb_fail(err, MB_E_NOMEM, 0, "no memory");
    }
    enum mb_status st = read_all(m, at, n, err);
    if (st != MB_OK) {
        mb_gguf_model_free(m);
        return st;
    }
    *ret = m;
    return MB_OK;
}

enum mb_status mb_gguf_model_open(const char *path, struct mb_gguf_model **ret,
                                  struct mb_error *err)
{
    struct mb_file_map map;
    enum mb_status st = mb_file_map(path, &map, err);
    if (st != MB_OK) {
        return st;
    }
    st = mb_gguf_model_of_memory(map.at, map.n, ret, err);
    if (st != MB_OK) {
        mb_file_unmap(&map);
        return st;
    }
    (*ret)->map = map;
    return MB_OK;
}

void mb_gguf_model_free(struct mb_gguf_model *m)
{
    if (!m) {
        return;
    }
    for (size_t i = 0; i < m->n_entries; i++) {
        mb_free(m->entries[i].owned);
    }
    free(m->entries);
    free(m->inv_freq);
    free(m->chat_template);
    mb_gguf_free(m->file);
    mb_file_unmap(&m->map);
    free(m);
}

const struct mb_shape *mb_gguf_model_shape(const struct mb_gguf_model *m)
{
    return &m->shape;
}

const double *mb_gguf_model_inv_freq(const struct mb_gguf_model *m)
{
    return m->inv_freq;
}

static int name_order(const void *name, const void *entry)
{
    return strcmp(name, ((const struct entry *) entry)->name);
}

const struct mb_hf_tensor *mb_gguf_model_tensor(const struct mb_gguf_model *m, const char *name)
{
    const struct entry *e =
        bsearch(name, m->entries, m->n_entries, sizeof *m->entries, name_order);
    return e ? &e->tensor : NULL;
}

enum mb_status mb_gguf_model_tokenizer(const struct mb_gguf_model *m, struct mb_bytes *ret,
                                       struct mb_error *err)
{
    struct mb_bpe_spec *spec;
    enum mb_status st = mb_gguf_tokenizer(m->file, &spec, err);
    if (st != MB_OK) {
        return st;
    }
    uint32_t n_ids = spec->n_tokens;
    mb_bpe_spec_write(spec, ret);
    mb_bpe_spec_free(spec);
    if (n_ids > m->shape.n_vocab) {
        return mb_fail(err, MB_E_FORMAT, 0,
                       "key 'tokenizer.ggml.tokens': %u tokens, the embedding has %u rows",
                       (unsigned) n_ids, (unsigned) m->shape.n_vocab);
    }
    return ret->failed ? mb_fail(err, MB_E_NOMEM, 0, "no memory for the tokenizer") : MB_OK;
}

const char *mb_gguf_model_chat_template(const struct mb_gguf_model *m)
{
    return m->chat_template;
}
