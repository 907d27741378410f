#include "proto/json/completion_json.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/json/response_format_json.h"
#include "proto/json/text_json.h"

void mb_json_init(void)
{
    json_object_seed(0); /* from the system's random source */
}

/* ---- before parsing ---------------------------------------------------------------------- */

/* Walks the text as a parser of JSON would see brackets and commas, and counts. A colon is a member of an object: a
 * parser that hashes them takes far longer over these than over other bytes. What is not
 * JSON is left for the parser to refuse: it stops at the same byte or before. */
static bool bounded(const char *text, size_t n, struct mb_wire_error *err)
{
    size_t depth = 0, containers = 0, members = 0, values = 1;
    bool in_string = false;
    for (size_t i = 0; i < n; i++) {
        char c = text[i];
        if (in_string) {
            if (c == '\\') {
                i++;
            } else if (c == '"') {
                in_string = false;
            }
        } else if (c == '"') {
            in_string = true;
        } else if (c == '[' || c == '{') {
            depth++;
            containers++;
        } else if ((c == ']' || c == '}') && depth > 0) {
            depth--;
        } else if (c == ',') {
            values++;
        } else if (c == ':') {
            members++;
        }
        if (depth > MB_JSON_DEPTH_MAX || containers > MB_JSON_CONTAINERS_MAX ||
            members > MB_JSON_MEMBERS_MAX || values > MB_JSON_VALUES_MAX) {
            mb_wire_error_fill(err, 400, NULL, NULL,
                               "the body holds more than %d levels, %d arrays and objects, %d "
                               "members of objects, or %u values",
                               MB_JSON_DEPTH_MAX, MB_JSON_CONTAINERS_MAX, MB_JSON_MEMBERS_MAX,
                               MB_JSON_VALUES_MAX);
            return false;
        }
    }
    return true;
}

/* ---- fields ------------------------------------------------------------------------------ */

struct field;
/* Puts v into c. false, with err filled, when it may not be. v is never null. */
typedef bool take_fn(const struct field *f, const json_t *v, struct mb_completion *c,
                     struct mb_wire_error *err);

struct field {
    const char *name;
    take_fn *take;
    size_t offset;   /* in struct mb_completion, for the plain ones */
    double min, max; /* both allowed */
};

static bool refuse(struct mb_wire_error *err, const struct field *f, const char *what)
{
    mb_wire_error_fill(err, 400, NULL, f->name, "'%s' %s", f->name, what);
    return false;
}

static bool refuse_memory(struct mb_wire_error *err)
{
    mb_wire_error_fill(err, 503, "out_of_memory", NULL, "no memory for this request");
    return false;
}

static void *place(const struct field *f, struct mb_completion *c)
{
    return (char *) c + f->offset;
}

static bool take_bool(const struct field *f, const json_t *v, struct mb_completion *c,
                      struct mb_wire_error *err)
{
    if (!json_is_boolean(v)) {
        return refuse(err, f, "must be true or false");
    }
    *(bool *) place(f, c) = json_is_true(v);
    return true;
}

static bool in_range(const struct field *f, const json_t *v, json_int_t *ret,
                     struct mb_wire_error *err)
{
    json_int_t i = json_integer_value(v);
    if (!json_is_integer(v) || i < (json_int_t) f->min || i > (json_int_t) f->max) {
        mb_wire_error_fill(err, 400, NULL, f->name, "'%s' must be an integer in %.0f..%.0f",
                           f->name, f->min, f->max);
        return false;
    }
    *ret = i;
    return true;
}

static bool take_u32(const struct field *f, const json_t *v, struct mb_completion *c,
                     struct mb_wire_error *err)
{
    json_int_t i;
    if (!in_range(f, v, &i, err)) {
        return false;
    }
    *(uint32_t *) place(f, c) = (uint32_t) i;
    return true;
}

static bool take_float(const struct field *f, const json_t *v, struct mb_completion *c,
                       struct mb_wire_error *err)
{
    double x = json_number_value(v);
    if (!json_is_number(v) || !(x >= f->min && x <= f->max)) {
        mb_wire_error_fill(err, 400, NULL, f->name, "'%s' must be a number in %g..%g", f->name,
                           f->min, f->max);
        return false;
    }
    *(float *) place(f, c) = (float) x;
    return true;
}

static bool take_max_tokens(const struct field *f, const json_t *v, struct mb_completion *c,
                            struct mb_wire_error *err)
{
    c->has_max_tokens = true;
    return take_u32(f, v, c, err);
}

/* 0 is allowed by OpenAI's range and means: only the most likely token. */
static bool take_top_p(const struct field *f, const json_t *v, struct mb_completion *c,
                       struct mb_wire_error *err)
{
    if (!take_float(f, v, c, err)) {
        return false;
    }
    if (c->top_p < FLT_MIN) {
        c->top_p = FLT_MIN;
    }
    return true;
}

/* 0 would divide by it. */
static bool take_repetition_penalty(const struct field *f, const json_t *v,
                                    struct mb_completion *c, struct mb_wire_error *err)
{
    return take_float(f, v, c, err) &&
           (c->repetition_penalty > 0 || refuse(err, f, "must be above 0"));
}

/* -1 is how other servers say that it is off. */
static bool take_top_k(const struct field *f, const json_t *v, struct mb_completion *c,
                       struct mb_wire_error *err)
{
    json_int_t i;
    if (!in_range(f, v, &i, err)) {
        return false;
    }
    c->top_k = i < 0 ? 0 : (uint32_t) i;
    return true;
}

static bool take_logprobs(const struct field *f, const json_t *v, struct mb_completion *c,
                          struct mb_wire_error *err)
{
    c->has_logprobs = true;
    return take_u32(f, v, c, err);
}

/* Any 64-bit integer, as OpenAI documents; a negative one is its two's complement. */
static bool take_seed(const struct field *f, const json_t *v, struct mb_completion *c,
                      struct mb_wire_error *err)
{
    if (!json_is_integer(v)) {
        return refuse(err, f, "must be an integer of 64 bits");
    }
    c->has_seed = true;
    c->seed = (uint64_t) json_integer_value(v);
    return true;
}

static bool copy_text(const json_t *v, char **ret, size_t *ret_n, struct mb_wire_error *err)
{
    size_t n = json_string_length(v);
    char *copy = malloc(n + 1);
    if (!copy) {
        return refuse_memory(err);
    }
    memcpy(copy, json_string_value(v), n + 1);
    *ret = copy;
    *ret_n = n;
    return true;
}

static bool take_model(const struct field *f, const json_t *v, struct mb_completion *c,
                       struct mb_wire_error *err)
{
    size_t n = json_string_length(v);
    if (!json_is_string(v) || n == 0 || n > MB_MODEL_NAME_MAX ||
        strlen(json_string_value(v)) != n) {
        mb_wire_error_fill(err, 400, NULL, f->name, "'model' must be a name of 1 to %d bytes",
                           MB_MODEL_NAME_MAX);
        return false;
    }
    return copy_text(v, &c->model, &n, err);
}

static bool take_ids(const struct field *f, const json_t *list, struct mb_completion *c,
                     struct mb_wire_error *err)
{
    size_t n = json_array_size(list);
    if (n > MB_PROMPT_IDS_MAX) {
        return refuse(err, f, "has too many token ids");
    }
    uint32_t *ids = malloc((n ? n : 1) * sizeof *ids);
    if (!ids) {
        return refuse_memory(err);
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_array_get(list, i);
        json_int_t id = json_integer_value(v);
        if (!json_is_integer(v) || id < 0 || id > UINT32_MAX) {
            free(ids);
            mb_wire_error_fill(err, 400, NULL, f->name,
                               "'prompt' must hold token ids only; element %zu is none", i);
            return false;
        }
        ids[i] = (uint32_t) id;
    }
    c->prompt_ids = ids;
    c->n_prompt_ids = n;
    return true;
}

/* A string, or an array of token ids; or an array with one of these. */
static bool take_prompt(const struct field *f, const json_t *v, struct mb_completion *c,
                        struct mb_wire_error *err)
{
    const json_t *first = json_is_array(v) ? json_array_get(v, 0) : NULL;
    if (first && !json_is_integer(first)) {
        if (json_array_size(v) > 1 && (json_is_string(first) || json_is_array(first))) {
            return refuse(err, f, "holds several prompts; send one request for each");
        }
        v = first;
    }
    if (json_is_string(v)) {
        return copy_text(v, &c->prompt, &c->n_prompt, err);
    }
    if (json_array_size(v) > 0) {
        return take_ids(f, v, c, err);
    }
    return refuse(err, f, "must be a string or an array of token ids, not empty");
}

static bool take_one_stop(const struct field *f, const json_t *v, struct mb_completion *c,
                          struct mb_wire_error *err)
{
    size_t n = json_string_length(v);
    if (!json_is_string(v) || n == 0 || n > MB_STOP_BYTES_MAX) {
        mb_wire_error_fill(err, 400, NULL, f->name, "'stop' must be strings of 1 to %d bytes",
                           MB_STOP_BYTES_MAX);
        return false;
    }
    size_t i = c->n_stops;
    if (!copy_text(v, &c->stop[i], &c->n_stop_bytes[i], err)) {
        return false;
    }
    c->n_stops++;
    return true;
}

static bool take_stop(const struct field *f, const json_t *v, struct mb_completion *c,
                      struct mb_wire_error *err)
{
    if (!json_is_array(v)) {
        return take_one_stop(f, v, c, err);
    }
    if (json_array_size(v) > MB_STOPS_MAX) {
        mb_wire_error_fill(err, 400, NULL, f->name, "'stop' may hold at most %d strings",
                           MB_STOPS_MAX);
        return false;
    }
    for (size_t i = 0; i < json_array_size(v); i++) {
        if (!take_one_stop(f, json_array_get(v, i), c, err)) {
            return false;
        }
    }
    return true;
}

static bool take_stream_options(const struct field *f, const json_t *v, struct mb_completion *c,
                                struct mb_wire_error *err)
{
    if (!json_is_object(v)) {
        return refuse(err, f, "must be an object");
    }
    const json_t *usage = json_object_get(v, "include_usage");
    if (usage && !json_is_null(usage) && !json_is_boolean(usage)) {
        mb_wire_error_fill(err, 400, NULL, "stream_options.include_usage",
                           "'stream_options.include_usage' must be true or false");
        return false;
    }
    c->include_usage = json_is_true(usage);
    return true;
}

/* n and best_of: one sequence is what there is. */
static bool take_one(const struct field *f, const json_t *v, struct mb_completion *c,
                     struct mb_wire_error *err)
{
    return (json_is_integer(v) && json_integer_value(v) == 1) ||
           refuse(err, f, "must be 1: one completion a request");
}

/* Known, not offered, and harmless when empty. */
static bool take_nothing(const struct field *f, const json_t *v, struct mb_completion *c,
                         struct mb_wire_error *err)
{
    bool empty = (json_is_string(v) && json_string_length(v) == 0) ||
                 (json_is_object(v) && json_object_size(v) == 0);
    return empty || refuse(err, f, "is not supported");
}

static bool take_response_format(const struct field *f, const json_t *v,
                                 struct mb_completion *c, struct mb_wire_error *err)
{
    return mb_response_format_take(v, &c->response_format, err);
}

#define AT(member) offsetof(struct mb_completion, member)

static const struct field fields[] = {
    { "model", take_model, 0, 0, 0 },
    { "prompt", take_prompt, 0, 0, 0 },
    { "max_tokens", take_max_tokens, AT(max_tokens), 0, MB_MAX_TOKENS_MAX },
    { "temperature", take_float, AT(temperature), 0, 2 },
    { "top_p", take_top_p, AT(top_p), 0, 1 },
    { "min_p", take_float, AT(min_p), 0, 1 },
    { "top_k", take_top_k, 0, -1, 1 << 30 },
    { "presence_penalty", take_float, AT(presence_penalty), -2, 2 },
    { "frequency_penalty", take_float, AT(frequency_penalty), -2, 2 },
    { "repetition_penalty", take_repetition_penalty, AT(repetition_penalty), 0, 10 },
    { "seed", take_seed, 0, 0, 0 },
    { "stop", take_stop, 0, 0, 0 },
    { "logprobs", take_logprobs, AT(logprobs), 0, MB_COMPLETION_LOGPROBS_MAX },
    { "echo", take_bool, AT(echo), 0, 0 },
    { "ignore_eos", take_bool, AT(ignore_eos), 0, 0 },
    { "response_format", take_response_format, 0, 0, 0 },
    { "stream", take_bool, AT(stream), 0, 0 },
    { "stream_options", take_stream_options, 0, 0, 0 },
    { "n", take_one, 0, 0, 0 },
    { "best_of", take_one, 0, 0, 0 },
    { "suffix", take_nothing, 0, 0, 0 },
    { "logit_bias", take_nothing, 0, 0, 0 },
};

/* What one field alone can not tell. */
static bool agree(const json_t *root, const struct mb_completion *c, struct mb_wire_error *err)
{
    if (!c->prompt && !c->prompt_ids) {
        mb_wire_error_fill(err, 400, NULL, "prompt", "'prompt' is required");
        return false;
    }
    const json_t *options = json_object_get(root, "stream_options");
    if (options && !json_is_null(options) && !c->stream) {
        mb_wire_error_fill(err, 400, NULL, "stream_options",
                           "'stream_options' is allowed only with \"stream\": true");
        return false;
    }
    if (c->echo && c->has_logprobs) {
        mb_wire_error_fill(err, 400, NULL, "echo",
                           "'echo' with 'logprobs' is not supported: the prompt's own are not "
                           "computed");
        return false;
    }
    return true;
}

static bool take_all(const json_t *root, struct mb_completion *c, struct mb_wire_error *err)
{
    if (!json_is_object(root)) {
        mb_wire_error_fill(err, 400, NULL, NULL, "the body must be a JSON object");
        return false;
    }
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        const json_t *v = json_object_get(root, fields[i].name);
        if (v && !json_is_null(v) && !fields[i].take(&fields[i], v, c, err)) {
            return false;
        }
    }
    return agree(root, c, err);
}

/* The field whose value ends at text[at]: the name before the colon before it. NULL when there is
 * none of that name. */
static const char *field_before(const char *text, size_t at)
{
    while (at > 0 && text[at - 1] != ':' && text[at - 1] != '"') {
        at--;
    }
    while (at > 0 && text[at - 1] != '"') {
        at--;
    }
    for (size_t i = 0; at > 0 && i < sizeof fields / sizeof fields[0]; i++) {
        size_t n = strlen(fields[i].name);
        if (at >= n + 2 && text[at - n - 2] == '"' &&
            memcmp(text + at - n - 1, fields[i].name, n) == 0) {
            return fields[i].name;
        }
    }
    return NULL;
}

static void refuse_text(struct mb_wire_error *err, const char *text, size_t n,
                        const json_error_t *where)
{
    size_t at = where->position > 0 ? (size_t) where->position : 0;
    if (json_error_code(where) != json_error_numeric_overflow) {
        mb_wire_error_fill(err, 400, NULL, NULL, "the body is not JSON: line %d, column %d: %s",
                           where->line, where->column, where->text);
        return;
    }
    const char *name = field_before(text, at < n ? at : n);
    mb_wire_error_fill(err, 400, NULL, name,
                       "%s%s%sline %d, column %d: the number is out of range", name ? "'" : "",
                       name ? name : "", name ? "': " : "", where->line, where->column);
}

enum mb_status mb_completion_decode(const char *text, size_t n, struct mb_completion *ret,
                                    struct mb_wire_error *err)
{
    if (n == 0) {
        mb_wire_error_fill(err, 400, NULL, NULL, "the body is empty; it must be a JSON object");
        return MB_E_INVALID;
    }
    if (!bounded(text, n, err)) {
        return MB_E_INVALID;
    }
    json_error_t where;
    json_t *root = json_loadb(text, n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &where);
    if (!root) {
        refuse_text(err, text, n, &where);
        return MB_E_INVALID;
    }
    struct mb_completion c = *ret; /* the caller's defaults; it owns nothing yet */
    bool ok = take_all(root, &c, err);
    json_decref(root);
    if (!ok) {
        mb_completion_fini(&c);
        return err->http == 503 ? MB_E_NOMEM : MB_E_INVALID;
    }
    *ret = c;
    return MB_OK;
}

/* ---- replies ----------------------------------------------------------------------------- */

enum { TOKEN_SHOWN_MAX = 256 }; /* bytes of a token's text that are shown, when not UTF-8 */

static json_t *token_text(const struct mb_wire_logprob *t)
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

static json_t *logprob_number(float x)
{
    return json_real(isfinite(x) ? (double) x : -9999.0);
}

static bool add_logprob(json_t *top, const struct mb_wire_logprob *t)
{
    json_t *key = token_text(t);
    const char *name = json_string_value(key);
    bool ok = name && (json_object_get(top, name) ||
                       json_object_set_new_nocheck(top, name, logprob_number(t->logprob)) == 0);
    json_decref(key);
    return ok;
}

/* {"token": logprob, ...}: the likeliest, and the one that was drawn, which need not be among them.
 * Two tokens with the same text share a key: the likelier one, which comes first, keeps it. */
static json_t *top_logprobs(const struct mb_wire_token *t)
{
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

static json_t *logprobs_json(const struct mb_completion_reply *r)
{
    if (!r->has_logprobs) {
        return json_null();
    }
    json_t *tokens = json_array(), *numbers = json_array(), *tops = json_array(),
           *offsets = json_array();
    bool ok = tokens && numbers && tops && offsets;
    for (size_t i = 0; i < r->n_tokens && ok; i++) {
        const struct mb_wire_token *t = &r->tokens[i];
        ok = json_array_append_new(tokens, token_text(&t->token)) == 0 &&
             json_array_append_new(numbers, logprob_number(t->token.logprob)) == 0 &&
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

static json_t *choices_json(const struct mb_completion_reply *r)
{
    if (r->no_choice) {
        return json_array();
    }
    return json_pack("[{s:i,s:o,s:o,s:s?}]", "index", 0, "text",
                     mb_json_string_of(r->text, r->n_text), "logprobs", logprobs_json(r),
                     "finish_reason", mb_finish_name(r->finish));
}

static json_t *usage_json(const struct mb_usage *u)
{
    return json_pack("{s:I,s:I,s:I,s:{s:I}}", "prompt_tokens", (json_int_t) u->prompt_tokens,
                     "completion_tokens", (json_int_t) u->completion_tokens, "total_tokens",
                     (json_int_t) u->prompt_tokens + u->completion_tokens,
                     "prompt_tokens_details", "cached_tokens", (json_int_t) u->cached_tokens);
}

char *mb_completion_encode(const struct mb_completion_reply *r)
{
    assert(!(r->usage_null && r->usage));
    json_t *root =
        json_pack("{s:s,s:s,s:I,s:s,s:s,s:o}", "id", r->id, "object", "text_completion",
                  "created", (json_int_t) r->created, "model", r->model, "system_fingerprint",
                  r->fingerprint, "choices", choices_json(r));
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
