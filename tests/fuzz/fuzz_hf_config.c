/* A config.json of any bytes: what is accepted is a valid shape with usable frequencies. */
#include <math.h>

#include "core/import/hf_config.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t n)
{
    struct mb_error err = { 0 };
    struct mb_hf_config c;
    double inv_freq[MB_HEAD_WIDTH_MAX / 2];
    if (mb_hf_config_parse(at, n, "config.json", &c, &err) != MB_OK) {
        fuzz_assert(err.what[0] != '\0');
        return 0;
    }
    fuzz_assert(mb_shape_check(&c.shape, &err) == MB_OK);
    mb_rope_frequencies(&c.rope, c.shape.head_width, inv_freq);
    for (uint32_t i = 0; i < c.shape.head_width / 2; i++) {
        fuzz_assert(isfinite(inv_freq[i]) && inv_freq[i] > 0);
    }
    return 0;
}
