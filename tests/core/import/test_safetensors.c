/* Goal:   a .safetensors file gives its tensors, and a hostile one a message that names the
 *         field.
 * Method: files made here from a header's text; each bad one differs from a good one in one
 *         place. All are parsed from blocks of exactly their size, so that a sanitizer sees a
 *         read past the end. */
#include <string.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "core/base/file.h"
#include "core/import/safetensors.h"
#include "tests/check_main.h"

/* A file of header and n_data bytes counting up from 0, in a block of its own. */
static uint8_t *make_file(const char *header, size_t n_data, size_t *ret_n)
{
    struct mb_bytes b = { 0 };
    mb_bytes_put_u64(&b, strlen(header));
    mb_bytes_put_text(&b, header);
    for (size_t i = 0; i < n_data; i++) {
        mb_bytes_put_u8(&b, (uint8_t) i);
    }
    ck_assert(!b.failed);
    uint8_t *exact = malloc(b.len);
    ck_assert_ptr_nonnull(exact);
    memcpy(exact, b.at, b.len);
    *ret_n = b.len;
    mb_bytes_fini(&b);
    return exact;
}

#define GOOD                                                             \
    "{\"__metadata__\":{\"format\":\"pt\"},"                             \
    "\"b\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[4,28]}," \
    "\"a\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[0,4]},"   \
    "\"e\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[28,36]},"   \
    "\"z\":{\"dtype\":\"F16\",\"shape\":[5,0],\"data_offsets\":[28,28]}}"
enum { GOOD_DATA = 36 };

START_TEST(a_file_gives_its_tensors)
{
    struct mb_error err = { 0 };
    struct mb_safetensors *s;
    size_t n;
    uint8_t *at = make_file(GOOD, GOOD_DATA, &n);
    mb_assert_ok(mb_safetensors_of_memory(at, n, "f", &s, &err), &err);
    ck_assert_uint_eq(mb_safetensors_count(s), 4);
    ck_assert_str_eq(mb_safetensors_at(s, 0)->name, "a");
    ck_assert_ptr_null(mb_safetensors_at(s, 4));
    ck_assert_ptr_null(mb_safetensors_find(s, "ab"));
    ck_assert_ptr_null(mb_safetensors_find(s, ""));
    const struct mb_safetensor *b = mb_safetensors_find(s, "b");
    ck_assert_ptr_nonnull(b);
    ck_assert_int_eq(b->dtype, MB_SAFETENSOR_F32);
    ck_assert_uint_eq(b->n_dims, 2);
    ck_assert_uint_eq(b->dims[0], 2);
    ck_assert_uint_eq(b->dims[1], 3);
    ck_assert_uint_eq(b->bytes, 24);
    ck_assert_uint_eq(b->data[0], 4);
    const struct mb_safetensor *e = mb_safetensors_find(s, "e");
    ck_assert_int_eq(e->dtype, MB_SAFETENSOR_OTHER);
    ck_assert_str_eq(e->dtype_name, "I64");
    mb_safetensors_free(s);
    free(at);
}
END_TEST

START_TEST(a_file_may_have_no_tensors)
{
    struct mb_error err = { 0 };
    struct mb_safetensors *s;
    size_t n;
    uint8_t *at = make_file("{\"__metadata__\":{}}", 0, &n);
    mb_assert_ok(mb_safetensors_of_memory(at, n, "f", &s, &err), &err);
    ck_assert_uint_eq(mb_safetensors_count(s), 0);
    ck_assert_ptr_null(mb_safetensors_at(s, 0));
    ck_assert_ptr_null(mb_safetensors_find(s, "a"));
    mb_safetensors_free(s);
    free(at);
}
END_TEST

START_TEST(a_truncated_file_is_refused_at_every_byte)
{
    struct mb_error err = { 0 };
    struct mb_safetensors *s;
    size_t n;
    uint8_t *at = make_file(GOOD, GOOD_DATA, &n);
    for (size_t cut = 0; cut < n; cut++) {
        uint8_t *part = malloc(cut ? cut : 1);
        memcpy(part, at, cut);
        ck_assert_int_eq(mb_safetensors_of_memory(part, cut, "f", &s, &err), MB_E_FORMAT);
        free(part);
    }
    free(at);
}
END_TEST

START_TEST(a_wrong_header_length_is_refused)
{
    static const uint64_t lengths[] = { 0, 1, 1000, UINT64_MAX, UINT64_MAX - 7, 1u << 31 };
    struct mb_error err = { 0 };
    struct mb_safetensors *s;
    size_t n;
    uint8_t *at = make_file(GOOD, GOOD_DATA, &n);
    memcpy(at, &lengths[_i], 8);
    ck_assert_int_eq(mb_safetensors_of_memory(at, n, "f", &s, &err), MB_E_FORMAT);
    ck_assert_ptr_nonnull(strstr(err.what, lengths[_i] <= 1 ? "line 1" : "header length"));
    free(at);
}
END_TEST

START_TEST(a_huge_header_is_refused)
{
    struct mb_error err = { 0 };
    struct mb_safetensors *s;
    size_t n = 8 + MB_SAFETENSORS_HEADER_MAX + 1;
    uint8_t *at = calloc(1, n);
    uint64_t length = n - 8;
    memcpy(at, &length, 8);
    ck_assert_int_eq(mb_safetensors_of_memory(at, n, "f", &s, &err), MB_E_LIMIT);
    ck_assert_ptr_nonnull(strstr(err.what, "header length"));
    free(at);
}
END_TEST

#define ONE(dtype, shape, offsets) \
    "{\"t\":{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":" offsets "}}"
#define TWO(first, second)                                                \
    "{\"t\":{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":" first "}," \
    "\"u\":{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":" second "}}"
#define LONG_32 "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn"

static const struct {
    const char *header, *says;
} bad[] = {
    /* all over 16 bytes of data */
    { "[]", "not a JSON object" },
    { "{}", "the tensors end at 0" },
    { "{\"__metadata__\":null}", "the tensors end at 0" },
    { "{\"t\":3}", "dtype" },
    { "{\"t\":{\"dtype\":\"F32\"}}", "shape" },
    { ONE("\"F32\"", "[4]", "null"), "data_offsets: not two" },
    { ONE("\"F33\"", "[4]", "[0,16]"), "dtype: missing or not known" },
    { ONE("7", "[4]", "[0,16]"), "dtype" },
    { ONE("\"F32\"", "4", "[0,16]"), "shape: not a list" },
    { ONE("\"F32\"", "[1,1,1,1,1,1,1,1,4]", "[0,16]"), "shape: not a list of at most 8" },
    { ONE("\"F32\"", "[-4]", "[0,16]"), "shape: not a list of numbers of at least 0" },
    { ONE("\"F32\"", "[4.0]", "[0,16]"), "shape: not a list of numbers" },
    { ONE("\"F32\"", "[4294967296,4294967296]", "[0,16]"), "shape: the product" },
    { ONE("\"F64\"", "[2147483648,2147483648]", "[0,0]"), "shape: the product" },
    { ONE("\"F32\"", "[4]", "[0]"), "data_offsets: not two" },
    { ONE("\"F32\"", "[4]", "[0,16,16]"), "data_offsets: not two" },
    { ONE("\"F32\"", "[4]", "[0,16.0]"), "data_offsets: not two" },
    { ONE("\"F32\"", "[4]", "[16,0]"), "data_offsets: [16, 0] is not inside" },
    { ONE("\"F32\"", "[4]", "[-16,0]"), "data_offsets: [-16, 0] is not inside" },
    { ONE("\"F32\"", "[4]", "[1,17]"), "data_offsets: [1, 17] is not inside" },
    { ONE("\"F32\"", "[4]", "[999999999999999983,999999999999999999]"), "is not inside" },
    { ONE("\"F32\"", "[4]", "[0,12]"), "data_offsets: 12 bytes, the shape asks for 16" },
    { ONE("\"F16\"", "[4]", "[0,16]"), "data_offsets: 16 bytes, the shape asks for 8" },
    { ONE("\"F32\"", "[3]", "[0,12]"), "16 bytes of data, the tensors end at 12" },
    { TWO("[0,8]", "[7,15]"), "tensor 'u': data_offsets: begins at 7, overlapping" },
    { TWO("[0,8]", "[0,8]"), "data_offsets: begins at 0, overlapping" },
    { ONE("\"F32\"", "[3]", "[4,16]"), "leaving a hole" },
    { "{\"t\":{},\"t\":{}}", "duplicate" },
    { "{\"\":{}}", "name" },
    { "{\"a b\":{}}", "name" },
    { "{\"\\u001b[2J\":{}}", "name" },
    { "{\"" LONG_32 LONG_32 LONG_32 LONG_32 "\":{}}", "name" },
};

START_TEST(what_is_wrong_is_named)
{
    struct mb_error err = { 0 };
    struct mb_safetensors *s;
    size_t n;
    uint8_t *at = make_file(bad[_i].header, 16, &n);
    ck_assert_int_eq(mb_safetensors_of_memory(at, n, "f", &s, &err), MB_E_FORMAT);
    ck_assert_msg(strstr(err.what, bad[_i].says), "'%s' is not in '%s'", bad[_i].says,
                  err.what);
    free(at);
}
END_TEST

static char dir[] = "/tmp/mbool-test-XXXXXX";

static void put_file(const char *name, const void *at, size_t n)
{
    char path[256];
    struct mb_error err = { 0 };
    struct mb_file_writer *w;
    (void) snprintf(path, sizeof path, "%s/%s", dir, name);
    mb_assert_ok(mb_file_writer_open(path, &w, &err), &err);
    mb_assert_ok(mb_file_writer_put(w, at, n, &err), &err);
    mb_assert_ok(mb_file_writer_commit(w, &err), &err);
}

static void put_shards(const char *index)
{
    size_t n;
    uint8_t *at = make_file(ONE("\"F32\"", "[4]", "[0,16]"), 16, &n);
    put_file("s1.safetensors", at, n);
    put_file("model-00003.safetensors", at, n); /* "t" again */
    free(at);
    at = make_file("{\"u\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]}}", 3, &n);
    put_file("s2.safetensors", at, n);
    free(at);
    put_file("model.safetensors.index.json", index, strlen(index));
}

static void remove_files(void)
{
    static const char *const names[] = { "s1.safetensors", "s2.safetensors",
                                         "model-00003.safetensors",
                                         "model.safetensors.index.json", "" };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[256];
        (void) snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        (void) (names[i][0] ? unlink(path) : rmdir(path));
    }
}

START_TEST(shards_are_one_folder)
{
    struct mb_error err = { 0 };
    struct mb_safetensors *s;
    ck_assert_ptr_nonnull(mkdtemp(dir));
    ck_assert_int_eq(mb_safetensors_open(dir, &s, &err), MB_E_NOTFOUND);
    ck_assert_ptr_nonnull(strstr(err.what, "has neither model.safetensors nor"));
    put_shards("{\"metadata\":{\"total_size\":19},"
               "\"weight_map\":{\"t\":\"s1.safetensors\",\"u\":\"s2.safetensors\"}}");
    mb_assert_ok(mb_safetensors_open(dir, &s, &err), &err);
    ck_assert_uint_eq(mb_safetensors_count(s), 2);
    ck_assert_uint_eq(mb_safetensors_find(s, "u")->bytes, 3);
    mb_safetensors_free(s);
    remove_files();
}
END_TEST

static const struct {
    const char *index, *says;
    enum mb_status st;
} bad_index[] = {
    { "{}", "weight_map: not an object", MB_E_FORMAT },
    { "{\"weight_map\":{}}", "weight_map: not an object", MB_E_FORMAT },
    { "{\"weight_map\":{\"t\":1}}", "plain file name", MB_E_FORMAT },
    { "{\"weight_map\":{\"t\":\"\"}}", "plain file name", MB_E_FORMAT },
    { "{\"weight_map\":{\"t\":\"../s1.safetensors\"}}", "plain file name", MB_E_FORMAT },
    { "{\"weight_map\":{\"t\":\"/etc/passwd\"}}", "plain file name", MB_E_FORMAT },
    { "{\"weight_map\":{\"t\":\"..\"}}", "plain file name", MB_E_FORMAT },
    { "{\"weight_map\":{\"t\":\"none.safetensors\"}}", "none.safetensors", MB_E_NOTFOUND },
    { "{\"weight_map\":{\"t\":\"s2.safetensors\"}}", "tensor 't' is not in", MB_E_FORMAT },
    { "{\"weight_map\":{\"u\":\"s1.safetensors\",\"t\":\"s2.safetensors\"}}",
      "tensor 'u' is not in", MB_E_FORMAT },
    { "{\"weight_map\":{\"t\":\"s1.safetensors\",\"v\":\"model-00003.safetensors\"}}",
      "tensor 't' is in two shards", MB_E_FORMAT },
    { "{\"weight_map\":{\"t\":\"model.safetensors.index.json\"}}", "header length",
      MB_E_FORMAT },
};

START_TEST(a_bad_index_is_refused)
{
    struct mb_error err = { 0 };
    struct mb_safetensors *s;
    ck_assert_ptr_nonnull(mkdtemp(dir));
    put_shards(bad_index[_i].index);
    enum mb_status st = mb_safetensors_open(dir, &s, &err);
    remove_files();
    ck_assert_int_eq(st, bad_index[_i].st);
    ck_assert_msg(strstr(err.what, bad_index[_i].says), "'%s' is not in '%s'",
                  bad_index[_i].says, err.what);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("safetensors");
    TCase *t = tcase_create("safetensors");
    tcase_add_test(t, a_file_gives_its_tensors);
    tcase_add_test(t, a_file_may_have_no_tensors);
    tcase_add_test(t, a_truncated_file_is_refused_at_every_byte);
    tcase_add_loop_test(t, a_wrong_header_length_is_refused, 0, 6);
    tcase_add_test(t, a_huge_header_is_refused);
    tcase_add_loop_test(t, what_is_wrong_is_named, 0, sizeof bad / sizeof bad[0]);
    tcase_add_test(t, shards_are_one_folder);
    tcase_add_loop_test(t, a_bad_index_is_refused, 0, sizeof bad_index / sizeof bad_index[0]);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
