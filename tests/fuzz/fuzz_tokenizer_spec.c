/* A checkpoint's tokenizer section of any bytes: refused, or a tokenizer that keeps its
 * promises; and what is accepted is written as it was read. */
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/try_tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t n)
{
    struct mb_error err;
    struct mb_bpe_spec *spec;
    struct mb_tokenizer *t;
    if (mb_bpe_spec_read(at, n, &spec, &err) != MB_OK) {
        return 0;
    }
    struct mb_bytes again = { 0 };
    mb_bpe_spec_write(spec, &again);
    TRY(again.len == n);
    TRY(memcmp(again.at, at, n) == 0);
    mb_bytes_fini(&again);
    if (mb_tokenizer_new(spec, &t, &err) == MB_OK) {
        size_t n_text = n < 256 ? n : 256;
        try_tokenizer(t, at + n - n_text, n_text);
        mb_tokenizer_free(t);
    }
    mb_bpe_spec_free(spec);
    return 0;
}
