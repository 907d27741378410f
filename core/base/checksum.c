#include "core/base/checksum.h"

#include <xxhash.h>

uint64_t mb_checksum(const void *at, size_t n)
{
    return XXH3_64bits(at, n);
}

struct mb_checksum_state *mb_checksum_new(void)
{
    XXH3_state_t *x = XXH3_createState();
    if (x && XXH3_64bits_reset(x) != XXH_OK) {
        (void) XXH3_freeState(x);
        x = NULL;
    }
    return (struct mb_checksum_state *) x;
}

void mb_checksum_free(struct mb_checksum_state *s)
{
    (void) XXH3_freeState((XXH3_state_t *) s);
}

void mb_checksum_update(struct mb_checksum_state *s, const void *at, size_t n)
{
    (void) XXH3_64bits_update((XXH3_state_t *) s, at, n);
}

uint64_t mb_checksum_digest(const struct mb_checksum_state *s)
{
    return XXH3_64bits_digest((const XXH3_state_t *) s);
}
