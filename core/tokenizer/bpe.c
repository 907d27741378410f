#include "core/tokenizer/bpe.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/rng.h"
#include "core/tokenizer/utf8.h"
#include "core/tokenizer/vocabulary.h"

enum { JOINT_BITS = 1 << 20 }; /* real vocabularies join 10,000 to 60,000 pairs of characters */

struct mb_merge_slot {
    uint32_t left, right;
    uint32_t rank; /* MB_NO_ID: free */
};

static size_t slot_of(const struct mb_merges *m, uint32_t left, uint32_t right,
                      size_t *ret_probes)
{
    size_t i = (size_t) mb_rng_mix((uint64_t) left << 32 | right) & m->mask;
    size_t probes = 0;
    while (m->slots[i].rank != MB_NO_ID &&
           (m->slots[i].left != left || m->slots[i].right != right)) {
        i = (i + 1) & m->mask;
        probes++;
    }
    *ret_probes = probes;
    return i;
}

static struct mb_edges edges_of(struct mb_bpe_text text, const uint8_t *at)
{
    struct mb_edges e = { 0 };
    if (text.n > 0) {
        size_t last = text.n - 1;
        while (last > 0 && (at[last] & 0xc0) == 0x80) {
            last--;
        }
        e.first = mb_utf8_first(at, text.n).c;
        e.last = mb_utf8_first(at + last, text.n - last).c;
    }
    return e;
}

static size_t joint_of(const struct mb_merges *m, uint32_t left, uint32_t right)
{
    uint64_t key = (uint64_t) m->edges[left].last << 32 | m->edges[right].first;
    return (size_t) mb_rng_mix(key) & (JOINT_BITS - 1);
}

/* May any merge ever span the boundary between these two symbols? It would be the merge of a
 * token that ends as left does with one that begins as right does. */
static bool joins(const struct mb_merges *m, uint32_t left, uint32_t right)
{
    size_t i = joint_of(m, left, right);
    return m->joints[i / 64] >> i % 64 & 1;
}

static bool find_joints(struct mb_merges *m, const struct mb_bpe_spec *spec)
{
    m->edges = calloc(spec->n_tokens ? spec->n_tokens : 1, sizeof *m->edges);
    m->joints = calloc(JOINT_BITS / 64, sizeof *m->joints);
    if (!m->edges || !m->joints) {
        return false;
    }
    for (uint32_t id = 0; id < spec->n_tokens; id++) {
        struct mb_bpe_text text = spec->tokens[id].text;
        m->edges[id] = edges_of(text, mb_bpe_at(spec, text));
    }
    for (uint32_t rank = 0; rank < spec->n_merges; rank++) {
        size_t i = joint_of(m, spec->merges[rank].left, spec->merges[rank].right);
        m->joints[i / 64] |= UINT64_C(1) << i % 64;
    }
    return true;
}

enum mb_status mb_merges_init(struct mb_merges *m, const struct mb_bpe_spec *spec,
                              struct mb_error *err)
{
    size_t n_slots = 16;
    while (n_slots < 2 * (size_t) spec->n_merges) {
        n_slots *= 2;
    }
    *m = (struct mb_merges) { .at = spec->merges, .mask = n_slots - 1 };
    m->slots = malloc(n_slots * sizeof *m->slots);
    if (!m->slots || !find_joints(m, spec)) {
        return mb_fail(err, MB_E_NOMEM, 0, "tokenizer: no memory for the merges");
    }
    memset(m->slots, 0xff, n_slots * sizeof *m->slots);
    for (uint32_t rank = 0; rank < spec->n_merges; rank++) {
        const struct mb_bpe_merge *p = &spec->merges[rank];
        size_t probes;
        size_t i = slot_of(m, p->left, p->right, &probes);
        if (probes > MB_PROBES_MAX) {
            return mb_fail(err, MB_E_FORMAT, 0, "tokenizer: merge %u: pairs chosen to collide",
                           rank);
        }
        m->slots[i] = (struct mb_merge_slot) { p->left, p->right, rank };
    }
    return MB_OK;
}

void mb_merges_fini(struct mb_merges *m)
{
    free(m->slots);
    free(m->edges);
    free(m->joints);
    *m = (struct mb_merges) { 0 };
}

uint32_t mb_merges_rank(const struct mb_merges *m, uint32_t left, uint32_t right)
{
    size_t probes;
    return m->slots[slot_of(m, left, right, &probes)].rank;
}

void mb_bpe_fini(struct mb_bpe *b)
{
    free(b->symbols);
    free(b->heap);
    *b = (struct mb_bpe) { 0 };
}

void mb_bpe_clear(struct mb_bpe *b)
{
    b->n = 0;
}

bool mb_bpe_push(struct mb_bpe *b, uint32_t id)
{
    if (b->n == b->cap) {
        size_t cap = b->cap ? b->cap * 2 : 64;
        struct mb_symbol *p = realloc(b->symbols, cap * sizeof *p);
        if (!p) {
            return false;
        }
        b->symbols = p;
        b->cap = cap;
    }
    assert(b->n < UINT32_MAX - 1);
    b->symbols[b->n++] = (struct mb_symbol) { .id = id };
    return true;
}

/* The heap's order is that of the merges: by rank, then from left to right. */
static uint64_t heap_key(uint32_t rank, uint32_t i)
{
    return (uint64_t) rank << 32 | i;
}

static void sift_down(uint64_t *heap, size_t n, size_t i)
{
    uint64_t key = heap[i];
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= n) {
            break;
        }
        if (child + 1 < n && heap[child + 1] < heap[child]) {
            child++;
        }
        if (key <= heap[child]) {
            break;
        }
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = key;
}

static void heap_push(struct mb_bpe *b, uint64_t key)
{
    assert(b->n_heap < b->heap_cap);
    size_t i = b->n_heap++;
    while (i > 0 && key < b->heap[(i - 1) / 2]) {
        b->heap[i] = b->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    b->heap[i] = key;
}

static uint64_t heap_pop(struct mb_bpe *b)
{
    uint64_t key = b->heap[0];
    b->heap[0] = b->heap[--b->n_heap];
    if (b->n_heap > 1) {
        sift_down(b->heap, b->n_heap, 0);
    }
    return key;
}

/* n symbols begin with at most n - 1 merges, and each of at most n - 1 merges done takes one
 * off the heap and puts at most two on: 2 n entries always suffice. */
static bool heap_reserve(struct mb_bpe *b, size_t n)
{
    if (2 * n <= b->heap_cap) {
        return true;
    }
    uint64_t *p = realloc(b->heap, 2 * n * sizeof *p);
    if (!p) {
        return false;
    }
    b->heap = p;
    b->heap_cap = 2 * n;
    return true;
}

/* Links symbols [start, end) to one list, and puts their merges on the heap. */
static void link_all(struct mb_bpe *b, const struct mb_merges *m, size_t start, size_t end)
{
    b->n_heap = 0;
    for (size_t i = start; i < end; i++) {
        struct mb_symbol *s = &b->symbols[i];
        s->previous = i > start ? (uint32_t) (i - 1) : MB_NO_ID;
        s->next = i + 1 < end ? (uint32_t) (i + 1) : MB_NO_ID;
        s->rank = i + 1 < end ? mb_merges_rank(m, s->id, b->symbols[i + 1].id) : MB_NO_ID;
        if (s->rank != MB_NO_ID) {
            b->heap[b->n_heap++] = heap_key(s->rank, (uint32_t) i);
        }
    }
    for (size_t i = b->n_heap / 2; i-- > 0;) {
        sift_down(b->heap, b->n_heap, i);
    }
}

/* Symbol i has a new neighbour or is new itself: what may it be merged with now? */
static void rank_anew(struct mb_bpe *b, const struct mb_merges *m, uint32_t i)
{
    struct mb_symbol *s = &b->symbols[i];
    s->rank = s->next == MB_NO_ID ? MB_NO_ID : mb_merges_rank(m, s->id, b->symbols[s->next].id);
    if (s->rank != MB_NO_ID) {
        heap_push(b, heap_key(s->rank, i));
    }
}

/* Merges the list on the heap until no merge is left; its first symbol stays where it is. */
static void merge_list(struct mb_bpe *b, const struct mb_merges *m)
{
    while (b->n_heap > 0) {
        uint64_t key = heap_pop(b);
        uint32_t rank = (uint32_t) (key >> 32);
        uint32_t i = (uint32_t) key;
        struct mb_symbol *s = &b->symbols[i];
        if (s->rank != rank) {
            continue; /* one of the two was merged otherwise meanwhile */
        }
        struct mb_symbol *gone = &b->symbols[s->next];
        s->id = m->at[rank].result;
        s->next = gone->next;
        gone->rank = MB_NO_ID;
        if (s->next != MB_NO_ID) {
            b->symbols[s->next].previous = i;
        }
        rank_anew(b, m, i);
        if (s->previous != MB_NO_ID) {
            rank_anew(b, m, s->previous);
        }
    }
}

bool mb_bpe_merge(struct mb_bpe *b, const struct mb_merges *m)
{
    size_t n = 0; /* ids that are final; they never overtake the symbols they come from */
    for (size_t start = 0, end; start < b->n; start = end) {
        end = start + 1;
        while (end < b->n && joins(m, b->symbols[end - 1].id, b->symbols[end].id)) {
            end++;
        }
        if (!heap_reserve(b, end - start)) {
            return false;
        }
        link_all(b, m, start, end);
        merge_list(b, m);
        for (uint32_t i = (uint32_t) start; i != MB_NO_ID; i = b->symbols[i].next) {
            b->symbols[n++].id = b->symbols[i].id;
        }
    }
    b->n = n;
    return true;
}
