/* An API key: who asks, what it may do, and how much. Keys are named and hashed; the key itself is
 * nowhere but in its owner's hands.
 *
 *     name  scopes  [limit=value ...]  sha256:<64 hexadecimal digits>
 *
 * is its line in the file (keyring.h). The hash is a plain one: a key is 256 random bits, of which no
 * dictionary has any, so that a slow hash would only slow down requests.
 *
 * Life:    counted references: the keyring has one, and each request that came with the key. A key
 *          that left the file lives on, unfindable, until its last request ended.
 * Threads: the control thread. */
#ifndef MBD_KEY_H
#define MBD_KEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/status.h"

#define MBD_KEY_NAME_MAX   64
#define MBD_KEY_TEXT_MIN   32 /* characters of a key; of those made here 46 */
#define MBD_KEY_TEXT_MAX   512
#define MBD_KEY_HASH_BYTES 32
#define MBD_KEY_LINE_MAX   512

/* What a key may do: a set of these. A route names those of which one is needed; none at all: no
 * key opens it. */
enum {
    MBD_SCOPE_INFER = 1,    /* completions, chats, embeddings, tokens */
    MBD_SCOPE_FINETUNE = 2, /* files and jobs */
    MBD_SCOPE_ADMIN = 4,    /* which version of a model is served */
    MBD_SCOPE_METRICS = 8,
    MBD_SCOPE_ANY = 15,
    MBD_SCOPE_OPEN = 16, /* of a route: no key is needed */
};

/* 0: no such limit. */
struct mbd_key_limits {
    uint32_t concurrent;          /* requests at once */
    uint32_t requests_per_minute; /* the whole may be used at once, and comes back evenly */
    uint64_t tokens_per_minute;   /* of prompts and completions; likewise */
};

/* What was used of a limit a minute, at a time; the rest is arithmetic: see limiter.h. */
struct mbd_bucket {
    double used;
    uint64_t at_ns;
};

struct mbd_key {
    char name[MBD_KEY_NAME_MAX + 1];
    uint8_t hash[MBD_KEY_HASH_BYTES];
    unsigned scopes;
    bool low; /* its requests wait behind others; see scheduler/queue.h */
    struct mbd_key_limits limits;

    uint32_t running; /* requests that began and did not end */
    struct mbd_bucket requests, tokens;

    unsigned refs;
    uint32_t id; /* of those that are alive the only one with it; 0: not in a keyring */
};

/* Reads a line of the file; *ret is a value, with no references.
 * Errors: MB_E_INVALID saying what is wrong with it. */
enum mb_status mbd_key_parse(const char *line, struct mbd_key *ret, struct mb_error *err);
/* The line of a key with this text; ret has MBD_KEY_LINE_MAX bytes.
 * Errors: MB_E_INVALID for a name or text that can not be one. */
enum mb_status mbd_key_line(const char *name, const char *text, char *ret,
                            struct mb_error *err);
/* A new key's text, terminated: "mb-" and 256 random bits.
 * Errors: MB_E_IO when the system gives no random bytes. */
enum { MBD_KEY_NEW_CHARACTERS = 46 };
enum mb_status mbd_key_draw(char ret[MBD_KEY_NEW_CHARACTERS + 1], struct mb_error *err);

void mbd_key_hash(const char *text, size_t n, uint8_t ret[MBD_KEY_HASH_BYTES]);
/* In a time that does not tell where they differ. */
bool mbd_key_hash_equal(const uint8_t *a, const uint8_t *b);

/* "infer,metrics" as a set; 0 when a word is unknown or there is none. */
unsigned mbd_scopes_parse(const char *text, size_t n);
/* The words of a set, with commas; ret has room for all of them. */
enum { MBD_SCOPES_TEXT_MAX = 40 };
void mbd_scopes_text(unsigned scopes, char ret[MBD_SCOPES_TEXT_MAX]);

struct mbd_key *mbd_key_ref(struct mbd_key *k); /* NULL is allowed */
void mbd_key_unref(struct mbd_key *k);          /* NULL is allowed */

#endif
