/* A .safetensors file of any bytes: every tensor it gives lies inside it. */
#include <string.h>

#include "core/import/safetensors.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t n)
{
    struct mb_error err = { 0 };
    struct mb_safetensors *s;
    uint8_t *copy = malloc(n ? n : 1);
    if (!copy) {
        return 0;
    }
    memcpy(copy, n ? at : copy, n);
    if (mb_safetensors_of_memory(copy, n, "fuzz", &s, &err) == MB_OK) {
        for (size_t i = 0; i < mb_safetensors_count(s); i++) {
            const struct mb_safetensor *t = mb_safetensors_at(s, i);
            fuzz_assert(mb_safetensors_find(s, t->name) == t);
            fuzz_assert(t->data >= copy && t->bytes <= (size_t) (copy + n - t->data));
        }
        mb_safetensors_free(s);
    } else {
        fuzz_assert(err.what[0] != '\0');
    }
    free(copy);
    return 0;
}
