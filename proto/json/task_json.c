#include "proto/json/task_json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/json/text_json.h"

static const char *const kinds[MB_TASK_EVENTS] = {
    [MB_TASK_READY] = "ready",       [MB_TASK_STEP] = "step",       [MB_TASK_VALID] = "valid",
    [MB_TASK_SNAPSHOT] = "snapshot", [MB_TASK_STOPPED] = "stopped", [MB_TASK_DONE] = "done",
    [MB_TASK_FAILED] = "failed",
};

void mb_task_fini(struct mb_task *t)
{
    char *texts[] = { t->base,   t->start, t->training, t->validation, t->teacher,
                      t->folder, t->body,  t->isa,      t->priority };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        free(texts[i]);
    }
    *t = (struct mb_task) { 0 };
}

/* A text, or null; also a path that is no UTF-8. */
static json_t *text(const char *s)
{
    return s ? json_stringn_nocheck(s, strlen(s)) : json_null();
}

/* root's line, which this frees. */
static char *line_of(json_t *root)
{
    char *s = root ? json_dumps(root, JSON_COMPACT | JSON_REAL_PRECISION(17)) : NULL;
    json_decref(root);
    size_t n = s ? strlen(s) : 0;
    char *line = s ? realloc(s, n + 2) : NULL;
    if (!line) {
        free(s);
        return NULL;
    }
    memcpy(line + n, "\n", 2);
    return line;
}

/* 64 bits as text: a JSON number may have 63. */
static json_t *digits(uint64_t v)
{
    char s[24];
    (void) snprintf(s, sizeof s, "%llu", (unsigned long long) v);
    return json_string(s);
}

char *mb_task_encode(const struct mb_task *t)
{
    return line_of(json_pack(
        "{s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:I,s:I,s:o,s:b}", "base", text(t->base),
        "base_digest", digits(t->base_digest), "start", text(t->start), "training",
        text(t->training), "validation", text(t->validation), "teacher", text(t->teacher),
        "folder", text(t->folder), "body", text(t->body), "isa", text(t->isa), "priority",
        text(t->priority), "seed", (json_int_t) t->seed, "threads", (json_int_t) t->threads,
        "memory", digits(t->memory), "resume", (int) t->resume));
}

/* ---- reading: of what this program wrote, so that errors need no detail ------------------ */

static enum mb_status wrong(struct mb_error *err, const char *name)
{
    return mb_fail(err, MB_E_FORMAT, 0, "'%s' is not what it should be", name);
}

static enum mb_status take_text(const json_t *root, const char *name, bool needed, char **ret,
                                struct mb_error *err)
{
    const json_t *v = json_object_get(root, name);
    if (!json_is_string(v)) {
        return needed || !json_is_null(v) ? wrong(err, name) : MB_OK;
    }
    *ret = strdup(json_string_value(v));
    return *ret ? MB_OK : mb_fail(err, MB_E_NOMEM, 0, "no memory for a task");
}

static enum mb_status take_digits(const json_t *root, const char *name, uint64_t *ret,
                                  struct mb_error *err)
{
    const char *s = json_string_value(json_object_get(root, name));
    char *end = NULL;
    unsigned long long v = s ? strtoull(s, &end, 10) : 0;
    if (!s || end == s || *end) {
        return wrong(err, name);
    }
    *ret = v;
    return MB_OK;
}

static enum mb_status take_u32(const json_t *root, const char *name, uint32_t *ret,
                               struct mb_error *err)
{
    json_int_t v = json_integer_value(json_object_get(root, name));
    if (!json_is_integer(json_object_get(root, name)) || v < 0 || v > UINT32_MAX) {
        return wrong(err, name);
    }
    *ret = (uint32_t) v;
    return MB_OK;
}

static enum mb_status load(const char *at, size_t n, json_t **ret, struct mb_error *err)
{
    json_error_t why;
    json_t *root = json_loadb(at, n, JSON_REJECT_DUPLICATES, &why);
    if (!json_is_object(root)) {
        json_decref(root);
        return mb_fail(err, MB_E_FORMAT, 0, "not a JSON object: %s", why.text);
    }
    *ret = root;
    return MB_OK;
}

enum mb_status mb_task_decode(const char *at, size_t n, struct mb_task *ret,
                              struct mb_error *err)
{
    json_t *root = NULL;
    struct mb_task t = { 0 };
    enum mb_status st = load(at, n, &root, err);
    if (st != MB_OK) {
        return st;
    }
    const struct {
        const char *name;
        bool needed;
        char **to;
    } texts[] = {
        { "base", true, &t.base },         { "start", false, &t.start },
        { "training", true, &t.training }, { "validation", false, &t.validation },
        { "teacher", false, &t.teacher },  { "folder", true, &t.folder },
        { "body", true, &t.body },         { "isa", true, &t.isa },
        { "priority", true, &t.priority },
    };
    for (size_t i = 0; st == MB_OK && i < sizeof texts / sizeof texts[0]; i++) {
        st = take_text(root, texts[i].name, texts[i].needed, texts[i].to, err);
    }
    if (st == MB_OK && (st = take_u32(root, "seed", &t.seed, err)) == MB_OK &&
        (st = take_u32(root, "threads", &t.threads, err)) == MB_OK &&
        (st = take_digits(root, "memory", &t.memory, err)) == MB_OK) {
        st = take_digits(root, "base_digest", &t.base_digest, err);
    }
    t.resume = json_is_true(json_object_get(root, "resume"));
    json_decref(root);
    if (st != MB_OK) {
        mb_task_fini(&t);
        return st;
    }
    *ret = t;
    return MB_OK;
}

/* ---- events ------------------------------------------------------------------------------ */

/* The numbers of an event: integers, and those that may be none (null). */
struct number {
    const char *name;
    size_t offset;
};
#define NUMBER(member)                                  \
    {                                                   \
#member, offsetof(struct mb_task_event, member) \
    }

static const struct number integers[] = {
    NUMBER(step),    NUMBER(total_steps), NUMBER(tokens),    NUMBER(flips),
    NUMBER(moved),   NUMBER(total_flips), NUMBER(weights),   NUMBER(examples),
    NUMBER(learned), NUMBER(bytes),       NUMBER(bad_lines),
};
static const struct number reals[] = { NUMBER(loss), NUMBER(state_bytes) };
enum {
    INTEGERS = sizeof integers / sizeof integers[0],
    REALS = sizeof reals / sizeof reals[0]
};

static void *place(const struct mb_task_event *e, const struct number *n)
{
    return (char *) e + n->offset;
}

char *mb_task_event_encode(const struct mb_task_event *e)
{
    json_t *root = json_pack("{s:s,s:s,s:s,s:i,s:b,s:s,s:o}", "event", kinds[e->kind], "file",
                             e->file, "epoch", e->epoch, "status", (int) e->status, "is_users",
                             (int) e->is_users, "param", e->param, "message",
                             mb_json_string_of(e->message, strlen(e->message)));
    bool ok = root != NULL;
    for (size_t i = 0; ok && i < INTEGERS; i++) {
        const uint64_t *v = place(e, &integers[i]);
        ok = json_object_set_new(root, integers[i].name, json_integer((json_int_t) *v)) == 0;
    }
    for (size_t i = 0; ok && i < REALS; i++) {
        const double *v = place(e, &reals[i]);
        ok = json_object_set_new(root, reals[i].name,
                                 isfinite(*v) ? json_real(*v) : json_null()) == 0;
    }
    if (!ok) {
        json_decref(root);
        return NULL;
    }
    return line_of(root);
}

static void copy_text(const json_t *root, const char *name, char *ret, size_t n)
{
    const char *s = json_string_value(json_object_get(root, name));
    (void) snprintf(ret, n, "%s", s ? s : "");
}

enum mb_status mb_task_event_decode(const char *at, size_t n, struct mb_task_event *ret,
                                    struct mb_error *err)
{
    json_t *root = NULL;
    struct mb_task_event e = { .kind = MB_TASK_EVENTS };
    enum mb_status st = load(at, n, &root, err);
    if (st != MB_OK) {
        return st;
    }
    const char *kind = json_string_value(json_object_get(root, "event"));
    for (int k = 0; kind && k < MB_TASK_EVENTS; k++) {
        e.kind = strcmp(kinds[k], kind) == 0 ? (enum mb_task_event_kind) k : e.kind;
    }
    for (size_t i = 0; i < INTEGERS; i++) {
        json_int_t v = json_integer_value(json_object_get(root, integers[i].name));
        *(uint64_t *) place(&e, &integers[i]) = v > 0 ? (uint64_t) v : 0;
    }
    for (size_t i = 0; i < REALS; i++) {
        const json_t *v = json_object_get(root, reals[i].name);
        *(double *) place(&e, &reals[i]) =
            json_is_number(v) ? json_number_value(v) : (double) NAN;
    }
    json_int_t status = json_integer_value(json_object_get(root, "status"));
    e.status = status >= 0 && status < MB_STATUSES ? (enum mb_status) status : MB_E_IO;
    e.is_users = json_is_true(json_object_get(root, "is_users"));
    copy_text(root, "file", e.file, sizeof e.file);
    copy_text(root, "epoch", e.epoch, sizeof e.epoch);
    copy_text(root, "param", e.param, sizeof e.param);
    copy_text(root, "message", e.message, sizeof e.message);
    json_decref(root);
    if (e.kind == MB_TASK_EVENTS) {
        return wrong(err, "event");
    }
    *ret = e;
    return MB_OK;
}
