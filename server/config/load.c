/* The four sources of options, in order: each sets what it names, by the table. */
#include <jansson.h>

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/config/table.h"

enum { FILE_BYTES_MAX = 1 << 20 }; /* a configuration is a page or two */

/* A list of a later source replaces that of an earlier one; within a source it grows. */
/* ---- command line ------------------------------------------------------------------------ */

/* The row that names the file, which is looked for before all others. */
static bool is_config(const struct mbd_row *row)
{
    return row->offset == offsetof(struct mbd_options, config) && row->kind == MBD_KIND_TEXT;
}

struct flag {
    const struct mbd_row *row;
    const char *value; /* NULL for an action */
    char shown[MBD_NAME_MAX];
};

static enum mb_status unknown_flag(const char *text, size_t n, const char *near,
                                   struct mb_error *err)
{
    return mb_fail(err, MB_E_INVALID, 0, "--%.*s: there is no such option%s%s%s",
                   (int) (n < 64 ? n : 64), text, near ? "; did you mean --" : "",
                   near ? near : "", near ? "?" : " (see --help)");
}

/* Reads argv[*i], and argv[*i + 1] when the value stands there; *i becomes the last read. */
static enum mb_status read_flag(int argc, const char *const *argv, int *i, struct flag *ret,
                                struct mb_error *err)
{
    const char *text = argv[*i];
    if (strcmp(text, "-h") == 0) {
        text = "--help";
    }
    if (strncmp(text, "--", 2) != 0) {
        return mb_fail(err, MB_E_INVALID, 0, "'%.100s': options start with --", text);
    }
    text += 2;
    size_t n = strcspn(text, "=");
    const char *near, *value = text[n] ? text + n + 1 : NULL;
    const struct mbd_row *row = mbd_table_find(text, n, &near);
    bool no = !row && n > 3 && strncmp(text, "no-", 3) == 0;
    if (no) {
        const char *unused;
        row = mbd_table_find(text + 3, n - 3, &unused);
        no = row && row->kind == MBD_KIND_BOOL && !value;
        row = no ? row : NULL;
    }
    if (!row) {
        return unknown_flag(text, n, near, err);
    }
    (void) snprintf(ret->shown, sizeof ret->shown, "--%s", row->name);
    if (row->kind == MBD_KIND_ACTION && !row->metavar && value) {
        return mb_fail(err, MB_E_INVALID, 0, "%s: takes no value", ret->shown);
    }
    if (row->kind == MBD_KIND_BOOL && !value) {
        value = no ? "false" : "true";
    }
    if (row->metavar && !value) {
        if (*i + 1 >= argc) {
            return mb_fail(err, MB_E_INVALID, 0, "%s: needs a value %s", ret->shown,
                           row->metavar);
        }
        value = argv[++*i];
    }
    ret->row = row;
    ret->value = value;
    return MB_OK;
}

/* First walk: what to do, and which file; second walk: everything else. */
static enum mb_status scan_flags(struct mbd_options *o, int argc, const char *const *argv,
                                 enum mbd_action *action, struct mb_error *err)
{
    for (int i = 1; i < argc; i++) {
        struct flag f;
        enum mb_status st = read_flag(argc, argv, &i, &f, err);
        if (st == MB_OK && f.row->kind == MBD_KIND_ACTION) {
            enum mbd_action a = (enum mbd_action) f.row->min;
            /* --help beats what else is asked for. */
            *action = *action == MBD_ACTION_HELP ? *action : a;
        }
        if (st == MB_OK && (is_config(f.row) || (f.row->kind == MBD_KIND_ACTION && f.value))) {
            st = mbd_table_set(f.row, f.value, f.shown, o, err);
        }
        if (st != MB_OK) {
            return st;
        }
    }
    return MB_OK;
}

static enum mb_status apply_flags(struct mbd_options *o, int argc, const char *const *argv,
                                  struct mb_error *err)
{
    bool seen[MBD_KINDS] = { false };
    for (int i = 1; i < argc; i++) {
        struct flag f;
        enum mb_status st = read_flag(argc, argv, &i, &f, err);
        if (st == MB_OK && f.row->kind != MBD_KIND_ACTION && !is_config(f.row)) {
            if (mbd_table_is_list(f.row) && !seen[f.row->kind]) {
                mbd_table_forget(f.row->kind, o);
                seen[f.row->kind] = true;
            }
            st = mbd_table_set(f.row, f.value, f.shown, o, err);
        }
        if (st != MB_OK) {
            return st;
        }
    }
    return MB_OK;
}

/* ---- environment ------------------------------------------------------------------------- */

static const char *variable(const char *const *env, const char *name)
{
    size_t n = strlen(name);
    for (; env && *env; env++) {
        if (strncmp(*env, name, n) == 0 && (*env)[n] == '=') {
            return *env + n + 1;
        }
    }
    return NULL;
}

/* Variables that no row names are let be: Kubernetes puts MBOOLD_PORT and the like there for a
 * service of this name. */
static enum mb_status apply_environment(struct mbd_options *o, const char *const *env,
                                        struct mb_error *err)
{
    for (const struct mbd_row *row = mbd_table; row->name; row++) {
        char name[MBD_NAME_MAX];
        mbd_table_variable(row, name);
        const char *value = mbd_table_in_environment(row) ? variable(env, name) : NULL;
        if (!value || is_config(row)) { /* the file was named before */
            continue;
        }
        if (mbd_table_is_list(row)) {
            mbd_table_forget(row->kind, o);
        }
        enum mb_status st = mbd_table_set(row, value, name, o, err);
        if (st != MB_OK) {
            return st;
        }
    }
    return MB_OK;
}

/* ---- file -------------------------------------------------------------------------------- */

/* The whole file, terminated; malloc'ed. */
static enum mb_status read_file(const char *path, char **ret, size_t *ret_n,
                                struct mb_error *err)
{
    FILE *f = fopen(path, "re");
    if (!f) {
        return mb_fail(err, errno == ENOENT ? MB_E_NOTFOUND : MB_E_IO, errno, "--config: '%s'",
                       path);
    }
    char *text = malloc(FILE_BYTES_MAX + 1);
    size_t n = text ? fread(text, 1, FILE_BYTES_MAX + 1, f) : 0;
    enum mb_status st = MB_OK;
    if (!text) {
        st = mb_fail(err, MB_E_NOMEM, 0, "--config: no memory for '%s'", path);
    } else if (ferror(f)) {
        st = mb_fail(err, MB_E_IO, errno, "--config: read '%s'", path);
    } else if (n > FILE_BYTES_MAX) {
        st = mb_fail(err, MB_E_INVALID, 0, "--config: '%s' is larger than 1M", path);
    }
    (void) fclose(f);
    if (st != MB_OK) {
        free(text);
        return st;
    }
    text[n] = '\0';
    *ret = text;
    *ret_n = n;
    return MB_OK;
}

/* The line where key stands as a key of the outermost object; 0 when it is written with
 * escapes. The text is known to be JSON. */
static int line_of(const char *text, const char *key)
{
    int line = 1, depth = 0;
    size_t n_key = strlen(key);
    for (const char *c = text; *c; c++) {
        if (*c == '\n') {
            line++;
        } else if (*c == '{' || *c == '[') {
            depth++;
        } else if (*c == '}' || *c == ']') {
            depth--;
        } else if (*c == '"') {
            const char *start = ++c;
            while (*c && *c != '"') {
                c += *c == '\\' && c[1] ? 2 : 1;
            }
            if (!*c) {
                return 0;
            }
            const char *after = c + 1 + strspn(c + 1, " \t\r\n");
            if (depth == 1 && *after == ':' && (size_t) (c - start) == n_key &&
                memcmp(start, key, n_key) == 0) {
                return line;
            }
        }
    }
    return 0;
}

static enum mb_status set_list(const struct mbd_row *row, json_t *v, const char *what,
                               struct mbd_options *o, struct mb_error *err)
{
    const char *name;
    json_t *file;
    mbd_table_forget(row->kind, o);
    json_object_foreach (v, name, file) {
        const char *path = json_string_value(file);
        if (!path || strchr(path, ',')) {
            return mb_fail(err, MB_E_INVALID, 0, "%s: '%s': must be the path of a file", what,
                           name);
        }
        char text[MB_MODEL_NAME_MAX + 4096 + 2];
        if ((size_t) snprintf(text, sizeof text, "%s=%s", name, path) >= sizeof text) {
            return mb_fail(err, MB_E_INVALID, 0, "%s: a name or path is too long", what);
        }
        enum mb_status st = mbd_table_set(row, text, what, o, err);
        if (st != MB_OK) {
            return st;
        }
    }
    return MB_OK;
}

/* The JSON type that a row wants, for people; NULL when v is of it. */
static const char *wrong_type(const struct mbd_row *row, const json_t *v)
{
    switch (row->kind) {
    case MBD_KIND_U32:
    case MBD_KIND_U64:
        return json_is_integer(v) ? NULL : "an integer";
    case MBD_KIND_SECONDS:
        return json_is_number(v) ? NULL : "a number of seconds";
    case MBD_KIND_BYTES:
        return json_is_integer(v) || json_is_string(v) ? NULL
                                                       : "a number or a string as \"8M\"";
    case MBD_KIND_BOOL:
        return json_is_boolean(v) ? NULL : "true or false";
    case MBD_KIND_MODELS:
    case MBD_KIND_EPOCHS:
    case MBD_KIND_TEACHERS:
        return json_is_object(v) ? NULL : "an object of names and files";
    default:
        return json_is_string(v) ? NULL : "a string";
    }
}

static enum mb_status set_key(const char *where, const char *key, json_t *v,
                              struct mbd_options *o, struct mb_error *err)
{
    const char *near;
    const struct mbd_row *row = mbd_table_find(key, strlen(key), &near);
    char name[MBD_NAME_MAX];
    if (!row || !mbd_table_in_file(row) || strchr(key, '-')) {
        near = row && mbd_table_in_file(row) ? row->name : near;
        const struct mbd_row *other = near ? mbd_table_find(near, strlen(near), &near) : NULL;
        other = other && mbd_table_in_file(other) ? other : NULL;
        if (other) {
            mbd_table_key(other, name);
        }
        return mb_fail(err, MB_E_INVALID, 0, "%s: '%.64s': there is no such option%s%s%s",
                       where, key, other ? "; did you mean '" : "", other ? name : "",
                       other ? "'?" : "");
    }
    char what[300];
    (void) snprintf(what, sizeof what, "%s: %s", where, key);
    const char *type = wrong_type(row, v);
    if (type) {
        return mb_fail(err, MB_E_INVALID, 0, "%s: must be %s", what, type);
    }
    if (mbd_table_is_list(row)) {
        return set_list(row, v, what, o, err);
    }
    char number[64];
    const char *text = json_string_value(v);
    if (json_is_boolean(v)) {
        text = json_is_true(v) ? "true" : "false";
    } else if (json_is_integer(v)) {
        (void) snprintf(number, sizeof number, "%lld", (long long) json_integer_value(v));
        text = number;
    } else if (json_is_real(v)) {
        (void) snprintf(number, sizeof number, "%.6f", json_real_value(v));
        text = number;
    }
    assert(text);
    return mbd_table_set(row, text, what, o, err);
}

static enum mb_status apply_file(struct mbd_options *o, struct mb_error *err)
{
    char *text = NULL;
    size_t n = 0;
    enum mb_status st = read_file(o->config, &text, &n, err);
    if (st != MB_OK) {
        return st;
    }
    json_error_t where;
    json_t *root = json_loadb(text, n, JSON_REJECT_DUPLICATES, &where);
    if (!root || !json_is_object(root)) {
        st = mb_fail(err, MB_E_INVALID, 0, "%.200s:%d: %s", o->config, root ? 1 : where.line,
                     root ? "must be a JSON object" : where.text);
    }
    const char *key;
    json_t *v;
    json_object_foreach (root, key, v) {
        char at[256];
        int line = line_of(text, key);
        if (line > 0) {
            (void) snprintf(at, sizeof at, "%.200s:%d", o->config, line);
        } else {
            (void) snprintf(at, sizeof at, "%.200s", o->config);
        }
        st = set_key(at, key, v, o, err);
        if (st != MB_OK) {
            break;
        }
    }
    json_decref(root);
    free(text);
    return st;
}

/* ---- all together ------------------------------------------------------------------------ */

static enum mb_status agree(const struct mbd_options *o, struct mb_error *err)
{
    if (o->n_models == 0) {
        return mb_fail(err, MB_E_INVALID, 0, "--model: at least one NAME=FILE is needed");
    }
    if (!o->keys && !o->insecure && !mbd_address_is_loopback(&o->listen)) {
        return mb_fail(err, MB_E_INVALID, 0,
                       "--listen: other machines could ask at %s, and there are no --keys; "
                       "--insecure allows it",
                       o->listen.host);
    }
    if (!o->tls_cert != !o->tls_key) {
        return mb_fail(err, MB_E_INVALID, 0, "--tls-cert, --tls-key: one is of no use alone");
    }
    if (o->step_tokens < o->sequences_max) {
        return mb_fail(
            err, MB_E_INVALID, 0,
            "--step-tokens: %u is not allowed: it must be at least max-sequences, %u",
            o->step_tokens, o->sequences_max);
    }
    if (o->body_memory < o->body_max) {
        return mb_fail(err, MB_E_INVALID, 0,
                       "--body-memory: %llu is not allowed: it must be at least max-body, %llu",
                       (unsigned long long) o->body_memory, (unsigned long long) o->body_max);
    }
    uint32_t arriving =
        o->header_timeout_ms > o->body_timeout_ms ? o->header_timeout_ms : o->body_timeout_ms;
    if (o->idle_timeout_ms <= arriving) { /* silence would end what is to be told 408 */
        return mb_fail(err, MB_E_INVALID, 0,
                       "--idle-timeout: %g is not allowed: it must be above %s-timeout, %g",
                       o->idle_timeout_ms / 1e3,
                       arriving == o->body_timeout_ms ? "body" : "header", arriving / 1e3);
    }
    return MB_OK;
}

enum mb_status mbd_options_load(struct mbd_options *o, int argc, const char *const *argv,
                                const char *const *env, enum mbd_action *ret,
                                struct mb_error *err)
{
    enum mbd_action action = MBD_ACTION_RUN;
    enum mb_status st = scan_flags(o, argc, argv, &action, err);
    if (st != MB_OK) {
        return st;
    }
    bool health = action == MBD_ACTION_CHECK_HEALTH;
    if (action == MBD_ACTION_RUN || action == MBD_ACTION_CHECK_CONFIG || health) {
        const char *file = variable(env, "MBOOLD_CONFIG");
        if (!o->config && file && *file && !(o->config = strdup(file))) {
            return mb_fail(err, MB_E_NOMEM, 0, "MBOOLD_CONFIG: no memory");
        }
        if (o->config) {
            st = apply_file(o, err);
        }
        if (st == MB_OK) {
            st = apply_environment(o, env, err);
        }
        if (st == MB_OK) {
            st = apply_flags(o, argc, argv, err);
        }
        if (st == MB_OK && !health) { /* it asks for no more than an address */
            st = agree(o, err);
        }
        if (st != MB_OK) {
            return st;
        }
    }
    *ret = action;
    return MB_OK;
}
