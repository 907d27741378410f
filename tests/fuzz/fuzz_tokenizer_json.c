/* Someone's tokenizer files of any bytes: refused, or a tokenizer that keeps its promises. The
 * input is up to four files with a line of three dashes between: tokenizer.json,
 * tokenizer_config.json, generation_config.json, config.json. */
#include "core/import/tokenizer_json.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/try_tokenizer.h"

static const char divider[] = "\n---\n";

/* The next file, and what is left after it; NULL when there is none. */
static const uint8_t *next_file(const uint8_t **at, size_t *left, size_t *ret_n)
{
    const uint8_t *file = *at;
    if (!file) {
        *ret_n = 0;
        return NULL;
    }
    const uint8_t *end = memmem(file, *left, divider, sizeof divider - 1);
    *ret_n = end ? (size_t) (end - file) : *left;
    *at = end ? end + sizeof divider - 1 : NULL;
    *left -= end ? *ret_n + sizeof divider - 1 : *left;
    return file;
}

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t n)
{
    struct mb_tokenizer_files files = { 0 };
    const uint8_t *rest = at;
    size_t left = n;
    files.tokenizer = next_file(&rest, &left, &files.n_tokenizer);
    files.tokenizer_config = next_file(&rest, &left, &files.n_tokenizer_config);
    files.generation_config = next_file(&rest, &left, &files.n_generation_config);
    files.config = next_file(&rest, &left, &files.n_config);

    struct mb_error err;
    struct mb_bpe_spec *spec;
    struct mb_tokenizer *t;
    if (!files.tokenizer || mb_tokenizer_json_parse(&files, &spec, &err) != MB_OK) {
        return 0;
    }
    if (mb_tokenizer_new(spec, &t, &err) == MB_OK) {
        size_t n_text = n < 256 ? n : 256;
        try_tokenizer(t, at + n - n_text, n_text);
        mb_tokenizer_free(t);
    }
    mb_bpe_spec_free(spec);
    return 0;
}
