/* The keys of a file, one on each line (key.h); empty lines and those that start with # are none.
 *
 * Reading the file anew is all or nothing: a file with an error changes no key. A key whose name was
 * there before stays the same key, with what it has used of its limits; its hash, scopes and limits
 * become those of the file.
 *
 * Bound:   MBD_KEYS_MAX keys in MBD_KEYS_FILE_MAX bytes.
 * Life:    _new/_free. Threads: the control thread. */
#ifndef MBD_KEYRING_H
#define MBD_KEYRING_H

#include "server/access/key.h"

#define MBD_KEYS_MAX      1024
#define MBD_KEYS_FILE_MAX (1u << 20)
/* Ids of keys are below: those of the file, and as many that left it while they were in use. More of
 * these share id 0 with requests that have no key. */
#define MBD_KEY_IDS       (2 * MBD_KEYS_MAX)

struct mbd_keyring;

/* Reads path. Errors: MB_E_NOTFOUND, MB_E_IO, MB_E_INVALID naming path and line; MB_E_NOMEM. */
enum mb_status mbd_keyring_new(const char *path, struct mbd_keyring **ret,
                               struct mb_error *err);
enum mb_status mbd_keyring_reload(struct mbd_keyring *r, struct mb_error *err);
void mbd_keyring_free(struct mbd_keyring *r); /* NULL is allowed */

/* Borrowed; NULL when no key has this text. Takes as long for one as for another. */
struct mbd_key *mbd_keyring_find(const struct mbd_keyring *r, const char *text, size_t n);
size_t mbd_keyring_count(const struct mbd_keyring *r);

#endif
