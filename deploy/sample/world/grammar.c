/* One walker over patterns for each direction. Matching backtracks: the alternatives of a
 * pattern are few, and the rows of a table differ early. */
#include "deploy/sample/world/grammar.h"

#include <assert.h>
#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "core/base/rng.h"
#include "deploy/sample/world/lexicon.h"

enum form { PLAIN, AS_SUBJECT, AS_OBJECT, ARTICLE, PAST, HE, HIM, HIS, YES_NO, CAN };

static const struct slot {
    const char *name;
    enum fact fact;
    enum form form;
} slots[] = {
    { "name", HERO, PLAIN },
    { "hero", HERO, AS_SUBJECT },
    { "hero_", HERO, AS_OBJECT },
    { "he", HERO, HE },
    { "him", HERO, HIM },
    { "his", HERO, HIS },
    { "animal", ANIMAL, PLAIN },
    { "an_animal", ANIMAL, ARTICLE },
    { "place", PLACE, PLAIN },
    { "wish", WISH, PLAIN },
    { "fulfilled", WISH, PAST },
    { "helper", HELPER, PLAIN },
    { "helper_animal", HELPER_ANIMAL, PLAIN },
    { "a_helper_animal", HELPER_ANIMAL, ARTICLE },
    { "trait", TRAIT, PLAIN },
    { "yes", TRAIT, YES_NO },
    { "can", TRAIT, CAN },
};

void facts_clear(struct facts *f)
{
    *f = (struct facts) { 0 };
    for (int i = 0; i < FACTS; i++) {
        f->of[i] = UNKNOWN;
    }
}

size_t fact_rows(enum fact fact)
{
    switch (fact) {
    case HERO:
    case HELPER:
        return n_world_names;
    case ANIMAL:
    case HELPER_ANIMAL:
        return n_world_animals;
    case PLACE:
        return n_world_places;
    case WISH:
        return n_world_wishes;
    default:
        return TRAITS;
    }
}

size_t dice_throw(struct dice *d, size_t sides)
{
    return mb_rng_u64(d->seed, d->stream, d->n++) % sides;
}

struct words {
    const char *a, *b; /* one after the other */
};

static struct words name_form(const struct facts *f, enum form form)
{
    const struct name *n = &world_names[f->of[HERO]];
    switch (form) {
    case AS_SUBJECT:
        return (struct words) { f->first_person ? "I" : n->text, "" };
    case AS_OBJECT:
        return (struct words) { f->first_person ? "me" : n->text, "" };
    case HE:
        return (struct words) { f->first_person ? "I" : n->female ? "she" : "he", "" };
    case HIM:
        return (struct words) { f->first_person ? "me" : n->female ? "her" : "him", "" };
    case HIS:
        return (struct words) { f->first_person ? "my" : n->female ? "her" : "his", "" };
    default:
        return (struct words) { n->text, "" };
    }
}

/* The words of a slot whose fact is known. */
static struct words slot_words(const struct slot *s, const struct facts *f)
{
    int row = f->of[s->fact];
    switch (s->fact) {
    case HERO:
        return name_form(f, s->form);
    case HELPER:
        return (struct words) { world_names[row].text, "" };
    case ANIMAL:
    case HELPER_ANIMAL:
        if (s->form == ARTICLE) {
            const char *article = world_animals[row].article;
            return (struct words) { strcmp(article, "an") == 0 ? "an " : "a ",
                                    world_animals[row].name };
        }
        return (struct words) { world_animals[row].name, "" };
    case PLACE:
        return (struct words) { world_places[row].where, "" };
    case WISH:
        return (struct words) { s->form == PAST ? world_wishes[row].fulfilled
                                                : world_wishes[row].wish,
                                "" };
    default:
        break;
    }
    bool can = f->of[ANIMAL] != UNKNOWN && world_animals[f->of[ANIMAL]].traits >> row & 1;
    return s->form == YES_NO ? (struct words) { can ? "yes" : "no", "" }
           : s->form == CAN  ? (struct words) { can ? "can" : "can not", "" }
                             : (struct words) { world_traits[row], "" };
}

/* The slot at "{...}"; *ret_end is after it, *ret_capital whether its first letter is large. */
static const struct slot *slot_at(const char *p, const char **ret_end, bool *ret_capital)
{
    const char *end = strchr(p, '}');
    assert(*p == '{' && end);
    size_t n = (size_t) (end - p) - 1;
    *ret_end = end + 1;
    *ret_capital = isupper((unsigned char) p[1]) != 0;
    for (size_t i = 0; i < sizeof slots / sizeof *slots; i++) {
        if (strncasecmp(slots[i].name, p + 1, n) == 0 && slots[i].name[n] == '\0') {
            return &slots[i];
        }
    }
    assert(!"a pattern names a slot that is not there");
    return NULL;
}

static const char *after_alternatives(const char *p)
{
    const char *end = strchr(p, ']');
    assert(end);
    return end + 1;
}

/* The i-th of "a|b|c]", or NULL. */
static const char *alternative(const char *p, size_t i)
{
    for (; i > 0; i--) {
        p += strcspn(p, "|]");
        if (*p != '|') {
            return NULL;
        }
        p++;
    }
    return p;
}

void pattern_fill(const char *p, const struct facts *f, struct dice *d, struct mb_bytes *ret)
{
    while (*p) {
        if (*p == '[') {
            size_t n = 1;
            while (alternative(p + 1, n)) {
                n++;
            }
            p = alternative(p + 1, dice_throw(d, n));
        } else if (*p == '|') {
            p = after_alternatives(p);
        } else if (*p == ']') {
            p++;
        } else if (*p == '{') {
            bool capital;
            const struct slot *s = slot_at(p, &p, &capital);
            assert(f->of[s->fact] != UNKNOWN);
            struct words w = slot_words(s, f);
            mb_bytes_put_u8(ret, (uint8_t) (capital ? toupper((unsigned char) *w.a) : *w.a));
            mb_bytes_put_text(ret, w.a + 1);
            mb_bytes_put_text(ret, w.b);
        } else {
            mb_bytes_put_u8(ret, (uint8_t) *p++);
        }
    }
}

struct reading {
    next_pattern *next;
    const void *self;
    bool (*ok)(const struct facts *);
    struct facts f;
    const char *text;
    size_t reached;
};

static bool match(struct reading *r, size_t i, const char *p, const char *t);

/* t after words, or NULL. */
static const char *skip_words(const char *t, struct words w, bool capital)
{
    int first = capital ? toupper((unsigned char) *w.a) : *w.a;
    size_t a = strlen(w.a), b = strlen(w.b);
    bool same =
        *t == first && strncmp(t + 1, w.a + 1, a - 1) == 0 && strncmp(t + a, w.b, b) == 0;
    return same ? t + a + b : NULL;
}

static bool match_slot(struct reading *r, size_t i, const char *p, const char *t)
{
    bool capital;
    const struct slot *s = slot_at(p, &p, &capital);
    int known = r->f.of[s->fact];
    int from = known == UNKNOWN ? 0 : known;
    int to = known == UNKNOWN ? (int) fact_rows(s->fact) : known + 1;
    for (int row = from; row < to; row++) {
        r->f.of[s->fact] = row;
        const char *rest = skip_words(t, slot_words(s, &r->f), capital);
        if (rest && match(r, i, p, rest)) {
            return true;
        }
    }
    r->f.of[s->fact] = known;
    return false;
}

/* A pattern is done: the text is, or the next pattern begins. */
static bool match_end(struct reading *r, size_t i, const char *t)
{
    const char *p = r->next(r->self, &r->f, i + 1);
    if (!p) {
        return *t == '\0' && (!r->ok || r->ok(&r->f));
    }
    return (*t == ' ' || *t == '\n') && match(r, i + 1, p, t + 1);
}

static bool match(struct reading *r, size_t i, const char *p, const char *t)
{
    for (;; p++, t++) {
        while (*p == '|' || *p == ']') {
            p = *p == '|' ? after_alternatives(p) : p + 1;
        }
        if ((size_t) (t - r->text) > r->reached) {
            r->reached = (size_t) (t - r->text);
        }
        if (*p == '\0') {
            return match_end(r, i, t);
        }
        if (*p == '{') {
            return match_slot(r, i, p, t);
        }
        if (*p == '[') {
            const char *option;
            for (size_t n = 0; (option = alternative(p + 1, n)); n++) {
                if (match(r, i, option, t)) {
                    return true;
                }
            }
            return false;
        }
        if (*p != *t) {
            return false;
        }
    }
}

bool patterns_match(next_pattern *next, const void *self, const char *text, struct facts *f,
                    bool (*ok)(const struct facts *), size_t *ret_reached)
{
    struct reading r = { .next = next, .self = self, .ok = ok, .f = *f, .text = text };
    const char *p = next(self, f, 0);
    bool found = p && match(&r, 0, p, text);
    if (found) {
        *f = r.f;
    }
    if (ret_reached) {
        *ret_reached = r.reached;
    }
    return found;
}
