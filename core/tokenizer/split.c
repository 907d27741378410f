#include "core/tokenizer/split.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "core/tokenizer/utf8.h"

/* GPT-2's split (Radford et al. 2019), which a ByteLevel step means by use_regex: contractions,
 * words, numbers, runs of other characters, each with one space before it; white space. */
static const char gpt2_pattern[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+"
                                   "| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
static const char number_pattern[] = "\\p{N}";

static enum mb_status pattern_of_step(const struct mb_bpe_spec *spec,
                                      const struct mb_bpe_step *step, struct mb_pattern **ret,
                                      struct mb_error *err)
{
    if (step->kind == MB_BPE_SPLIT && step->flags & MB_BPE_REGEX) {
        return mb_pattern_new(mb_bpe_at(spec, step->pattern), step->pattern.n, ret, err);
    }
    if (step->kind == MB_BPE_BYTE_LEVEL && step->flags & MB_BPE_WORDS) {
        return mb_pattern_new((const uint8_t *) gpt2_pattern, sizeof gpt2_pattern - 1, ret,
                              err);
    }
    if (step->kind == MB_BPE_DIGITS) {
        return mb_pattern_new((const uint8_t *) number_pattern, sizeof number_pattern - 1, ret,
                              err);
    }
    *ret = NULL;
    return MB_OK;
}

enum mb_status mb_splitter_init(struct mb_splitter *s, const struct mb_bpe_spec *spec,
                                struct mb_error *err)
{
    *s = (struct mb_splitter) { .spec = spec };
    const struct mb_bpe_steps *steps = &spec->stages[MB_BPE_PRE_TOKENIZER];
    enum mb_status st = MB_OK;
    for (uint32_t i = 0; i < steps->n && st == MB_OK; i++) {
        s->byte_level = s->byte_level || steps->at[i].kind == MB_BPE_BYTE_LEVEL;
        st = pattern_of_step(spec, &steps->at[i], &s->patterns[i], err);
    }
    return st;
}

void mb_splitter_fini(struct mb_splitter *s)
{
    for (size_t i = 0; i < MB_BPE_STEPS_MAX; i++) {
        mb_pattern_free(s->patterns[i]);
        s->patterns[i] = NULL;
    }
}

void mb_pieces_fini(struct mb_pieces *p)
{
    free(p->list.at);
    free(p->spare.at);
    mb_rewrite_fini(&p->rewrite);
    *p = (struct mb_pieces) { 0 };
}

static bool list_push(struct mb_piece_list *list, size_t at, size_t n)
{
    if (n == 0) {
        return true;
    }
    if (list->len == list->cap) {
        size_t cap = list->cap ? 2 * list->cap : 64;
        struct mb_piece *p = realloc(list->at, cap * sizeof *p);
        if (!p) {
            return false;
        }
        list->at = p;
        list->cap = cap;
    }
    list->at[list->len++] = (struct mb_piece) { (uint32_t) at, (uint32_t) n };
    return true;
}

/* What a split makes of the stretches, match and no match by turns, that it is given left to
 * right. One stretch is held back until it is known what it is merged with. */
struct cutter {
    struct mb_piece_list *out;
    enum mb_bpe_mode mode;
    bool holds, held_match;
    size_t held_at, held_end;
    bool refused; /* memory */
};

static void release(struct cutter *c)
{
    if (c->holds && !list_push(c->out, c->held_at, c->held_end - c->held_at)) {
        c->refused = true;
    }
    c->holds = false;
}

static void hold(struct cutter *c, size_t at, size_t end, bool match)
{
    c->holds = true;
    c->held_match = match;
    c->held_at = at;
    c->held_end = end;
}

/* Does this stretch belong to the one held back? */
static bool merges(const struct cutter *c, bool match)
{
    switch (c->mode) {
    case MB_BPE_MERGED_WITH_PREVIOUS:
        return match && !c->held_match;
    case MB_BPE_MERGED_WITH_NEXT:
        return !match && c->held_match;
    case MB_BPE_CONTIGUOUS:
        return match == c->held_match;
    default:
        return false;
    }
}

static void cut(struct cutter *c, size_t at, size_t end, bool match)
{
    if (match && c->mode == MB_BPE_REMOVED) {
        release(c);
        return;
    }
    if (c->holds && merges(c, match)) {
        c->held_end = end;
        c->held_match = match;
        return;
    }
    release(c);
    hold(c, at, end, match);
}

/* The next match of a step in at[0, n), by its pattern or literally. */
static enum mb_status next_match(const struct mb_pattern *pattern, struct mb_text literal,
                                 struct mb_matcher *m, struct mb_text text, size_t from,
                                 size_t *ret_start, size_t *ret_end, struct mb_error *err)
{
    if (pattern) {
        return mb_matcher_next(m, pattern, text.at, text.n, from, ret_start, ret_end, err);
    }
    const uint8_t *hit = memmem(text.at + from, text.n - from, literal.at, literal.n);
    *ret_start = hit ? (size_t) (hit - text.at) : text.n;
    *ret_end = hit ? *ret_start + literal.n : text.n;
    return MB_OK;
}

/* Cuts one piece, whose text starts at offset of the whole. */
static enum mb_status cut_piece(struct cutter *c, const struct mb_pattern *pattern,
                                struct mb_text literal, bool invert, struct mb_matcher *m,
                                struct mb_text text, size_t offset, struct mb_error *err)
{
    size_t done = 0; /* up to here it is cut */
    for (size_t from = 0; from < text.n;) {
        size_t start, end;
        enum mb_status st = next_match(pattern, literal, m, text, from, &start, &end, err);
        if (st != MB_OK) {
            return st;
        }
        if (start == text.n) {
            break;
        }
        from = end > start ? end : start + mb_utf8_len(text.at[start]);
        if (end == start && done == start && start > 0) {
            continue; /* an empty match right behind another says nothing new */
        }
        if (start > done) {
            cut(c, offset + done, offset + start, invert);
        }
        cut(c, offset + start, offset + end, !invert);
        done = end;
    }
    if (done < text.n) {
        cut(c, offset + done, offset + text.n, invert);
    }
    release(c);
    return c->refused ? mb_fail(err, MB_E_NOMEM, 0, "tokenizer: no memory for pieces") : MB_OK;
}

static enum mb_status cut_all(struct mb_pieces *p, enum mb_bpe_mode mode,
                              const struct mb_pattern *pattern, struct mb_text literal,
                              bool invert, struct mb_matcher *m, struct mb_error *err)
{
    p->spare.len = 0;
    struct cutter c = { .out = &p->spare, .mode = mode };
    for (size_t i = 0; i < p->list.len; i++) {
        struct mb_piece piece = p->list.at[i];
        struct mb_text text = { p->text.at + piece.at, piece.n };
        enum mb_status st = cut_piece(&c, pattern, literal, invert, m, text, piece.at, err);
        if (st != MB_OK) {
            return st;
        }
    }
    struct mb_piece_list full = p->spare;
    p->spare = p->list;
    p->list = full;
    return MB_OK;
}

static bool starts_with(struct mb_text text, struct mb_text prefix)
{
    return text.n >= prefix.n && memcmp(text.at, prefix.at, prefix.n) == 0;
}

/* Every piece anew: with prefix before it (unless it starts so), and with spaces as space. */
static enum mb_status rewrite(struct mb_pieces *p, struct mb_text prefix, bool first_only,
                              bool first, struct mb_text space, struct mb_error *err)
{
    const struct mb_text blank = { (const uint8_t *) " ", 1 };
    size_t n_max = MB_NORMAL_GROWTH_MAX * p->text.n + MB_NORMAL_GROWTH_BYTES;
    struct mb_bytes *out = mb_rewrite_next(&p->rewrite);
    for (size_t i = 0; i < p->list.len && out->len <= n_max; i++) {
        struct mb_piece *piece = &p->list.at[i];
        struct mb_text text = { p->text.at + piece->at, piece->n };
        bool at_start = first && piece->at == 0;
        size_t start = out->len;
        if ((!first_only || at_start) && !starts_with(text, prefix) &&
            !(starts_with(text, blank) && prefix.n > 0)) {
            mb_bytes_put(out, prefix.at, prefix.n);
        }
        mb_replace(text, blank, space, n_max, out);
        *piece = (struct mb_piece) { (uint32_t) start, (uint32_t) (out->len - start) };
    }
    if (out->failed) {
        return mb_fail(err, MB_E_NOMEM, 0, "tokenizer: no memory to split a text");
    }
    if (out->len > n_max) {
        return mb_fail(err, MB_E_LIMIT, 0,
                       "tokenizer: its pre-tokenizer makes a text of more than %zu bytes",
                       n_max);
    }
    p->text = (struct mb_text) { out->at, out->len };
    return MB_OK;
}

static enum mb_status metaspace(const struct mb_splitter *s, const struct mb_bpe_step *step,
                                bool first, struct mb_matcher *m, struct mb_pieces *p,
                                struct mb_error *err)
{
    struct mb_text space = { mb_bpe_at(s->spec, step->pattern), step->pattern.n };
    struct mb_text none = { space.at, 0 };
    enum mb_status st = rewrite(p, step->mode == MB_BPE_PREPEND_NEVER ? none : space,
                                step->mode == MB_BPE_PREPEND_FIRST, first, space, err);
    if (st == MB_OK && step->flags & MB_BPE_WORDS) {
        st = cut_all(p, MB_BPE_MERGED_WITH_NEXT, NULL, space, false, m, err);
    }
    return st;
}

static enum mb_status byte_level(const struct mb_splitter *s, uint32_t i, struct mb_matcher *m,
                                 struct mb_pieces *p, struct mb_error *err)
{
    const struct mb_bpe_step *step = &s->spec->stages[MB_BPE_PRE_TOKENIZER].at[i];
    const struct mb_text blank = { (const uint8_t *) " ", 1 };
    enum mb_status st = MB_OK;
    if (step->flags & MB_BPE_PREFIX_SPACE) {
        st = rewrite(p, blank, false, false, blank, err);
    }
    if (st == MB_OK && step->flags & MB_BPE_WORDS) {
        st = cut_all(p, MB_BPE_ISOLATED, s->patterns[i], blank, false, m, err);
    }
    return st;
}

static enum mb_status apply(const struct mb_splitter *s, uint32_t i, bool first,
                            struct mb_matcher *m, struct mb_pieces *p, struct mb_error *err)
{
    const struct mb_bpe_step *step = &s->spec->stages[MB_BPE_PRE_TOKENIZER].at[i];
    struct mb_text literal = { mb_bpe_at(s->spec, step->pattern), step->pattern.n };
    switch (step->kind) {
    case MB_BPE_SPLIT:
        return cut_all(p, (enum mb_bpe_mode) step->mode, s->patterns[i], literal,
                       step->flags & MB_BPE_INVERT, m, err);
    case MB_BPE_DIGITS:
        return cut_all(p, step->flags & MB_BPE_EACH ? MB_BPE_ISOLATED : MB_BPE_CONTIGUOUS,
                       s->patterns[i], literal, false, m, err);
    case MB_BPE_METASPACE:
        return metaspace(s, step, first, m, p, err);
    default:
        assert(step->kind == MB_BPE_BYTE_LEVEL);
        return byte_level(s, i, m, p, err);
    }
}

enum mb_status mb_split(const struct mb_splitter *s, struct mb_text text, bool first,
                        struct mb_matcher *m, struct mb_pieces *p, struct mb_error *err)
{
    p->text = text;
    p->list.len = 0;
    if (!list_push(&p->list, 0, text.n)) {
        return mb_fail(err, MB_E_NOMEM, 0, "tokenizer: no memory for pieces");
    }
    enum mb_status st = MB_OK;
    for (uint32_t i = 0; i < s->spec->stages[MB_BPE_PRE_TOKENIZER].n && st == MB_OK; i++) {
        st = apply(s, i, first, m, p, err);
    }
    return st;
}
