/* The bytes of an .mbool file, exactly as FORMAT.md describes them. Little endian; every struct
 * is without padding, so that it is written and read as it stands.
 *
 * Threads: values. */
#ifndef MB_CORE_FORMAT_H
#define MB_CORE_FORMAT_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "core/tensor/bool_matrix.h"

/* As PNG's: a byte that is no ASCII (a 7-bit transfer), CR LF (a text-mode one), Ctrl-Z (stops
 * TYPE on old terminals), LF (the opposite text mode). */
#define MB_FORMAT_MAGIC       "\x89MBL\r\n\x1a\n"
#define MB_FORMAT_MAGIC_BYTES 8
#define MB_FORMAT_VERSION     1
#define MB_FORMAT_ALIGN       64 /* of every section in the file: a cache line, a vector */

/* Bounds, each with room over what the shape's own bounds can need. */
#define MB_FORMAT_SECTIONS_MAX   16384u /* 1024 layers x 13 sections, and 8 */
#define MB_FORMAT_TOKENIZER_MAX  (256u << 20)
#define MB_FORMAT_TEMPLATE_MAX   (1u << 20)
#define MB_FORMAT_PROVENANCE_MAX (1u << 20)

#define MB_FORMAT_NAME_BYTES 56 /* with at least one terminating zero */

struct mb_format_header {
    uint8_t magic[MB_FORMAT_MAGIC_BYTES];
    uint32_t version;
    uint32_t header_bytes; /* of this struct */
    uint64_t file_bytes;
    uint32_t n_sections;
    uint32_t entry_bytes; /* of one entry of the table */
    uint64_t table_offset;
    uint64_t table_checksum; /* of n_sections * entry_bytes at table_offset */

    /* struct mb_shape, in its order */
    uint32_t n_layers, width, n_heads, n_kv_heads, head_width, ffn_width, n_vocab, context;
    uint32_t window, n_planes;
    float norm_eps;
    uint32_t tied_head;

    uint8_t reserved[152];    /* zero */
    uint64_t header_checksum; /* of all bytes before it */
};
static_assert(sizeof(struct mb_format_header) == 256, "FORMAT.md: header");
static_assert(offsetof(struct mb_format_header, file_bytes) == 16, "FORMAT.md: header");
static_assert(offsetof(struct mb_format_header, n_layers) == 48, "FORMAT.md: header");
static_assert(offsetof(struct mb_format_header, reserved) == 96, "FORMAT.md: header");
static_assert(offsetof(struct mb_format_header, header_checksum) == 248, "FORMAT.md: header");

struct mb_format_entry {
    char name[MB_FORMAT_NAME_BYTES]; /* padded with zeros */
    uint64_t offset;                 /* from the start of the file */
    uint64_t bytes;
    uint64_t checksum;
    uint32_t kind; /* enum mb_section_kind */
    uint32_t n_rows, n_cols;
    uint32_t group, n_kernels; /* Boolean matrices; else 0 */
    float scale_all;           /* Boolean matrices; else 0 */
    uint8_t reserved[24];      /* zero */
};
static_assert(sizeof(struct mb_format_entry) == 128, "FORMAT.md: section entry");
static_assert(offsetof(struct mb_format_entry, offset) == 56, "FORMAT.md: section entry");
static_assert(offsetof(struct mb_format_entry, kind) == 80, "FORMAT.md: section entry");
static_assert(offsetof(struct mb_format_entry, reserved) == 104, "FORMAT.md: section entry");

/* Places inside a Boolean section: bits at 0, scales after them (both sizes are such that this
 * is a multiple of 64), coefficients at the next multiple of 64; the section ends with them. */
static inline size_t mb_format_scale_at(const struct mb_bool_shape *s)
{
    return mb_bool_bits_bytes(s);
}

static inline size_t mb_format_coef_at(const struct mb_bool_shape *s)
{
    size_t end = mb_format_scale_at(s) + mb_bool_scale_bytes(s);
    return (end + MB_FORMAT_ALIGN - 1) / MB_FORMAT_ALIGN * MB_FORMAT_ALIGN;
}

static inline size_t mb_format_bool_bytes(const struct mb_bool_shape *s)
{
    return mb_format_coef_at(s) + mb_bool_coef_bytes(s);
}

#endif
