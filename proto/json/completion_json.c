#include "proto/json/completion_json.h"

#include <stdlib.h>

#include "proto/json/field.h"
#include "proto/json/reply_json.h"
#include "proto/json/text_json.h"

/* ---- requests ---------------------------------------------------------------------------- */

static bool take_logprobs(const struct mb_field *f, const json_t *v, struct mb_completion *c,
                          struct mb_wire_error *err)
{
    c->has_logprobs = true;
    return mb_take_u32(f, v, c, err);
}

/* Is it an array of token ids, that is, one prompt? */
static bool is_ids(const json_t *v)
{
    return json_is_array(v) && json_is_integer(json_array_get(v, 0));
}

static bool take_one_prompt(const struct mb_field *f, const json_t *v, struct mb_prompt *ret,
                            struct mb_wire_error *err)
{
    if (json_is_string(v)) {
        return mb_copy_string(v, &ret->text, &ret->n_text, err);
    }
    return is_ids(v)
               ? mb_copy_ids(f->name, v, &ret->ids, &ret->n_ids, err)
               : mb_field_refuse(err, f->name,
                                 "must be a string or an array of token ids, not empty, or "
                                 "an array of these");
}

/* A string, an array of token ids; or an array of these, which is as many prompts. */
static bool take_prompt(const struct mb_field *f, const json_t *v, struct mb_completion *c,
                        struct mb_wire_error *err)
{
    bool several = json_is_array(v) && !is_ids(v) && json_array_size(v) > 0;
    size_t n = several ? json_array_size(v) : 1;
    if (n > MB_CHOICES_MAX) {
        mb_wire_error_fill(err, 400, NULL, f->name, "'%s' may hold at most %d prompts", f->name,
                           MB_CHOICES_MAX);
        return false;
    }
    c->prompts = calloc(n, sizeof *c->prompts);
    if (!c->prompts) {
        return mb_field_refuse_memory(err);
    }
    c->n_prompts = n;
    for (size_t i = 0; i < n; i++) {
        if (!take_one_prompt(f, several ? json_array_get(v, i) : v, &c->prompts[i], err)) {
            return false;
        }
    }
    return true;
}

#define AT(member) offsetof(struct mb_completion, member)

static const struct mb_field fields[] = {
    { "prompt", take_prompt, 0, 0, 0 },
    { "logprobs", take_logprobs, AT(logprobs), 0, MB_COMPLETION_LOGPROBS_MAX },
    { "echo", mb_take_bool, AT(echo), 0, 0 },
    { "best_of", mb_take_u32, AT(best_of), 1, MB_BEST_OF_MAX },
    { "suffix", mb_take_nothing, 0, 0, 0 },
};

static bool agree_choices(const struct mb_completion *c, struct mb_wire_error *err)
{
    if (c->best_of > 0 && c->best_of < c->n) {
        return mb_field_refuse(err, "best_of", "must not be below 'n'");
    }
    if (c->best_of > c->n && c->stream) {
        return mb_field_refuse(err, "best_of",
                               "can not be streamed: the best are known at the end");
    }
    size_t each = c->best_of > c->n ? c->best_of : c->n;
    if (each * c->n_prompts > MB_CHOICES_MAX) {
        mb_wire_error_fill(err, 400, NULL, "n",
                           "%zu prompts with %zu choices each are more than %d", c->n_prompts,
                           each, MB_CHOICES_MAX);
        return false;
    }
    return true;
}

static bool agree(const json_t *root, struct mb_completion *c, struct mb_wire_error *err)
{
    if (c->n_prompts == 0) {
        return mb_field_refuse(err, "prompt", "is required");
    }
    return mb_agree_stream(root, c, err) && agree_choices(c, err);
}

enum mb_status mb_completion_decode(const char *text, size_t n, struct mb_completion *ret,
                                    struct mb_wire_error *err)
{
    static const struct mb_fields own = { fields, sizeof fields / sizeof fields[0] };
    return mb_body_decode(text, n, &own, agree, ret, err);
}

/* ---- replies ----------------------------------------------------------------------------- */

static bool add_logprob(json_t *top, const struct mb_wire_logprob *t)
{
    json_t *key = mb_json_token(t);
    const char *name = json_string_value(key);
    bool ok =
        name && (json_object_get(top, name) ||
                 json_object_set_new_nocheck(top, name, mb_json_logprob(t->logprob)) == 0);
    json_decref(key);
    return ok;
}

/* {"token": logprob, ...}: the likeliest, and the one that was drawn, which need not be
 * among them. Two tokens with the same text share a key: the likelier one, which comes
 * first, keeps it. */
static json_t *top_logprobs(const struct mb_wire_token *t)
{
    if (t->no_logprob) {
        return json_null();
    }
    json_t *top = json_object();
    bool ok = top != NULL;
    for (uint32_t i = 0; i < t->n_top && ok; i++) {
        ok = add_logprob(top, &t->top[i]);
    }
    ok = ok && add_logprob(top, &t->token);
    if (!ok) {
        json_decref(top);
        return NULL;
    }
    return top;
}

static json_t *logprobs_json(const struct mb_wire_choice *c)
{
    if (!c->has_logprobs) {
        return json_null();
    }
    json_t *tokens = json_array(), *numbers = json_array(), *tops = json_array(),
           *offsets = json_array();
    bool ok = tokens && numbers && tops && offsets;
    for (size_t i = 0; i < c->n_tokens && ok; i++) {
        const struct mb_wire_token *t = &c->tokens[i];
        json_t *x = t->no_logprob ? json_null() : mb_json_logprob(t->token.logprob);
        ok = json_array_append_new(tokens, mb_json_token(&t->token)) == 0 &&
             json_array_append_new(numbers, x) == 0 &&
             json_array_append_new(tops, top_logprobs(t)) == 0 &&
             json_array_append_new(offsets, json_integer(t->text_offset)) == 0;
    }
    if (!ok) {
        json_decref(tokens);
        json_decref(numbers);
        json_decref(tops);
        json_decref(offsets);
        return NULL;
    }
    return json_pack("{s:o,s:o,s:o,s:o}", "tokens", tokens, "token_logprobs", numbers,
                     "top_logprobs", tops, "text_offset", offsets);
}

static json_t *choice_json(const struct mb_wire_choice *c)
{
    json_t *j = json_pack("{s:I,s:o,s:o,s:s?}", "index", (json_int_t) c->index, "text",
                          mb_json_string_of(c->text, c->n_text), "logprobs", logprobs_json(c),
                          "finish_reason", mb_finish_name(c->finish));
    return mb_json_with_ids(j, c);
}

char *mb_completion_encode(const struct mb_completion_reply *r)
{
    return mb_reply_encode(r, "text_completion", choice_json);
}
