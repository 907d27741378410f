#include "proto/json/answer_json.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static json_t *parse(const char *text, size_t n, struct mb_error *err)
{
    json_error_t where;
    json_t *root = json_loadb(text, n, JSON_ALLOW_NUL, &where);
    if (!root) {
        (void) mb_fail(err, MB_E_FORMAT, 0, "what came is not JSON: line %d, column %d: %s",
                       where.line, where.column, where.text);
    }
    return root;
}

static const char *text_of(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));
    return text ? text : "";
}

/* A count; 0 for what is none. */
static uint64_t count_of(const json_t *object, const char *name)
{
    json_int_t v = json_integer_value(json_object_get(object, name));
    return v > 0 ? (uint64_t) v : 0;
}

/* ---- completions ------------------------------------------------------------------------- */

void mb_answer_fini(struct mb_answer *a)
{
    free(a->text);
    *a = (struct mb_answer) { 0 };
}

/* "text" of a completion; "content" of the message of a chat, or of its delta in a stream. */
static const json_t *find_text(const json_t *choice)
{
    const json_t *text = json_object_get(choice, "text");
    const json_t *message = json_object_get(choice, "message");
    const json_t *delta = json_object_get(choice, "delta");
    return text      ? text
           : message ? json_object_get(message, "content")
                     : json_object_get(delta, "content");
}

static void read_usage(const json_t *usage, struct mb_answer *a)
{
    if (json_is_object(usage)) {
        const json_t *details = json_object_get(usage, "prompt_tokens_details");
        a->has_usage = true;
        a->prompt_tokens = count_of(usage, "prompt_tokens");
        a->completion_tokens = count_of(usage, "completion_tokens");
        a->cached_tokens = count_of(details, "cached_tokens");
    }
}

static enum mb_status read_answer(const json_t *root, struct mb_answer *ret,
                                  struct mb_error *err)
{
    const json_t *wrong = json_object_get(root, "error");
    if (wrong && !json_is_null(wrong)) {
        const char *message =
            json_is_string(wrong) ? json_string_value(wrong) : text_of(wrong, "message");
        return mb_fail(err, MB_E_UNAVAILABLE, 0, "%.300s",
                       *message ? message : "the daemon says that something went wrong");
    }
    const json_t *choices = json_object_get(root, "choices");
    if (!json_is_array(choices)) {
        return mb_fail(err, MB_E_FORMAT, 0, "what came is no completion: it has no choices");
    }
    const json_t *choice = json_array_get(choices, 0);
    const json_t *text = find_text(choice);
    struct mb_answer a = { .n_text = json_string_length(text) };
    a.text = malloc(a.n_text + 1);
    if (!a.text) {
        return mb_fail(err, MB_E_NOMEM, 0, "no memory for an answer");
    }
    if (a.n_text > 0) {
        memcpy(a.text, json_string_value(text), a.n_text);
    }
    a.text[a.n_text] = '\0';
    (void) snprintf(a.finish, sizeof a.finish, "%s", text_of(choice, "finish_reason"));
    (void) snprintf(a.model, sizeof a.model, "%s", text_of(root, "model"));
    read_usage(json_object_get(root, "usage"), &a);
    *ret = a;
    return MB_OK;
}

enum mb_status mb_answer_decode(const char *text, size_t n, struct mb_answer *ret,
                                struct mb_error *err)
{
    json_t *root = parse(text, n, err);
    if (!root) {
        return MB_E_FORMAT;
    }
    enum mb_status st = read_answer(root, ret, err);
    json_decref(root);
    return st;
}

/* ---- errors ------------------------------------------------------------------------------ */

void mb_answer_error(int http, const char *text, size_t n, char *code, size_t n_code,
                     struct mb_error *err)
{
    json_t *root = json_loadb(text, n, JSON_ALLOW_NUL, NULL);
    const json_t *e = json_object_get(root, "error");
    const char *message = json_is_string(e) ? json_string_value(e) : text_of(e, "message");
    enum mb_status st = http == 404   ? MB_E_NOTFOUND
                        : http == 409 ? MB_E_CONFLICT
                        : http == 429 ? MB_E_LIMIT
                        : http == 503 ? MB_E_UNAVAILABLE
                        : http < 500  ? MB_E_INVALID
                                      : MB_E_IO;
    (void) snprintf(code, n_code, "%s", text_of(e, "code"));
    if (*message) {
        (void) mb_fail(err, st, 0, "%.350s", message);
    } else {
        (void) mb_fail(err, st, 0, "the daemon answers with HTTP status %d", http);
    }
    json_decref(root);
}

/* ---- models ------------------------------------------------------------------------------ */

static enum mb_status read_models(const json_t *root, struct mb_model_listed **ret,
                                  size_t *ret_n, struct mb_error *err)
{
    const json_t *data = json_object_get(root, "data");
    if (!json_is_array(data)) {
        return mb_fail(err, MB_E_FORMAT, 0, "what came is no list of models");
    }
    size_t n = json_array_size(data);
    struct mb_model_listed *list = calloc(n ? n : 1, sizeof *list);
    if (!list) {
        return mb_fail(err, MB_E_NOMEM, 0, "no memory for a list of models");
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *m = json_array_get(data, i);
        uint64_t context = count_of(m, "max_model_len");
        (void) snprintf(list[i].id, sizeof list[i].id, "%s", text_of(m, "id"));
        (void) snprintf(list[i].fingerprint, sizeof list[i].fingerprint, "%s",
                        text_of(m, "system_fingerprint"));
        list[i].created = (int64_t) count_of(m, "created");
        list[i].context_max = context <= UINT32_MAX ? (uint32_t) context : 0;
    }
    *ret = list;
    *ret_n = n;
    return MB_OK;
}

enum mb_status mb_models_decode(const char *text, size_t n, struct mb_model_listed **ret,
                                size_t *ret_n, struct mb_error *err)
{
    json_t *root = parse(text, n, err);
    if (!root) {
        return MB_E_FORMAT;
    }
    enum mb_status st = read_models(root, ret, ret_n, err);
    json_decref(root);
    return st;
}
