/* Any bytes as a body of the smaller routes: refused with an error that can be sent, or within its
 * bounds. */
#include <stdlib.h>
#include <string.h>

#include "proto/completion.h"
#include "proto/json/embedding_json.h"
#include "proto/json/tokenize_json.h"
#include "tests/fuzz/fuzz.h"

static void check(bool ok)
{
    if (!ok) {
        abort();
    }
}

static void embedding(const char *text, size_t n)
{
    struct mb_embedding e;
    struct mb_wire_error err;
    if (mb_embedding_decode(text, n, &e, &err) != MB_OK) {
        check(err.http == 400);
        return;
    }
    check(e.n_inputs >= 1 && e.n_inputs <= MB_EMBEDDING_INPUTS_MAX);
    for (size_t i = 0; i < e.n_inputs; i++) {
        check((e.inputs[i].text != NULL) != (e.inputs[i].ids != NULL) && e.inputs[i].n > 0);
    }
    mb_embedding_fini(&e);
}

static void tokens(const char *text, size_t n)
{
    struct mb_tokenize t;
    struct mb_detokenize d;
    struct mb_wire_error err;
    if (mb_tokenize_decode(text, n, &t, &err) == MB_OK) {
        check(t.prompt != NULL && t.prompt[t.n_prompt] == '\0');
        mb_tokenize_fini(&t);
    } else {
        check(err.http == 400);
    }
    if (mb_detokenize_decode(text, n, &d, &err) == MB_OK) {
        check(d.n <= MB_PROMPT_IDS_MAX && (d.tokens != NULL) == (d.n > 0));
        free(mb_detokenize_encode(text, n)); /* the same bytes as a text */
        mb_detokenize_fini(&d);
    } else {
        check(err.http == 400);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t n)
{
    embedding((const char *) at, n);
    tokens((const char *) at, n);
    return 0;
}
