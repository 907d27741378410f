/* Goal:   a Hugging Face folder opens with every tensor the model needs, or says what is wrong.
 * Method: the real folders; and a folder written here, then spoiled in one place. */
#include <string.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "core/base/file.h"
#include "core/import/hf.h"
#include "core/tokenizer/tokenizer.h"
#include "tests/check_main.h"

static struct mb_hf *open_real(const char *name, struct mb_error *err)
{
    char probe[128], dir[4096];
    (void) snprintf(probe, sizeof probe, "models/%s/config.json", name);
    const char *path = mb_data_path(probe);
    if (!path) {
        return NULL;
    }
    (void) snprintf(dir, sizeof dir, "%.*s", (int) (strlen(path) - strlen("/config.json")),
                    path);
    struct mb_hf *h = NULL;
    mb_assert_ok(mb_hf_open(dir, &h, err), err);
    return h;
}

START_TEST(a_real_folder_opens)
{
    static const struct {
        const char *name, *architecture;
        enum mb_linear_kind kind;
        uint32_t width, ffn_width, n_vocab;
        bool tied;
    } rows[] = {
        { "stories260K", "LlamaForCausalLM", MB_LINEAR_F32, 64, 172, 512, true },
        { "stories3M", "LlamaForCausalLM", MB_LINEAR_F32, 192, 512, 4096, true },
        { "tiny_llama3", "LlamaForCausalLM", MB_LINEAR_BF16, 64, 128, 256, false },
        { "tiny_mistral", "MistralForCausalLM", MB_LINEAR_BF16, 64, 128, 256, false },
    };
    struct mb_error err = { 0 };
    struct mb_hf *h = open_real(rows[_i].name, &err);
    if (!h) {
        mb_skip("no models/%s", rows[_i].name);
    }
    ck_assert_str_eq(mb_hf_architecture(h), rows[_i].architecture);
    ck_assert_uint_eq(mb_hf_shape(h)->width, rows[_i].width);
    ck_assert(mb_hf_inv_freq(h)[0] == 1);
    const struct mb_hf_tensor *embed = mb_hf_tensor(h, "model.embed_tokens.weight");
    ck_assert_int_eq(embed->kind, rows[_i].kind);
    ck_assert_uint_eq(embed->n_rows, rows[_i].n_vocab);
    ck_assert_uint_eq(embed->n_cols, rows[_i].width);
    const struct mb_hf_tensor *down = mb_hf_tensor(h, "model.layers.1.mlp.down_proj.weight");
    ck_assert_uint_eq(down->n_cols, rows[_i].ffn_width);
    ck_assert_uint_eq(mb_hf_tensor(h, "model.norm.weight")->n_rows, 1);
    ck_assert_int_eq(!mb_hf_tensor(h, "lm_head.weight"), rows[_i].tied);
    ck_assert_ptr_null(mb_hf_tensor(h, "nothing"));
    mb_hf_free(h);
}
END_TEST

START_TEST(a_real_tokenizer_builds)
{
    struct mb_error err = { 0 };
    struct mb_bytes bytes = { 0 };
    struct mb_tokenizer *t;
    struct mb_hf *h = open_real("stories3M", &err);
    if (!h) {
        mb_skip("no models/stories3M");
    }
    mb_assert_ok(mb_hf_tokenizer(h, &bytes, &err), &err);
    mb_assert_ok(mb_tokenizer_from_bytes(bytes.at, bytes.len, &t, &err), &err);
    uint32_t bos;
    const uint32_t *eos;
    ck_assert_uint_eq(mb_tokenizer_n_vocab(t), 4096);
    ck_assert(mb_tokenizer_bos(t, &bos) && bos == 1);
    ck_assert(mb_tokenizer_eos(t, &eos) == 1 && eos[0] == 2);
    mb_tokenizer_free(t);
    mb_bytes_fini(&bytes);
    mb_hf_free(h);
}
END_TEST

/* --- a folder made here: one layer, width 4, 2 heads, feed-forward 6, vocabulary 5 --- */

static char dir[] = "/tmp/mbool-test-XXXXXX";

static void put_file(const char *name, const void *at, size_t n)
{
    char path[256];
    struct mb_error err = { 0 };
    struct mb_file_writer *w;
    (void) snprintf(path, sizeof path, "%s/%s", dir, name);
    mb_assert_ok(mb_file_writer_open(path, &w, &err), &err);
    mb_assert_ok(mb_file_writer_put(w, at, n, &err), &err);
    mb_assert_ok(mb_file_writer_commit(w, &err), &err);
}

static void put_text(const char *name, const char *text)
{
    put_file(name, text, strlen(text));
}

struct made {
    const char *name;
    uint32_t n_rows, n_cols; /* n_rows 0: a vector */
    const char *dtype;
};

static struct made made[16];
static size_t n_made;

static void reset_made(void)
{
    static const struct made all[] = {
        { "model.embed_tokens.weight", 5, 4, "F16" },
        { "model.norm.weight", 0, 4, "F32" },
        { "lm_head.weight", 5, 4, "F16" },
        { "model.layers.0.input_layernorm.weight", 0, 4, "F32" },
        { "model.layers.0.self_attn.q_proj.weight", 4, 4, "F16" },
        { "model.layers.0.self_attn.k_proj.weight", 2, 4, "F16" },
        { "model.layers.0.self_attn.v_proj.weight", 2, 4, "F16" },
        { "model.layers.0.self_attn.o_proj.weight", 4, 4, "BF16" },
        { "model.layers.0.post_attention_layernorm.weight", 0, 4, "F32" },
        { "model.layers.0.mlp.gate_proj.weight", 6, 4, "F16" },
        { "model.layers.0.mlp.up_proj.weight", 6, 4, "F16" },
        { "model.layers.0.mlp.down_proj.weight", 4, 6, "F16" },
    };
    memcpy(made, all, sizeof all);
    n_made = sizeof all / sizeof all[0];
}

static struct made *find_made(const char *name)
{
    for (size_t i = 0; i < n_made; i++) {
        if (strcmp(made[i].name, name) == 0) {
            return &made[i];
        }
    }
    return NULL;
}

static void put_model(bool tied)
{
    char text[512];
    (void) snprintf(text, sizeof text,
                    "{\"model_type\": \"llama\", \"hidden_size\": 4, \"num_hidden_layers\": 1, "
                    "\"intermediate_size\": 6, \"vocab_size\": 5, \"head_dim\": 2, "
                    "\"max_position_embeddings\": 16, \"num_attention_heads\": 2, "
                    "\"num_key_value_heads\": 1, \"tie_word_embeddings\": %s}",
                    tied ? "true" : "false");
    put_text("config.json", text);

    struct mb_bytes header = { 0 }, file = { 0 };
    size_t end = 0;
    for (size_t i = 0; i < n_made; i++) {
        const struct made *m = &made[i];
        size_t size = strcmp(m->dtype, "F32") == 0 ? 4 : strcmp(m->dtype, "I8") == 0 ? 1 : 2;
        size_t n = (m->n_rows ? m->n_rows : 1) * m->n_cols * size;
        mb_bytes_printf(&header, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[", i ? "," : "{",
                        m->name, m->dtype);
        if (m->n_rows) {
            mb_bytes_printf(&header, "%u,", m->n_rows);
        }
        mb_bytes_printf(&header, "%u],\"data_offsets\":[%zu,%zu]}", m->n_cols, end, end + n);
        end += n;
    }
    mb_bytes_put_text(&header, "}");
    mb_bytes_put_u64(&file, header.len);
    mb_bytes_put(&file, header.at, header.len);
    for (size_t i = 0; i < end; i++) {
        mb_bytes_put_u8(&file, 0);
    }
    put_file("model.safetensors", file.at, file.len);
    mb_bytes_fini(&header);
    mb_bytes_fini(&file);
}

static void setup(void)
{
    ck_assert_ptr_nonnull(mkdtemp(dir));
    reset_made();
}

static void teardown(void)
{
    static const char *const names[] = { "config.json", "model.safetensors",
                                         "tokenizer_config.json", "chat_template.jinja" };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[256];
        (void) snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        (void) unlink(path);
    }
    (void) rmdir(dir);
}

static struct mb_hf *open_made(void)
{
    struct mb_error err = { 0 };
    struct mb_hf *h = NULL;
    mb_assert_ok(mb_hf_open(dir, &h, &err), &err);
    return h;
}

static void assert_refused(enum mb_status want, const char *says)
{
    struct mb_error err = { 0 };
    struct mb_hf *h = NULL;
    ck_assert_int_eq(mb_hf_open(dir, &h, &err), want);
    ck_assert_msg(strstr(err.what, says), "'%s' is not in '%s'", says, err.what);
    ck_assert_ptr_null(h);
}

START_TEST(a_made_folder_opens)
{
    put_model(false);
    struct mb_hf *h = open_made();
    ck_assert_int_eq(mb_hf_tensor(h, "model.layers.0.self_attn.o_proj.weight")->kind,
                     MB_LINEAR_BF16);
    ck_assert_uint_eq(mb_hf_tensor(h, "model.layers.0.self_attn.v_proj.weight")->n_rows, 2);
    ck_assert_ptr_null(mb_hf_chat_template(h));
    struct mb_error err = { 0 };
    struct mb_bytes none = { 0 };
    ck_assert_int_eq(mb_hf_tokenizer(h, &none, &err), MB_E_NOTFOUND);
    mb_hf_free(h);
    mb_hf_free(NULL);
}
END_TEST

START_TEST(a_tied_head_may_be_stored_and_is_not_used)
{
    put_model(true);
    struct mb_hf *h = open_made();
    ck_assert_ptr_null(mb_hf_tensor(h, "lm_head.weight"));
    mb_hf_free(h);
}
END_TEST

START_TEST(a_missing_tensor_is_named)
{
    const char *name = made[_i].name;
    made[_i] = made[--n_made];
    put_model(false);
    char says[128];
    (void) snprintf(says, sizeof says, "tensor '%s' is missing", name);
    assert_refused(MB_E_FORMAT, says);
}
END_TEST

START_TEST(a_misshapen_tensor_is_named)
{
    made[_i].n_cols++;
    put_model(false);
    assert_refused(MB_E_FORMAT, made[_i].name);
}
END_TEST

START_TEST(a_vector_is_no_matrix)
{
    find_made("model.norm.weight")->n_rows = 1;
    put_model(false);
    assert_refused(MB_E_FORMAT, "tensor 'model.norm.weight': shape: 1 x 4 (2 dimensions)");
}
END_TEST

START_TEST(another_dtype_is_refused_by_name)
{
    find_made("lm_head.weight")->dtype = "I8";
    put_model(false);
    assert_refused(MB_E_UNSUPPORTED, "'lm_head.weight': dtype I8 is not supported; supported:");
}
END_TEST

START_TEST(a_tensor_that_would_be_dropped_is_refused)
{
    made[n_made++] = (struct made) { "model.layers.0.self_attn.q_proj.bias", 0, 4, "F16" };
    put_model(false);
    assert_refused(MB_E_UNSUPPORTED, "tensor 'model.layers.0.self_attn.q_proj.bias' is not");
    made[n_made - 1].name = "model.layers.0.self_attn.rotary_emb.inv_freq";
    put_model(false);
    mb_hf_free(open_made());
}
END_TEST

START_TEST(files_that_are_not_there_are_named)
{
    assert_refused(MB_E_NOTFOUND, "config.json");
    put_model(false);
    char path[256];
    (void) snprintf(path, sizeof path, "%s/model.safetensors", dir);
    (void) unlink(path);
    assert_refused(MB_E_NOTFOUND, "model.safetensors");
}
END_TEST

START_TEST(chat_templates)
{
    put_model(false);
    put_text("tokenizer_config.json", "{\"chat_template\": \"one\"}");
    struct mb_hf *h = open_made();
    ck_assert_str_eq(mb_hf_chat_template(h), "one");
    mb_hf_free(h);

    put_text("tokenizer_config.json",
             "{\"chat_template\": [{\"name\": \"tool_use\", \"template\": \"t\"}, "
             "{\"name\": \"default\", \"template\": \"two\"}]}");
    h = open_made();
    ck_assert_str_eq(mb_hf_chat_template(h), "two");
    mb_hf_free(h);

    put_text("chat_template.jinja", "three");
    h = open_made();
    ck_assert_str_eq(mb_hf_chat_template(h), "three");
    mb_hf_free(h);

    put_file("chat_template.jinja", "a\0b", 3);
    assert_refused(MB_E_FORMAT, "chat_template.jinja: chat_template: has a zero byte");
    char path[256];
    (void) snprintf(path, sizeof path, "%s/chat_template.jinja", dir);
    (void) unlink(path);
    put_text("tokenizer_config.json", "{\"chat_template\": 3}");
    assert_refused(MB_E_FORMAT, "chat_template: not a string");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("hf");
    TCase *real = tcase_create("real");
    tcase_add_loop_test(real, a_real_folder_opens, 0, 4);
    tcase_add_test(real, a_real_tokenizer_builds);
    suite_add_tcase(s, real);
    TCase *t = tcase_create("made");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, a_made_folder_opens);
    tcase_add_test(t, a_tied_head_may_be_stored_and_is_not_used);
    tcase_add_loop_test(t, a_missing_tensor_is_named, 0, 12);
    tcase_add_loop_test(t, a_misshapen_tensor_is_named, 0, 12);
    tcase_add_test(t, a_vector_is_no_matrix);
    tcase_add_test(t, another_dtype_is_refused_by_name);
    tcase_add_test(t, a_tensor_that_would_be_dropped_is_refused);
    tcase_add_test(t, files_that_are_not_there_are_named);
    tcase_add_test(t, chat_templates);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
