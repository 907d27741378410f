#include "core/import/hf.h"

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/file.h"
#include "core/import/gguf_model.h"
#include "core/import/hf_config.h"
#include "core/import/json.h"
#include "core/import/safetensors.h"
#include "core/import/tokenizer_json.h"

#define TEMPLATE_BYTES_MAX (1u << 20) /* templates in the wild are under 20 KB */

/* A tensor of the files, and whether the model is made of it. */
struct entry {
    const char *name; /* the safetensor's own */
    bool taken;
    struct mb_hf_tensor tensor; /* when taken */
};

struct mb_hf {
    char *dir;
    struct mb_gguf_model *gguf; /* what a file is; of the rest a file has dir alone */
    struct mb_hf_config config;
    double *inv_freq; /* [head_width / 2] */
    struct mb_safetensors *files;
    struct entry *entries; /* [mb_safetensors_count], by name */
    char *chat_template;
};

static enum mb_status join(char ret[PATH_MAX], const char *dir, const char *file,
                           struct mb_error *err)
{
    int n = snprintf(ret, PATH_MAX, "%s/%s", dir, file);
    if (n < 0 || n >= PATH_MAX) {
        return mb_fail(err, MB_E_INVALID, 0, "the path is too long: '%.200s'", dir);
    }
    return MB_OK;
}

static enum mb_status read_config(struct mb_hf *h, struct mb_error *err)
{
    char path[PATH_MAX];
    struct mb_file_map m;
    enum mb_status st = join(path, h->dir, "config.json", err);
    if (st != MB_OK) {
        return st;
    }
    st = mb_file_map(path, &m, err);
    if (st != MB_OK) {
        return st;
    }
    st = mb_hf_config_parse(m.at, m.n, "config.json", &h->config, err);
    mb_file_unmap(&m);
    if (st != MB_OK) {
        return st;
    }
    uint32_t head_width = h->config.shape.head_width;
    h->inv_freq = calloc(head_width / 2, sizeof *h->inv_freq);
    if (!h->inv_freq) {
        return mb_fail(err, MB_E_NOMEM, 0, "no memory for '%s'", h->dir);
    }
    mb_rope_frequencies(&h->config.rope, head_width, h->inv_freq);
    return MB_OK;
}

static const enum mb_linear_kind kinds[MB_SAFETENSOR_OTHER] = {
    [MB_SAFETENSOR_F32] = MB_LINEAR_F32,
    [MB_SAFETENSOR_F16] = MB_LINEAR_F16,
    [MB_SAFETENSOR_BF16] = MB_LINEAR_BF16,
};

static int by_name(const void *key, const void *entry)
{
    return strcmp(key, ((const struct entry *) entry)->name);
}

static struct entry *find_entry(const struct mb_hf *h, const char *name)
{
    return bsearch(name, h->entries, mb_safetensors_count(h->files), sizeof *h->entries,
                   by_name);
}

/* Demands a tensor of n_rows x n_cols; a vector (n_rows 0) has one dimension. */
static enum mb_status take(struct mb_hf *h, const char *name, uint32_t n_rows, uint32_t n_cols,
                           struct mb_error *err)
{
    const struct mb_safetensor *t = mb_safetensors_find(h->files, name);
    if (!t) {
        return mb_fail(err, MB_E_FORMAT, 0, "tensor '%s' is missing", name);
    }
    if (t->dtype == MB_SAFETENSOR_OTHER) {
        return mb_fail(err, MB_E_UNSUPPORTED, 0,
                       "tensor '%s': dtype %s is not supported; supported: F32, F16, BF16",
                       name, t->dtype_name);
    }
    bool fits = n_rows == 0 ? t->n_dims == 1 && t->dims[0] == n_cols
                            : t->n_dims == 2 && t->dims[0] == n_rows && t->dims[1] == n_cols;
    if (!fits) {
        return mb_fail(err, MB_E_FORMAT, 0,
                       "tensor '%s': shape: %llu x %llu (%u dimensions), config.json asks for "
                       "%u x %u",
                       name, (unsigned long long) (t->n_dims > 1 ? t->dims[0] : 1),
                       (unsigned long long) (t->n_dims > 0 ? t->dims[t->n_dims > 1] : 1),
                       t->n_dims, n_rows ? n_rows : 1, n_cols);
    }
    struct entry *e = find_entry(h, name);
    e->taken = true;
    e->tensor.kind = kinds[t->dtype];
    e->tensor.n_rows = n_rows ? n_rows : 1;
    e->tensor.n_cols = n_cols;
    e->tensor.data = t->data;
    return MB_OK;
}

static enum mb_status take_layer(struct mb_hf *h, uint32_t layer, struct mb_error *err)
{
    const struct mb_shape *s = &h->config.shape;
    uint32_t q = (uint32_t) mb_shape_q_width(s), kv = (uint32_t) mb_shape_kv_width(s);
    const struct {
        const char *name;
        uint32_t n_rows, n_cols;
    } rows[] = {
        { "input_layernorm", 0, s->width },
        { "self_attn.q_proj", q, s->width },
        { "self_attn.k_proj", kv, s->width },
        { "self_attn.v_proj", kv, s->width },
        { "self_attn.o_proj", s->width, q },
        { "post_attention_layernorm", 0, s->width },
        { "mlp.gate_proj", s->ffn_width, s->width },
        { "mlp.up_proj", s->ffn_width, s->width },
        { "mlp.down_proj", s->width, s->ffn_width },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char name[MB_SAFETENSORS_NAME_MAX];
        (void) snprintf(name, sizeof name, "model.layers.%u.%s.weight", layer, rows[i].name);
        enum mb_status st = take(h, name, rows[i].n_rows, rows[i].n_cols, err);
        if (st != MB_OK) {
            return st;
        }
    }
    return MB_OK;
}

/* A tensor that nothing above asked for is a bias, a norm or a layer that would silently not be
 * computed. Two are known to change nothing: rotary frequencies stored by old versions of
 * transformers, and a copy of a tied head. */
static enum mb_status refuse_others(const struct mb_hf *h, struct mb_error *err)
{
    static const char suffix[] = ".rotary_emb.inv_freq";
    for (size_t i = 0; i < mb_safetensors_count(h->files); i++) {
        const char *name = h->entries[i].name;
        size_t n = strlen(name);
        bool rotary = n >= sizeof suffix && strcmp(name + n - (sizeof suffix - 1), suffix) == 0;
        bool copy = h->config.shape.tied_head && strcmp(name, "lm_head.weight") == 0;
        if (!h->entries[i].taken && !rotary && !copy) {
            return mb_fail(err, MB_E_UNSUPPORTED, 0,
                           "tensor '%s' is not supported; supported: the tensors of %s with "
                           "%u layers and no biases",
                           name, h->config.architecture, h->config.shape.n_layers);
        }
    }
    return MB_OK;
}

static enum mb_status read_tensors(struct mb_hf *h, struct mb_error *err)
{
    const struct mb_shape *s = &h->config.shape;
    enum mb_status st = mb_safetensors_open(h->dir, &h->files, err);
    if (st != MB_OK) {
        return st;
    }
    size_t n = mb_safetensors_count(h->files);
    h->entries = calloc(n ? n : 1, sizeof *h->entries);
    if (!h->entries) {
        return mb_fail(err, MB_E_NOMEM, 0, "no memory for '%s'", h->dir);
    }
    for (size_t i = 0; i < n; i++) {
        h->entries[i].name = mb_safetensors_at(h->files, i)->name;
    }
    if ((st = take(h, "model.embed_tokens.weight", s->n_vocab, s->width, err)) != MB_OK ||
        (st = take(h, "model.norm.weight", 0, s->width, err)) != MB_OK) {
        return st;
    }
    if (!s->tied_head) {
        st = take(h, "lm_head.weight", s->n_vocab, s->width, err);
    }
    for (uint32_t i = 0; i < s->n_layers && st == MB_OK; i++) {
        st = take_layer(h, i, err);
    }
    return st == MB_OK ? refuse_others(h, err) : st;
}

/* *ret is a terminated copy. */
static enum mb_status copy_template(const char *text, size_t n, const char *file, char **ret,
                                    struct mb_error *err)
{
    if (n > TEMPLATE_BYTES_MAX) {
        return mb_fail(err, MB_E_LIMIT, 0, "%s: chat_template: %zu bytes are more than %u",
                       file, n, TEMPLATE_BYTES_MAX);
    }
    if (n > 0 && memchr(text, '\0', n)) {
        return mb_fail(err, MB_E_FORMAT, 0, "%s: chat_template: has a zero byte", file);
    }
    *ret = strndup(text ? text : "", n);
    return *ret ? MB_OK : mb_fail(err, MB_E_NOMEM, 0, "%s: no memory", file);
}

/* chat_template of tokenizer_config.json: a string, or a list of { name, template } of which
 * "default" is taken. */
static enum mb_status template_of_config(struct mb_hf *h, const json_t *root,
                                         struct mb_error *err)
{
    static const char file[] = "tokenizer_config.json";
    const json_t *v = json_object_get(root, "chat_template");
    if (!v || json_is_null(v)) {
        return MB_OK;
    }
    if (json_is_array(v)) {
        const json_t *list = v, *item;
        size_t i;
        v = NULL;
        json_array_foreach (list, i, item) {
            const char *name = json_string_value(json_object_get(item, "name"));
            if (name && strcmp(name, "default") == 0) {
                v = json_object_get(item, "template");
                break;
            }
        }
        if (!v) {
            return MB_OK; /* templates for special uses only */
        }
    }
    if (!json_is_string(v)) {
        return mb_fail(err, MB_E_FORMAT, 0, "%s: chat_template: not a string", file);
    }
    return copy_template(json_string_value(v), json_string_length(v), file, &h->chat_template,
                         err);
}

/* The file chat_template.jinja goes before tokenizer_config.json, as in transformers. */
static enum mb_status read_template(struct mb_hf *h, struct mb_error *err)
{
    char path[PATH_MAX];
    struct mb_file_map m;
    enum mb_status st = join(path, h->dir, "chat_template.jinja", err);
    if (st != MB_OK) {
        return st;
    }
    st = mb_file_map(path, &m, err);
    if (st == MB_OK) {
        st = copy_template((const char *) m.at, m.n, "chat_template.jinja", &h->chat_template,
                           err);
        mb_file_unmap(&m);
        return st;
    }
    if (st != MB_E_NOTFOUND ||
        (st = join(path, h->dir, "tokenizer_config.json", err)) != MB_OK) {
        return st;
    }
    json_t *root;
    st = mb_json_load(path, &root, err);
    if (st != MB_OK) {
        return st == MB_E_NOTFOUND ? MB_OK : st;
    }
    st = template_of_config(h, root, err);
    json_decref(root);
    return st;
}

/* The path of a file of the folder, or NULL in *ret_path when there is none. */
static enum mb_status join_if_there(const struct mb_hf *h, const char *file,
                                    char buffer[PATH_MAX], const char **ret_path,
                                    struct mb_error *err)
{
    enum mb_status st = join(buffer, h->dir, file, err);
    if (st == MB_OK) {
        *ret_path = access(buffer, F_OK) == 0 ? buffer : NULL;
    }
    return st;
}

enum mb_status mb_hf_tokenizer(const struct mb_hf *h, struct mb_bytes *ret,
                               struct mb_error *err)
{
    if (h->gguf) {
        return mb_json_where(mb_gguf_model_tokenizer(h->gguf, ret, err), h->dir, err);
    }
    static const char *const files[] = { "tokenizer.json", "tokenizer_config.json",
                                         "generation_config.json", "config.json" };
    enum { N_FILES = sizeof files / sizeof files[0] };
    char buffers[N_FILES][PATH_MAX];
    const char *paths[N_FILES];
    for (size_t i = 0; i < N_FILES; i++) {
        enum mb_status st = join_if_there(h, files[i], buffers[i], &paths[i], err);
        if (st != MB_OK) {
            return st;
        }
    }
    if (!paths[0]) {
        return mb_fail(err, MB_E_NOTFOUND, 0, "'%s' has no tokenizer.json", h->dir);
    }
    struct mb_bpe_spec *spec;
    enum mb_status st =
        mb_tokenizer_json_read(paths[0], paths[1], paths[2], paths[3], &spec, err);
    if (st != MB_OK) {
        return st;
    }
    uint32_t n_ids = spec->n_tokens;
    mb_bpe_spec_write(spec, ret);
    mb_bpe_spec_free(spec);
    if (n_ids > h->config.shape.n_vocab) {
        return mb_fail(err, MB_E_FORMAT, 0,
                       "%s: ids go up to %u, config.json's vocab_size is %u", paths[0],
                       (unsigned) n_ids - 1, (unsigned) h->config.shape.n_vocab);
    }
    return ret->failed ? mb_fail(err, MB_E_NOMEM, 0, "no memory for the tokenizer") : MB_OK;
}

static enum mb_status read_folder(struct mb_hf *h, struct mb_error *err)
{
    enum mb_status st = read_config(h, err);
    if (st == MB_OK) {
        st = read_tensors(h, err);
    }
    return st == MB_OK ? read_template(h, err) : st;
}

enum mb_status mb_hf_open(const char *dir, struct mb_hf **ret, struct mb_error *err)
{
    struct mb_hf *h = calloc(1, sizeof *h);
    if (!h || !(h->dir = strdup(dir))) {
        free(h);
        return mb_fail(err, MB_E_NOMEM, 0, "no memory for '%s'", dir);
    }
    struct stat sb;
    enum mb_status st = stat(dir, &sb) == 0 && S_ISREG(sb.st_mode)
                            ? mb_gguf_model_open(dir, &h->gguf, err)
                            : read_folder(h, err);
    if (st != MB_OK) {
        mb_hf_free(h);
        return mb_json_where(st, dir, err);
    }
    *ret = h;
    return MB_OK;
}

void mb_hf_free(struct mb_hf *h)
{
    if (!h) {
        return;
    }
    mb_gguf_model_free(h->gguf);
    mb_safetensors_free(h->files);
    free(h->entries);
    free(h->inv_freq);
    free(h->chat_template);
    free(h->dir);
    free(h);
}

const struct mb_shape *mb_hf_shape(const struct mb_hf *h)
{
    return h->gguf ? mb_gguf_model_shape(h->gguf) : &h->config.shape;
}

const char *mb_hf_architecture(const struct mb_hf *h)
{
    return h->gguf ? "LlamaForCausalLM" : h->config.architecture;
}

const double *mb_hf_inv_freq(const struct mb_hf *h)
{
    return h->gguf ? mb_gguf_model_inv_freq(h->gguf) : h->inv_freq;
}

const struct mb_hf_tensor *mb_hf_tensor(const struct mb_hf *h, const char *name)
{
    if (h->gguf) {
        return mb_gguf_model_tensor(h->gguf, name);
    }
    const struct entry *e = find_entry(h, name);
    return e && e->taken ? &e->tensor : NULL;
}

const char *mb_hf_chat_template(const struct mb_hf *h)
{
    return h->gguf ? mb_gguf_model_chat_template(h->gguf) : h->chat_template;
}
