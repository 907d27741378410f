#include "proto/json/epochs_json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/json/input_json.h"
#include "proto/json/text_json.h"

static char *dump(json_t *root)
{
    char *text = root ? json_dumps(root, MB_JSON_DUMP) : NULL;
    json_decref(root);
    return text;
}

/* ---- what is asked ----------------------------------------------------------------------- */

enum mb_status mb_promotion_decode(const char *text, size_t n, struct mb_promotion *ret,
                                   struct mb_wire_error *err)
{
    json_t *root = mb_json_load_body(text, n, err);
    if (!root) {
        return MB_E_INVALID;
    }
    const json_t *v = json_object_get(root, "to");
    size_t len = json_string_length(v);
    bool ok = json_is_string(v) && len > 0 && len <= MB_MODEL_NAME_MAX &&
              strlen(json_string_value(v)) == len;
    if (ok) {
        memcpy(ret->to, json_string_value(v), len + 1);
    } else {
        mb_wire_error_fill(err, 400, NULL, "to",
                           "'to' must be the name of a model or the id of an epoch, 1 to %d "
                           "bytes",
                           MB_MODEL_NAME_MAX);
    }
    json_decref(root);
    return ok ? MB_OK : MB_E_INVALID;
}

char *mb_promotion_encode(const struct mb_promotion *p)
{
    return dump(json_pack("{s:s}", "to", p->to));
}

enum mb_status mb_pinning_decode(const char *text, size_t n, bool *ret,
                                 struct mb_wire_error *err)
{
    bool pinned = true;
    if (n > 0) {
        json_t *root = mb_json_load_body(text, n, err);
        bool ok = root && mb_input_bool(root, "pinned", &pinned, err);
        json_decref(root);
        if (!ok) {
            return MB_E_INVALID;
        }
    }
    *ret = pinned;
    return MB_OK;
}

char *mb_pinning_encode(bool pinned)
{
    return dump(json_pack("{s:b}", "pinned", (int) pinned));
}

/* ---- what is said ------------------------------------------------------------------------ */

char *mb_model_epoch_encode(const struct mb_model_epoch *m)
{
    return dump(json_pack("{s:s,s:s,s:s,s:s,s:s,s:b}", "id", m->model, "object",
                          "mbool.model_epoch", "epoch", m->epoch, "system_fingerprint",
                          m->fingerprint, "before", m->before, "pinned", (int) m->pinned));
}

static json_t *names_json(const struct mb_epoch_card *c)
{
    json_t *names = json_array();
    for (size_t i = 0; i < c->n_models; i++) {
        if (json_array_append_new(names, json_string(c->models[i])) != 0) {
            json_decref(names);
            return NULL;
        }
    }
    return names;
}

static json_t *card_json(const struct mb_epoch_card *c)
{
    return json_pack("{s:s,s:s,s:s,s:b,s:o,s:s?,s:o,s:I,s:I,s:I}", "id", c->id, "object",
                     "mbool.epoch", "system_fingerprint", c->fingerprint, "current",
                     (int) c->current, "models", names_json(c), "parent", c->parent, "source",
                     mb_json_string_of(c->source, strlen(c->source)), "created",
                     (json_int_t) c->created, "requests", (json_int_t) c->requests,
                     "private_bytes", (json_int_t) c->private_bytes);
}

char *mb_epoch_list_encode(const struct mb_epoch_list *l)
{
    json_t *data = json_array();
    for (size_t i = 0; i < l->n_epochs; i++) {
        if (json_array_append_new(data, card_json(&l->epochs[i])) != 0) {
            json_decref(data);
            return NULL;
        }
    }
    return dump(json_pack("{s:s,s:s,s:s,s:b,s:s?,s:o}", "object", "list", "model", l->model,
                          "base", l->base, "pinned", (int) l->pinned, "rollback_to",
                          l->rollback_to, "data", data));
}

/* ---- for clients ------------------------------------------------------------------------- */

static json_t *load(const char *text, size_t n, struct mb_error *err)
{
    json_t *root = json_loadb(text, n, 0, NULL);
    if (!json_is_object(root)) {
        (void) mb_fail(err, MB_E_FORMAT, 0, "what came is no answer of mboold");
        json_decref(root);
        return NULL;
    }
    return root;
}

static void copy(char *ret, size_t n, const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));
    (void) snprintf(ret, n, "%s", text ? text : "");
}

static uint64_t count(const json_t *object, const char *name)
{
    json_int_t v = json_integer_value(json_object_get(object, name));
    return v > 0 ? (uint64_t) v : 0;
}

static void read_names(const json_t *names, char *ret, size_t n)
{
    size_t at = 0;
    ret[0] = '\0';
    for (size_t i = 0; i < json_array_size(names) && at < n; i++) {
        const char *name = json_string_value(json_array_get(names, i));
        at += (size_t) snprintf(ret + at, n - at, "%s%s", i > 0 ? "," : "", name ? name : "?");
    }
}

static void read_epoch(const json_t *e, const char *rollback_to, struct mb_epoch_listed *ret)
{
    copy(ret->id, sizeof ret->id, e, "id");
    copy(ret->parent, sizeof ret->parent, e, "parent");
    copy(ret->source, sizeof ret->source, e, "source");
    read_names(json_object_get(e, "models"), ret->models, sizeof ret->models);
    ret->created = (int64_t) count(e, "created");
    ret->current = json_is_true(json_object_get(e, "current"));
    ret->rollback = rollback_to && strcmp(rollback_to, ret->id) == 0;
    ret->requests = count(e, "requests");
    ret->private_bytes = count(e, "private_bytes");
}

static enum mb_status read_epochs(const json_t *root, struct mb_epoch_listed **ret,
                                  size_t *ret_n, struct mb_error *err)
{
    const json_t *data = json_object_get(root, "data");
    if (!json_is_array(data)) {
        return mb_fail(err, MB_E_FORMAT, 0, "what came is no list of epochs");
    }
    size_t n = json_array_size(data);
    struct mb_epoch_listed *list = calloc(n ? n : 1, sizeof *list);
    if (!list) {
        return mb_fail(err, MB_E_NOMEM, 0, "no memory for a list of epochs");
    }
    const char *rollback_to = json_string_value(json_object_get(root, "rollback_to"));
    for (size_t i = 0; i < n; i++) {
        read_epoch(json_array_get(data, i), rollback_to, &list[i]);
    }
    *ret = list;
    *ret_n = n;
    return MB_OK;
}

enum mb_status mb_epochs_decode(const char *text, size_t n, struct mb_epoch_listed **ret,
                                size_t *ret_n, bool *ret_pinned, struct mb_error *err)
{
    json_t *root = load(text, n, err);
    if (!root) {
        return MB_E_FORMAT;
    }
    enum mb_status st = read_epochs(root, ret, ret_n, err);
    if (st == MB_OK) {
        *ret_pinned = json_is_true(json_object_get(root, "pinned"));
    }
    json_decref(root);
    return st;
}

enum mb_status mb_model_epoch_decode(const char *text, size_t n,
                                     struct mb_model_epoch_told *ret, struct mb_error *err)
{
    json_t *root = load(text, n, err);
    if (!root) {
        return MB_E_FORMAT;
    }
    copy(ret->model, sizeof ret->model, root, "id");
    copy(ret->epoch, sizeof ret->epoch, root, "epoch");
    copy(ret->before, sizeof ret->before, root, "before");
    ret->pinned = json_is_true(json_object_get(root, "pinned"));
    json_decref(root);
    return MB_OK;
}
