/* What of a key is cryptography: GnuTLS does it. */
#include <errno.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "server/access/key.h"

void mbd_key_hash(const char *text, size_t n, uint8_t ret[MBD_KEY_HASH_BYTES])
{
    if (gnutls_hash_fast(GNUTLS_DIG_SHA256, text, n, ret) != 0) {
        abort(); /* a GnuTLS without SHA-256: nothing here could be told apart */
    }
}

bool mbd_key_hash_equal(const uint8_t *a, const uint8_t *b)
{
    return gnutls_memcmp(a, b, MBD_KEY_HASH_BYTES) == 0;
}

enum mb_status mbd_key_draw(char ret[MBD_KEY_NEW_CHARACTERS + 1], struct mb_error *err)
{
    static const char digits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    enum { BYTES = 32, BITS = 6 };
    uint8_t random[BYTES + 1] = { 0 }; /* the last digit has bits of nothing */
    if (getrandom(random, BYTES, 0) != BYTES) {
        return mb_fail(err, MB_E_IO, errno, "new-key: no random bytes");
    }
    memcpy(ret, "mb-", 3);
    for (unsigned i = 0; i < MBD_KEY_NEW_CHARACTERS - 3; i++) {
        unsigned at = i * BITS;
        unsigned two = (unsigned) random[at / 8] << 8 | random[at / 8 + 1];
        ret[3 + i] = digits[two >> (16 - BITS - at % 8) & 63];
    }
    ret[MBD_KEY_NEW_CHARACTERS] = '\0';
    gnutls_memset(random, 0, sizeof random);
    return MB_OK;
}
