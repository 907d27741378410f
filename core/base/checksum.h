/* Checksums of sections: XXH3, 64 bits. It finds damage; it does not withstand forgery.
 *
 * Threads: pure. */
#ifndef MB_CORE_CHECKSUM_H
#define MB_CORE_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

uint64_t mb_checksum(const void *at, size_t n);

/* The same over several pieces in turn: init, update ..., digest. */
struct mb_checksum_state;
struct mb_checksum_state *mb_checksum_new(void); /* NULL when memory is refused */
void mb_checksum_free(struct mb_checksum_state *s);
void mb_checksum_update(struct mb_checksum_state *s, const void *at, size_t n);
uint64_t mb_checksum_digest(const struct mb_checksum_state *s);

#endif
