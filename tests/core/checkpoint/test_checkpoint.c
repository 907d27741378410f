/* Goal:   what the writer was given, the reader gives back, from the same bytes every time; and
 *         the writer refuses what the reader would.
 * Method: a tiny checkpoint with every section, written to a file, opened, compared with the
 *         matrices it was made from; then a writer that is asked for each wrong thing. */
#include <math.h>
#include <stdbool.h>
#include <unistd.h>

#include "core/base/checksum.h"
#include "core/base/file.h"
#include "core/base/memory.h"
#include "core/checkpoint/format.h"
#include "core/checkpoint/reader.h"
#include "tests/check_main.h"
#include "tests/core/checkpoint/tiny_checkpoint.h"

static char dir[] = "/tmp/mbool-test-XXXXXX", path[64];
static struct mb_error err;

static void setup(void)
{
    ck_assert_ptr_nonnull(mkdtemp(dir));
    (void) snprintf(path, sizeof path, "%s/m", dir);
}

static void teardown(void)
{
    (void) unlink(path);
    ck_assert_int_eq(rmdir(dir), 0); /* nothing else was left behind */
}

static struct mb_checkpoint *write_and_open(const struct tiny_options *o)
{
    struct mb_checkpoint *c;
    mb_assert_ok(tiny_write(path, o, &err), &err);
    mb_assert_ok(mb_checkpoint_open(path, &c, &err), &err);
    return c;
}

static void assert_bool(const struct mb_checkpoint *c, const char *name, uint32_t n_rows,
                        uint32_t n_cols, const struct tiny_options *o)
{
    const struct mb_section *s = mb_checkpoint_find(c, name);
    ck_assert_msg(s, "%s", name);
    ck_assert_int_eq(s->kind, MB_SECTION_BOOL);
    ck_assert_uint_eq(s->offset % 64, 0);
    struct mb_bool_draft d;
    struct mb_bool_shape shape = { n_rows, n_cols, o->group, o->n_kernels };
    mb_assert_ok(mb_bool_draft_init(&d, &shape, &err), &err);
    tiny_fill(&d, n_rows * 1000 + n_cols);
    struct mb_bool_matrix m = mb_checkpoint_bool(c, s);
    ck_assert_mem_eq(&m.shape, &shape, sizeof shape);
    ck_assert(m.scale_all == 0.5f);
    ck_assert_uint_eq((uintptr_t) m.bits % 64, 0);
    ck_assert_uint_eq((uintptr_t) m.scale % 32, 0);
    ck_assert_uint_eq((uintptr_t) m.coef % 16, 0);
    ck_assert_mem_eq(m.bits, d.bits, mb_bool_bits_bytes(&shape));
    ck_assert_mem_eq(m.scale, d.scale, mb_bool_scale_bytes(&shape));
    ck_assert_mem_eq(m.coef, d.coef, mb_bool_coef_bytes(&shape));
    mb_bool_draft_fini(&d);
}

static struct tiny_options variant(int i)
{
    struct tiny_options o = tiny_full;
    o.n_kernels = (uint32_t) (1 + i % 8);
    o.group = i % 3 == 0 ? 32 : i % 3 == 1 ? 64 : 128;
    o.optional = i % 2 == 0;
    o.half = i % 4 == 1;
    o.shape.tied_head = i % 5 == 2;
    return o;
}

START_TEST(what_was_written_is_read)
{
    struct tiny_options o = variant(_i);
    struct mb_checkpoint *c = write_and_open(&o);
    mb_assert_ok(mb_checkpoint_verify(c, NULL, &err), &err);
    ck_assert_mem_eq(mb_checkpoint_shape(c), &o.shape, sizeof o.shape);
    assert_bool(c, "blocks.0.attn_q", 16, 40, &o);
    assert_bool(c, "blocks.1.attn_k", 8, 40, &o);
    assert_bool(c, "blocks.1.attn_o", 40, 16, &o);
    assert_bool(c, "blocks.1.ffn_up", 50, 40, &o);
    assert_bool(c, "blocks.0.ffn_down", 40, 50, &o);
    ck_assert_int_eq(!mb_checkpoint_find(c, "head"), o.shape.tied_head);
    ck_assert_int_eq(!mb_checkpoint_find(c, "head_in.t"), !o.optional);
    ck_assert_int_eq(!mb_checkpoint_find(c, "provenance"), !o.optional);
    ck_assert_int_eq(!mb_checkpoint_find(c, "tokenizer"), !o.optional);
    ck_assert_ptr_null(mb_checkpoint_find(c, ""));
    if (o.half) {
        const struct mb_section *s = mb_checkpoint_find(c, "embed");
        ck_assert_int_eq(s->kind, MB_SECTION_F16);
        ck_assert_uint_eq(((const uint16_t *) mb_checkpoint_data(c, s))[801 - 2], 0x3000 + 799);
    } else {
        assert_bool(c, "embed", 20, 40, &o);
    }
    const struct mb_section *rope = mb_checkpoint_find(c, "rope.inv_freq");
    ck_assert_uint_eq(rope->n_cols, 4);
    ck_assert(((const double *) mb_checkpoint_data(c, rope))[3] == 1.0 / 8);
    mb_checkpoint_free(c);
}
END_TEST

START_TEST(every_section_is_found_by_its_name)
{
    struct mb_checkpoint *c = write_and_open(&tiny_full);
    size_t n = mb_checkpoint_sections(c);
    ck_assert_uint_eq(n, 2 * 13 + 8);
    for (size_t i = 0; i < n; i++) {
        const struct mb_section *s = mb_checkpoint_section(c, i);
        ck_assert_ptr_eq(mb_checkpoint_find(c, s->name), s);
        ck_assert_uint_eq(s->checksum,
                          mb_checksum(mb_checkpoint_data(c, s), (size_t) s->bytes));
    }
    ck_assert_ptr_null(mb_checkpoint_section(c, n));
    mb_checkpoint_free(c);
    mb_checkpoint_free(NULL);
}
END_TEST

START_TEST(the_same_input_gives_the_same_bytes)
{
    struct mb_file_map a, b;
    char other[sizeof path + 8];
    (void) snprintf(other, sizeof other, "%s2", path);
    mb_assert_ok(tiny_write(path, &tiny_full, &err), &err);
    mb_assert_ok(tiny_write(other, &tiny_full, &err), &err);
    mb_assert_ok(mb_file_map(path, &a, &err), &err);
    mb_assert_ok(mb_file_map(other, &b, &err), &err);
    ck_assert_uint_eq(a.n, b.n);
    ck_assert_mem_eq(a.at, b.at, a.n);
    mb_file_unmap(&a);
    mb_file_unmap(&b);
    (void) unlink(other);
}
END_TEST

START_TEST(the_digest_tells_models_apart)
{
    struct mb_checkpoint *a = write_and_open(&tiny_full);
    uint64_t digest = mb_checkpoint_digest(a);
    mb_checkpoint_free(a);
    struct tiny_options o = tiny_full;
    o.shape.n_planes = 7;
    struct mb_checkpoint *b = write_and_open(&o);
    ck_assert_uint_ne(mb_checkpoint_digest(b), digest);
    mb_checkpoint_free(b);
    b = write_and_open(&tiny_full);
    ck_assert_uint_eq(mb_checkpoint_digest(b), digest);
    mb_checkpoint_free(b);
}
END_TEST

/* FORMAT.md's table, read by hand at its byte offsets rather than through format.h. */
START_TEST(the_bytes_are_those_of_the_specification)
{
    static const uint8_t magic[8] = { 0x89, 'M', 'B', 'L', '\r', '\n', 0x1a, '\n' };
    mb_assert_ok(tiny_write(path, &tiny_full, &err), &err);
    struct mb_file_map m;
    mb_assert_ok(mb_file_map(path, &m, &err), &err);
    uint32_t u32;
    uint64_t u64;
    float f32;
#define AT(type, offset) (memcpy(&type, m.at + (offset), sizeof type), type)
    ck_assert_mem_eq(m.at, magic, 8);
    ck_assert_uint_eq(AT(u32, 8), 1);
    ck_assert_uint_eq(AT(u32, 12), 256);
    ck_assert_uint_eq(AT(u64, 16), m.n);
    ck_assert_uint_eq(AT(u32, 24), 34);
    ck_assert_uint_eq(AT(u32, 28), 128);
    ck_assert_uint_eq(AT(u64, 32), 256);
    ck_assert_uint_eq(AT(u64, 40), mb_checksum(m.at + 256, 34 * 128));
    static const uint32_t shape[] = { 2, 40, 2, 1, 8, 50, 20, 32, 0, 8 };
    for (size_t i = 0; i < 10; i++) {
        ck_assert_uint_eq(AT(u32, 48 + 4 * i), shape[i]);
    }
    ck_assert(AT(f32, 88) == 1e-5f);
    ck_assert_uint_eq(AT(u32, 92), 0);
    ck_assert_uint_eq(AT(u64, 248), mb_checksum(m.at, 248));

    const size_t entry = 256 + 128 * 7; /* blocks.0.attn_q: 16 x 40, K = 3, G = 32 */
    ck_assert_str_eq((const char *) m.at + entry, "blocks.0.attn_q");
    ck_assert_uint_eq(AT(u64, entry + 64), 2 * 3 * 64 + 2 * 32 + 2 * 3 * 16);
    ck_assert_uint_eq(AT(u32, entry + 80), 5);
    ck_assert_uint_eq(AT(u32, entry + 84), 16);
    ck_assert_uint_eq(AT(u32, entry + 88), 40);
    ck_assert_uint_eq(AT(u32, entry + 92), 32);
    ck_assert_uint_eq(AT(u32, entry + 96), 3);
    ck_assert(AT(f32, entry + 100) == 0.5f);
#undef AT
    mb_file_unmap(&m);
}
END_TEST

static struct mb_checkpoint_writer *open_writer(size_t sections_max)
{
    struct mb_checkpoint_writer *w;
    mb_assert_ok(mb_checkpoint_writer_open(path, &tiny_shape, sections_max, &w, &err), &err);
    return w;
}

static void assert_says(enum mb_status st, enum mb_status want, const char *says)
{
    ck_assert_int_eq(st, want);
    ck_assert_msg(strstr(err.what, says), "'%s' is not in '%s'", says, err.what);
}

START_TEST(the_writer_refuses_what_the_reader_would)
{
    float norm[50] = { 0 };
    struct mb_checkpoint_writer *w = open_writer(2);
    assert_says(mb_checkpoint_add_f32(w, "final_norm", norm, 39, &err), MB_E_INVALID,
                "section 'final_norm': n_cols: 39, the shape asks for 40");
    assert_says(mb_checkpoint_add_f32(w, "final_norm", norm, SIZE_MAX, &err), MB_E_INVALID,
                "elements exceed");
    assert_says(mb_checkpoint_add_f32(w, "Final_norm", norm, 40, &err), MB_E_INVALID,
                "name: byte 0");
    assert_says(mb_checkpoint_add_f32(w, "final_norm2", norm, 40, &err), MB_E_INVALID,
                "not a section of this format");
    assert_says(mb_checkpoint_add_f32(w, "blocks.2.attn_norm", norm, 40, &err), MB_E_INVALID,
                "not a section of this format and shape");
    assert_says(mb_checkpoint_add_f32(w, "blocks.01.attn_norm", norm, 40, &err), MB_E_INVALID,
                "not a section of this format");
    assert_says(mb_checkpoint_add_f32(w, "embed", norm, 40, &err), MB_E_INVALID, "kind: 3");
    assert_says(
        mb_checkpoint_add_f32(w, "12345678901234567890123456789012345678901234567890123456",
                              norm, 40, &err),
        MB_E_INVALID, "name: too long");
    mb_assert_ok(mb_checkpoint_add_f32(w, "final_norm", norm, 40, &err), &err);
    assert_says(mb_checkpoint_add_f32(w, "final_norm", norm, 40, &err), MB_E_INVALID,
                "added twice");
    mb_assert_ok(mb_checkpoint_add_bytes(w, "provenance", NULL, 0, &err), &err);
    assert_says(mb_checkpoint_add_bytes(w, "tokenizer", "x", 1, &err), MB_E_LIMIT,
                "more sections than the 2 foreseen");
    assert_says(mb_checkpoint_writer_commit(w, &err), MB_E_INVALID,
                "section 'embed' is missing");
    ck_assert_int_ne(access(path, F_OK), 0);

    assert_says(mb_checkpoint_writer_open(path, &tiny_shape, 0, &w, &err), MB_E_INVALID,
                "sections_max");
    struct mb_shape bad = tiny_shape;
    bad.n_heads = 0;
    assert_says(mb_checkpoint_writer_open(path, &bad, 4, &w, &err), MB_E_INVALID, "n_heads");
    mb_checkpoint_writer_abort(NULL);
}
END_TEST

START_TEST(linears_of_one_input_share_their_groups)
{
    struct mb_checkpoint_writer *w = open_writer(64);
    struct tiny_options o = tiny_full;
    double inv_freq[4] = { 1, 1, 1, 1 };
    float norm[64] = { 1 };
    o.optional = false;
    mb_assert_ok(mb_checkpoint_add_f64(w, "rope.inv_freq", inv_freq, 4, &err), &err);
    mb_assert_ok(mb_checkpoint_add_f32(w, "final_norm", norm, 40, &err), &err);
    mb_assert_ok(tiny_add_embed(w, "embed", &o, &err), &err);
    o.group = 64; /* need not be that of the blocks */
    mb_assert_ok(tiny_add_embed(w, "head", &o, &err), &err);
    mb_assert_ok(tiny_add_block(w, &o, 0, &err), &err);
    o.group = 32;
    static const char *const parts[] = { "attn_q",   "attn_k", "attn_v",  "attn_o",
                                         "ffn_gate", "ffn_up", "ffn_down" };
    static const uint32_t sizes[][2] = { { 16, 40 }, { 8, 40 },  { 8, 40 }, { 40, 16 },
                                         { 50, 40 }, { 50, 40 }, { 40, 50 } };
    for (size_t i = 0; i < 7; i++) {
        char name[64];
        (void) snprintf(name, sizeof name, "blocks.1.%s", parts[i]);
        o.group = i == 5 ? 64 : 32;
        mb_assert_ok(tiny_add_bool(w, name, &o, sizes[i][0], sizes[i][1], &err), &err);
    }
    mb_assert_ok(mb_checkpoint_add_f32(w, "blocks.1.attn_norm", norm, 40, &err), &err);
    mb_assert_ok(mb_checkpoint_add_f32(w, "blocks.1.ffn_norm", norm, 40, &err), &err);
    assert_says(mb_checkpoint_writer_commit(w, &err), MB_E_INVALID,
                "section 'blocks.1.ffn_up': group: 64, but 'blocks.1.ffn_gate'");
}
END_TEST

static bool stop_at_once(void *self, const char *what, uint64_t done, uint64_t total)
{
    ck_assert_uint_le(done, total);
    ck_assert_str_eq(what, "chat_template");
    return false;
}

START_TEST(verify_can_be_stopped)
{
    struct mb_checkpoint *c = write_and_open(&tiny_full);
    struct mb_progress p = { .report = stop_at_once };
    ck_assert_int_eq(mb_checkpoint_verify(c, &p, &err), MB_E_CANCELLED);
    mb_checkpoint_free(c);
}
END_TEST

START_TEST(what_is_no_checkpoint_says_so)
{
    struct mb_checkpoint *c;
    assert_says(mb_checkpoint_open(path, &c, &err), MB_E_NOTFOUND, path);
    assert_says(mb_checkpoint_open(dir, &c, &err), MB_E_INVALID, "not a regular file");
    struct mb_file_writer *w;
    mb_assert_ok(mb_file_writer_open(path, &w, &err), &err);
    mb_assert_ok(mb_file_writer_commit(w, &err), &err);
    assert_says(mb_checkpoint_open(path, &c, &err), MB_E_FORMAT, "header: 0 bytes in the file");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("checkpoint");
    TCase *t = tcase_create("checkpoint");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, what_was_written_is_read, 0, 16);
    tcase_add_test(t, every_section_is_found_by_its_name);
    tcase_add_test(t, the_same_input_gives_the_same_bytes);
    tcase_add_test(t, the_digest_tells_models_apart);
    tcase_add_test(t, the_bytes_are_those_of_the_specification);
    tcase_add_test(t, the_writer_refuses_what_the_reader_would);
    tcase_add_test(t, linears_of_one_input_share_their_groups);
    tcase_add_test(t, verify_can_be_stopped);
    tcase_add_test(t, what_is_no_checkpoint_says_so);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
