/* A GGUF file of any bytes: what is accepted is a model whose tensors can be read to their ends,
 * and a tokenizer of which the spec is valid. */
#include <math.h>
#include <string.h>

#include "core/import/gguf_model.h"
#include "core/import/gguf_tokenizer.h"
#include "tests/fuzz/fuzz.h"

static void try_tensors(const struct mb_gguf *g, const uint8_t *at, size_t n)
{
    for (size_t i = 0; i < mb_gguf_tensors(g); i++) {
        const struct mb_gguf_tensor *t = mb_gguf_tensor_at(g, i);
        fuzz_assert(mb_gguf_tensor(g, t->name) == t);
        fuzz_assert(t->data >= at && t->bytes <= (size_t) (at + n - t->data));
    }
}

static void try_model(const struct mb_gguf_model *m)
{
    const struct mb_hf_tensor *q =
        mb_gguf_model_tensor(m, "model.layers.0.self_attn.q_proj.weight");
    struct mb_error err = { 0 };
    fuzz_assert(mb_shape_check(mb_gguf_model_shape(m), &err) == MB_OK);
    for (uint32_t i = 0; i < mb_gguf_model_shape(m)->head_width / 2; i++) {
        double f = mb_gguf_model_inv_freq(m)[i];
        fuzz_assert(isfinite(f) && f > 0);
    }
    size_t bytes = (size_t) q->n_rows * q->n_cols * (q->kind == MB_LINEAR_F32 ? 4 : 2);
    fuzz_assert(((const uint8_t *) q->data)[bytes - 1] <= 255); /* a read that may not be */
}

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t n)
{
    struct mb_error err = { 0 };
    struct mb_gguf *g;
    struct mb_gguf_model *m;
    struct mb_bpe_spec *s;
    if (mb_gguf_of_memory(at, n, &g, &err) != MB_OK) {
        fuzz_assert(err.what[0] != '\0');
        return 0;
    }
    try_tensors(g, at, n);
    if (mb_gguf_tokenizer(g, &s, &err) == MB_OK) {
        fuzz_assert(mb_bpe_spec_check(s, &err) == MB_OK);
        mb_bpe_spec_free(s);
    }
    mb_gguf_free(g);
    if (mb_gguf_model_of_memory(at, n, &m, &err) == MB_OK) {
        try_model(m);
        mb_gguf_model_free(m);
    }
    return 0;
}
