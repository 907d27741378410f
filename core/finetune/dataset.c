#include "core/finetune/dataset.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"
#include "core/base/rng.h"
#include "core/infer/windows.h"

void mb_dataset_fini(struct mb_dataset *d)
{
    mb_ids_fini(&d->ids);
    free(d->learn);
    free(d->start);
    *d = (struct mb_dataset) { 0 };
}

static enum mb_status no_memory(struct mb_error *err)
{
    return mb_fail(err, MB_E_NOMEM, 0, "no memory for the data to learn from");
}

static bool push(struct mb_dataset *d, uint32_t id, uint8_t learn)
{
    if (d->ids.len >= d->learn_cap) {
        size_t cap = d->learn_cap > 0 ? 2 * d->learn_cap : 4096;
        uint8_t *more = realloc(d->learn, cap);
        if (!more) {
            return false;
        }
        d->learn = more;
        d->learn_cap = cap;
    }
    d->learn[d->ids.len] = learn;
    return mb_ids_push(&d->ids, id);
}

/* What was pushed since the last example becomes one. */
static bool close_example(struct mb_dataset *d)
{
    if (d->n + 2 > d->start_cap) {
        size_t cap = d->start_cap > 0 ? 2 * d->start_cap : 256;
        size_t *more = realloc(d->start, cap * sizeof *more);
        if (!more) {
            return false;
        }
        d->start = more;
        d->start_cap = cap;
        d->start[0] = 0;
    }
    size_t first = d->n > 0 ? d->start[d->n] : 0;
    for (size_t i = first + 1; i < d->ids.len; i++) {
        d->n_learned += d->learn[i];
    }
    d->start[++d->n] = d->ids.len;
    return true;
}

enum mb_status mb_dataset_add(struct mb_dataset *d, const uint32_t *ids, const uint8_t *learn,
                              size_t n, size_t window, bool *ret_added, struct mb_error *err)
{
    size_t used = n < window ? n : window;
    bool any = false;
    for (size_t i = 1; i < used; i++) {
        any |= learn[i];
    }
    *ret_added = any;
    if (!any) {
        return MB_OK;
    }
    bool ok = true;
    for (size_t i = 0; ok && i < used; i++) {
        ok = push(d, ids[i], learn[i]);
    }
    return ok && close_example(d) ? MB_OK : no_memory(err);
}

/* A document's ids as windows that share their ends. */
static enum mb_status add_document(struct mb_dataset *d, const struct mb_ids *ids,
                                   size_t window, struct mb_error *err)
{
    for (size_t from = 0; from + 1 < ids->len; from += window - 1) {
        size_t end = ids->len - from < window ? ids->len : from + window;
        bool ok = true;
        for (size_t i = from; ok && i < end; i++) {
            ok = push(d, ids->at[i], 1);
        }
        if (!ok || !close_example(d)) {
            return no_memory(err);
        }
    }
    return MB_OK;
}

static enum mb_status encode_document(const struct mb_tokenizer *t, struct mb_text text,
                                      struct mb_ids *ret, struct mb_error *err)
{
    const uint32_t *eos;
    uint32_t bos;
    if (mb_tokenizer_bos(t, &bos) && !mb_ids_push(ret, bos)) {
        return no_memory(err);
    }
    enum mb_status st = mb_tokenizer_encode(t, text.at, text.n, 0, SIZE_MAX, ret, err);
    if (st == MB_OK && mb_tokenizer_eos(t, &eos) > 0 && !mb_ids_push(ret, eos[0])) {
        st = no_memory(err);
    }
    return st;
}

enum mb_status mb_dataset_add_text(struct mb_dataset *d, const struct mb_tokenizer *t,
                                   const char *text, size_t n, size_t window,
                                   struct mb_error *err)
{
    assert(window >= 2);
    struct mb_text rest = { text, n };
    struct mb_ids ids = { 0 };
    size_t before = d->n;
    enum mb_status st = MB_OK;
    while (st == MB_OK && rest.n > 0) {
        struct mb_text document = mb_text_document(&rest);
        if (document.n == 0) {
            continue;
        }
        ids.len = 0;
        st = encode_document(t, document, &ids, err);
        if (st == MB_OK) {
            st = add_document(d, &ids, window, err);
        }
    }
    mb_ids_fini(&ids);
    if (st == MB_OK && d->n == before) {
        st = mb_fail(err, MB_E_INVALID, 0, "the text has no two tokens that follow each other");
    }
    return st;
}

/* Batches. */

static int by_key(const void *a, const void *b)
{
    const struct mb_drawn *x = a, *y = b;
    return x->key != y->key ? (x->key < y->key ? -1 : 1)
                            : (x->example > y->example) - (x->example < y->example);
}

/* Examples sorted by random numbers: the same order for the same seed and epoch. */
static void shuffle(struct mb_batches *b)
{
    for (size_t i = 0; i < b->data->n; i++) {
        b->order[i] = (struct mb_drawn) { mb_rng_u64(b->seed, b->epoch, i), (uint32_t) i };
    }
    qsort(b->order, b->data->n, sizeof *b->order, by_key);
}

/* Tokens of a batch that example i takes: its last one is only predicted. */
static size_t places(const struct mb_dataset *d, size_t i)
{
    return d->start[i + 1] - d->start[i] - 1;
}

enum mb_status mb_batches_init(struct mb_batches *b, const struct mb_dataset *data,
                               uint32_t tokens, uint64_t seed, struct mb_error *err)
{
    *b = (struct mb_batches) { .data = data, .seed = seed, .tokens = tokens };
    if (data->n == 0 || data->n > UINT32_MAX) {
        return mb_fail(err, MB_E_INVALID, 0, "there is nothing to learn from");
    }
    for (size_t i = 0; i < data->n; i++) {
        if (places(data, i) > tokens) {
            return mb_fail(err, MB_E_INVALID, 0,
                           "an example of %zu tokens does not fit a batch of %u",
                           places(data, i), (unsigned) tokens);
        }
    }
    b->order = mb_alloc(data->n, sizeof *b->order);
    b->start = mb_alloc((size_t) tokens + 1, sizeof *b->start);
    b->token = mb_alloc(tokens, sizeof *b->token);
    b->target = mb_alloc(tokens, sizeof *b->target);
    b->weight = mb_alloc(tokens, sizeof *b->weight);
    if (!b->order || !b->start || !b->token || !b->target || !b->weight) {
        mb_batches_fini(b);
        return no_memory(err);
    }
    shuffle(b);
    return MB_OK;
}

void mb_batches_fini(struct mb_batches *b)
{
    mb_free(b->order);
    mb_free(b->start);
    mb_free(b->token);
    mb_free(b->target);
    mb_free(b->weight);
    *b = (struct mb_batches) { 0 };
}

bool mb_batches_seek(struct mb_batches *b, uint64_t epoch, size_t at)
{
    b->epoch = epoch;
    b->at = at;
    shuffle(b);
    return at <= b->data->n;
}

static void add_example(struct mb_batches *b, size_t i, struct mb_train_batch *to)
{
    const struct mb_dataset *d = b->data;
    const uint32_t *ids = d->ids.at + d->start[i];
    for (size_t j = 0; j < places(d, i); j++) {
        b->token[to->n_tokens] = ids[j];
        b->target[to->n_tokens] = ids[j + 1];
        b->weight[to->n_tokens] = d->learn[d->start[i] + j + 1];
        to->n_tokens++;
    }
    b->start[++to->n_seqs] = to->n_tokens;
}

/* May example i join a batch that has so many tokens and examples? */
static bool fits(const struct mb_batches *b, size_t i, size_t n_tokens, size_t n_examples)
{
    return n_tokens + places(b->data, i) <= b->tokens &&
           (b->examples == 0 || n_examples < b->examples);
}

struct mb_train_batch mb_batches_next(struct mb_batches *b)
{
    struct mb_train_batch ret = { 0, 0, b->start, b->token, b->target, b->weight };
    if (b->at == b->data->n) {
        b->epoch++;
        b->at = 0;
        shuffle(b);
    }
    for (; b->at < b->data->n; b->at++) {
        size_t i = b->order[b->at].example;
        if (!fits(b, i, ret.n_tokens, ret.n_seqs)) {
            break;
        }
        add_example(b, i, &ret);
    }
    return ret;
}

uint64_t mb_batches_count(struct mb_batches *b, uint32_t n_epochs)
{
    uint64_t n = 0;
    for (uint32_t epoch = 0; epoch < n_epochs; epoch++) {
        size_t tokens = 0, examples = 0;
        (void) mb_batches_seek(b, epoch, 0);
        for (size_t k = 0; k < b->data->n; k++) {
            size_t i = b->order[k].example;
            if (!fits(b, i, tokens, examples)) {
                n++;
                tokens = examples = 0;
            }
            tokens += places(b->data, i);
            examples++;
        }
        n++; /* what is left: a batch is never empty */
    }
    (void) mb_batches_seek(b, 0, 0);
    return n;
}
