#include "core/import/hf_config.h"

#include <stdbool.h>
#include <string.h>

#include "core/import/json.h"

/* Planes of coded activations: 8 is where the loss is not measurable (DESIGN: the arithmetic
 * contract). */
enum { PLANES = 8 };

struct architecture {
    const char *name, *model_type;
    bool has_window;         /* reads sliding_window */
    uint32_t window_default; /* when the field is absent; null means none */
};

static const struct architecture architectures[] = {
    { "LlamaForCausalLM", "llama", false, 0 },
    { "MistralForCausalLM", "mistral", true, 4096 },
};
enum { N_ARCHITECTURES = sizeof architectures / sizeof architectures[0] };

static enum mb_status find_architecture(const json_t *root, const struct architecture **ret,
                                        struct mb_error *err)
{
    const json_t *list = json_object_get(root, "architectures");
    const char *name = json_string_value(json_array_get(list, 0));
    const char *type = json_string_value(json_object_get(root, "model_type"));
    if (!name && !type) {
        return mb_fail(err, MB_E_FORMAT, 0, "architectures: missing, and so is model_type");
    }
    for (size_t i = 0; i < N_ARCHITECTURES; i++) {
        const struct architecture *a = &architectures[i];
        if (name ? strcmp(a->name, name) == 0 : strcmp(a->model_type, type) == 0) {
            *ret = a;
            return MB_OK;
        }
    }
    return mb_fail(err, MB_E_UNSUPPORTED, 0,
                   "%s %.100s is not supported; supported: LlamaForCausalLM, "
                   "MistralForCausalLM",
                   name ? "architecture" : "model_type", name ? name : type);
}

/* Fields whose presence with any other value than these would change the arithmetic. */
static enum mb_status refuse_unsupported(const json_t *root, struct mb_error *err)
{
    static const char *const absent[] = {
        "quantization_config", "num_experts", "num_local_experts",
        "n_routed_experts",    "layer_types", "final_logit_softcapping",
    };
    static const char *const no[] = {
        "attention_bias", "mlp_bias", "qkv_bias", "rope_interleaved", "use_qk_norm",
    };
    for (size_t i = 0; i < sizeof absent / sizeof absent[0]; i++) {
        const json_t *v = json_object_get(root, absent[i]);
        if (v && !json_is_null(v)) {
            return mb_fail(err, MB_E_UNSUPPORTED, 0,
                           "%s is not supported; supported: models without it", absent[i]);
        }
    }
    for (size_t i = 0; i < sizeof no / sizeof no[0]; i++) {
        int v = 0;
        enum mb_status st = mb_json_bool(root, no[i], MB_JSON_OPTIONAL, &v, err);
        if (st != MB_OK) {
            return st;
        }
        if (v) {
            return mb_fail(err, MB_E_UNSUPPORTED, 0,
                           "%s: true is not supported; supported: false", no[i]);
        }
    }
    const char *act = "silu";
    enum mb_status st = mb_json_text(root, "hidden_act", MB_JSON_OPTIONAL, &act, err);
    if (st == MB_OK && strcmp(act, "silu") != 0) {
        return mb_fail(err, MB_E_UNSUPPORTED, 0,
                       "hidden_act: %.100s is not supported; supported: silu", act);
    }
    return st;
}

static enum mb_status read_scaling(const json_t *scaling, const char *type,
                                   struct mb_rope_params *p, struct mb_error *err)
{
    enum mb_status st = MB_OK;
    const enum mb_json_need must = MB_JSON_REQUIRED;
    if (strcmp(type, "default") == 0) {
        return MB_OK;
    }
    if (strcmp(type, "linear") == 0) {
        return mb_json_f64(scaling, "factor", must, 1, 1e6, &p->linear_factor, err);
    }
    if (strcmp(type, "llama3") != 0) {
        return mb_fail(err, MB_E_UNSUPPORTED, 0,
                       "rope_type: %.100s is not supported; supported: default, linear, llama3",
                       type);
    }
    if ((st = mb_json_f64(scaling, "factor", must, 1, 1e6, &p->factor, err)) != MB_OK ||
        (st = mb_json_f64(scaling, "low_freq_factor", must, 1e-6, 1e6, &p->low_freq_factor,
                          err)) != MB_OK ||
        (st = mb_json_f64(scaling, "high_freq_factor", must, 1e-6, 1e6, &p->high_freq_factor,
                          err)) != MB_OK ||
        (st = mb_json_f64(scaling, "original_max_position_embeddings", must, 1, 1e9,
                          &p->original_context, err)) != MB_OK) {
        return st;
    }
    if (p->high_freq_factor <= p->low_freq_factor) {
        return mb_fail(err, MB_E_FORMAT, 0, "high_freq_factor: %g is not above low_freq_factor",
                       p->high_freq_factor);
    }
    return MB_OK;
}

/* "rope_scaling", or "rope_parameters", which newer files have in its place and which holds
 * rope_theta as well. */
static enum mb_status read_rope_object(const json_t *scaling, struct mb_rope_params *p,
                                       struct mb_error *err)
{
    if (!json_is_object(scaling)) {
        return mb_fail(err, MB_E_FORMAT, 0, "not an object");
    }
    const char *type = NULL;
    enum mb_status st = mb_json_text(scaling, "rope_type", MB_JSON_OPTIONAL, &type, err);
    if (st == MB_OK && !type) { /* its name until 2024 */
        st = mb_json_text(scaling, "type", MB_JSON_OPTIONAL, &type, err);
    }
    if (st == MB_OK) {
        st = mb_json_f64(scaling, "rope_theta", MB_JSON_OPTIONAL, 1, 1e12, &p->theta, err);
    }
    if (st != MB_OK) {
        return st;
    }
    if (!type && !json_object_get(scaling, "rope_theta")) {
        return mb_fail(err, MB_E_FORMAT, 0, "rope_type: missing");
    }
    return read_scaling(scaling, type ? type : "default", p, err);
}

static enum mb_status read_rope(const json_t *root, struct mb_rope_params *ret,
                                struct mb_error *err)
{
    *ret = (struct mb_rope_params) { .theta = 10000 };
    double whole = 1;
    enum mb_status st =
        mb_json_f64(root, "rope_theta", MB_JSON_OPTIONAL, 1, 1e12, &ret->theta, err);
    if (st == MB_OK) {
        st = mb_json_f64(root, "partial_rotary_factor", MB_JSON_OPTIONAL, 0, 1, &whole, err);
    }
    if (st != MB_OK) {
        return st;
    }
    if (whole < 1) {
        return mb_fail(err, MB_E_UNSUPPORTED, 0,
                       "partial_rotary_factor: %g is not supported; supported: 1", whole);
    }
    static const char *const fields[] = { "rope_scaling", "rope_parameters" };
    for (size_t i = 0; i < 2; i++) {
        const json_t *v = json_object_get(root, fields[i]);
        if (v && !json_is_null(v)) {
            st = read_rope_object(v, ret, err);
            return mb_json_where(st, fields[i], err);
        }
    }
    return MB_OK;
}

static enum mb_status read_heads(const json_t *root, struct mb_shape *s, struct mb_error *err)
{
    enum mb_status st = mb_json_u32(root, "num_attention_heads", MB_JSON_REQUIRED, 1,
                                    MB_HEADS_MAX, &s->n_heads, err);
    if (st != MB_OK) {
        return st;
    }
    s->n_kv_heads = s->n_heads;
    st = mb_json_u32(root, "num_key_value_heads", MB_JSON_OPTIONAL, 1, MB_HEADS_MAX,
                     &s->n_kv_heads, err);
    if (st == MB_OK) {
        st = mb_json_u32(root, "head_dim", MB_JSON_OPTIONAL, 2, MB_HEAD_WIDTH_MAX,
                         &s->head_width, err);
    }
    if (st != MB_OK || s->head_width != 0) {
        return st;
    }
    if (s->width % s->n_heads != 0) {
        return mb_fail(err, MB_E_FORMAT, 0,
                       "head_dim: missing, and num_attention_heads %u does not divide "
                       "hidden_size %u",
                       s->n_heads, s->width);
    }
    s->head_width = s->width / s->n_heads;
    return MB_OK;
}

static enum mb_status read_window(const json_t *root, const struct architecture *a,
                                  struct mb_shape *s, struct mb_error *err)
{
    if (!a->has_window) {
        return MB_OK;
    }
    s->window = json_object_get(root, "sliding_window") ? 0 : a->window_default;
    return mb_json_u32(root, "sliding_window", MB_JSON_OPTIONAL, 1, MB_CONTEXT_MAX, &s->window,
                       err);
}

static const struct mb_shape_names names = {
    .n_layers = "num_hidden_layers",
    .width = "hidden_size",
    .n_heads = "num_attention_heads",
    .n_kv_heads = "num_key_value_heads",
    .head_width = "head_dim",
    .ffn_width = "intermediate_size",
    .n_vocab = "vocab_size",
    .context = "max_position_embeddings",
    .window = "sliding_window",
    .n_planes = "planes", /* ours; a folder does not say */
    .norm_eps = "rms_norm_eps",
    .tied_head = "tie_word_embeddings",
};

static enum mb_status read_shape(const json_t *root, const struct architecture *a,
                                 struct mb_shape *ret, struct mb_error *err)
{
    struct mb_shape s = { .n_planes = PLANES };
    struct {
        const char *field;
        uint32_t max, *at;
    } rows[] = {
        { "hidden_size", MB_WIDTH_MAX, &s.width },
        { "num_hidden_layers", MB_LAYERS_MAX, &s.n_layers },
        { "intermediate_size", MB_COLS_MAX, &s.ffn_width },
        { "vocab_size", MB_VOCAB_MAX, &s.n_vocab },
        { "max_position_embeddings", MB_CONTEXT_MAX, &s.context },
    };
    enum mb_status st = MB_OK;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0] && st == MB_OK; i++) {
        st =
            mb_json_u32(root, rows[i].field, MB_JSON_REQUIRED, 1, rows[i].max, rows[i].at, err);
    }
    double eps = 1e-6;
    int tied = 0;
    if (st != MB_OK || (st = read_heads(root, &s, err)) != MB_OK ||
        (st = read_window(root, a, &s, err)) != MB_OK ||
        (st = mb_json_f64(root, "rms_norm_eps", MB_JSON_OPTIONAL, 1e-30, 1, &eps, err)) !=
            MB_OK ||
        (st = mb_json_bool(root, "tie_word_embeddings", MB_JSON_OPTIONAL, &tied, err)) !=
            MB_OK) {
        return st;
    }
    s.norm_eps = (float) eps;
    s.tied_head = tied != 0;
    st = mb_shape_check_as(&s, &names, err);
    if (st == MB_OK) {
        *ret = s;
    }
    return st == MB_E_INVALID ? MB_E_FORMAT : st;
}

enum mb_status mb_hf_config_parse(const uint8_t *at, size_t n, const char *file,
                                  struct mb_hf_config *ret, struct mb_error *err)
{
    json_t *root;
    enum mb_status st = mb_json_parse(at, n, file, &root, err);
    if (st != MB_OK) {
        return st;
    }
    const struct architecture *a = NULL;
    struct mb_hf_config c;
    if ((st = find_architecture(root, &a, err)) == MB_OK &&
        (st = refuse_unsupported(root, err)) == MB_OK &&
        (st = read_shape(root, a, &c.shape, err)) == MB_OK &&
        (st = read_rope(root, &c.rope, err)) == MB_OK) {
        c.architecture = a->name;
        *ret = c;
    }
    json_decref(root);
    if (err && st != MB_OK) {
        err->code = st;
    }
    return mb_json_where(st, file, err);
}
