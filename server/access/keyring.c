#include "server/access/keyring.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/scheduler/fair_queue.h"

_Static_assert(MBD_KEY_IDS <= MBD_TENANTS_MAX, "a key's id is its tenant's");

struct mbd_keyring {
    char *path;
    struct mbd_key **keys; /* [n] */
    size_t n;
    struct mbd_key *of_id[MBD_KEY_IDS]; /* a reference each, until nobody else has one */
};

/* ---- reading ----------------------------------------------------------------------------- */

/* What a file says, before anything of it holds. */
struct draft {
    struct mbd_key *keys; /* [n], values */
    size_t n;
};

static enum mb_status add(struct draft *d, const struct mbd_key *k, struct mb_error *err)
{
    if (d->n == MBD_KEYS_MAX) {
        return mb_fail(err, MB_E_INVALID, 0, "there are more than %d keys", MBD_KEYS_MAX);
    }
    for (size_t i = 0; i < d->n; i++) {
        if (strcmp(d->keys[i].name, k->name) == 0) {
            return mb_fail(err, MB_E_INVALID, 0, "the name '%s' stands twice", k->name);
        }
        if (memcmp(d->keys[i].hash, k->hash, sizeof k->hash) == 0) {
            return mb_fail(err, MB_E_INVALID, 0, "'%s' and '%s' are the same key",
                           d->keys[i].name, k->name);
        }
    }
    d->keys[d->n++] = *k;
    return MB_OK;
}

static enum mb_status read_lines(FILE *f, const char *path, struct draft *d,
                                 struct mb_error *err)
{
    char line[MBD_KEY_LINE_MAX + 2];
    size_t bytes = 0;
    for (unsigned number = 1; fgets(line, sizeof line, f); number++) {
        struct mb_error why;
        struct mbd_key k;
        size_t n = strlen(line);
        bytes += n;
        if ((n == sizeof line - 1 && line[n - 1] != '\n') || bytes > MBD_KEYS_FILE_MAX) {
            return mb_fail(err, MB_E_INVALID, 0, "%s:%u: the line or the file is too long",
                           path, number);
        }
        const char *start = line + strspn(line, " \t\r\n");
        if (*start == '\0' || *start == '#') {
            continue;
        }
        enum mb_status st = mbd_key_parse(start, &k, &why);
        if (st == MB_OK) {
            st = add(d, &k, &why);
        }
        if (st != MB_OK) {
            return mb_fail(err, st, 0, "%s:%u: %s", path, number, why.what);
        }
    }
    if (ferror(f)) {
        return mb_fail(err, MB_E_IO, errno, "keys: read '%s'", path);
    }
    if (d->n == 0) {
        return mb_fail(err, MB_E_INVALID, 0, "%s: there is no key in it", path);
    }
    return MB_OK;
}

static enum mb_status read_file(const char *path, struct draft *ret, struct mb_error *err)
{
    struct draft d = { .keys = calloc(MBD_KEYS_MAX, sizeof *d.keys) };
    if (!d.keys) {
        return mb_fail(err, MB_E_NOMEM, 0, "keys: no memory");
    }
    FILE *f = fopen(path, "re");
    enum mb_status st = MB_OK;
    if (!f) {
        st = mb_fail(err, errno == ENOENT ? MB_E_NOTFOUND : MB_E_IO, errno, "keys: '%s'", path);
    } else {
        st = read_lines(f, path, &d, err);
        (void) fclose(f);
    }
    if (st != MB_OK) {
        free(d.keys);
        return st;
    }
    *ret = d;
    return MB_OK;
}

/* ---- taking over ------------------------------------------------------------------------- */

static struct mbd_key *named(const struct mbd_keyring *r, const char *name)
{
    for (size_t i = 0; i < r->n; i++) {
        if (strcmp(r->keys[i]->name, name) == 0) {
            return r->keys[i];
        }
    }
    return NULL;
}

/* Ids whose keys only this table still knows are free again. */
static void sweep(struct mbd_keyring *r)
{
    for (size_t id = 1; id < MBD_KEY_IDS; id++) {
        if (r->of_id[id] && r->of_id[id]->refs == 1) {
            mbd_key_unref(r->of_id[id]);
            r->of_id[id] = NULL;
        }
    }
}

static void give_id(struct mbd_keyring *r, struct mbd_key *k)
{
    for (uint32_t id = 1; id < MBD_KEY_IDS && k->id == 0; id++) {
        if (!r->of_id[id]) {
            r->of_id[id] = mbd_key_ref(k);
            k->id = id;
        }
    }
}

static void set(struct mbd_key *k, const struct mbd_key *from)
{
    memcpy(k->name, from->name, sizeof k->name);
    memcpy(k->hash, from->hash, sizeof k->hash);
    k->scopes = from->scopes;
    k->low = from->low;
    k->limits = from->limits;
}

static void release(struct mbd_key **keys, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        mbd_key_unref(keys[i]);
    }
    free(keys);
}

enum mb_status mbd_keyring_reload(struct mbd_keyring *r, struct mb_error *err)
{
    struct draft d = { 0 };
    enum mb_status st = read_file(r->path, &d, err);
    if (st != MB_OK) {
        return st;
    }
    struct mbd_key **keys = calloc(d.n, sizeof(struct mbd_key *));
    size_t n = 0;
    for (; keys && n < d.n; n++) {
        struct mbd_key *k = named(r, d.keys[n].name);
        keys[n] = mbd_key_ref(k ? k : calloc(1, sizeof *k));
        if (!keys[n]) {
            break;
        }
    }
    if (n < d.n) {
        release(keys, n);
        free(d.keys);
        return mb_fail(err, MB_E_NOMEM, 0, "keys: no memory");
    }
    for (size_t i = 0; i < n; i++) { /* from here on nothing fails */
        set(keys[i], &d.keys[i]);
    }
    release(r->keys, r->n);
    r->keys = keys;
    r->n = n;
    sweep(r);
    for (size_t i = 0; i < n; i++) {
        give_id(r, keys[i]);
    }
    free(d.keys);
    return MB_OK;
}

enum mb_status mbd_keyring_new(const char *path, struct mbd_keyring **ret, struct mb_error *err)
{
    struct mbd_keyring *r = calloc(1, sizeof *r);
    if (!r || !(r->path = strdup(path))) {
        free(r);
        return mb_fail(err, MB_E_NOMEM, 0, "keys: no memory");
    }
    enum mb_status st = mbd_keyring_reload(r, err);
    if (st != MB_OK) {
        mbd_keyring_free(r);
        return st;
    }
    *ret = r;
    return MB_OK;
}

void mbd_keyring_free(struct mbd_keyring *r)
{
    if (!r) {
        return;
    }
    release(r->keys, r->n);
    for (size_t id = 0; id < MBD_KEY_IDS; id++) {
        mbd_key_unref(r->of_id[id]);
    }
    free(r->path);
    free(r);
}

struct mbd_key *mbd_keyring_find(const struct mbd_keyring *r, const char *text, size_t n)
{
    uint8_t hash[MBD_KEY_HASH_BYTES];
    struct mbd_key *found = NULL;
    mbd_key_hash(text, n, hash);
    for (size_t i = 0; i < r->n; i++) { /* all of them, whichever it is */
        if (mbd_key_hash_equal(hash, r->keys[i]->hash)) {
            found = r->keys[i];
        }
    }
    return found;
}

size_t mbd_keyring_count(const struct mbd_keyring *r)
{
    return r->n;
}
