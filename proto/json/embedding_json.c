#include "proto/json/embedding_json.h"

#include <stdlib.h>
#include <string.h>

#include "proto/json/input_json.h"
#include "proto/json/text_json.h"

void mb_embedding_fini(struct mb_embedding *e)
{
    for (size_t i = 0; i < e->n_inputs; i++) {
        free(e->inputs[i].text);
        free(e->inputs[i].ids);
    }
    free(e->inputs);
    free(e->model);
    *e = (struct mb_embedding) { 0 };
}

static bool take_one(const json_t *v, struct mb_embedding *e, struct mb_wire_error *err)
{
    struct mb_embedding_input *in = &e->inputs[e->n_inputs];
    bool ok = json_is_string(v) ? mb_input_text(v, "input", &in->text, &in->n, err)
                                : mb_input_ids(v, "input", &in->ids, &in->n, err);
    if (!ok) {
        return false;
    }
    e->n_inputs++;
    return in->n > 0 || mb_field_refuse(err, "input", "must not be empty");
}

/* A string, an array of strings, of ids, or of arrays of ids. */
static bool take_input(const json_t *v, struct mb_embedding *e, struct mb_wire_error *err)
{
    bool several = json_is_array(v) && !json_is_integer(json_array_get(v, 0));
    size_t n = several ? json_array_size(v) : 1;
    if (!v || n == 0 || n > MB_EMBEDDING_INPUTS_MAX ||
        !(json_is_string(v) || json_is_array(v))) {
        mb_wire_error_fill(
            err, 400, NULL, "input",
            "'input' must be a string, an array of token ids, or 1 to %d of these",
            MB_EMBEDDING_INPUTS_MAX);
        return false;
    }
    e->inputs = calloc(n, sizeof *e->inputs);
    if (!e->inputs) {
        return mb_field_refuse_memory(err);
    }
    bool ok = true;
    for (size_t i = 0; i < n && ok; i++) {
        ok = take_one(several ? json_array_get(v, i) : v, e, err);
    }
    return ok;
}

static bool take_format(const json_t *v, struct mb_embedding *e, struct mb_wire_error *err)
{
    const char *name = json_string_value(v);
    if (!v || json_is_null(v) || (name && strcmp(name, "float") == 0)) {
        return true;
    }
    e->base64 = name && strcmp(name, "base64") == 0;
    return e->base64 || mb_field_refuse(err, "encoding_format", "must be float or base64");
}

static bool take_dimensions(const json_t *v, struct mb_embedding *e, struct mb_wire_error *err)
{
    json_int_t n = json_integer_value(v);
    if (!v || json_is_null(v)) {
        return true;
    }
    if (!json_is_integer(v) || n < 1 || n > UINT32_MAX) {
        return mb_field_refuse(err, "dimensions", "must be an integer of at least 1");
    }
    e->dimensions = (uint32_t) n;
    return true;
}

enum mb_status mb_embedding_decode(const char *text, size_t n, struct mb_embedding *ret,
                                   struct mb_wire_error *err)
{
    json_t *root = mb_json_load_body(text, n, err);
    if (!root) {
        return MB_E_INVALID;
    }
    struct mb_embedding e = { 0 };
    bool ok = mb_input_model(root, &e.model, err) &&
              take_format(json_object_get(root, "encoding_format"), &e, err) &&
              take_dimensions(json_object_get(root, "dimensions"), &e, err) &&
              take_input(json_object_get(root, "input"), &e, err);
    json_decref(root);
    if (!ok) {
        mb_embedding_fini(&e);
        return err->http == 503 ? MB_E_NOMEM : MB_E_INVALID;
    }
    *ret = e;
    return MB_OK;
}

/* ---- the reply --------------------------------------------------------------------------- */

/* RFC 4648, with padding, of n floats in little-endian order. */
static json_t *base64_of(const float *x, size_t n)
{
    static const char digits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t n_bytes = n * sizeof *x, n_text = (n_bytes + 2) / 3 * 4;
    char *text = malloc(n_text + 1);
    if (!text) {
        return NULL;
    }
    for (size_t i = 0, at = 0; i < n_bytes; i += 3) {
        uint32_t three = 0;
        for (size_t j = i; j < i + 3; j++) {
            uint32_t bits = 0;
            if (j < n_bytes) {
                memcpy(&bits, &x[j / 4], sizeof bits);
            }
            three = three << 8 | (bits >> 8 * (j % 4) & 0xff);
        }
        for (size_t j = 0; j < 4; j++) {
            text[at++] = i + j <= n_bytes ? digits[three >> (18 - 6 * j) & 63] : '=';
        }
    }
    json_t *v = json_stringn_nocheck(text, n_text);
    free(text);
    return v;
}

static json_t *numbers_of(const float *x, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        if (json_array_append_new(list, json_real((double) x[i])) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

char *mb_embedding_encode(const struct mb_embedding_reply *r)
{
    json_t *data = json_array();
    for (size_t i = 0; i < r->n; i++) {
        const float *x = r->vectors + i * r->width;
        json_t *one = json_pack("{s:s,s:I,s:o}", "object", "embedding", "index", (json_int_t) i,
                                "embedding",
                                r->base64 ? base64_of(x, r->width) : numbers_of(x, r->width));
        if (json_array_append_new(data, one) != 0) {
            json_decref(data);
            return NULL;
        }
    }
    json_t *root =
        json_pack("{s:s,s:o,s:s,s:{s:I,s:I}}", "object", "list", "data", data, "model",
                  r->model, "usage", "prompt_tokens", (json_int_t) r->prompt_tokens,
                  "total_tokens", (json_int_t) r->prompt_tokens);
    char *text = root ? json_dumps(root, MB_JSON_DUMP) : NULL;
    json_decref(root);
    return text;
}
