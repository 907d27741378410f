/* Goal:   no checkpoint, however it was spoiled, is used; the message names what is wrong.
 * Method: a good one in memory, changed in one place at a time, in a block of exactly its size
 *         so that a sanitizer sees a read past the end. Where a field is changed, all checksums
 *         are put right again, so that the check of the field itself is reached. */
#include <stdbool.h>
#include <stddef.h>
#include <unistd.h>

#include "core/base/checksum.h"
#include "core/base/file.h"
#include "core/base/memory.h"
#include "core/checkpoint/format.h"
#include "core/checkpoint/reader.h"
#include "tests/check_main.h"
#include "tests/core/checkpoint/tiny_checkpoint.h"
#include "tests/fuzz/seeds.h"

static uint8_t *good; /* one layer, all sections */
static size_t n_good;
static struct mb_error err;

static void setup(void)
{
    char dir[] = "/tmp/mbool-test-XXXXXX", path[64];
    ck_assert_ptr_nonnull(mkdtemp(dir));
    (void) snprintf(path, sizeof path, "%s/m", dir);
    struct mb_file_map m;
    mb_assert_ok(tiny_write(path, &seeds[0].options, &err), &err);
    mb_assert_ok(mb_file_map(path, &m, &err), &err);
    good = mb_alloc(m.n, 1);
    n_good = m.n;
    memcpy(good, m.at, m.n);
    mb_file_unmap(&m);
    (void) unlink(path);
    (void) rmdir(dir);
}

static void teardown(void)
{
    mb_free(good);
}

static struct mb_format_header *header(void)
{
    return (struct mb_format_header *) (void *) good;
}

static struct mb_format_entry *entry(size_t i)
{
    return (struct mb_format_entry *) (void *) (good + sizeof(struct mb_format_header)) + i;
}

static size_t index_of(const char *name)
{
    for (size_t i = 0; i < header()->n_sections; i++) {
        if (strcmp(entry(i)->name, name) == 0) {
            return i;
        }
    }
    ck_abort_msg("no section %s", name);
}

static void seal_section(size_t i)
{
    entry(i)->checksum = mb_checksum(good + entry(i)->offset, (size_t) entry(i)->bytes);
}

/* n_sections is that of the good file: a test may have put anything in its place. */
static void seal(size_t n_sections)
{
    struct mb_format_header *h = header();
    h->table_checksum = mb_checksum(entry(0), n_sections * sizeof(struct mb_format_entry));
    h->header_checksum = mb_checksum(h, offsetof(struct mb_format_header, header_checksum));
}

/* Opens the first n bytes, and verifies when that went well. */
static enum mb_status try_bytes(size_t n)
{
    void *exact;
    struct mb_checkpoint *c = NULL;
    ck_assert_int_eq(posix_memalign(&exact, MB_FORMAT_ALIGN, n ? n : 1), 0);
    memcpy(exact, good, n);
    err = (struct mb_error) { 0 };
    enum mb_status st = mb_checkpoint_of_memory(exact, n, &c, &err);
    if (st == MB_OK) {
        st = mb_checkpoint_verify(c, NULL, &err);
        mb_checkpoint_free(c);
    } else {
        ck_assert_ptr_null(c);
    }
    free(exact);
    return st;
}

static void assert_refused(const char *says)
{
    enum mb_status st = try_bytes(n_good);
    ck_assert_msg(st == MB_E_FORMAT || st == MB_E_UNSUPPORTED, "%s: %s", mb_status_name(st),
                  says);
    ck_assert_msg(strstr(err.what, says), "'%s' is not in '%s'", says, err.what);
}

START_TEST(the_good_one_is_good)
{
    mb_assert_ok(try_bytes(n_good), &err);
    seal(header()->n_sections);
    mb_assert_ok(try_bytes(n_good), &err);
}
END_TEST

START_TEST(cut_at_every_byte_it_is_refused)
{
    for (size_t n = 0; n < n_good; n++) {
        ck_assert_int_eq(try_bytes(n), MB_E_FORMAT);
        ck_assert_ptr_nonnull(strstr(err.what, n < 256 ? "bytes in the file" : "file_bytes"));
    }
}
END_TEST

/* The header admits to the new size: the sections cut off or cut into must be noticed. */
START_TEST(cut_with_the_size_put_right_it_is_refused)
{
    size_t n_sections = header()->n_sections;
    for (size_t n = sizeof(struct mb_format_header); n < n_good; n++) {
        header()->file_bytes = n;
        seal(n_sections);
        ck_assert_int_eq(try_bytes(n), MB_E_FORMAT);
        const char *says = n < entry(n_sections) - entry(0) + sizeof(struct mb_format_header)
                               ? "n_sections"
                               : "";
        ck_assert_msg(strstr(err.what, says), "%zu: %s", n, err.what);
    }
    for (size_t i = 0; i < n_sections; i++) { /* each border, and a byte to each side */
        uint64_t end = entry(i)->offset + entry(i)->bytes;
        for (uint64_t n = end - 1; n <= end + 1; n++) {
            if (n >= n_good) {
                continue;
            }
            header()->file_bytes = n;
            seal(n_sections);
            char says[128];
            ck_assert_int_eq(try_bytes((size_t) n), MB_E_FORMAT);
            size_t victim = n < end ? i : i + 1;
            (void) snprintf(says, sizeof says, "section %zu '%s': offset", victim,
                            entry(victim)->name);
            ck_assert_msg(strstr(err.what, says), "%s: %s", says, err.what);
        }
    }
}
END_TEST

/* Every single bit that turns is noticed, in whatever place. */
START_TEST(every_byte_is_guarded)
{
    for (size_t i = 0; i < n_good; i++) {
        uint8_t bit = (uint8_t) (1u << i % 8);
        good[i] ^= bit;
        enum mb_status st = try_bytes(n_good);
        ck_assert_msg(st == MB_E_FORMAT || st == MB_E_UNSUPPORTED, "byte %zu", i);
        good[i] ^= bit;
    }
}
END_TEST

static const uint64_t spoilers[] = { 0, 1, UINT64_MAX, UINT64_MAX / 2, 1u << 31, 1u << 20 };
enum { N_SPOILERS = sizeof spoilers / sizeof spoilers[0] };

struct field {
    const char *says; /* what the message must have */
    size_t offset, width;
};
#define HEADER_FIELD(name, says_)                       \
    {                                                   \
        says_, offsetof(struct mb_format_header, name), \
            sizeof((struct mb_format_header *) 0)->name \
    }

/* Spoiled, a field of the shape is refused for itself or for what no longer fits it; says ""
 * where another field may be named with as much right. */
static const struct field header_fields[] = {
    HEADER_FIELD(version, "header: version"),
    HEADER_FIELD(header_bytes, "header: header_bytes"),
    HEADER_FIELD(file_bytes, "header: file_bytes"),
    HEADER_FIELD(n_sections, "header: "), /* n_sections, or the table's checksum */
    HEADER_FIELD(entry_bytes, "header: entry_bytes"),
    HEADER_FIELD(table_offset, "header: table_offset"),
    HEADER_FIELD(table_checksum, "header: table_checksum"),
    HEADER_FIELD(n_layers, ""),
    HEADER_FIELD(width, ""),
    HEADER_FIELD(n_heads, ""),
    HEADER_FIELD(n_kv_heads, ""),
    HEADER_FIELD(head_width, ""),
    HEADER_FIELD(ffn_width, ""),
    HEADER_FIELD(n_vocab, ""),
    HEADER_FIELD(tied_head, ""),
};
enum { N_HEADER_FIELDS = sizeof header_fields / sizeof header_fields[0] };

/* The value of a field with a spoiler in it; false when that changes nothing. */
static bool spoil(uint8_t *at, size_t width, int spoiler)
{
    uint64_t v = 0, was;
    memcpy(&v, at, width);
    was = v;
    v = spoiler < N_SPOILERS ? spoilers[spoiler] : spoiler == N_SPOILERS ? v + 1 : v - 1;
    memcpy(at, &v, width);
    v = 0;
    memcpy(&v, at, width);
    return v != was;
}

START_TEST(each_header_field_is_checked)
{
    const struct field *f = &header_fields[_i];
    for (int k = 0; k < N_SPOILERS + 2; k++) {
        struct mb_format_header before = *header();
        if (spoil(good + f->offset, f->width, k)) {
            if (f->offset == offsetof(struct mb_format_header, table_checksum)) {
                header()->header_checksum = mb_checksum(header(), 248);
            } else {
                seal(before.n_sections);
            }
            assert_refused(f->says);
        }
        *header() = before;
    }
}
END_TEST

/* Fields with a range of their own, and with values outside it. */
START_TEST(header_fields_have_ranges)
{
    static const struct {
        size_t offset;
        uint32_t value;
        const char *says;
    } rows[] = {
        { offsetof(struct mb_format_header, n_layers), 0, "header: shape: n_layers: 0" },
        { offsetof(struct mb_format_header, n_layers), 1025, "header: shape: n_layers: 1025" },
        { offsetof(struct mb_format_header, n_layers), 2, "'blocks.1.attn_norm' is missing" },
        { offsetof(struct mb_format_header, width), 131073, "header: shape: width" },
        { offsetof(struct mb_format_header, width), 9, "n_cols: 8, the shape asks for 9" },
        { offsetof(struct mb_format_header, n_heads), 1025, "header: shape: n_heads" },
        { offsetof(struct mb_format_header, n_kv_heads), 3, "header: shape: n_kv_heads: 3" },
        { offsetof(struct mb_format_header, head_width), 3, "head_width: 3 is odd" },
        { offsetof(struct mb_format_header, head_width), 514, "header: shape: head_width" },
        { offsetof(struct mb_format_header, ffn_width), 262145, "header: shape: ffn_width" },
        { offsetof(struct mb_format_header, n_vocab), 1048577, "header: shape: n_vocab" },
        { offsetof(struct mb_format_header, context), 0, "header: shape: context: 0" },
        { offsetof(struct mb_format_header, context), 1048577, "header: shape: context" },
        { offsetof(struct mb_format_header, window), UINT32_MAX, "header: shape: window" },
        { offsetof(struct mb_format_header, n_planes), 0, "header: shape: n_planes" },
        { offsetof(struct mb_format_header, n_planes), 3, "header: shape: n_planes: 3" },
        { offsetof(struct mb_format_header, n_planes), 9, "header: shape: n_planes: 9" },
        { offsetof(struct mb_format_header, norm_eps), 0, "header: shape: norm_eps: 0" },
        { offsetof(struct mb_format_header, norm_eps), 0x7fc00000, "header: shape: norm_eps" },
        { offsetof(struct mb_format_header, norm_eps), 0x7f800000, "header: shape: norm_eps" },
        { offsetof(struct mb_format_header, norm_eps), 0xbf800000, "header: shape: norm_eps" },
        { offsetof(struct mb_format_header, tied_head), 2, "header: shape: tied_head: 2" },
        { offsetof(struct mb_format_header, tied_head), 1, "'head': name: not a section" },
        { offsetof(struct mb_format_header, n_sections), 0, "header: n_sections: 0" },
        { offsetof(struct mb_format_header, n_sections), 16385, "header: n_sections: 16385" },
        { offsetof(struct mb_format_header, n_sections), 16384,
          "header: n_sections: the table" },
        { offsetof(struct mb_format_header, version), 2,
          "header: version: 2 is not supported" },
        { offsetof(struct mb_format_header, reserved), 1, "header: reserved: byte 0" },
        { offsetof(struct mb_format_header, reserved) + 148, 1u << 24, "reserved: byte 151" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct mb_format_header before = *header();
        memcpy(good + rows[i].offset, &rows[i].value, sizeof rows[i].value);
        seal(before.n_sections);
        assert_refused(rows[i].says);
        *header() = before;
    }
}
END_TEST

/* Legal values of the fields that no section's size depends on. */
START_TEST(what_is_legal_is_accepted)
{
    header()->context = 1;
    header()->window = 1048576;
    header()->n_planes = 1;
    header()->norm_eps = 1;
    entry(index_of("blocks.0.attn_o"))->scale_all = 0;
    seal(header()->n_sections);
    mb_assert_ok(try_bytes(n_good), &err);
}
END_TEST

START_TEST(the_magic_tells_what_happened)
{
    good[0] = 0x09; /* the eighth bit cleared */
    seal(header()->n_sections);
    assert_refused("header: magic: damaged as by a transfer in text mode");
    memcpy(good, "\x89MBL\n\x1a\n", 7); /* CR LF became LF */
    seal(header()->n_sections);
    assert_refused("header: magic: damaged");
    memcpy(good, "GGUF\x03\0\0\0", 8);
    seal(header()->n_sections);
    assert_refused("header: magic: this is not an .mbool file");
}
END_TEST

START_TEST(checksums_are_checked)
{
    header()->n_planes = 7;
    assert_refused("header: header_checksum");
    header()->n_planes = 8;
    entry(3)->checksum ^= 1;
    assert_refused("header: table_checksum");
    seal(header()->n_sections);
    assert_refused("section 3 'rope.inv_freq': checksum");
}
END_TEST

#define ENTRY_FIELD(name, says_)                       \
    {                                                  \
        says_, offsetof(struct mb_format_entry, name), \
            sizeof((struct mb_format_entry *) 0)->name \
    }

/* "" where the first field to disagree may be another: a kind that the section may have as
 * well, but not with this group. */
static const struct field entry_fields[] = {
    ENTRY_FIELD(offset, "offset: "), ENTRY_FIELD(bytes, ""),
    ENTRY_FIELD(kind, ""),           ENTRY_FIELD(n_rows, "n_rows: "),
    ENTRY_FIELD(n_cols, "n_cols: "), ENTRY_FIELD(group, ""),
    ENTRY_FIELD(n_kernels, ""),      ENTRY_FIELD(checksum, "checksum: "),
};
enum { N_ENTRY_FIELDS = sizeof entry_fields / sizeof entry_fields[0] };

/* Does spoiled section i leave a legal file? Only a group may, when it holds the whole row and
 * became a wider one: that changes neither size nor place. */
static bool is_legal(size_t i, const struct field *f, uint32_t group_before)
{
    const struct mb_format_entry *e = entry(i);
    return f->offset == offsetof(struct mb_format_entry, group) && e->kind == MB_SECTION_BOOL &&
           e->group % 32 == 0 && e->group <= MB_GROUP_COLS_MAX && e->group >= 32 &&
           group_before >= 32 &&
           (e->n_cols + e->group - 1) / e->group ==
               (e->n_cols + group_before - 1) / group_before;
}

START_TEST(each_entry_field_is_checked)
{
    const struct field *f = &entry_fields[_i];
    size_t n = header()->n_sections;
    for (size_t i = 0; i < n; i++) {
        for (int k = 0; k < N_SPOILERS + 2; k++) {
            struct mb_format_entry before = *entry(i);
            if (spoil((uint8_t *) entry(i) + f->offset, f->width, k)) {
                seal(n);
                char says[160];
                bool shared = strstr(before.name, "attn_q") || strstr(before.name, "attn_k") ||
                              strstr(before.name, "attn_v") ||
                              strstr(before.name, "ffn_gate") || strstr(before.name, "ffn_up");
                if (is_legal(i, f, before.group) && !shared) {
                    mb_assert_ok(try_bytes(n_good), &err);
                } else {
                    (void) snprintf(says, sizeof says, "'%s': %s", before.name, f->says);
                    enum mb_status st = try_bytes(n_good);
                    ck_assert_msg(st == MB_E_FORMAT, "section %s, spoiler %d", before.name, k);
                    /* A longer text overlaps what comes after it, and of two groups that
                     * disagree the second is named: then the message is of another section. */
                    bool other = f->offset == offsetof(struct mb_format_entry, bytes) ||
                                 f->offset == offsetof(struct mb_format_entry, group);
                    ck_assert_msg(other || strstr(err.what, says), "'%s' is not in '%s'", says,
                                  err.what);
                }
            }
            *entry(i) = before;
        }
    }
}
END_TEST

START_TEST(entries_are_checked_by_name)
{
    static const struct {
        const char *section, *name, *says;
    } rows[] = {
        { "head_in.t", "", "section 19: name: not of 1..55" },
        { "embed", "Embed", "name: byte 0 is not one of" },
        { "embed", "em bed", "name: byte 2 is not one of" },
        { "embed", "embed\x1b[2J", "name: byte 5 is not one of" },
        { "embed", "embed2", "'embed2': name: not a section of this format and shape" },
        { "blocks.0.attn_q", "blocks.1.attn_q", "name: not a section" },
        { "blocks.0.attn_q", "blocks.00.attn_q", "name: not a section" },
        { "blocks.0.attn_q", "blocks.4294967296.attn_q", "name: not a section" },
        { "blocks.0.attn_q", "blocks..attn_q", "name: not a section" },
        { "blocks.0.attn_q", "blocks.0.", "name: not a section" },
        { "blocks.0.attn_k", "blocks.0.attn_v", "'blocks.0.attn_v': name: occurs twice" },
        { "blocks.0.attn_norm", "blocks.0.ffn_norm",
          "'blocks.0.ffn_norm': name: occurs twice" },
        { "head_in.t", "blocks.0.attn_in.t", "name: occurs twice" },
        { "embed", "head", "name: occurs twice" },
        { "final_norm", "embed", "kind: 3" },
    };
    size_t n = header()->n_sections;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct mb_format_entry *e = entry(index_of(rows[i].section)), before = *e;
        memset(e->name, 0, sizeof e->name);
        (void) snprintf(e->name, sizeof e->name, "%s", rows[i].name);
        seal(n);
        assert_refused(rows[i].says);
        *e = before;
    }
    memset(entry(4)->name, 'a', sizeof entry(4)->name); /* no zero in it */
    seal(n);
    assert_refused("section 4: name: not of 1..55");
}
END_TEST

START_TEST(a_name_is_padded_with_zeros)
{
    size_t i = index_of("embed");
    entry(i)->name[20] = 'x';
    seal(header()->n_sections);
    assert_refused("name: byte 20 is not the zero");
}
END_TEST

START_TEST(a_required_section_must_be_there)
{
    size_t n = header()->n_sections;
    for (size_t i = 0; i < n - 1;
         i++) { /* without its last one, a file has bytes after the end */
        uint8_t *copy = malloc(n_good);
        char says[128];
        memcpy(copy, good, n_good);
        (void) snprintf(says, sizeof says, "section '%s' is missing", entry(i)->name);
        bool optional = strstr(entry(i)->name, ".t") ||
                        strcmp(entry(i)->name, "tokenizer") == 0 ||
                        strcmp(entry(i)->name, "chat_template") == 0 ||
                        strcmp(entry(i)->name, "provenance") == 0;
        /* Its place and that of its entry become zeros, as if they had never been. */
        memset(good + entry(i)->offset, 0, (size_t) entry(i)->bytes);
        memmove(entry(i), entry(i + 1), (n - 1 - i) * sizeof *entry(i));
        memset(entry(n - 1), 0, sizeof *entry(n - 1));
        header()->n_sections = (uint32_t) n - 1;
        seal(n - 1);
        if (optional) {
            mb_assert_ok(try_bytes(n_good), &err);
        } else {
            assert_refused(says);
        }
        memcpy(good, copy, n_good);
        free(copy);
    }
}
END_TEST

START_TEST(extents_neither_overlap_nor_swap)
{
    size_t n = header()->n_sections;
    struct mb_format_entry a = *entry(5), b = *entry(6);
    entry(6)->offset = a.offset;
    seal(n);
    assert_refused("offset: ");
    entry(6)->offset = a.offset + (a.bytes - 1) / 64 * 64; /* into its last bytes */
    seal(n);
    assert_refused("but what is before it ends at");
    *entry(5) = b; /* swapped */
    *entry(6) = a;
    seal(n);
    assert_refused("offset: ");
    *entry(5) = a;
    *entry(6) = b;
    mb_assert_ok((seal(n), try_bytes(n_good)), &err);
    entry(0)->offset = 0; /* onto the header, and onto the table */
    seal(n);
    assert_refused("section 0 'chat_template': offset: 0");
    entry(0)->offset = 256;
    seal(n);
    assert_refused("section 0 'chat_template': offset: 256");
    entry(0)->offset = 256 + n * 128 + 32;
    seal(n);
    assert_refused("is not a multiple of 64");
}
END_TEST

START_TEST(reserved_bytes_of_an_entry_are_zero)
{
    for (size_t i = 0; i < 24; i++) {
        char says[64];
        entry(9)->reserved[i] = 1;
        seal(header()->n_sections);
        (void) snprintf(says, sizeof says, "reserved: byte %zu", i);
        assert_refused(says);
        entry(9)->reserved[i] = 0;
    }
}
END_TEST

START_TEST(the_scale_of_a_matrix_is_a_number)
{
    static const uint32_t bits[] = { 0x7f800000, 0xff800000, 0x7fc00000, 0xbf800000 };
    size_t i = index_of("blocks.0.ffn_down");
    for (size_t k = 0; k < 4; k++) {
        memcpy(&entry(i)->scale_all, &bits[k], 4);
        seal(header()->n_sections);
        assert_refused("'blocks.0.ffn_down': scale_all");
    }
    entry(i)->scale_all = 1;
    i = index_of("final_norm");
    entry(i)->scale_all = -0.0f; /* not all bits zero */
    seal(header()->n_sections);
    assert_refused("'final_norm': scale_all: not zero");
}
END_TEST

/* --- a valid checksum over nonsense: only verify can see it --- */

START_TEST(random_bytes_in_a_section_are_refused)
{
    size_t n = header()->n_sections;
    uint8_t *copy = malloc(n_good);
    memcpy(copy, good, n_good);
    for (size_t i = 0; i < n; i++) {
        struct mb_format_entry *e = entry(i);
        for (uint64_t k = 0; k < e->bytes; k++) {
            good[e->offset + k] = (uint8_t) mb_rng_u64(3, i, k) | 0x80; /* no UTF-8 either */
        }
        if (e->kind == MB_SECTION_F32 || e->kind == MB_SECTION_F16 ||
            e->kind == MB_SECTION_F64) {
            memset(good + e->offset, 0xff, 8); /* not every random float is wrong */
        }
        seal_section(i);
        seal(n);
        char says[128];
        (void) snprintf(says, sizeof says, "section %zu '%s': ", i, e->name);
        assert_refused(says);
        memcpy(good, copy, n_good);
    }
    free(copy);
}
END_TEST

START_TEST(frequencies_have_a_range)
{
    static const double bad[] = { -1e-300, 1025, 1e300 };
    size_t i = index_of("rope.inv_freq");
    for (size_t k = 0; k < 3; k++) {
        memcpy(good + entry(i)->offset + 8, &bad[k], 8);
        seal_section(i);
        seal(header()->n_sections);
        assert_refused("'rope.inv_freq': element 1: ");
    }
}
END_TEST

START_TEST(a_text_has_no_zero_byte)
{
    size_t i = index_of("chat_template");
    good[entry(i)->offset + 2] = 0;
    seal_section(i);
    seal(header()->n_sections);
    assert_refused("'chat_template': a text with a zero byte");
}
END_TEST

/* The layout of a Boolean section: 8 x 8, K = 2, G = 32: 128 bytes of bits, 32 of scales, 32 of
 * nothing, 32 of coefficients. */
START_TEST(the_gap_inside_a_boolean_section_is_zero)
{
    size_t i = index_of("blocks.0.attn_q");
    ck_assert_uint_eq(entry(i)->bytes, 128 + 32 + 32 + 32);
    good[entry(i)->offset + 128 + 32 + 31] = 1;
    seal_section(i);
    seal(header()->n_sections);
    assert_refused("'blocks.0.attn_q': byte 191, after the scales, is not zero");
}
END_TEST

START_TEST(nothing_comes_after_the_last_section)
{
    size_t n = header()->n_sections;
    uint64_t end = entry(n - 2)->offset + entry(n - 2)->bytes;
    char says[80];
    header()->n_sections--;
    seal(n - 1);
    (void) snprintf(says, sizeof says, "file_bytes: %zu, but the last section ends at %llu",
                    n_good, (unsigned long long) end);
    assert_refused(says);
}
END_TEST

START_TEST(bytes_of_no_section_are_zero)
{
    size_t i = index_of("chat_template");
    uint64_t at = entry(i)->offset + entry(i)->bytes;
    ck_assert_uint_ne(at % 64, 0);
    good[at] = 1;
    assert_refused("not zero, and in no section");
}
END_TEST

/* --- the format does not change by accident --- */

START_TEST(the_writer_writes_what_it_always_wrote)
{
    const char *source = getenv("MB_SOURCE");
    if (!source) {
        mb_skip("MB_SOURCE is not set");
    }
    char golden[4096], dir[] = "/tmp/mbool-test-XXXXXX", path[64];
    struct mb_file_map want, got;
    struct mb_checkpoint *c;
    ck_assert_ptr_nonnull(mkdtemp(dir));
    (void) snprintf(path, sizeof path, "%s/m", dir);
    (void) snprintf(golden, sizeof golden, "%s/tests/fuzz/corpus/checkpoint/%s", source,
                    seeds[_i].name);
    mb_assert_ok(tiny_write(path, &seeds[_i].options, &err), &err);
    mb_assert_ok(mb_file_map(path, &got, &err), &err);
    mb_assert_ok(mb_file_map(golden, &want, &err), &err);
    ck_assert_uint_eq(got.n, want.n);
    ck_assert_mem_eq(got.at, want.at, want.n);
    mb_assert_ok(mb_checkpoint_open(golden, &c, &err), &err);
    mb_assert_ok(mb_checkpoint_verify(c, NULL, &err), &err);
    mb_checkpoint_free(c);
    mb_file_unmap(&got);
    mb_file_unmap(&want);
    (void) unlink(path);
    (void) rmdir(dir);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("hostile");
    TCase *t = tcase_create("hostile");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, the_good_one_is_good);
    tcase_add_test(t, cut_at_every_byte_it_is_refused);
    tcase_add_test(t, cut_with_the_size_put_right_it_is_refused);
    tcase_add_test(t, every_byte_is_guarded);
    tcase_add_loop_test(t, each_header_field_is_checked, 0, N_HEADER_FIELDS);
    tcase_add_test(t, header_fields_have_ranges);
    tcase_add_test(t, what_is_legal_is_accepted);
    tcase_add_test(t, the_magic_tells_what_happened);
    tcase_add_test(t, checksums_are_checked);
    tcase_add_loop_test(t, each_entry_field_is_checked, 0, N_ENTRY_FIELDS);
    tcase_add_test(t, entries_are_checked_by_name);
    tcase_add_test(t, a_name_is_padded_with_zeros);
    tcase_add_test(t, a_required_section_must_be_there);
    tcase_add_test(t, extents_neither_overlap_nor_swap);
    tcase_add_test(t, reserved_bytes_of_an_entry_are_zero);
    tcase_add_test(t, the_scale_of_a_matrix_is_a_number);
    tcase_add_test(t, random_bytes_in_a_section_are_refused);
    tcase_add_test(t, frequencies_have_a_range);
    tcase_add_test(t, a_text_has_no_zero_byte);
    tcase_add_test(t, the_gap_inside_a_boolean_section_is_zero);
    tcase_add_test(t, nothing_comes_after_the_last_section);
    tcase_add_test(t, bytes_of_no_section_are_zero);
    tcase_add_loop_test(t, the_writer_writes_what_it_always_wrote, 0, N_SEEDS);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
