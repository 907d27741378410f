#include "core/import/hf_write.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/base/file.h"
#include "core/base/half.h"
#include "core/base/memory.h"
#include "core/import/hf_names.h"

static enum mb_status write_file(const char *dir, const char *name, const void *at, size_t n,
                                 struct mb_error *err)
{
    struct mb_bytes path = { 0 };
    mb_bytes_printf(&path, "%s/%s", dir, name);
    struct mb_file_writer *w = NULL;
    enum mb_status st = path.failed ? mb_fail(err, MB_E_NOMEM, 0, "no memory for a path")
                                    : mb_file_writer_open(mb_bytes_text(&path), &w, err);
    if (st == MB_OK) {
        st = mb_file_writer_put(w, at, n, err);
    }
    if (st == MB_OK) {
        st = mb_file_writer_commit(w, err);
    } else {
        mb_file_writer_abort(w);
    }
    mb_bytes_fini(&path);
    return st;
}

/* Takes json; NULL is memory refused. */
static enum mb_status write_json(const char *dir, const char *name, json_t *json,
                                 struct mb_error *err)
{
    char *text = json ? json_dumps(json, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) : NULL;
    enum mb_status st = text ? write_file(dir, name, text, strlen(text), err)
                             : mb_fail(err, MB_E_NOMEM, 0, "no memory for %s", name);
    free(text);
    json_decref(json);
    return st;
}

static json_t *id_or_null(uint32_t id)
{
    return id == MB_NO_ID ? json_null() : json_integer(id);
}

static uint32_t eos_of(const struct mb_bpe_spec *s)
{
    return s->eos.n > 0 ? s->eos.at[0] : MB_NO_ID;
}

static enum mb_status write_config(const struct mb_hf_write *w, const char *dir,
                                   struct mb_error *err)
{
    const struct mb_shape *s = &w->model->shape;
    json_t *config = json_pack(
        "{s:[s], s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:b, s:o, s:o, "
        "s:s}",
        "architectures", "LlamaForCausalLM", "model_type", "llama", "hidden_act", "silu",
        "hidden_size", (json_int_t) s->width, "intermediate_size", (json_int_t) s->ffn_width,
        "num_hidden_layers", (json_int_t) s->n_layers, "num_attention_heads",
        (json_int_t) s->n_heads, "num_key_value_heads", (json_int_t) s->n_kv_heads, "head_dim",
        (json_int_t) s->head_width, "vocab_size", (json_int_t) s->n_vocab,
        "max_position_embeddings", (json_int_t) s->context, "rms_norm_eps",
        (double) s->norm_eps, "rope_theta", w->rope_theta, "tie_word_embeddings",
        (int) s->tied_head, "bos_token_id", id_or_null(w->tokenizer->bos), "eos_token_id",
        id_or_null(eos_of(w->tokenizer)), "torch_dtype", "float16");
    enum mb_status st = write_json(dir, "config.json", config, err);
    if (st != MB_OK) {
        return st;
    }
    json_t *generation = json_pack("{s:o, s:o}", "bos_token_id", id_or_null(w->tokenizer->bos),
                                   "eos_token_id", id_or_null(eos_of(w->tokenizer)));
    return write_json(dir, "generation_config.json", generation, err);
}

static json_t *token_text(const struct mb_bpe_spec *s, uint32_t id)
{
    struct mb_bpe_text t = s->tokens[id].text;
    return json_stringn((const char *) mb_bpe_at(s, t), t.n);
}

static json_t *added_tokens(const struct mb_bpe_spec *s)
{
    json_t *list = json_array();
    for (uint32_t id = 0; id < s->n_tokens; id++) {
        if (s->tokens[id].flags & MB_TOKEN_SPECIAL) {
            json_array_append_new(list, json_pack("{s:I, s:o, s:b, s:b, s:b, s:b, s:b}", "id",
                                                  (json_int_t) id, "content", token_text(s, id),
                                                  "single_word", 0, "lstrip", 0, "rstrip", 0,
                                                  "normalized", 0, "special", 1));
        }
    }
    return list;
}

static json_t *bpe_model(const struct mb_bpe_spec *s)
{
    json_t *vocab = json_object(), *merges = json_array();
    for (uint32_t id = 0; id < s->n_tokens; id++) {
        struct mb_bpe_text t = s->tokens[id].text;
        json_object_setn_new(vocab, (const char *) mb_bpe_at(s, t), t.n, json_integer(id));
    }
    for (uint32_t i = 0; i < s->n_merges; i++) {
        const struct mb_bpe_merge *m = &s->merges[i];
        struct mb_bpe_text a = s->tokens[m->left].text, b = s->tokens[m->right].text;
        json_array_append_new(merges, json_sprintf("%.*s %.*s", (int) a.n, mb_bpe_at(s, a),
                                                   (int) b.n, mb_bpe_at(s, b)));
    }
    return json_pack("{s:s, s:n, s:b, s:o, s:o}", "type", "BPE", "unk_token", "byte_fallback",
                     0, "vocab", vocab, "merges", merges);
}

/* What puts BOS before a text. */
static json_t *post_processor(const struct mb_bpe_spec *s)
{
    if (s->prefix.n == 0) {
        return json_null();
    }
    uint32_t bos = s->prefix.at[0];
    json_t *text = token_text(s, bos);
    const char *name = json_string_value(text);
    json_t *single = json_pack("[{s:{s:s, s:i}}, {s:{s:s, s:i}}]", "SpecialToken", "id", name,
                               "type_id", 0, "Sequence", "id", "A", "type_id", 0);
    json_t *tokens = json_pack("{s:{s:s, s:[I], s:[s]}}", name, "id", name, "ids",
                               (json_int_t) bos, "tokens", name);
    json_t *all = json_pack("{s:s, s:o, s:[], s:o}", "type", "TemplateProcessing", "single",
                            single, "pair", "special_tokens", tokens);
    json_decref(text);
    return all;
}

static enum mb_status write_tokenizer(const struct mb_hf_write *w, const char *dir,
                                      struct mb_error *err)
{
    const struct mb_bpe_spec *s = w->tokenizer;
    json_t *byte_level = json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel",
                                   "add_prefix_space", 0, "trim_offsets", 1, "use_regex", 1);
    json_t *all =
        json_pack("{s:s, s:o, s:n, s:O, s:o, s:o, s:o}", "version", "1.0", "added_tokens",
                  added_tokens(s), "normalizer", "pre_tokenizer", byte_level, "post_processor",
                  post_processor(s), "decoder", byte_level, "model", bpe_model(s));
    enum mb_status st = write_json(dir, "tokenizer.json", all, err);
    if (st != MB_OK) {
        return st;
    }
    json_t *config = json_object();
    if (s->bos != MB_NO_ID) {
        json_object_set_new(config, "bos_token", token_text(s, s->bos));
    }
    if (s->eos.n > 0) {
        json_object_set_new(config, "eos_token", token_text(s, s->eos.at[0]));
    }
    if (w->chat_template) {
        json_object_set_new(config, "chat_template", json_string(w->chat_template));
    }
    json_object_set_new(config, "tokenizer_class", json_string("PreTrainedTokenizerFast"));
    return write_json(dir, "tokenizer_config.json", config, err);
}

/* A safetensors file in the making: names and places first, then the numbers. */
struct weights {
    json_t *header;
    struct mb_bytes data;
};

/* n_rows 0 is a vector. */
static enum mb_status add_tensor(struct weights *w, const char *name, const float *at,
                                 uint32_t n_rows, uint32_t n_cols, struct mb_error *err)
{
    size_t n = (size_t) (n_rows ? n_rows : 1) * n_cols, begin = w->data.len;
    for (size_t i = 0; i < n; i++) {
        uint16_t half = mb_f32_to_f16(at[i]);
        if (!isfinite(mb_f16_to_f32(half))) {
            return mb_fail(err, MB_E_INVALID, 0, "tensor %s: %g is not a float16", name,
                           (double) at[i]);
        }
        mb_bytes_put_u16(&w->data, half);
    }
    json_t *shape = n_rows ? json_pack("[I, I]", (json_int_t) n_rows, (json_int_t) n_cols)
                           : json_pack("[I]", (json_int_t) n_cols);
    json_t *entry = json_pack("{s:s, s:o, s:[I, I]}", "dtype", "F16", "shape", shape,
                              "data_offsets", (json_int_t) begin, (json_int_t) w->data.len);
    if (w->data.failed || json_object_set_new(w->header, name, entry) != 0) {
        return mb_fail(err, MB_E_NOMEM, 0, "no memory for tensor %s", name);
    }
    return MB_OK;
}

static enum mb_status add_linear(struct weights *w, const char *name, const struct mb_linear *l,
                                 struct mb_error *err)
{
    if (l->kind != MB_LINEAR_F32) {
        return mb_fail(err, MB_E_INVALID, 0, "tensor %s is not float32", name);
    }
    return add_tensor(w, name, l->dense, l->n_rows, l->n_cols, err);
}

static enum mb_status add_block(struct weights *w, const struct mb_model *m, uint32_t layer,
                                struct mb_error *err)
{
    const struct mb_block *b = &m->blocks[layer];
    char name[MB_HF_NAME_MAX];
    enum mb_status st = add_tensor(w, mb_hf_block_name(name, layer, "input_layernorm"),
                                   b->attn_norm, 0, m->shape.width, err);
    if (st == MB_OK) {
        st = add_tensor(w, mb_hf_block_name(name, layer, "post_attention_layernorm"),
                        b->ffn_norm, 0, m->shape.width, err);
    }
    for (int l = 0; l < MB_BLOCK_LINEARS && st == MB_OK; l++) {
        const char *part = mb_hf_linear_names[l];
        st = add_linear(w, mb_hf_block_name(name, layer, part), &b->linear[l], err);
    }
    return st;
}

static enum mb_status add_all(struct weights *w, const struct mb_model *m, struct mb_error *err)
{
    enum mb_status st = add_linear(w, "model.embed_tokens.weight", &m->embed, err);
    for (uint32_t i = 0; i < m->shape.n_layers && st == MB_OK; i++) {
        st = add_block(w, m, i, err);
    }
    if (st == MB_OK) {
        st = add_tensor(w, "model.norm.weight", m->final_norm, 0, m->shape.width, err);
    }
    if (st == MB_OK && !m->shape.tied_head) {
        st = add_linear(w, "lm_head.weight", &m->head, err);
    }
    return st;
}

static enum mb_status write_weights(const struct mb_model *m, const char *dir,
                                    struct mb_error *err)
{
    struct weights w = { .header = json_pack("{s:{s:s}}", "__metadata__", "format", "pt") };
    enum mb_status st =
        w.header ? add_all(&w, m, err) : mb_fail(err, MB_E_NOMEM, 0, "no memory for weights");
    char *header = st == MB_OK ? json_dumps(w.header, JSON_COMPACT) : NULL;
    struct mb_bytes file = { 0 };
    if (header) {
        /* The numbers begin at a multiple of 8: spaces after the header see to it. */
        size_t n = (strlen(header) + 7) / 8 * 8;
        mb_bytes_put_u64(&file, n);
        mb_bytes_printf(&file, "%-*s", (int) n, header);
        mb_bytes_put(&file, w.data.at, w.data.len);
        st = file.failed ? mb_fail(err, MB_E_NOMEM, 0, "no memory for weights")
                         : write_file(dir, "model.safetensors", file.at, file.len, err);
    } else if (st == MB_OK) {
        st = mb_fail(err, MB_E_NOMEM, 0, "no memory for weights");
    }
    free(header);
    mb_bytes_fini(&file);
    mb_bytes_fini(&w.data);
    json_decref(w.header);
    return st;
}

static bool is_byte_level(const struct mb_bpe_spec *s)
{
    const struct mb_bpe_steps *pre = &s->stages[MB_BPE_PRE_TOKENIZER];
    return s->stages[MB_BPE_NORMALIZER].n == 0 && pre->n == 1 &&
           pre->at[0].kind == MB_BPE_BYTE_LEVEL && pre->at[0].flags == MB_BPE_WORDS &&
           s->prefix.n <= 1 && s->suffix.n == 0;
}

enum mb_status mb_hf_write(const struct mb_hf_write *w, const char *dir, struct mb_error *err)
{
    if (!is_byte_level(w->tokenizer)) {
        return mb_fail(err, MB_E_INVALID, 0, "only byte-level tokenizers can be written");
    }
    if (mkdir(dir, 0777) != 0 && errno != EEXIST) {
        return mb_fail(err, MB_E_IO, errno, "make the folder '%s'", dir);
    }
    enum mb_status st = write_config(w, dir, err);
    if (st == MB_OK) {
        st = write_tokenizer(w, dir, err);
    }
    return st == MB_OK ? write_weights(w->model, dir, err) : st;
}
