#include "proto/json/tokenize_json.h"

#include <stdlib.h>

#include "proto/json/input_json.h"
#include "proto/json/text_json.h"

void mb_tokenize_fini(struct mb_tokenize *t)
{
    free(t->model);
    free(t->prompt);
    *t = (struct mb_tokenize) { 0 };
}

void mb_detokenize_fini(struct mb_detokenize *d)
{
    free(d->model);
    free(d->tokens);
    *d = (struct mb_detokenize) { 0 };
}

enum mb_status mb_tokenize_decode(const char *text, size_t n, struct mb_tokenize *ret,
                                  struct mb_wire_error *err)
{
    json_t *root = mb_json_load_body(text, n, err);
    if (!root) {
        return MB_E_INVALID;
    }
    struct mb_tokenize t = { .add_special_tokens = true };
    const json_t *prompt = json_object_get(root, "prompt");
    bool ok = mb_input_model(root, &t.model, err) &&
              mb_input_bool(root, "add_special_tokens", &t.add_special_tokens, err) &&
              mb_input_bool(root, "return_token_strs", &t.return_token_strs, err) &&
              mb_input_text(prompt, "prompt", &t.prompt, &t.n_prompt, err);
    json_decref(root);
    if (!ok) {
        mb_tokenize_fini(&t);
        return err->http == 503 ? MB_E_NOMEM : MB_E_INVALID;
    }
    *ret = t;
    return MB_OK;
}

enum mb_status mb_detokenize_decode(const char *text, size_t n, struct mb_detokenize *ret,
                                    struct mb_wire_error *err)
{
    json_t *root = mb_json_load_body(text, n, err);
    if (!root) {
        return MB_E_INVALID;
    }
    struct mb_detokenize d = { 0 };
    const json_t *tokens = json_object_get(root, "tokens");
    bool none = json_is_array(tokens) && json_array_size(tokens) == 0; /* the empty text */
    bool ok = mb_input_model(root, &d.model, err) &&
              (none || mb_input_ids(tokens, "tokens", &d.tokens, &d.n, err));
    json_decref(root);
    if (!ok) {
        mb_detokenize_fini(&d);
        return err->http == 503 ? MB_E_NOMEM : MB_E_INVALID;
    }
    *ret = d;
    return MB_OK;
}

static char *dump(json_t *root)
{
    char *text = root ? json_dumps(root, MB_JSON_DUMP) : NULL;
    json_decref(root);
    return text;
}

static json_t *texts_json(const struct mb_tokenize_reply *r)
{
    json_t *texts = r->text_of ? json_array() : json_null();
    for (size_t i = 0; r->text_of && i < r->n; i++) {
        size_t n;
        const char *text = r->text_of(r->arg, i, &n);
        if (json_array_append_new(texts, mb_json_string_of(text, n)) != 0) {
            json_decref(texts);
            return NULL;
        }
    }
    return texts;
}

char *mb_tokenize_encode(const struct mb_tokenize_reply *r)
{
    json_t *tokens = json_array();
    for (size_t i = 0; i < r->n; i++) {
        if (json_array_append_new(tokens, json_integer(r->tokens[i])) != 0) {
            json_decref(tokens);
            return NULL;
        }
    }
    return dump(json_pack("{s:I,s:I,s:o,s:o}", "count", (json_int_t) r->n, "max_model_len",
                          (json_int_t) r->context_max, "tokens", tokens, "token_strs",
                          texts_json(r)));
}

char *mb_detokenize_encode(const char *prompt, size_t n)
{
    return dump(json_pack("{s:o}", "prompt", mb_json_string_of(prompt, n)));
}
