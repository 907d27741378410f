/* Which sections a checkpoint of a shape has, and what each must be: the one place that knows,
 * asked by the writer before it writes and by the reader after it has read.
 *
 * Threads: pure. */
#ifndef MB_CORE_SECTIONS_H
#define MB_CORE_SECTIONS_H

#include <stddef.h>
#include <stdint.h>

#include "core/checkpoint/format.h"
#include "core/model/shape.h"
#include "proto/status.h"

/* Can name, MB_FORMAT_NAME_BYTES long, be printed and compared? Asked before anything else.
 * Errors, here and below: MB_E_FORMAT, to be preceded by the section's place. */
enum mb_status mb_sections_check_name(const char *name, struct mb_error *err);

/* Name, kind, sizes and coefficients' parameters of one entry; neither offset nor checksum.
 * Errors: "bytes: 4096, the shape asks for 8192". */
enum mb_status mb_sections_check_entry(const struct mb_shape *s,
                                       const struct mb_format_entry *e, struct mb_error *err);

/* What only the whole list shows: names unique, none missing, linears that read the same input
 * in groups of the same size. order holds the indexes of entries in the order of their names.
 * Errors: MB_E_FORMAT, naming the section. */
enum mb_status mb_sections_check_all(const struct mb_shape *s,
                                     const struct mb_format_entry *entries,
                                     const uint32_t *order, size_t n, struct mb_error *err);

/* Fills order[n] with the indexes of entries by name; all names are terminated. */
void mb_sections_order(const struct mb_format_entry *entries, size_t n, uint32_t *order);

/* The index of the entry of that name, or n. O(log n). */
size_t mb_sections_find(const struct mb_format_entry *entries, const uint32_t *order, size_t n,
                        const char *name);

#endif
