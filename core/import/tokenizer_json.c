#include "core/import/tokenizer_json.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "core/import/json.h"
#include "core/import/tokenizer_stages.h"

enum file { TOKENIZER, TOKENIZER_CONFIG, GENERATION_CONFIG, CONFIG, FILES };

static const char *const file_names[FILES] = {
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
    "config.json",
};

/* "merges[17]: why", for lists. */
static enum mb_status wrong(struct mb_error *err, const char *list, size_t i, const char *why)
{
    return mb_fail(err, MB_E_FORMAT, 0, "%s[%zu]: %s", list, i, why);
}

static bool is_token(const struct mb_bpe_spec *s, json_int_t id)
{
    return id >= 0 && id < s->n_tokens && s->tokens[id].flags & MB_TOKEN_PRESENT;
}

static enum mb_status read_vocab(const json_t *vocab, struct mb_bpe_spec *s,
                                 struct mb_error *err)
{
    if (!json_is_object(vocab)) {
        return mb_fail(err, MB_E_FORMAT, 0, "vocab: not an object");
    }
    const char *text;
    json_t *value;
    json_object_foreach ((json_t *) vocab, text, value) {
        json_int_t id = json_is_integer(value) ? json_integer_value(value) : -1;
        if (id < 0 || id >= MB_BPE_TOKENS_MAX) {
            return mb_fail(err, MB_E_FORMAT, 0, "vocab: \"%.40s\": not an id below %u", text,
                           MB_BPE_TOKENS_MAX);
        }
        if (is_token(s, id)) {
            return mb_fail(err, MB_E_FORMAT, 0, "vocab: \"%.40s\": id %lld is given twice",
                           text, (long long) id);
        }
        size_t n = strlen(text);
        if (n > MB_BPE_TOKEN_BYTES_MAX) {
            return mb_fail(err, MB_E_FORMAT, 0, "vocab: \"%.40s...\": longer than %u bytes",
                           text, MB_BPE_TOKEN_BYTES_MAX);
        }
        enum mb_status st = mb_bpe_spec_token(s, (uint32_t) id, text, n, 0, err);
        if (st != MB_OK) {
            return st;
        }
    }
    return MB_OK;
}

static bool id_of(const json_t *vocab, const char *text, uint32_t *ret)
{
    const json_t *id = json_object_get(vocab, text);
    *ret = id ? (uint32_t) json_integer_value(id) : 0; /* read_vocab has checked it */
    return id != NULL;
}

/* Room for two tokens of a merge with a terminator each. */
struct halves {
    char text[2 * MB_BPE_TOKEN_BYTES_MAX + 2];
};

/* The merge of left and right, if both and what they make are tokens. */
static bool merge_of(const json_t *vocab, const char *left, size_t n_left, const char *right,
                     size_t n_right, struct halves *h, struct mb_bpe_merge *ret)
{
    if (n_left == 0 || n_right == 0 || n_left > MB_BPE_TOKEN_BYTES_MAX ||
        n_right > MB_BPE_TOKEN_BYTES_MAX) {
        return false;
    }
    memcpy(h->text, left, n_left);
    h->text[n_left] = '\0';
    if (!id_of(vocab, h->text, &ret->left)) {
        return false;
    }
    memcpy(h->text + n_left, right, n_right);
    h->text[n_left + n_right] = '\0';
    return id_of(vocab, h->text + n_left, &ret->right) && id_of(vocab, h->text, &ret->result);
}

/* A merge is "a b", or ["a", "b"]. The first form may be of tokens with spaces in them: it is
 * then cut at the first space where it makes sense. */
static bool read_merge(const json_t *merge, const json_t *vocab, struct halves *h,
                       struct mb_bpe_merge *ret)
{
    if (json_is_array(merge) && json_array_size(merge) == 2) {
        const char *left = json_string_value(json_array_get(merge, 0));
        const char *right = json_string_value(json_array_get(merge, 1));
        return left && right &&
               merge_of(vocab, left, strlen(left), right, strlen(right), h, ret);
    }
    const char *text = json_string_value(merge);
    if (!text || strlen(text) > sizeof h->text) {
        return false;
    }
    for (const char *space = strchr(text, ' '); space; space = strchr(space + 1, ' ')) {
        if (merge_of(vocab, text, (size_t) (space - text), space + 1, strlen(space + 1), h,
                     ret)) {
            return true;
        }
    }
    return false;
}

static enum mb_status read_merges(const json_t *merges, const json_t *vocab,
                                  struct mb_bpe_spec *s, struct mb_error *err)
{
    struct halves h;
    if (!json_is_array(merges)) {
        return mb_fail(err, MB_E_FORMAT, 0, "merges: not a list");
    }
    for (size_t i = 0; i < json_array_size(merges); i++) {
        struct mb_bpe_merge m;
        if (!read_merge(json_array_get(merges, i), vocab, &h, &m)) {
            return mb_fail(err, MB_E_FORMAT, 0,
                           "merges[%zu]: not two tokens of vocab that make a third", i);
        }
        enum mb_status st = mb_bpe_spec_merge(s, m, err);
        if (st != MB_OK) {
            return st;
        }
    }
    return MB_OK;
}

/* Fields that change what merging does, and that no model of these families uses. */
static enum mb_status refuse_variants(const json_t *model, struct mb_error *err)
{
    static const char *const fields[] = { "continuing_subword_prefix", "end_of_word_suffix" };
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        const char *text = "";
        enum mb_status st = mb_json_text(model, fields[i], MB_JSON_OPTIONAL, &text, err);
        if (st != MB_OK) {
            return st;
        }
        if (*text) {
            return mb_fail(err, MB_E_UNSUPPORTED, 0, "%s is not supported; supported: none",
                           fields[i]);
        }
    }
    double dropout = 0;
    enum mb_status st = mb_json_f64(model, "dropout", MB_JSON_OPTIONAL, 0, 1, &dropout, err);
    if (st == MB_OK && dropout > 0) {
        st = mb_fail(err, MB_E_UNSUPPORTED, 0, "dropout is not supported; supported: none");
    }
    return st;
}

static enum mb_status read_model_flags(const json_t *model, struct mb_bpe_spec *s,
                                       struct mb_error *err)
{
    static const struct {
        const char *name;
        enum mb_bpe_flags flag;
    } fields[] = {
        { "byte_fallback", MB_BPE_BYTE_FALLBACK },
        { "fuse_unk", MB_BPE_FUSE_UNK },
        { "ignore_merges", MB_BPE_IGNORE_MERGES },
    };
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        int on = 0;
        enum mb_status st = mb_json_bool(model, fields[i].name, MB_JSON_OPTIONAL, &on, err);
        if (st != MB_OK) {
            return st;
        }
        s->flags |= on ? (uint32_t) fields[i].flag : 0;
    }
    return MB_OK;
}

static enum mb_status read_model(const json_t *model, struct mb_bpe_spec *s,
                                 struct mb_error *err)
{
    if (!json_is_object(model)) {
        return mb_fail(err, MB_E_FORMAT, 0, "not an object");
    }
    /* Files older than the field are of the one kind that has merges. */
    const char *type = json_object_get(model, "merges") ? "BPE" : "without merges";
    enum mb_status st = mb_json_text(model, "type", MB_JSON_OPTIONAL, &type, err);
    if (st == MB_OK && strcmp(type, "BPE") != 0) {
        st = mb_fail(err, MB_E_UNSUPPORTED, 0,
                     "tokenizer model %.60s is not supported; supported: BPE", type);
    }
    if (st == MB_OK) {
        st = refuse_variants(model, err);
    }
    if (st == MB_OK) {
        st = read_model_flags(model, s, err);
    }
    const json_t *vocab = json_object_get(model, "vocab");
    if (st == MB_OK) {
        st = read_vocab(vocab, s, err);
    }
    return st == MB_OK ? read_merges(json_object_get(model, "merges"), vocab, s, err) : st;
}

static enum mb_status read_added_flags(const json_t *token, uint32_t *ret, struct mb_error *err)
{
    static const struct {
        const char *name;
        uint32_t flag;
    } fields[] = {
        { "special", MB_TOKEN_SPECIAL },         { "normalized", MB_TOKEN_NORMALIZED },
        { "lstrip", MB_TOKEN_LSTRIP },           { "rstrip", MB_TOKEN_RSTRIP },
        { "single_word", MB_TOKEN_SINGLE_WORD },
    };
    *ret = MB_TOKEN_ADDED;
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        int on = 0;
        enum mb_status st = mb_json_bool(token, fields[i].name, MB_JSON_OPTIONAL, &on, err);
        if (st != MB_OK) {
            return st;
        }
        *ret |= on ? fields[i].flag : 0;
    }
    return MB_OK;
}

static enum mb_status read_added_token(const json_t *token, const json_t *vocab,
                                       struct mb_bpe_spec *s, struct mb_error *err)
{
    uint32_t id = 0, flags = 0, known = 0;
    const char *text = NULL;
    enum mb_status st =
        mb_json_u32(token, "id", MB_JSON_REQUIRED, 0, MB_BPE_TOKENS_MAX - 1, &id, err);
    if (st == MB_OK) {
        st = mb_json_text(token, "content", MB_JSON_REQUIRED, &text, err);
    }
    if (st == MB_OK) {
        st = read_added_flags(token, &flags, err);
    }
    if (st != MB_OK) {
        return st;
    }
    size_t n = strlen(text);
    if (n == 0 || n > MB_BPE_ADDED_BYTES_MAX) {
        return mb_fail(err, MB_E_FORMAT, 0, "content: not of 1..%u bytes",
                       MB_BPE_ADDED_BYTES_MAX);
    }
    bool in_vocab = id_of(vocab, text, &known);
    if (in_vocab && known != id) {
        return mb_fail(err, MB_E_FORMAT, 0, "id: %u, but vocab has \"%.40s\" as %u", id, text,
                       known);
    }
    if (is_token(s, id) && (!in_vocab || s->tokens[id].flags & MB_TOKEN_ADDED)) {
        return mb_fail(err, MB_E_FORMAT, 0, "id: %u is given twice", id);
    }
    return mb_bpe_spec_token(s, id, text, n, flags, err);
}

static enum mb_status read_added(const json_t *root, struct mb_bpe_spec *s,
                                 struct mb_error *err)
{
    const json_t *list = json_object_get(root, "added_tokens");
    const json_t *vocab = json_object_get(json_object_get(root, "model"), "vocab");
    if (list && !json_is_null(list) && !json_is_array(list)) {
        return mb_fail(err, MB_E_FORMAT, 0, "added_tokens: not a list");
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        char where[40];
        (void) snprintf(where, sizeof where, "added_tokens[%zu]", i);
        enum mb_status st = read_added_token(json_array_get(list, i), vocab, s, err);
        if (st != MB_OK) {
            return mb_tokenizer_inside(where, st, err);
        }
    }
    return MB_OK;
}

/* A token by its text, among the added ones first: those may not be in vocab. */
static enum mb_status find_token(const json_t *root, const char *text, uint32_t *ret,
                                 struct mb_error *err)
{
    const json_t *list = json_object_get(root, "added_tokens");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *token = json_array_get(list, i);
        if (strcmp(json_string_value(json_object_get(token, "content")), text) == 0) {
            *ret = (uint32_t) json_integer_value(json_object_get(token, "id"));
            return MB_OK;
        }
    }
    const json_t *vocab = json_object_get(json_object_get(root, "model"), "vocab");
    if (id_of(vocab, text, ret)) {
        return MB_OK;
    }
    return mb_fail(err, MB_E_FORMAT, 0, "\"%.40s\" is no token", text);
}

static enum mb_status read_unk(const json_t *root, struct mb_bpe_spec *s, struct mb_error *err)
{
    const char *text = NULL;
    enum mb_status st =
        mb_json_text(json_object_get(root, "model"), "unk_token", MB_JSON_OPTIONAL, &text, err);
    if (st == MB_OK && text) {
        st = mb_tokenizer_inside("unk_token", find_token(root, text, &s->unk, err), err);
    }
    return st;
}

/* {"SpecialToken": {"id": "<s>"}}, whose ids stand in special_tokens: added to the list. */
static enum mb_status read_template_token(const json_t *processor, const json_t *special,
                                          const struct mb_bpe_spec *s, struct mb_bpe_ids *ret,
                                          struct mb_error *err)
{
    const char *name = NULL;
    enum mb_status st = mb_json_text(special, "id", MB_JSON_REQUIRED, &name, err);
    if (st != MB_OK) {
        return st;
    }
    const json_t *entry = json_object_get(json_object_get(processor, "special_tokens"), name);
    const json_t *ids = json_object_get(entry, "ids");
    if (!json_is_array(ids)) {
        return mb_fail(err, MB_E_FORMAT, 0, "special_tokens: \"%.40s\": ids: not a list", name);
    }
    for (size_t i = 0; i < json_array_size(ids) && st == MB_OK; i++) {
        const json_t *id = json_array_get(ids, i);
        if (!json_is_integer(id) || !is_token(s, json_integer_value(id))) {
            return mb_fail(err, MB_E_FORMAT, 0, "special_tokens: \"%.40s\": ids[%zu]: no token",
                           name, i);
        }
        st = mb_bpe_ids_add(ret, (uint32_t) json_integer_value(id), err);
    }
    return st;
}

static enum mb_status read_template(const json_t *processor, struct mb_bpe_spec *s,
                                    struct mb_error *err)
{
    const json_t *single = json_object_get(processor, "single");
    if (!json_is_array(single)) {
        return mb_fail(err, MB_E_FORMAT, 0, "single: not a list");
    }
    bool seen_text = false;
    for (size_t i = 0; i < json_array_size(single); i++) {
        const json_t *item = json_array_get(single, i);
        const json_t *special = json_object_get(item, "SpecialToken");
        if (!special && (seen_text || !json_object_get(item, "Sequence"))) {
            return wrong(err, "single", i, "neither a SpecialToken nor the one Sequence");
        }
        if (!special) {
            seen_text = true;
            continue;
        }
        enum mb_status st = read_template_token(processor, special, s,
                                                seen_text ? &s->suffix : &s->prefix, err);
        if (st != MB_OK) {
            return st;
        }
    }
    return seen_text ? MB_OK : mb_fail(err, MB_E_FORMAT, 0, "single: no Sequence");
}

/* *ret_found: a template says what stands around a text. */
static enum mb_status read_processor(const json_t *processor, struct mb_bpe_spec *s,
                                     bool *ret_found, struct mb_error *err)
{
    const char *type = NULL;
    enum mb_status st = mb_json_text(processor, "type", MB_JSON_REQUIRED, &type, err);
    if (st != MB_OK) {
        return st;
    }
    if (strcmp(type, "ByteLevel") == 0) {
        return MB_OK; /* about offsets only */
    }
    if (strcmp(type, "TemplateProcessing") == 0 && !*ret_found) {
        *ret_found = true;
        return mb_tokenizer_inside(type, read_template(processor, s, err), err);
    }
    if (strcmp(type, "Sequence") != 0) {
        return mb_fail(err, MB_E_UNSUPPORTED, 0,
                       "post_processor %.60s is not supported; supported: Sequence, ByteLevel, "
                       "one TemplateProcessing",
                       type);
    }
    const json_t *list = json_object_get(processor, "processors");
    if (!json_is_array(list)) {
        return mb_fail(err, MB_E_FORMAT, 0, "processors: not a list");
    }
    for (size_t i = 0; i < json_array_size(list) && st == MB_OK; i++) {
        st = read_processor(json_array_get(list, i), s, ret_found, err);
    }
    return st;
}

/* A token of tokenizer_config.json: "<s>", {"content": "<s>"}, or null. *ret is MB_NO_ID for
 * none. */
static enum mb_status read_named(json_t *const files[FILES], const char *field, uint32_t *ret,
                                 struct mb_error *err)
{
    const json_t *token = json_object_get(files[TOKENIZER_CONFIG], field);
    *ret = MB_NO_ID;
    if (!token || json_is_null(token)) {
        return MB_OK;
    }
    const json_t *content = json_is_object(token) ? json_object_get(token, "content") : token;
    if (!json_is_string(content)) {
        return mb_fail(err, MB_E_FORMAT, 0, "%s: %s: not a token", file_names[TOKENIZER_CONFIG],
                       field);
    }
    char where[80];
    (void) snprintf(where, sizeof where, "%s: %s", file_names[TOKENIZER_CONFIG], field);
    enum mb_status st = find_token(files[TOKENIZER], json_string_value(content), ret, err);
    return mb_tokenizer_inside(where, st, err);
}

/* Adds field's token to the list when tokenizer_config.json says so by flag. */
static enum mb_status add_by_flag(json_t *const files[FILES], const char *flag,
                                  const char *field, struct mb_bpe_ids *ret,
                                  struct mb_error *err)
{
    int on = 0;
    uint32_t id = MB_NO_ID;
    enum mb_status st = mb_json_bool(files[TOKENIZER_CONFIG], flag, MB_JSON_OPTIONAL, &on, err);
    if (st == MB_OK && on) {
        st = read_named(files, field, &id, err);
    }
    return st == MB_OK && id != MB_NO_ID ? mb_bpe_ids_add(ret, id, err) : st;
}

static enum mb_status add_id(const struct mb_bpe_spec *s, const json_t *id, const char *where,
                             struct mb_bpe_ids *ret, struct mb_error *err)
{
    if (!json_is_integer(id) || !is_token(s, json_integer_value(id))) {
        return mb_fail(err, MB_E_FORMAT, 0, "%s: no token of tokenizer.json", where);
    }
    if (mb_bpe_ids_has(ret, (uint32_t) json_integer_value(id))) {
        return MB_OK;
    }
    return mb_bpe_ids_add(ret, (uint32_t) json_integer_value(id), err);
}

/* A number or a list of numbers, each once. */
static enum mb_status add_ids(const struct mb_bpe_spec *s, json_t *const files[FILES],
                              enum file file, const char *field, struct mb_bpe_ids *ret,
                              struct mb_error *err)
{
    const json_t *value = json_object_get(files[file], field);
    if (!value || json_is_null(value)) {
        return MB_OK;
    }
    char where[80];
    (void) snprintf(where, sizeof where, "%s: %s", file_names[file], field);
    if (!json_is_array(value)) {
        return add_id(s, value, where, ret, err);
    }
    enum mb_status st = MB_OK;
    for (size_t i = 0; i < json_array_size(value) && st == MB_OK; i++) {
        st = add_id(s, json_array_get(value, i), where, ret, err);
    }
    return st;
}

static enum mb_status read_bos(json_t *const files[FILES], struct mb_bpe_spec *s,
                               struct mb_error *err)
{
    if (files[TOKENIZER_CONFIG]) { /* its null means that there is none */
        return read_named(files, "bos_token", &s->bos, err);
    }
    struct mb_bpe_ids ids = { 0 };
    enum mb_status st = add_ids(s, files, GENERATION_CONFIG, "bos_token_id", &ids, err);
    if (st == MB_OK) {
        st = add_ids(s, files, CONFIG, "bos_token_id", &ids, err);
    }
    if (st == MB_OK && ids.n > 0) {
        s->bos = ids.at[0];
    }
    return st;
}

static enum mb_status read_eos(json_t *const files[FILES], struct mb_bpe_spec *s,
                               struct mb_error *err)
{
    uint32_t named = MB_NO_ID;
    enum mb_status st = add_ids(s, files, GENERATION_CONFIG, "eos_token_id", &s->eos, err);
    if (st == MB_OK) {
        st = add_ids(s, files, CONFIG, "eos_token_id", &s->eos, err);
    }
    if (st == MB_OK) {
        st = read_named(files, "eos_token", &named, err);
    }
    bool is_new = st == MB_OK && named != MB_NO_ID && !mb_bpe_ids_has(&s->eos, named);
    return is_new ? mb_bpe_ids_add(&s->eos, named, err) : st;
}

/* What stands around a text, and what ends it. */
static enum mb_status read_ends(json_t *const files[FILES], struct mb_bpe_spec *s,
                                struct mb_error *err)
{
    enum mb_status st = MB_OK;
    bool template = false;
    const json_t *processor = json_object_get(files[TOKENIZER], "post_processor");
    if (processor && !json_is_null(processor)) {
        st = read_processor(processor, s, &template, err);
        st = mb_tokenizer_inside("tokenizer.json: post_processor", st, err);
    }
    if (st == MB_OK && !template) {
        st = add_by_flag(files, "add_bos_token", "bos_token", &s->prefix, err);
    }
    if (st == MB_OK && !template) {
        st = add_by_flag(files, "add_eos_token", "eos_token", &s->suffix, err);
    }
    if (st == MB_OK) {
        st = read_bos(files, s, err);
    }
    return st == MB_OK ? read_eos(files, s, err) : st;
}

static enum mb_status read_tokenizer(const json_t *root, struct mb_bpe_spec *s,
                                     struct mb_error *err)
{
    enum mb_status st = read_model(json_object_get(root, "model"), s, err);
    if (st != MB_OK) {
        return mb_tokenizer_inside("model", st, err);
    }
    st = read_added(root, s, err);
    if (st == MB_OK) {
        st = mb_tokenizer_inside("model", read_unk(root, s, err), err);
    }
    return st == MB_OK ? mb_tokenizer_stages(root, s, err) : st;
}

static enum mb_status build(json_t *const files[FILES], struct mb_bpe_spec **ret,
                            struct mb_error *err)
{
    struct mb_bpe_spec *s = mb_bpe_spec_new();
    if (!s) {
        return mb_fail(err, MB_E_NOMEM, 0, "tokenizer.json: no memory");
    }
    enum mb_status st = read_tokenizer(files[TOKENIZER], s, err);
    st = mb_tokenizer_inside(file_names[TOKENIZER], st, err);
    if (st == MB_OK) {
        st = read_ends(files, s, err);
    }
    if (st == MB_OK) {
        st = mb_tokenizer_inside(file_names[TOKENIZER], mb_bpe_spec_check(s, err), err);
    }
    if (st != MB_OK) {
        mb_bpe_spec_free(s);
        return st;
    }
    *ret = s;
    return MB_OK;
}

static void drop(json_t *files[FILES])
{
    for (size_t i = 0; i < FILES; i++) {
        json_decref(files[i]);
    }
}

enum mb_status mb_tokenizer_json_read(const char *tokenizer_json_path,
                                      const char *tokenizer_config_path_or_NULL,
                                      const char *generation_config_path_or_NULL,
                                      const char *config_json_path_or_NULL,
                                      struct mb_bpe_spec **ret, struct mb_error *err)
{
    const char *paths[FILES] = { tokenizer_json_path, tokenizer_config_path_or_NULL,
                                 generation_config_path_or_NULL, config_json_path_or_NULL };
    json_t *files[FILES] = { NULL };
    enum mb_status st = MB_OK;
    for (size_t i = 0; i < FILES && st == MB_OK; i++) {
        st = paths[i] ? mb_json_load(paths[i], &files[i], err) : MB_OK;
    }
    if (st == MB_OK) {
        st = build(files, ret, err);
    }
    drop(files);
    return st;
}

enum mb_status mb_tokenizer_json_parse(const struct mb_tokenizer_files *f,
                                       struct mb_bpe_spec **ret, struct mb_error *err)
{
    const uint8_t *at[FILES] = { f->tokenizer, f->tokenizer_config, f->generation_config,
                                 f->config };
    const size_t n[FILES] = { f->n_tokenizer, f->n_tokenizer_config, f->n_generation_config,
                              f->n_config };
    json_t *files[FILES] = { NULL };
    enum mb_status st = MB_OK;
    for (size_t i = 0; i < FILES && st == MB_OK; i++) {
        st = at[i] ? mb_json_parse(at[i], n[i], file_names[i], &files[i], err) : MB_OK;
    }
    if (st == MB_OK) {
        st = build(files, ret, err);
    }
    drop(files);
    return st;
}
