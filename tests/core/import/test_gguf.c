/* Goal:   a GGUF file is the model it was made from, and a hostile one gets a message that names
 *         the key or tensor.
 * Method: a small file made here, of each type, of which every weight says where it belongs;
 *         real folders written as GGUF files, rows reordered as llama.cpp's converter does, which
 *         must give the same tensors and logits; files that differ from a good one in one place,
 *         in blocks of exactly their size, so that a sanitizer sees a read past the end. */
#include <math.h>
#include <stdio.h>
#include <unistd.h>

#include "core/import/gguf_model.h"
#include "core/tokenizer/tokenizer.h"
#include "tests/core/import/gguf_tiny.h"
#include "tests/support/rig.h"

static float element(const struct mb_hf_tensor *t, size_t i)
{
    const uint8_t *at = t->data;
    uint16_t half;
    float x;
    if (t->kind == MB_LINEAR_F32) {
        memcpy(&x, at + 4 * i, sizeof x);
        return x;
    }
    memcpy(&half, at + 2 * i, sizeof half);
    return t->kind == MB_LINEAR_F16 ? mb_f16_to_f32(half) : mb_bf16_to_f32(half);
}

/* order: where the rows of a head of 8 come from. */
static void expect_matrix(const struct mb_gguf_model *m, const char *name, uint32_t n_rows,
                          const size_t order[TINY_HEAD])
{
    const struct mb_hf_tensor *t = mb_gguf_model_tensor(m, name);
    ck_assert_ptr_nonnull(t);
    ck_assert_uint_eq(t->n_rows, n_rows);
    for (size_t r = 0; r < n_rows; r++) {
        size_t from = r / TINY_HEAD * TINY_HEAD + order[r % TINY_HEAD];
        for (size_t c = 0; c < t->n_cols; c++) {
            ck_assert_float_eq(element(t, r * t->n_cols + c),
                               TINY_SCALE * (float) tiny_weight(from, c));
        }
    }
}

static const struct {
    uint32_t type;
    enum mb_linear_kind kind;
} types[] = {
    { GGUF_F32, MB_LINEAR_F32 },
    { GGUF_F16, MB_LINEAR_F16 },
    { GGUF_BF16, MB_LINEAR_BF16 },
    { GGUF_Q8_0, MB_LINEAR_F32 },
};

START_TEST(every_weight_is_where_it_belongs)
{
    static const size_t as_is[TINY_HEAD] = { 0, 1, 2, 3, 4, 5, 6, 7 };
    static const size_t halves[TINY_HEAD] = { 0, 2, 4, 6, 1, 3, 5, 7 };
    struct gguf_writer w = { 0 };
    struct mb_error err = { 0 };
    struct mb_gguf_model *m;
    struct mb_bytes spec = { 0 };
    struct mb_tokenizer *t;
    size_t n;
    tiny_keys(&w);
    tiny_tensors(&w, types[_i].type, NULL);
    uint8_t *at = gguf_finish(&w, &n);
    mb_assert_ok(mb_gguf_model_of_memory(at, n, &m, &err), &err);
    ck_assert_int_eq(mb_gguf_model_tensor(m, "model.embed_tokens.weight")->kind,
                     types[_i].kind);
    expect_matrix(m, "model.embed_tokens.weight", TINY_VOCAB, as_is);
    expect_matrix(m, "model.layers.0.self_attn.q_proj.weight", 32, halves);
    expect_matrix(m, "model.layers.0.self_attn.k_proj.weight", 16, halves);
    expect_matrix(m, "model.layers.0.self_attn.v_proj.weight", 16, as_is);
    expect_matrix(m, "model.layers.0.mlp.down_proj.weight", 32, as_is);
    ck_assert_ptr_null(mb_gguf_model_tensor(m, "lm_head.weight"));
    ck_assert(mb_gguf_model_shape(m)->tied_head);
    ck_assert_uint_eq(mb_gguf_model_shape(m)->head_width, TINY_HEAD);
    ck_assert_double_eq_tol(mb_gguf_model_inv_freq(m)[1], 0.1, 1e-15);
    ck_assert_str_eq(mb_gguf_model_chat_template(m), "{{ messages }}");
    mb_assert_ok(mb_gguf_model_tokenizer(m, &spec, &err), &err);
    mb_assert_ok(mb_tokenizer_from_bytes(spec.at, spec.len, &t, &err), &err);
    ck_assert_uint_eq(mb_tokenizer_n_vocab(t), TINY_VOCAB);
    mb_tokenizer_free(t);
    mb_bytes_fini(&spec);
    mb_gguf_model_free(m);
    free(at);
}
END_TEST

/* One tensor of a folder into a file: rows of heads of d are reordered as llama.cpp's converter
 * does it, [heads][2][d/2] to [heads][d/2][2]. */
static void copy_tensor(struct gguf_writer *w, const struct mb_hf *h, const char *hf_name,
                        const char *name, size_t d, bool is_vector)
{
    static const uint32_t numbers[] = {
        [MB_LINEAR_F32] = GGUF_F32, [MB_LINEAR_F16] = GGUF_F16, [MB_LINEAR_BF16] = GGUF_BF16
    };
    const struct mb_hf_tensor *t = mb_hf_tensor(h, hf_name);
    ck_assert_ptr_nonnull(t);
    size_t row = t->n_cols * (t->kind == MB_LINEAR_F32 ? 4u : 2u);
    struct mb_bytes b = { 0 };
    const uint8_t *at = t->data;
    size_t n_heads = d ? t->n_rows / d : 1, half = d ? d / 2 : t->n_rows, two = d ? 2 : 1;
    for (size_t head = 0; head < n_heads; head++) {
        for (size_t j = 0; j < half; j++) {
            for (size_t s = 0; s < two; s++) {
                mb_bytes_put(&b, at + ((head * two + s) * half + j) * row, row);
            }
        }
    }
    gguf_tensor(w, name, numbers[t->kind], is_vector ? 0 : t->n_rows, t->n_cols, b.at, b.len);
    mb_bytes_fini(&b);
}

static const struct {
    const char *hf, *gguf;
    bool heads, is_vector;
} layer_names[] = {
    { "input_layernorm", "attn_norm", false, true },
    { "self_attn.q_proj", "attn_q", true, false },
    { "self_attn.k_proj", "attn_k", true, false },
    { "self_attn.v_proj", "attn_v", false, false },
    { "self_attn.o_proj", "attn_output", false, false },
    { "post_attention_layernorm", "ffn_norm", false, true },
    { "mlp.gate_proj", "ffn_gate", false, false },
    { "mlp.up_proj", "ffn_up", false, false },
    { "mlp.down_proj", "ffn_down", false, false },
};
enum { LAYER_NAMES = sizeof layer_names / sizeof layer_names[0] };

static void copy_model(struct gguf_writer *w, const struct mb_hf *h, double theta)
{
    const struct mb_shape *s = mb_hf_shape(h);
    gguf_text(w, "general.architecture", "llama");
    gguf_u32(w, "llama.block_count", s->n_layers);
    gguf_u32(w, "llama.context_length", s->context);
    gguf_u32(w, "llama.embedding_length", s->width);
    gguf_u32(w, "llama.feed_forward_length", s->ffn_width);
    gguf_u32(w, "llama.attention.head_count", s->n_heads);
    gguf_u32(w, "llama.attention.head_count_kv", s->n_kv_heads);
    gguf_u32(w, "llama.attention.key_length", s->head_width);
    gguf_f32(w, "llama.attention.layer_norm_rms_epsilon", s->norm_eps);
    gguf_f32(w, "llama.rope.freq_base", (float) theta);
    copy_tensor(w, h, "model.embed_tokens.weight", "token_embd.weight", 0, false);
    copy_tensor(w, h, "model.norm.weight", "output_norm.weight", 0, true);
    if (!s->tied_head) {
        copy_tensor(w, h, "lm_head.weight", "output.weight", 0, false);
    }
    for (unsigned l = 0; l < s->n_layers; l++) {
        for (size_t i = 0; i < LAYER_NAMES; i++) {
            char hf[96], name[96];
            (void) snprintf(hf, sizeof hf, "model.layers.%u.%s.weight", l, layer_names[i].hf);
            (void) snprintf(name, sizeof name, "blk.%u.%s.weight", l, layer_names[i].gguf);
            copy_tensor(w, h, hf, name, layer_names[i].heads ? s->head_width : 0,
                        layer_names[i].is_vector);
        }
    }
    float factors[MB_HEAD_WIDTH_MAX / 2];
    for (uint32_t i = 0; i < s->head_width / 2; i++) {
        double plain = pow(theta, -2.0 * i / s->head_width);
        factors[i] = (float) (plain / mb_hf_inv_freq(h)[i]);
    }
    gguf_tensor(w, "rope_freqs.weight", GGUF_F32, 0, s->head_width / 2, factors,
                s->head_width / 2 * sizeof factors[0]);
}

enum { N = 40 };

static float *logits_of(struct mb_hf *h)
{
    struct mb_error err = { 0 };
    struct mb_model *m;
    struct rig r;
    uint32_t tokens[N];
    mb_assert_ok(mb_model_from_hf(h, &m, &err), &err);
    for (uint32_t i = 0; i < N; i++) {
        tokens[i] = (i * 37 + 1) % m->shape.n_vocab;
    }
    float *logits = calloc((size_t) N * m->shape.n_vocab, sizeof *logits);
    ck_assert(logits && rig_open(&r, m, "auto", 1, MB_KV_F32));
    rig_feed(&r, 0, tokens, N, logits);
    rig_close(&r);
    mb_model_unref(m);
    return logits;
}

static const struct {
    const char *name;
    double theta;
} models[] = { { "stories260K", 10000 }, { "tiny_llama3", 500000 } };

START_TEST(a_folder_written_as_a_file_is_the_same_model)
{
    char name[128], dir[4096], path[64];
    (void) snprintf(name, sizeof name, "models/%s/config.json", models[_i].name);
    const char *config = mb_data_path(name);
    if (!config) {
        mb_skip("no models/%s", models[_i].name);
    }
    (void) snprintf(dir, sizeof dir, "%.*s", (int) (strlen(config) - strlen("/config.json")),
                    config);
    struct mb_error err = { 0 };
    struct mb_hf *folder, *file;
    struct gguf_writer w = { 0 };
    mb_assert_ok(mb_hf_open(dir, &folder, &err), &err);
    copy_model(&w, folder, models[_i].theta);
    size_t n;
    uint8_t *at = gguf_finish(&w, &n);
    (void) snprintf(path, sizeof path, "test_gguf-%d.gguf", (int) getpid());
    FILE *f = fopen(path, "wb");
    ck_assert(f && fwrite(at, 1, n, f) == n && fclose(f) == 0);
    mb_assert_ok(mb_hf_open(path, &file, &err), &err);
    ck_assert_int_eq(unlink(path), 0);

    const char *q = "model.layers.1.self_attn.q_proj.weight";
    const struct mb_hf_tensor *a = mb_hf_tensor(folder, q), *b = mb_hf_tensor(file, q);
    size_t bytes = (size_t) a->n_rows * a->n_cols * (a->kind == MB_LINEAR_F32 ? 4 : 2);
    ck_assert(a->kind == b->kind && memcmp(a->data, b->data, bytes) == 0);
    size_t n_logits = (size_t) N * mb_hf_shape(folder)->n_vocab;
    float *want = logits_of(folder), *got = logits_of(file);
    for (size_t i = 0; i < n_logits; i++) { /* float32 factors: frequencies differ in the 8th
                                               digit when there are any */
        ck_assert_msg(fabsf(got[i] - want[i]) <= (_i == 0 ? 0 : 1e-4F), "logit %zu: %g, not %g",
                      i, (double) got[i], (double) want[i]);
    }
    free(want);
    free(got);
    free(at);
}
END_TEST

static enum mb_status open_copy(const uint8_t *at, size_t n, struct mb_error *err)
{
    struct mb_gguf_model *m;
    uint8_t *copy = malloc(n ? n : 1);
    ck_assert_ptr_nonnull(copy);
    memcpy(copy, at, n);
    *err = (struct mb_error) { 0 };
    enum mb_status st = mb_gguf_model_of_memory(copy, n, &m, err);
    if (st == MB_OK) {
        mb_gguf_model_free(m);
    }
    free(copy);
    return st;
}

START_TEST(a_truncated_file_is_refused_at_every_byte)
{
    struct gguf_writer w = { 0 };
    struct mb_error err;
    size_t n, data;
    tiny_keys(&w);
    tiny_tensors(&w, GGUF_Q8_0, NULL);
    uint8_t *at = gguf_finish_at(&w, &n, &data);
    ck_assert_int_eq(open_copy(at, n, &err), MB_OK);
    for (size_t cut = 0; cut < n; cut += cut < data ? 1 : 97) {
        ck_assert_int_eq(open_copy(at, cut, &err), MB_E_FORMAT);
        ck_assert_msg(err.what[0] != '\0', "at %zu", cut);
    }
    free(at);
}
END_TEST

/* Any one byte of the header may be anything: an error, or a model; never a crash. */
START_TEST(a_changed_byte_does_no_harm)
{
    static const uint8_t changes[] = { 0x01, 0x80, 0xff };
    struct gguf_writer w = { 0 };
    struct mb_error err;
    size_t n, data;
    tiny_keys(&w);
    tiny_tensors(&w, GGUF_F16, NULL);
    uint8_t *at = gguf_finish_at(&w, &n, &data);
    for (size_t i = 0; i < data; i++) {
        for (size_t k = 0; k < sizeof changes; k++) {
            at[i] ^= changes[k];
            ck_assert(open_copy(at, n, &err) == MB_OK || err.what[0] != '\0');
            at[i] ^= changes[k];
        }
    }
    free(at);
}
END_TEST

static void add_expert_count(struct gguf_writer *w)
{
    gguf_u32(w, "llama.expert_count", 8);
}
static void add_duplicate_key(struct gguf_writer *w)
{
    gguf_u32(w, "llama.block_count", 1);
}
static void add_yarn(struct gguf_writer *w)
{
    gguf_text(w, "llama.rope.scaling.type", "yarn");
}
static void add_alignment(struct gguf_writer *w)
{
    gguf_u32(w, "general.alignment", 48);
}
static void add_wrong_type(struct gguf_writer *w)
{
    gguf_u32(w, "llama.rope.freq_base", 10000);
}
static void add_value_length(struct gguf_writer *w)
{
    gguf_u32(w, "llama.attention.value_length", 4);
}
static void add_bias(struct gguf_writer *w)
{
    tiny_matrix(w, "blk.0.attn_q.bias", 0, 0, 32);
}
static void add_layer(struct gguf_writer *w)
{
    tiny_matrix(w, "blk.1.attn_q.weight", 0, 32, 32);
}
static void add_duplicate(struct gguf_writer *w)
{
    tiny_matrix(w, "output_norm.weight", 0, 0, 32);
}
static void add_q4(struct gguf_writer *w)
{
    tiny_matrix(w, "output.weight", GGUF_Q4_K, 4, 32);
}
static void add_unknown(struct gguf_writer *w)
{
    tiny_matrix(w, "output.weight", 99, 4, 32);
}
static void add_ragged(struct gguf_writer *w)
{
    tiny_matrix(w, "output.weight", GGUF_Q8_0, 4, 31);
}
static void add_shape(struct gguf_writer *w)
{
    tiny_matrix(w, "output.weight", 0, 5, 32);
}
static void add_factors(struct gguf_writer *w)
{
    tiny_matrix(w, "rope_freqs.weight", 0, 0, 4);
}
static void add_overlap(struct gguf_writer *w)
{
    gguf_tensor(w, "output.weight", GGUF_F32, 4, 32, "", 0);
    mb_bytes_put(&w->data, (const uint8_t[512]) { 0 }, 512);
    gguf_tensor(w, "z", GGUF_F32, 0, 1, "", 0);
    w->tensors.at[w->tensors.len - 8] = 64; /* its offset: in the embedding */
    memset(w->tensors.at + w->tensors.len - 7, 0, 7);
}
static void add_huge(struct gguf_writer *w)
{
    gguf_tensor(w, "output.weight", GGUF_F32, UINT64_MAX / 8, 32, "", 0);
}
static void add_outside(struct gguf_writer *w)
{
    gguf_tensor(w, "output.weight", GGUF_F32, 4, 32, "", 0); /* nothing follows it */
}
static void add_list_of_lists(struct gguf_writer *w)
{
    gguf_list(w, "x", MB_GGUF_LIST, 1);
}
static void add_long_list(struct gguf_writer *w)
{
    gguf_list(w, "x", MB_GGUF_U8, 1ull << 40);
}
static void add_list_beyond(struct gguf_writer *w)
{
    gguf_list(w, "x", MB_GGUF_F64, 1u << 24);
}
static void add_odd_key(struct gguf_writer *w)
{
    gguf_u32(w, "a\nb", 0);
}
static void add_odd_type(struct gguf_writer *w)
{
    gguf_key(w, "x", 13);
}

static void add_kv_heads(struct gguf_writer *w) /* in the place of the 2 that is there */
{
    static const char key[] = "llama.attention.head_count_kv";
    uint8_t *at = w->keys.at;
    while (memcmp(at, key, sizeof key - 1) != 0) {
        at++;
    }
    at[sizeof key - 1 + 4] = 3; /* after the key its type, and the number */
}

static const struct {
    void (*add)(struct gguf_writer *w);
    enum mb_status status;
    const char *says;
} bad[] = {
    { add_expert_count, MB_E_UNSUPPORTED, "llama.expert_count" },
    { add_duplicate_key, MB_E_FORMAT, "key 'llama.block_count': given twice" },
    { add_yarn, MB_E_UNSUPPORTED, "yarn is not supported" },
    { add_alignment, MB_E_FORMAT, "48 is no power of two" },
    { add_wrong_type, MB_E_FORMAT, "'llama.rope.freq_base': u32, not a float" },
    { add_value_length, MB_E_UNSUPPORTED, "llama.attention.value_length" },
    { add_bias, MB_E_UNSUPPORTED, "tensor 'blk.0.attn_q.bias' is not supported" },
    { add_layer, MB_E_UNSUPPORTED, "tensor 'blk.1.attn_q.weight' is not supported" },
    { add_duplicate, MB_E_FORMAT, "tensor 'output_norm.weight': given twice" },
    { add_q4, MB_E_UNSUPPORTED, "type Q4_K is not supported; supported: F32, F16, BF16, Q8_0" },
    { add_unknown, MB_E_UNSUPPORTED, "type 99 is not supported" },
    { add_ragged, MB_E_FORMAT, "rows of 31 are not blocks of 32" },
    { add_shape, MB_E_FORMAT, "tensor 'output.weight': 5 rows of 32" },
    { add_factors, MB_E_FORMAT, "tensor 'rope_freqs.weight': element 0" },
    { add_overlap, MB_E_FORMAT, "overlaps tensor 'token_embd.weight'" },
    { add_huge, MB_E_FORMAT, "tensor 'output.weight': dimensions: the product is too large" },
    { add_outside, MB_E_FORMAT, "tensor 'output.weight': offset" },
    { add_list_of_lists, MB_E_UNSUPPORTED, "key 'x': a list of lists" },
    { add_long_list, MB_E_LIMIT, "key 'x': 1099511627776 items" },
    { add_list_beyond, MB_E_FORMAT, "key 'x': the list ends beyond the file" },
    { add_odd_key, MB_E_FORMAT, "its name is not" },
    { add_odd_type, MB_E_FORMAT, "key 'x': not of a known type" },
    { add_kv_heads, MB_E_FORMAT, "key 'llama.attention.head_count_kv': 3 does not divide key" },
};

START_TEST(what_is_wrong_is_named)
{
    struct gguf_writer w = { 0 };
    struct mb_error err;
    size_t n;
    tiny_keys(&w);
    tiny_tensors(&w, GGUF_F32, NULL);
    bad[_i].add(&w);
    uint8_t *at = gguf_finish(&w, &n);
    enum mb_status st = open_copy(at, n, &err);
    ck_assert_msg(st == bad[_i].status && strstr(err.what, bad[_i].says), "%s: %s",
                  mb_status_name(st), err.what);
    free(at);
}
END_TEST

START_TEST(what_is_missing_is_named)
{
    struct gguf_writer w = { 0 };
    struct mb_error err;
    size_t n;
    tiny_keys(&w);
    tiny_tensors(&w, GGUF_F32, "blk.0.ffn_up.weight");
    uint8_t *at = gguf_finish(&w, &n);
    ck_assert_int_eq(open_copy(at, n, &err), MB_E_FORMAT);
    ck_assert_str_eq(err.what, "tensor 'blk.0.ffn_up.weight' is missing");
    free(at);
    gguf_text(&w, "general.architecture", "gpt2");
    at = gguf_finish(&w, &n);
    ck_assert_int_eq(open_copy(at, n, &err), MB_E_UNSUPPORTED);
    ck_assert(strstr(err.what, "architecture gpt2 is not supported"));
    static const uint8_t heads[][24] = {
        { 'G', 'G', 'U', 'F', 1 },
        { 'G', 'G', 'U', 'F', 0, 0, 0, 3 },
        { 'G', 'G', 'U', 'F', 3, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff },
    };
    static const enum mb_status want[] = { MB_E_UNSUPPORTED, MB_E_UNSUPPORTED, MB_E_LIMIT };
    for (size_t i = 0; i < 3; i++) {
        ck_assert_int_eq(open_copy(heads[i], sizeof heads[i], &err), want[i]);
    }
    free(at);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("gguf");
    TCase *t = tcase_create("gguf");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, every_weight_is_where_it_belongs, 0, sizeof types / sizeof *types);
    tcase_add_loop_test(t, a_folder_written_as_a_file_is_the_same_model, 0,
                        sizeof models / sizeof *models);
    tcase_add_test(t, a_truncated_file_is_refused_at_every_byte);
    tcase_add_test(t, a_changed_byte_does_no_harm);
    tcase_add_loop_test(t, what_is_wrong_is_named, 0, sizeof bad / sizeof *bad);
    tcase_add_test(t, what_is_missing_is_named);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
