/* Where the daemon is, and the key that it may want.
 *
 * Threads: a value. */
#ifndef MBC_HOST_H
#define MBC_HOST_H

#include "proto/status.h"

#define MBC_HOST_DEFAULT "127.0.0.1:8080" /* what mboold listens on by default */

struct mbc_host {
    char url[512]; /* "http://127.0.0.1:8080", without a slash at its end */
    char key[512]; /* goes as "Authorization: Bearer ..."; "" for none */
    char
        ca[4096]; /* a file of PEM: whom to believe, of https; "": whom this machine believes */
};

/* text is a host as people write one: "box", "box:9000", "[::1]:9000", ":9000" or a URL of http
 * or https, whose path is put before every route; NULL or "" is the default. Without a scheme it
 * is http, and without a port then 8080. key may be NULL.
 * Errors: MB_E_INVALID, saying what is wrong; the key is never repeated. */
enum mb_status mbc_host_parse(const char *text, const char *key, struct mbc_host *ret,
                              struct mb_error *err);

#endif
