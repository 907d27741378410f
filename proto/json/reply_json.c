#include "proto/json/reply_json.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>

#include "proto/json/text_json.h"

enum { TOKEN_SHOWN_MAX = 256 }; /* bytes of a token's text that are shown, when not UTF-8 */

json_t *mb_json_token(const struct mb_wire_logprob *t)
{
    if (mb_json_is_utf8(t->text, t->n_text)) {
        return json_stringn_nocheck(t->text, t->n_text);
    }
    char shown[6 + 4 * TOKEN_SHOWN_MAX + 1] = "bytes:";
    size_t at = 6;
    for (size_t i = 0; i < t->n_text && i < TOKEN_SHOWN_MAX; i++) {
        at += (size_t) snprintf(shown + at, sizeof shown - at, "\\x%02x",
                                (unsigned) (unsigned char) t->text[i]);
    }
    return json_stringn_nocheck(shown, at);
}

json_t *mb_json_logprob(float x)
{
    return json_real(isfinite(x) ? (double) x : -9999.0);
}

static json_t *ids_json(const uint32_t *ids, size_t n)
{
    json_t *list = json_array();
    bool ok = list != NULL;
    for (size_t i = 0; i < n && ok; i++) {
        ok = json_array_append_new(list, json_integer(ids[i])) == 0;
    }
    if (!ok) {
        json_decref(list);
        return NULL;
    }
    return list;
}

json_t *mb_json_with_ids(json_t *choice, const struct mb_wire_choice *c)
{
    bool ok = choice != NULL;
    if (ok && c->has_ids) {
        ok = json_object_set_new(choice, "token_ids", ids_json(c->ids, c->n_ids)) == 0;
    }
    if (ok && c->prompt_ids) {
        ok = json_object_set_new(choice, "prompt_token_ids",
                                 ids_json(c->prompt_ids, c->n_prompt_ids)) == 0;
    }
    if (!ok) {
        json_decref(choice);
        return NULL;
    }
    return choice;
}

static json_t *choices_json(const struct mb_completion_reply *r,
                            json_t *(*choice)(const struct mb_wire_choice *c))
{
    json_t *list = json_array();
    bool ok = list != NULL;
    for (size_t i = 0; i < r->n_choices && ok; i++) {
        ok = json_array_append_new(list, choice(&r->choices[i])) == 0;
    }
    if (!ok) {
        json_decref(list);
        return NULL;
    }
    return list;
}

static json_t *usage_json(const struct mb_usage *u)
{
    return json_pack("{s:I,s:I,s:I,s:{s:I}}", "prompt_tokens", (json_int_t) u->prompt_tokens,
                     "completion_tokens", (json_int_t) u->completion_tokens, "total_tokens",
                     (json_int_t) u->prompt_tokens + u->completion_tokens,
                     "prompt_tokens_details", "cached_tokens", (json_int_t) u->cached_tokens);
}

char *mb_reply_encode(const struct mb_completion_reply *r, const char *object,
                      json_t *(*choice)(const struct mb_wire_choice *c))
{
    assert(!(r->usage_null && r->usage));
    json_t *root =
        json_pack("{s:s,s:s,s:I,s:s,s:s,s:o}", "id", r->id, "object", object, "created",
                  (json_int_t) r->created, "model", r->model, "system_fingerprint",
                  r->fingerprint, "choices", choices_json(r, choice));
    if (root && (r->usage || r->usage_null)) {
        json_t *usage = r->usage ? usage_json(r->usage) : json_null();
        if (json_object_set_new(root, "usage", usage) != 0) {
            json_decref(root);
            return NULL;
        }
    }
    char *text = root ? json_dumps(root, MB_JSON_DUMP) : NULL;
    json_decref(root);
    return text;
}
