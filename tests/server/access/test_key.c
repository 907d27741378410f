/* Goal:   lines of the file of keys mean what they say or are refused; reading a file anew is all or
 *         nothing, and keeps the keys that stay.
 * Method: lines against what they must become; files written over and read again. Hashes against
 *         those that sha256sum prints. */
#include <string.h>
#include <unistd.h>

#include "server/access/keyring.h"
#include "tests/check_main.h"

/* printf %s abcdefghijklmnopqrstuvwxyz0123456789 | sha256sum */
#define TEXT   "abcdefghijklmnopqrstuvwxyz0123456789"
#define HASH   "sha256:011fc2994e39d251141540f87a69092b3f22a86767f7283de7eeedb3897bedf6"
/* printf %s ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 | sha256sum */
#define TEXT_2 "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
#define HASH_2 "sha256:2d18c15e22115104be36dd6a16fc170a3385e6e879e76fb91bf9fdb4d3f38243"

START_TEST(a_line_is_read)
{
    struct mbd_key k;
    struct mb_error err;
    mb_assert_ok(mbd_key_parse("  bob.2@a-b\tinfer,metrics concurrent=4 requests-per-minute=60 "
                               "tokens-per-minute=1099511627776 priority=low " HASH " \r\n",
                               &k, &err),
                 &err);
    ck_assert_str_eq(k.name, "bob.2@a-b");
    ck_assert_uint_eq(k.scopes, MBD_SCOPE_INFER | MBD_SCOPE_METRICS);
    ck_assert_uint_eq(k.limits.concurrent, 4);
    ck_assert_uint_eq(k.limits.requests_per_minute, 60);
    ck_assert_uint_eq(k.limits.tokens_per_minute, UINT64_C(1) << 40);
    ck_assert(k.low);
    uint8_t hash[MBD_KEY_HASH_BYTES];
    mbd_key_hash(TEXT, strlen(TEXT), hash);
    ck_assert(mbd_key_hash_equal(hash, k.hash));
    hash[31] ^= 1;
    ck_assert(!mbd_key_hash_equal(hash, k.hash));
    mb_assert_ok(mbd_key_parse("a admin " HASH, &k, &err), &err);
    ck_assert(!k.low && k.limits.concurrent == 0 && k.limits.tokens_per_minute == 0);
}
END_TEST

static const char *const bad_lines[] = {
    "",
    "a",
    "a infer",
    "a " HASH,
    "a infer " HASH " " HASH,
    "a infer sha256:",
    "a infer " HASH "0",
    "a infer sha256:011FC2994E39D251141540F87A69092B3F22A86767F7283DE7EEEDB3897BEDF6",
    "a infer, " HASH,
    "a ,infer " HASH,
    "a all " HASH,
    "a infer,infe " HASH,
    "a/b infer " HASH,
    "12345678901234567890123456789012345678901234567890123456789012345 infer " HASH,
    "a infer concurrent=0 " HASH,
    "a infer concurrent=-1 " HASH,
    "a infer concurrent= " HASH,
    "a infer concurrent=4294967296 " HASH,
    "a infer tokens-per-minute=1099511627777 " HASH,
    "a infer tokens-per-minute=99999999999999999999999 " HASH,
    "a infer requests-per-minute=1.5 " HASH,
    "a infer priority=high " HASH,
    "a infer rpm=4 " HASH,
    "a infer " TEXT,
};

START_TEST(a_bad_line_is_refused)
{
    struct mbd_key k = { .name = "untouched" };
    struct mb_error err;
    ck_assert_int_eq(mbd_key_parse(bad_lines[_i], &k, &err), MB_E_INVALID);
    ck_assert_str_eq(k.name, "untouched");
    ck_assert_msg(!strstr(err.what, TEXT), "a key is repeated: %s", err.what);
}
END_TEST

START_TEST(a_line_is_made)
{
    char line[MBD_KEY_LINE_MAX], one[MBD_KEY_NEW_CHARACTERS + 1], two[sizeof one];
    struct mb_error err;
    struct mbd_key k;
    mb_assert_ok(mbd_key_line("bob", TEXT, line, &err), &err);
    ck_assert_str_eq(line, "bob infer " HASH);
    ck_assert_int_eq(mbd_key_line("b b", TEXT, line, &err), MB_E_INVALID);
    ck_assert_int_eq(mbd_key_line("bob", "too-short", line, &err), MB_E_INVALID);
    ck_assert_int_eq(mbd_key_line("bob", TEXT " " TEXT, line, &err), MB_E_INVALID);
    mb_assert_ok(mbd_key_draw(one, &err), &err);
    mb_assert_ok(mbd_key_draw(two, &err), &err);
    ck_assert_uint_eq(strlen(one), MBD_KEY_NEW_CHARACTERS);
    ck_assert_str_ne(one, two);
    mb_assert_ok(mbd_key_line("bob", one, line, &err), &err);
    mb_assert_ok(mbd_key_parse(line, &k, &err), &err);
}
END_TEST

START_TEST(scopes_are_words)
{
    char text[MBD_SCOPES_TEXT_MAX];
    mbd_scopes_text(MBD_SCOPE_ANY, text);
    ck_assert_str_eq(text, "infer,finetune,admin,metrics");
    ck_assert_uint_eq(mbd_scopes_parse(text, strlen(text)), MBD_SCOPE_ANY);
    mbd_scopes_text(MBD_SCOPE_ADMIN, text);
    ck_assert_str_eq(text, "admin");
    ck_assert_uint_eq(mbd_scopes_parse("", 0), 0);
}
END_TEST

/* ---- files ------------------------------------------------------------------------------- */

static char path[] = "/tmp/mboold-keys-XXXXXX";

static void write_keys(const char *text)
{
    FILE *f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    ck_assert_int_ge(fputs(text, f), 0);
    ck_assert_int_eq(fclose(f), 0);
}

static struct mbd_key *find(const struct mbd_keyring *r, const char *text)
{
    return mbd_keyring_find(r, text, strlen(text));
}

/* A line of a key whose text is this. */
static const char *line_of(const char *name, const char *text)
{
    static char line[MBD_KEY_LINE_MAX + 1];
    struct mb_error err;
    mb_assert_ok(mbd_key_line(name, text, line, &err), &err);
    return strcat(line, "\n");
}

static struct mbd_keyring *open_ring(void)
{
    struct mbd_keyring *r = NULL;
    struct mb_error err;
    mb_assert_ok(mbd_keyring_new(path, &r, &err), &err);
    return r;
}

START_TEST(reading_anew_keeps_who_stays)
{
    char text[2048], both[2048];
    struct mb_error err;
    int fd = mkstemp(path);
    (void) snprintf(text, sizeof text, "# two\n\n  a infer %s\n%s", HASH, line_of("b", TEXT_2));
    write_keys(text);
    struct mbd_keyring *r = open_ring();
    ck_assert_uint_eq(mbd_keyring_count(r), 2);
    struct mbd_key *a = find(r, TEXT), *b = mbd_key_ref(find(r, TEXT_2));
    ck_assert_str_eq(a->name, "a");
    ck_assert_str_eq(b->name, "b");
    ck_assert_uint_ne(a->id, b->id);
    ck_assert_uint_ne(a->id, 0);
    ck_assert_ptr_null(find(r, "nobody's"));
    ck_assert_ptr_null(find(r, ""));

    write_keys("a infer,admin concurrent=3 " HASH "\n"); /* b is gone, and in use */
    mb_assert_ok(mbd_keyring_reload(r, &err), &err);
    ck_assert_ptr_eq(find(r, TEXT), a);
    ck_assert_uint_eq(a->scopes, MBD_SCOPE_INFER | MBD_SCOPE_ADMIN);
    ck_assert_uint_eq(a->limits.concurrent, 3);
    ck_assert_ptr_null(find(r, TEXT_2));
    ck_assert_str_eq(b->name, "b");

    (void) snprintf(both, sizeof both, "a infer %s\n%s", HASH, line_of("c", TEXT_2));
    write_keys(both);
    mb_assert_ok(mbd_keyring_reload(r, &err), &err);
    struct mbd_key *c = find(r, TEXT_2);
    ck_assert_str_eq(c->name, "c");
    ck_assert_uint_ne(c->id, b->id); /* while b is in use, its id is its own */
    mbd_key_unref(b);
    mbd_keyring_free(r);
    (void) close(fd);
    (void) unlink(path);
}
END_TEST

START_TEST(a_bad_file_changes_nothing)
{
    static const struct {
        const char *text, *why;
    } bad[] = {
        { "", "there is no key in it" },
        { "# nobody\n", "there is no key in it" },
        { "a infer " HASH "\nb infer x\n", ":2: " },
        { "a infer " HASH "\nb infer " HASH "\n", "the same key" },
        { "a infer " HASH "\na infer " HASH_2 "\n", "stands twice" },
    };
    struct mb_error err;
    int fd = mkstemp(path);
    write_keys("a infer " HASH "\n");
    struct mbd_keyring *r = open_ring();
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        write_keys(bad[i].text);
        ck_assert_int_eq(mbd_keyring_reload(r, &err), MB_E_INVALID);
        ck_assert_msg(strstr(err.what, bad[i].why) && strstr(err.what, path), "%s", err.what);
        ck_assert_str_eq(find(r, TEXT)->name, "a");
    }
    FILE *f = fopen(path, "w");
    for (int i = 0; i < 1000; i++) {
        ck_assert_int_ge(fputs("one line without an end ", f), 0);
    }
    ck_assert_int_eq(fclose(f), 0);
    ck_assert_int_eq(mbd_keyring_reload(r, &err), MB_E_INVALID);
    (void) close(fd);
    (void) unlink(path);
    ck_assert_int_eq(mbd_keyring_reload(r, &err), MB_E_NOTFOUND);
    ck_assert_uint_eq(mbd_keyring_count(r), 1);
    mbd_keyring_free(r);
}
END_TEST

/* Ids do not run out while keys come and go. */
START_TEST(ids_come_back)
{
    struct mb_error err;
    char text[MBD_KEY_TEXT_MIN + 8];
    int fd = mkstemp(path);
    write_keys("a infer " HASH "\n");
    struct mbd_keyring *r = open_ring();
    for (int i = 0; i < MBD_KEY_IDS + 100; i++) {
        char name[16];
        (void) snprintf(name, sizeof name, "k%d", i);
        (void) snprintf(text, sizeof text, "%0*d", MBD_KEY_TEXT_MIN, i);
        write_keys(line_of(name, text));
        mb_assert_ok(mbd_keyring_reload(r, &err), &err);
        ck_assert_uint_ne(find(r, text)->id, 0);
        ck_assert_uint_lt(find(r, text)->id, 4);
    }
    mbd_keyring_free(r);
    (void) close(fd);
    (void) unlink(path);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("key");
    TCase *t = tcase_create("lines");
    tcase_add_test(t, a_line_is_read);
    tcase_add_loop_test(t, a_bad_line_is_refused, 0, sizeof bad_lines / sizeof bad_lines[0]);
    tcase_add_test(t, a_line_is_made);
    tcase_add_test(t, scopes_are_words);
    suite_add_tcase(s, t);
    t = tcase_create("files");
    tcase_add_test(t, reading_anew_keeps_who_stays);
    tcase_add_test(t, a_bad_file_changes_nothing);
    tcase_add_test(t, ids_come_back);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
