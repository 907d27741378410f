#include "core/base/memory.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/checked.h"

void *mb_alloc(size_t n, size_t size)
{
    size_t bytes;
    if (!mb_checked_mul(n, size, &bytes) || !mb_checked_align(bytes, MB_ALIGN, &bytes)) {
        return NULL;
    }
    if (bytes == 0) {
        bytes = MB_ALIGN;
    }
    void *p = aligned_alloc(MB_ALIGN, bytes);
    if (p) {
        memset(p, 0, bytes);
    }
    return p;
}

void mb_free(void *p)
{
    free(p);
}
