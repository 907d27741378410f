/* Goal:   a stream of server-sent events is read as the HTML standard says, however the network
 *         cuts it, in bounded memory.
 * Method: streams with what they mean, written down by hand from the standard; each is fed cut
 *         in two at every byte, and byte by byte. */
#include "clients/http/sse.h"
#include "tests/check_main.h"

#include <string.h>

static const struct {
    const char *stream;
    const char *events; /* each ended by '|' */
} cases[] = {
    { "data: a\n\n", "a|" },
    { "data:a\r\n\r\n", "a|" },
    { "data: a\r\rdata: b\r\r", "a|b|" },
    { "data: a\ndata: b\n\n", "a\nb|" },
    { "data:  two\n\n", " two|" },     /* one space is taken, not two */
    { "data\n\n", "|" },               /* no colon: empty data */
    { "data\ndata\n\n", "\n|" },       /* the standard's own example */
    { "data:\n\n", "|" },              /* the same */
    { ": ping\n\ndata: a\n\n", "a|" }, /* a comment is no event */
    { ":\n\n:\n\ndata: a\n\n:\n", "a|" },
    { "event: x\nid: 7\nretry: 10\ndata: a\n\n", "a|" },
    { "event: x\n\ndata: a\n\n", "a|" }, /* without data: none */
    { "datab: no\ndat: no\ndata: a\n\n", "a|" },
    { "a_name_longer_than_any: no\ndata: a\n\n", "a|" },
    { "data: a", "" }, /* unfinished */
    { "data: a\n", "" },
    { "data: a\n\ndata: b\n", "a|" },
    { "\xef\xbb\xbf"
      "data: a\n\n",
      "a|" },
    { "\xef\xbb"
      "data: no\n\ndata: a\n\n",
      "a|" }, /* half a mark is a strange name */
    { "data: \xef\xbb\xbf\n\n", "\xef\xbb\xbf|" },
    { "data: a:b: c\n\n", "a:b: c|" },
    { "\n\n\r\n\r\rdata: a\n\n", "a|" },
    { "data: a\r\ndata: b\n\r\n", "a\nb|" },
    { "data: {\"choices\":[]}\n\n:\n\ndata: [DONE]\n\n", "{\"choices\":[]}|[DONE]|" },
};
enum { N_CASES = sizeof cases / sizeof cases[0] };

static bool gather(void *self, const char *data, size_t n)
{
    ck_assert_int_eq(data[n], '\0');
    mb_bytes_put(self, data, n);
    mb_bytes_put_u8(self, '|');
    return true;
}

static void expect(const struct mb_bytes *got, const char *want, size_t cut)
{
    ck_assert_msg(got->len == strlen(want) &&
                      memcmp(got->len ? got->at : (const uint8_t *) "", want, got->len) == 0,
                  "cut at %zu: '%.*s', not '%s'", cut, (int) got->len, (const char *) got->at,
                  want);
}

START_TEST(every_cut_means_the_same)
{
    const char *stream = cases[_i].stream;
    size_t n = strlen(stream);
    for (size_t cut = 0; cut <= n + 1; cut++) { /* the last: byte by byte */
        struct mb_bytes got = { 0 };
        struct mbc_sse s;
        struct mb_error err;
        mbc_sse_init(&s, 100, gather, &got);
        if (cut <= n) {
            mb_assert_ok(mbc_sse_feed(&s, stream, cut, &err), &err);
            mb_assert_ok(mbc_sse_feed(&s, stream + cut, n - cut, &err), &err);
        }
        for (size_t i = 0; cut > n && i < n; i++) {
            mb_assert_ok(mbc_sse_feed(&s, stream + i, 1, &err), &err);
        }
        expect(&got, cases[_i].events, cut);
        mbc_sse_fini(&s);
        mb_bytes_fini(&got);
    }
}
END_TEST

/* An event may have data_max bytes and not one more, in one line or many; comments and names of
 * any length cost nothing. */
START_TEST(memory_is_bounded)
{
    for (int over = 0; over <= 1; over++) {
        struct mb_bytes got = { 0 };
        struct mbc_sse s;
        struct mb_error err;
        mbc_sse_init(&s, 9, gather, &got);
        for (int i = 0; i < 100000; i++) {
            mb_assert_ok(mbc_sse_feed(&s, i % 1000 ? "x" : ":y", 1, &err), &err);
        }
        ck_assert_uint_eq(s.data.len, 0);
        mb_assert_ok(mbc_sse_feed(&s, "\ndata: 1234\ndata: 567", 21, &err), &err);
        enum mb_status st = mbc_sse_feed(&s, over ? "89\n\n" : "8\n\n", over ? 4 : 3, &err);
        ck_assert_int_eq(st, over ? MB_E_LIMIT : MB_OK);
        mbc_sse_fini(&s);
        mb_bytes_fini(&got);
    }
}
END_TEST

static bool leave(void *self, const char *data, size_t n)
{
    return ++*(int *) self < 2;
}

START_TEST(a_listener_may_leave)
{
    int n_told = 0;
    struct mbc_sse s;
    struct mb_error err;
    const char *stream = "data: a\n\ndata: b\n\ndata: c\n\n";
    mbc_sse_init(&s, 9, leave, &n_told);
    ck_assert_int_eq(mbc_sse_feed(&s, stream, strlen(stream), &err), MB_E_CANCELLED);
    ck_assert_int_eq(n_told, 2);
    mbc_sse_fini(&s);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("sse");
    TCase *t = tcase_create("sse");
    tcase_add_loop_test(t, every_cut_means_the_same, 0, N_CASES);
    tcase_add_test(t, memory_is_bounded);
    tcase_add_test(t, a_listener_may_leave);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
