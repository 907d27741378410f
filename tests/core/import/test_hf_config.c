/* Goal:   config.json becomes the right numbers, and what is not implemented is refused by
 *         name.
 * Method: config.json files of real models against numbers read by eye; then a plain one with
 *         one field changed at a time. */
#include <math.h>
#include <string.h>

#include "core/base/file.h"
#include "core/import/hf_config.h"
#include "tests/check_main.h"

static const struct real {
    const char *path;
    const char *refused; /* in the message, or NULL: accepted */
    struct mb_shape want;
    double theta, factor;
} reals[] = {
    { "hf_configs/llama-2-7b-hf/config.json",
      NULL,
      { 32, 4096, 32, 32, 128, 11008, 32000, 4096, 0, 8, 1e-5f, 0 },
      1e4,
      0 },
    { "hf_configs/llama-3.1-8b-instruct/config.json",
      NULL,
      { 32, 4096, 32, 8, 128, 14336, 128256, 131072, 0, 8, 1e-5f, 0 },
      5e5,
      0 },
    { "hf_configs/aiconfigurator/meta-llama--Meta-Llama-3.1-8B_config.json",
      NULL,
      { 32, 4096, 32, 8, 128, 14336, 128256, 131072, 0, 8, 1e-5f, 0 },
      5e5,
      8 },
    { "hf_configs/codellama-34b-instruct-hf/config.json",
      NULL,
      { 48, 8192, 64, 8, 128, 22016, 32000, 16384, 0, 8, 1e-5f, 0 },
      1e6,
      0 },
    { "hf_configs/mistral-nemo-instruct-2407/config.json",
      NULL,
      { 40, 5120, 32, 8, 128, 14336, 131072, 131072, 0, 8, 1e-5f, 0 },
      1e6,
      0 },
    { "hf_configs/yi-34b/config.json",
      NULL,
      { 60, 7168, 56, 8, 128, 20480, 64000, 4096, 0, 8, 1e-5f, 0 },
      5e6,
      0 },
    { "hf_configs/transcribed/SmolLM2-135M/config.json",
      NULL,
      { 30, 576, 9, 3, 64, 1536, 49152, 8192, 0, 8, 1e-5f, 1 },
      1e5,
      0 },
    { "models/stories3M/config.json",
      NULL,
      { 6, 192, 6, 2, 32, 512, 4096, 512, 0, 8, 1e-5f, 1 },
      1e4,
      0 },
    { "models/tiny_llama3/config.json",
      NULL,
      { 2, 64, 4, 2, 16, 128, 256, 512, 0, 8, 1e-6f, 0 },
      5e5,
      8 },
    { "models/tiny_mistral/config.json",
      NULL,
      { 2, 64, 4, 2, 16, 128, 256, 512, 8, 8, 1e-6f, 0 },
      1e4,
      0 },
    { .path = "hf_configs/qwen2.5-7b-instruct/config.json", .refused = "Qwen2ForCausalLM" },
    { .path = "hf_configs/qwen3-14b/config.json", .refused = "Qwen3ForCausalLM" },
    { .path = "hf_configs/aiconfigurator/Qwen--Qwen3-0.6B_config.json",
      .refused = "Qwen3ForCausalLM" },
    { .path = "hf_configs/mixtral-8x7b-v0.1/config.json", .refused = "MixtralForCausalLM" },
    { .path = "hf_configs/transcribed/opt-125m/config.json", .refused = "OPTForCausalLM" },
};

static void assert_shape(const struct mb_shape *got, const struct mb_shape *want)
{
    ck_assert_uint_eq(got->n_layers, want->n_layers);
    ck_assert_uint_eq(got->width, want->width);
    ck_assert_uint_eq(got->n_heads, want->n_heads);
    ck_assert_uint_eq(got->n_kv_heads, want->n_kv_heads);
    ck_assert_uint_eq(got->head_width, want->head_width);
    ck_assert_uint_eq(got->ffn_width, want->ffn_width);
    ck_assert_uint_eq(got->n_vocab, want->n_vocab);
    ck_assert_uint_eq(got->context, want->context);
    ck_assert_uint_eq(got->window, want->window);
    ck_assert_uint_eq(got->n_planes, want->n_planes);
    ck_assert(got->norm_eps == want->norm_eps);
    ck_assert_uint_eq(got->tied_head, want->tied_head);
}

START_TEST(real_models)
{
    const struct real *r = &reals[_i];
    const char *path = mb_data_path(r->path);
    if (!path) {
        mb_skip("no %s", r->path);
    }
    struct mb_file_map m;
    struct mb_error err = { 0 };
    struct mb_hf_config c;
    mb_assert_ok(mb_file_map(path, &m, &err), &err);
    enum mb_status st = mb_hf_config_parse(m.at, m.n, "config.json", &c, &err);
    mb_file_unmap(&m);
    if (r->refused) {
        ck_assert_int_eq(st, MB_E_UNSUPPORTED);
        ck_assert_ptr_nonnull(strstr(err.what, r->refused));
        ck_assert_ptr_nonnull(strstr(err.what, "not supported; supported: LlamaForCausalLM"));
        return;
    }
    mb_assert_ok(st, &err);
    assert_shape(&c.shape, &r->want);
    ck_assert(c.rope.theta == r->theta);
    ck_assert(c.rope.factor == r->factor);
}
END_TEST

/* A plain model, with room for fields of a test. */
#define PLAIN                                                                     \
    "\"architectures\": [\"LlamaForCausalLM\"], \"hidden_size\": 64, "            \
    "\"num_hidden_layers\": 2, \"intermediate_size\": 128, \"vocab_size\": 256, " \
    "\"max_position_embeddings\": 512, \"num_attention_heads\": 4"

static enum mb_status parse(const char *text, struct mb_hf_config *ret, struct mb_error *err)
{
    return mb_hf_config_parse((const uint8_t *) text, strlen(text), "config.json", ret, err);
}

START_TEST(absent_fields_have_the_defaults_of_transformers)
{
    struct mb_error err = { 0 };
    struct mb_hf_config c;
    mb_assert_ok(parse("{" PLAIN "}", &c, &err), &err);
    static const struct mb_shape want = { 2, 64, 4, 4, 16, 128, 256, 512, 0, 8, 1e-6f, 0 };
    assert_shape(&c.shape, &want);
    ck_assert(c.rope.theta == 10000);
    ck_assert(c.rope.factor == 0);
    ck_assert_str_eq(c.architecture, "LlamaForCausalLM");

    mb_assert_ok(parse("{" PLAIN ", \"head_dim\": null, \"num_key_value_heads\": null, "
                       "\"rope_scaling\": null, \"sliding_window\": 7}",
                       &c, &err),
                 &err);
    ck_assert_uint_eq(c.shape.n_kv_heads, 4);
    ck_assert_uint_eq(c.shape.window, 0); /* Llama has none */
}
END_TEST

static const struct {
    const char *more;
    double theta, factor, linear;
} ropes[] = {
    { "\"rope_scaling\": {\"type\": \"linear\", \"factor\": 4.0}", 1e4, 0, 4 },
    { "\"rope_scaling\": {\"rope_type\": \"default\"}, \"rope_theta\": 7000", 7e3, 0, 0 },
    { "\"rope_parameters\": {\"rope_theta\": 5e5, \"rope_type\": \"default\"}", 5e5, 0, 0 },
    { "\"rope_parameters\": {\"rope_theta\": 5e5}", 5e5, 0, 0 },
    { "\"rope_parameters\": {\"rope_theta\": 5e5, \"rope_type\": \"llama3\", \"factor\": 32, "
      "\"low_freq_factor\": 1, \"high_freq_factor\": 4, "
      "\"original_max_position_embeddings\": 8192}",
      5e5, 32, 0 },
};

START_TEST(rope_in_its_old_and_new_form)
{
    char text[1024];
    struct mb_error err = { 0 };
    struct mb_hf_config c;
    (void) snprintf(text, sizeof text, "{" PLAIN ", %s}", ropes[_i].more);
    mb_assert_ok(parse(text, &c, &err), &err);
    ck_assert(c.rope.theta == ropes[_i].theta);
    ck_assert(c.rope.factor == ropes[_i].factor);
    ck_assert(c.rope.linear_factor == ropes[_i].linear);
}
END_TEST

static const struct {
    const char *text, *says;
    enum mb_status st;
} bad[] = {
    { "", "line 1", MB_E_FORMAT },
    { "[]", "not a JSON object", MB_E_FORMAT },
    { "{}", "architectures: missing", MB_E_FORMAT },
    { "{" PLAIN, "line 1", MB_E_FORMAT },
    { "{" PLAIN ", \"hidden_size\": 3}", "duplicate", MB_E_FORMAT },
    { "{\"model_type\": \"gemma\"}", "model_type gemma is not supported", MB_E_UNSUPPORTED },
    { "{\"architectures\": [], \"model_type\": \"llama\"}", "hidden_size: missing",
      MB_E_FORMAT },
    { "{\"architectures\": [\"LlamaForCausalLM\"], \"hidden_size\": -1}", "hidden_size: -1",
      MB_E_FORMAT },
    { "{\"architectures\": [\"LlamaForCausalLM\"], \"hidden_size\": 1e3}",
      "hidden_size: not an integer", MB_E_FORMAT },
    { "{\"architectures\": [\"LlamaForCausalLM\"], \"hidden_size\": 99999999999999999999}",
      "hidden_size: not an integer", MB_E_FORMAT },
    { "{\"architectures\": [\"LlamaForCausalLM\"], \"hidden_size\": 131073}",
      "hidden_size: 131073 is outside", MB_E_FORMAT },
    { "{" PLAIN ", \"num_key_value_heads\": 3}",
      "num_key_value_heads: 3 does not divide num_attention_heads 4", MB_E_FORMAT },
    { "{" PLAIN ", \"num_key_value_heads\": 0}", "num_key_value_heads: 0", MB_E_FORMAT },
    { "{" PLAIN ", \"head_dim\": 15}", "head_dim: 15 is odd", MB_E_FORMAT },
    { "{" PLAIN ", \"rms_norm_eps\": 0}", "rms_norm_eps: 0", MB_E_FORMAT },
    { "{" PLAIN ", \"rope_theta\": 0.5}", "rope_theta: 0.5", MB_E_FORMAT },
    { "{" PLAIN ", \"tie_word_embeddings\": 1}", "tie_word_embeddings: neither", MB_E_FORMAT },
    { "{" PLAIN ", \"hidden_act\": \"gelu\"}", "hidden_act: gelu is not supported",
      MB_E_UNSUPPORTED },
    { "{" PLAIN ", \"attention_bias\": true}", "attention_bias: true is not supported",
      MB_E_UNSUPPORTED },
    { "{" PLAIN ", \"mlp_bias\": true}", "mlp_bias: true is not supported", MB_E_UNSUPPORTED },
    { "{" PLAIN ", \"quantization_config\": {\"bits\": 4}}",
      "quantization_config is not supported", MB_E_UNSUPPORTED },
    { "{" PLAIN ", \"num_experts\": 8}", "num_experts is not supported", MB_E_UNSUPPORTED },
    { "{" PLAIN ", \"partial_rotary_factor\": 0.5}", "partial_rotary_factor: 0.5",
      MB_E_UNSUPPORTED },
    { "{" PLAIN ", \"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4}}",
      "rope_scaling: rope_type: yarn is not supported; supported: default, linear, llama3",
      MB_E_UNSUPPORTED },
    { "{" PLAIN ", \"rope_scaling\": {\"type\": \"linear\"}}", "rope_scaling: factor: missing",
      MB_E_FORMAT },
    { "{" PLAIN ", \"rope_scaling\": []}", "rope_scaling: not an object", MB_E_FORMAT },
    { "{" PLAIN ", \"rope_scaling\": {}}", "rope_scaling: rope_type: missing", MB_E_FORMAT },
    { "{" PLAIN ", \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8, "
      "\"low_freq_factor\": 4, \"high_freq_factor\": 4, "
      "\"original_max_position_embeddings\": 8192}}",
      "high_freq_factor: 4 is not above", MB_E_FORMAT },
};

START_TEST(what_is_wrong_is_named)
{
    struct mb_error err = { 0 };
    struct mb_hf_config c;
    ck_assert_int_eq(parse(bad[_i].text, &c, &err), bad[_i].st);
    ck_assert_int_eq(err.code, bad[_i].st);
    ck_assert_msg(strstr(err.what, bad[_i].says), "'%s' is not in '%s'", bad[_i].says,
                  err.what);
    ck_assert_ptr_nonnull(strstr(err.what, "config.json: "));
}
END_TEST

START_TEST(deep_json_is_refused_before_it_is_parsed)
{
    static char text[200002];
    memset(text, '[', 200000);
    memcpy(text, "{\"a\":", 5);
    struct mb_error err = { 0 };
    struct mb_hf_config c;
    ck_assert_int_eq(parse(text, &c, &err), MB_E_LIMIT);
    ck_assert_ptr_nonnull(strstr(err.what, "nested deeper"));
}
END_TEST

START_TEST(a_mistral_without_the_field_has_its_window)
{
    struct mb_error err = { 0 };
    struct mb_hf_config c;
    static const struct {
        const char *more;
        uint32_t window;
    } rows[] = { { "", 4096 },
                 { ", \"sliding_window\": null", 0 },
                 { ", \"sliding_window\": 8", 8 } };
    for (size_t i = 0; i < 3; i++) {
        char text[512];
        (void) snprintf(text, sizeof text,
                        "{\"model_type\": \"mistral\", \"hidden_size\": 64, "
                        "\"num_hidden_layers\": 2, \"intermediate_size\": 128, "
                        "\"vocab_size\": 256, \"max_position_embeddings\": 8192, "
                        "\"num_attention_heads\": 4%s}",
                        rows[i].more);
        mb_assert_ok(parse(text, &c, &err), &err);
        ck_assert_uint_eq(c.shape.window, rows[i].window);
        ck_assert_str_eq(c.architecture, "MistralForCausalLM");
    }
}
END_TEST

/* Against numbers of an independent program (numpy, float64) for Llama 3.1's parameters. */
START_TEST(rope_frequencies_follow_llama3)
{
    struct mb_rope_params p = { 5e5, 8, 1, 4, 8192, 0 };
    double f[64];
    mb_rope_frequencies(&p, 128, f);
    ck_assert(f[0] == 1);
    ck_assert(fabs(f[20] / 0.016560440080994443 - 1) < 1e-12);  /* short waves: as they were */
    ck_assert(fabs(f[30] / 0.0013718935677611381 - 1) < 1e-12); /* between */
    ck_assert(fabs(f[63] / 3.068925988914511e-07 - 1) < 1e-12); /* long waves: an eighth */
    for (int i = 1; i < 64; i++) {
        ck_assert(f[i] < f[i - 1]);
    }
    struct mb_rope_params linear = { .theta = 1e4, .linear_factor = 4 };
    mb_rope_frequencies(&linear, 8, f);
    ck_assert(fabs(f[2] - 0.01 / 4) < 1e-15);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("hf_config");
    TCase *t = tcase_create("hf_config");
    tcase_add_loop_test(t, real_models, 0, sizeof reals / sizeof reals[0]);
    tcase_add_test(t, absent_fields_have_the_defaults_of_transformers);
    tcase_add_loop_test(t, rope_in_its_old_and_new_form, 0, sizeof ropes / sizeof ropes[0]);
    tcase_add_loop_test(t, what_is_wrong_is_named, 0, sizeof bad / sizeof bad[0]);
    tcase_add_test(t, deep_json_is_refused_before_it_is_parsed);
    tcase_add_test(t, a_mistral_without_the_field_has_its_window);
    tcase_add_test(t, rope_frequencies_follow_llama3);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
