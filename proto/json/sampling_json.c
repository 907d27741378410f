/* The fields that completions and chats share: which model, how to draw, when to end, how to
 * answer. */
#include <errno.h>
#include <float.h>
#include <stdlib.h>
#include <string.h>

#include "proto/json/field.h"
#include "proto/json/response_format_json.h"

/* 0 is allowed by OpenAI's range and means: only the most likely token. */
static bool take_top_p(const struct mb_field *f, const json_t *v, struct mb_completion *c,
                       struct mb_wire_error *err)
{
    if (!mb_take_float(f, v, c, err)) {
        return false;
    }
    if (c->top_p < FLT_MIN) {
        c->top_p = FLT_MIN;
    }
    return true;
}

/* 0 would divide by it. */
static bool take_repetition_penalty(const struct mb_field *f, const json_t *v,
                                    struct mb_completion *c, struct mb_wire_error *err)
{
    return mb_take_float(f, v, c, err) &&
           (c->repetition_penalty > 0 || mb_field_refuse(err, f->name, "must be above 0"));
}

/* -1 is how other servers say that it is off. */
static bool take_top_k(const struct mb_field *f, const json_t *v, struct mb_completion *c,
                       struct mb_wire_error *err)
{
    if (json_is_integer(v) && json_integer_value(v) == -1) {
        c->top_k = 0;
        return true;
    }
    return mb_take_u32(f, v, c, err);
}

/* Any 64-bit integer, as OpenAI documents; a negative one is its two's complement. */
static bool take_seed(const struct mb_field *f, const json_t *v, struct mb_completion *c,
                      struct mb_wire_error *err)
{
    if (!json_is_integer(v)) {
        return mb_field_refuse(err, f->name, "must be an integer of 64 bits");
    }
    c->has_seed = true;
    c->seed = (uint64_t) json_integer_value(v);
    return true;
}

static bool take_model(const struct mb_field *f, const json_t *v, struct mb_completion *c,
                       struct mb_wire_error *err)
{
    return mb_copy_model(v, &c->model, err);
}

static bool take_one_stop(const struct mb_field *f, const json_t *v, struct mb_completion *c,
                          struct mb_wire_error *err)
{
    size_t n = json_string_length(v);
    if (!json_is_string(v) || n == 0 || n > MB_STOP_BYTES_MAX) {
        mb_wire_error_fill(err, 400, NULL, f->name, "'stop' must be strings of 1 to %d bytes",
                           MB_STOP_BYTES_MAX);
        return false;
    }
    size_t i = c->n_stops;
    if (!mb_copy_string(v, &c->stop[i], &c->n_stop_bytes[i], err)) {
        return false;
    }
    c->n_stops++;
    return true;
}

static bool take_stop(const struct mb_field *f, const json_t *v, struct mb_completion *c,
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

static bool take_stream_options(const struct mb_field *f, const json_t *v,
                                struct mb_completion *c, struct mb_wire_error *err)
{
    if (!json_is_object(v)) {
        return mb_field_refuse(err, f->name, "must be an object");
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

/* {"50256": -100, ...}: ids are names of members, since those must be strings. */
static bool take_logit_bias(const struct mb_field *f, const json_t *v, struct mb_completion *c,
                            struct mb_wire_error *err)
{
    const char *name;
    json_t *bias;
    size_t n = json_object_size(v);
    if (!json_is_object(v) || n > MB_LOGIT_BIAS_MAX) {
        mb_wire_error_fill(err, 400, NULL, f->name,
                           "'%s' must be an object of at most %d tokens", f->name,
                           MB_LOGIT_BIAS_MAX);
        return false;
    }
    if (n > 0 && !(c->bias = calloc(n, sizeof *c->bias))) {
        return mb_field_refuse_memory(err);
    }
    json_object_foreach ((json_t *) v, name, bias) {
        char *end;
        errno = 0;
        unsigned long id = strtoul(name, &end, 10);
        double x = json_number_value(bias);
        bool is_id =
            name[0] >= '0' && name[0] <= '9' && *end == '\0' && errno == 0 &&
            (name[0] != '0' || name[1] == '\0'); /* one name each: no id stands twice */
        if (!is_id || id > UINT32_MAX || !json_is_number(bias) ||
            !(x >= f->min && x <= f->max)) {
            mb_wire_error_fill(err, 400, NULL, f->name,
                               "'%s' must map token ids to numbers in %g..%g", f->name, f->min,
                               f->max);
            return false;
        }
        c->bias[c->n_bias++] = (struct mb_logit_bias) { (uint32_t) id, (float) x };
    }
    return true;
}

static bool take_stop_ids(const struct mb_field *f, const json_t *v, struct mb_completion *c,
                          struct mb_wire_error *err)
{
    uint32_t *ids;
    size_t n;
    if (!json_is_array(v) || json_array_size(v) > MB_STOP_IDS_MAX) {
        mb_wire_error_fill(err, 400, NULL, f->name, "'%s' must be an array of at most %d ids",
                           f->name, MB_STOP_IDS_MAX);
        return false;
    }
    if (!mb_copy_ids(f->name, v, &ids, &n, err)) {
        return false;
    }
    memcpy(c->stop_ids, ids, n * sizeof *ids);
    c->n_stop_ids = n;
    free(ids);
    return true;
}

static bool take_time_limit(const struct mb_field *f, const json_t *v, struct mb_completion *c,
                            struct mb_wire_error *err)
{
    double x = json_number_value(v);
    if (!json_is_number(v) || !(x > f->min && x <= f->max)) {
        mb_wire_error_fill(err, 400, NULL, f->name, "'%s' must be seconds above 0, to %g",
                           f->name, f->max);
        return false;
    }
    c->time_limit = x;
    return true;
}

static bool take_priority(const struct mb_field *f, const json_t *v, struct mb_completion *c,
                          struct mb_wire_error *err)
{
    const char *text = json_is_string(v) ? json_string_value(v) : "";
    c->low_priority = strcmp(text, "low") == 0;
    return c->low_priority || strcmp(text, "normal") == 0 ||
           mb_field_refuse(err, f->name, "must be \"normal\" or \"low\"");
}

static bool take_cache_salt(const struct mb_field *f, const json_t *v, struct mb_completion *c,
                            struct mb_wire_error *err)
{
    size_t n = json_string_length(v);
    bool plain = n > 0 && !memchr(json_string_value(v), 0, n);
    if (!plain || n > MB_CACHE_SALT_MAX) { /* 0 for what is no string */
        mb_wire_error_fill(err, 400, NULL, f->name,
                           "'%s' must be a string of 1 to %d bytes, none of them 0", f->name,
                           MB_CACHE_SALT_MAX);
        return false;
    }
    return mb_copy_string(v, &c->cache_salt, &n, err);
}

static bool take_response_format(const struct mb_field *f, const json_t *v,
                                 struct mb_completion *c, struct mb_wire_error *err)
{
    return mb_response_format_take(v, &c->response_format, err);
}

#define AT(member) offsetof(struct mb_completion, member)

static const struct mb_field fields[] = {
    { "model", take_model, 0, 0, 0 },
    { "temperature", mb_take_float, AT(temperature), 0, 2 },
    { "top_p", take_top_p, AT(top_p), 0, 1 },
    { "min_p", mb_take_float, AT(min_p), 0, 1 },
    { "top_k", take_top_k, AT(top_k), 0, 1 << 30 },
    { "presence_penalty", mb_take_float, AT(presence_penalty), -2, 2 },
    { "frequency_penalty", mb_take_float, AT(frequency_penalty), -2, 2 },
    { "repetition_penalty", take_repetition_penalty, AT(repetition_penalty), 0, 10 },
    { "logit_bias", take_logit_bias, 0, -100, 100 },
    { "seed", take_seed, 0, 0, 0 },
    { "max_tokens", mb_take_max_tokens, AT(max_tokens), 0, MB_MAX_TOKENS_MAX },
    { "min_tokens", mb_take_u32, AT(min_tokens), 0, MB_MAX_TOKENS_MAX },
    { "stop", take_stop, 0, 0, 0 },
    { "stop_token_ids", take_stop_ids, 0, 0, 0 },
    { "ignore_eos", mb_take_bool, AT(ignore_eos), 0, 0 },
    { "n", mb_take_u32, AT(n), 1, MB_CHOICES_MAX },
    { "return_token_ids", mb_take_bool, AT(return_token_ids), 0, 0 },
    { "time_limit", take_time_limit, 0, 0, MB_TIME_LIMIT_MAX },
    { "priority", take_priority, 0, 0, 0 },
    { "cache_salt", take_cache_salt, 0, 0, 0 },
    { "response_format", take_response_format, 0, 0, 0 },
    { "stream", mb_take_bool, AT(stream), 0, 0 },
    { "stream_options", take_stream_options, 0, 0, 0 },
};

const struct mb_fields mb_sampling_fields = { fields, sizeof fields / sizeof fields[0] };

bool mb_agree_stream(const json_t *root, struct mb_completion *c, struct mb_wire_error *err)
{
    const json_t *options = json_object_get(root, "stream_options");
    if (options && !json_is_null(options) && !c->stream) {
        return mb_field_refuse(err, "stream_options", "is allowed only with \"stream\": true");
    }
    if (c->has_max_tokens && c->min_tokens > c->max_tokens) {
        return mb_field_refuse(err, "min_tokens", "must not be above 'max_tokens'");
    }
    return true;
}
