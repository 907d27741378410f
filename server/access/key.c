#include "server/access/key.h"

#include <assert.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- scopes ------------------------------------------------------------------------------ */

static const struct {
    const char *name;
    unsigned scope;
} scopes[] = {
    { "infer", MBD_SCOPE_INFER },
    { "finetune", MBD_SCOPE_FINETUNE },
    { "admin", MBD_SCOPE_ADMIN },
    { "metrics", MBD_SCOPE_METRICS },
};
enum { N_SCOPES = sizeof scopes / sizeof scopes[0] };

static unsigned scope_of(const char *text, size_t n)
{
    for (size_t i = 0; i < N_SCOPES; i++) {
        if (strlen(scopes[i].name) == n && memcmp(scopes[i].name, text, n) == 0) {
            return scopes[i].scope;
        }
    }
    return 0;
}

unsigned mbd_scopes_parse(const char *text, size_t n)
{
    unsigned set = 0;
    for (size_t at = 0; at <= n;) {
        const char *comma = memchr(text + at, ',', n - at);
        size_t end = comma ? (size_t) (comma - text) : n;
        unsigned one = scope_of(text + at, end - at);
        if (one == 0) {
            return 0;
        }
        set |= one;
        at = end + 1;
    }
    return set;
}

void mbd_scopes_text(unsigned set, char ret[MBD_SCOPES_TEXT_MAX])
{
    size_t at = 0;
    ret[0] = '\0';
    for (size_t i = 0; i < N_SCOPES; i++) {
        if (set & scopes[i].scope) {
            at += (size_t) snprintf(ret + at, MBD_SCOPES_TEXT_MAX - at, "%s%s", at ? "," : "",
                                    scopes[i].name);
        }
    }
    assert(at < MBD_SCOPES_TEXT_MAX);
}

/* ---- a line ------------------------------------------------------------------------------ */

static const char hash_mark[] = "sha256:";

static bool is_name(const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!isalnum((unsigned char) text[i]) && !strchr("._@-", text[i])) {
            return false;
        }
    }
    return n > 0 && n <= MBD_KEY_NAME_MAX;
}

static int hex_digit(char c)
{
    static const char digits[] = "0123456789abcdef";
    const char *at = c ? strchr(digits, c) : NULL;
    return at ? (int) (at - digits) : -1;
}

static bool parse_hash(const char *text, size_t n, uint8_t *ret)
{
    if (n != 2 * MBD_KEY_HASH_BYTES) {
        return false;
    }
    for (size_t i = 0; i < MBD_KEY_HASH_BYTES; i++) {
        int high = hex_digit(text[2 * i]), low = hex_digit(text[2 * i + 1]);
        if (high < 0 || low < 0) {
            return false;
        }
        ret[i] = (uint8_t) (high << 4 | low);
    }
    return true;
}

static bool parse_number(const char *text, size_t n, uint64_t max, uint64_t *ret)
{
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++) {
        if (!isdigit((unsigned char) text[i]) || v > max / 10) {
            return false;
        }
        v = v * 10 + (uint64_t) (text[i] - '0');
    }
    *ret = v;
    return n > 0 && v > 0 && v <= max;
}

/* name=value, n bytes in all. */
static bool parse_limit(const char *text, size_t n, struct mbd_key *k)
{
    const char *equals = memchr(text, '=', n);
    size_t n_name = equals ? (size_t) (equals - text) : n;
    const char *value = text + n_name + 1;
    size_t n_value = equals ? n - n_name - 1 : 0;
    uint64_t v;
    if (n_name == 8 && memcmp(text, "priority", 8) == 0) {
        k->low = n_value == 3 && memcmp(value, "low", 3) == 0;
        return k->low || (n_value == 6 && memcmp(value, "normal", 6) == 0);
    }
    if (n_name == 10 && memcmp(text, "concurrent", 10) == 0) {
        bool ok = parse_number(value, n_value, UINT32_MAX, &v);
        k->limits.concurrent = ok ? (uint32_t) v : 0;
        return ok;
    }
    if (n_name == 19 && memcmp(text, "requests-per-minute", 19) == 0) {
        bool ok = parse_number(value, n_value, UINT32_MAX, &v);
        k->limits.requests_per_minute = ok ? (uint32_t) v : 0;
        return ok;
    }
    return n_name == 17 && memcmp(text, "tokens-per-minute", 17) == 0 &&
           parse_number(value, n_value, UINT64_C(1) << 40, &k->limits.tokens_per_minute);
}

static enum mb_status parse_word(const char *word, size_t n, size_t place, bool *hashed,
                                 struct mbd_key *k, struct mb_error *err)
{
    size_t n_mark = sizeof hash_mark - 1;
    if (place == 0) {
        if (!is_name(word, n)) {
            return mb_fail(err, MB_E_INVALID, 0,
                           "a key's name is 1 to %d of A-Z a-z 0-9 . _ @ -", MBD_KEY_NAME_MAX);
        }
        memcpy(k->name, word, n);
    } else if (place == 1) {
        k->scopes = mbd_scopes_parse(word, n);
        if (k->scopes == 0) {
            return mb_fail(err, MB_E_INVALID, 0,
                           "after the name stand scopes, some of infer,finetune,admin,metrics");
        }
    } else if (n > n_mark && memcmp(word, hash_mark, n_mark) == 0) {
        if (*hashed || !parse_hash(word + n_mark, n - n_mark, k->hash)) {
            return mb_fail(err, MB_E_INVALID, 0,
                           "a key has one sha256: and 64 hexadecimal digits behind it");
        }
        *hashed = true;
    } else if (!parse_limit(word, n, k)) { /* of a key, that would be a key written down */
        return mb_fail(err, MB_E_INVALID, 0,
                       "word %zu is none of concurrent=N, requests-per-minute=N, "
                       "tokens-per-minute=N, priority=normal|low, sha256:...",
                       place + 1);
    }
    return MB_OK;
}

enum mb_status mbd_key_parse(const char *line, struct mbd_key *ret, struct mb_error *err)
{
    static const char blank[] = " \t\r\n";
    struct mbd_key k = { 0 };
    bool hashed = false;
    line += strspn(line, blank);
    for (size_t place = 0; *line; place++) {
        size_t n = strcspn(line, blank);
        enum mb_status st = parse_word(line, n, place, &hashed, &k, err);
        if (st != MB_OK) {
            return st;
        }
        line += n;
        line += strspn(line, blank);
    }
    if (!hashed || k.scopes == 0) {
        return mb_fail(err, MB_E_INVALID, 0,
                       "a line has a name, scopes, and a hash sha256:...");
    }
    *ret = k;
    return MB_OK;
}

static bool is_key_text(const char *text)
{
    size_t n = 0;
    for (; text[n]; n++) {
        if (!isgraph((unsigned char) text[n])) {
            return false;
        }
    }
    return n >= MBD_KEY_TEXT_MIN && n <= MBD_KEY_TEXT_MAX;
}

enum mb_status mbd_key_line(const char *name, const char *text, char *ret, struct mb_error *err)
{
    uint8_t hash[MBD_KEY_HASH_BYTES];
    char digits[2 * MBD_KEY_HASH_BYTES + 1];
    if (!is_name(name, strlen(name))) {
        return mb_fail(err, MB_E_INVALID, 0, "a key's name is 1 to %d of A-Z a-z 0-9 . _ @ -",
                       MBD_KEY_NAME_MAX);
    }
    if (!is_key_text(text)) {
        return mb_fail(err, MB_E_INVALID, 0,
                       "a key is %d to %d printable characters without spaces, and random",
                       MBD_KEY_TEXT_MIN, MBD_KEY_TEXT_MAX);
    }
    mbd_key_hash(text, strlen(text), hash);
    for (size_t i = 0; i < MBD_KEY_HASH_BYTES; i++) {
        (void) snprintf(digits + 2 * i, 3, "%02x", hash[i]);
    }
    (void) snprintf(ret, MBD_KEY_LINE_MAX, "%s infer %s%s", name, hash_mark, digits);
    return MB_OK;
}

/* ---- references -------------------------------------------------------------------------- */

struct mbd_key *mbd_key_ref(struct mbd_key *k)
{
    if (k) {
        k->refs++;
    }
    return k;
}

void mbd_key_unref(struct mbd_key *k)
{
    if (k) {
        assert(k->refs > 0);
        if (--k->refs == 0) {
            free(k);
        }
    }
}
