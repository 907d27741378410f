#include "proto/json/request_json.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "proto/json/text_json.h"

static json_t *messages_json(const struct mb_request *r)
{
    json_t *list = json_array();
    for (size_t i = 0; list && i < r->n_messages; i++) {
        const struct mb_request_message *m = &r->messages[i];
        /* "o" takes the reference, and fails as a whole when it is NULL. */
        json_t *one = json_pack("{s:s,s:o}", "role", m->role, "content",
                                mb_json_string_of(m->content, m->n_content));
        if (json_array_append_new(list, one) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *ids_json(const struct mb_request *r)
{
    json_t *list = json_array();
    for (size_t i = 0; list && i < r->n_prompt_ids; i++) {
        if (json_array_append_new(list, json_integer((json_int_t) r->prompt_ids[i])) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static bool set_input(json_t *root, const struct mb_request *r)
{
    if (r->messages) {
        return json_object_set_new(root, "messages", messages_json(r)) == 0;
    }
    json_t *prompt = r->prompt_ids ? ids_json(r) : mb_json_string_of(r->prompt, r->n_prompt);
    return json_object_set_new(root, "prompt", prompt) == 0;
}

static bool set_numbers(json_t *root, const struct mb_request *r)
{
    for (size_t i = 0; i < r->n_numbers; i++) {
        const struct mb_request_number *x = &r->numbers[i];
        assert(x->is_integer || isfinite(x->real));
        json_t *v = x->is_integer ? json_integer((json_int_t) x->integer) : json_real(x->real);
        if (json_object_set_new(root, x->name, v) != 0) {
            return false;
        }
    }
    return true;
}

static bool set_stops(json_t *root, const struct mb_request *r)
{
    json_t *list = json_array();
    bool ok = list != NULL;
    for (size_t i = 0; i < r->n_stops && ok; i++) {
        json_t *stop = mb_json_string_of(r->stops[i], strlen(r->stops[i]));
        ok = json_array_append_new(list, stop) == 0;
    }
    if (!ok || r->n_stops == 0) {
        json_decref(list);
        return ok;
    }
    return json_object_set_new(root, "stop", list) == 0;
}

static bool set_switches(json_t *root, const struct mb_request *r)
{
    bool ok = !r->ignore_eos || json_object_set_new(root, "ignore_eos", json_true()) == 0;
    if (ok && r->stream) {
        ok = json_object_set_new(root, "stream", json_true()) == 0 &&
             json_object_set_new(root, "stream_options",
                                 json_pack("{s:b}", "include_usage", 1)) == 0;
    }
    return ok;
}

char *mb_request_encode(const struct mb_request *r)
{
    assert((r->messages != NULL) + (r->prompt != NULL) + (r->prompt_ids != NULL) == 1);
    json_t *root = json_object();
    bool ok =
        root &&
        (!r->model || json_object_set_new(
                          root, "model", mb_json_string_of(r->model, strlen(r->model))) == 0) &&
        set_input(root, r) && set_numbers(root, r) && set_stops(root, r) &&
        set_switches(root, r);
    char *text = ok ? json_dumps(root, MB_JSON_DUMP) : NULL;
    json_decref(root);
    return text;
}
