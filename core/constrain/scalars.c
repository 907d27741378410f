#include <string.h>

#include "core/constrain/chars.h"
#include "core/constrain/compiler.h"
#include "core/constrain/intersect.h"
#include "core/constrain/number.h"
#include "core/constrain/regex.h"

/* ---- strings ----------------------------------------------------------------------------- */

#define YEAR "(?:[1-9]\\d{3}|0[1-9]\\d{2}|00[1-9]\\d|000[1-9])"
#define LEAP_YEAR                                 \
    "(?:\\d\\d(?:0[48]|[2468][048]|[13579][26])|" \
    "(?:0[48]|[2468][048]|[13579][26])00)"
#define DATE                                                      \
    "(?:" YEAR "-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\\d|3[01])|" \
    "(?:0[469]|11)-(?:0[1-9]|[12]\\d|30)|02-(?:0[1-9]|1\\d|2[0-8]))|" LEAP_YEAR "-02-29)"
#define CLOCK       "(?:[01]\\d|2[0-3]):[0-5]\\d"
#define TIME        CLOCK ":[0-5]\\d(?:\\.\\d{1,6})?(?:Z|[+-]" CLOCK ")"
#define BYTE        "(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)"
#define HEX         "[0-9a-fA-F]"
#define HOST_LABEL  "[A-Za-z0-9](?:[A-Za-z0-9-]{0,30}[A-Za-z0-9])?"
#define MAIL_LETTER "[A-Za-z0-9_+-]"

/* RFC 3339 for times, RFC 4122 for UUIDs; of addresses the common part. */
static const struct {
    const char *name, *pattern;
} formats[] = {
    { "date", "^" DATE "$" },
    { "time", "^" TIME "$" },
    { "date-time", "^" DATE "T" TIME "$" },
    { "uuid", "^" HEX "{8}-" HEX "{4}-" HEX "{4}-" HEX "{4}-" HEX "{12}$" },
    { "email", "^" MAIL_LETTER "{1,24}(?:\\." MAIL_LETTER "{1,24})?@" HOST_LABEL
               "(?:\\." HOST_LABEL ")?\\.[A-Za-z]{2,8}$" },
    { "ipv4", "^" BYTE "(?:\\." BYTE "){3}$" },
};

static uint32_t pattern_rule(struct mb_compiler *c, const char *pattern, size_t n)
{
    uint32_t rule = 0;
    struct mb_error err;
    enum mb_status st = mb_regex_rule(c->g, pattern, n, &rule, &err);
    if (st != MB_OK) {
        mb_compiler_fail(c, st, "%s", err.what);
    }
    return rule;
}

static uint32_t format_rule(struct mb_compiler *c, const struct mb_json_value *format)
{
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++) {
        if (mb_json_value_is_text(format, formats[i].name)) {
            return pattern_rule(c, formats[i].pattern, strlen(formats[i].pattern));
        }
    }
    mb_compiler_fail(c, MB_E_UNSUPPORTED, "'format' '%.64s' is not supported",
                     format->kind == MB_JSON_STRING ? format->text : "");
    return 0;
}

static void restrict_to(struct mb_compiler *c, uint32_t *rule, bool *has_rule, uint32_t other)
{
    if (!mb_compiler_stopped(c)) {
        *rule = *has_rule ? mb_rule_intersect(c->g, *rule, other) : other;
        *has_rule = true;
    }
}

uint32_t mb_string_body(struct mb_compiler *c, const struct mb_rule_key *key)
{
    uint32_t rule = 0;
    bool has_rule = false;
    for (uint32_t i = 0; i < key->n && !mb_compiler_stopped(c); i++) {
        const struct mb_json_value *pattern = mb_json_value_get(key->at[i], "pattern");
        const struct mb_json_value *format = mb_json_value_get(key->at[i], "format");
        if (pattern && pattern->kind != MB_JSON_STRING) {
            mb_compiler_fail(c, MB_E_INVALID, "'pattern' must be a string");
        } else if (pattern) {
            restrict_to(c, &rule, &has_rule, pattern_rule(c, pattern->text, pattern->n));
        }
        if (format) {
            restrict_to(c, &rule, &has_rule, format_rule(c, format));
        }
    }
    if (!has_rule || key->min > 0 || key->max != UINT32_MAX) {
        restrict_to(c, &rule, &has_rule, mb_string_rule(c->g, key->min, key->max));
    }
    return rule;
}

static void length_bounds(struct mb_compiler *c, const struct mb_parts *p, uint32_t *ret_min,
                          uint32_t *ret_max)
{
    *ret_min = 0;
    *ret_max = UINT32_MAX;
    for (size_t i = 0; i < p->n; i++) {
        uint32_t n = 0;
        if (mb_part_count(c, p->at[i], "minLength", &n) && n > *ret_min) {
            *ret_min = n;
        }
        if (mb_part_count(c, p->at[i], "maxLength", &n) && n < *ret_max) {
            *ret_max = n;
        }
    }
}

void mb_string_paths(struct mb_compiler *c, const struct mb_parts *p, uint32_t from,
                     uint32_t to)
{
    struct mb_rule_key key = { .kind = MB_KEY_STRING };
    length_bounds(c, p, &key.min, &key.max);
    for (size_t i = 0; i < p->n; i++) {
        if (mb_json_value_get(p->at[i], "pattern") || mb_json_value_get(p->at[i], "format")) {
            key.at[key.n++] = p->at[i];
        }
    }
    if (key.min <= key.max) {
        mb_call_paths(c, &key, from, to);
    }
}

/* ---- numbers ----------------------------------------------------------------------------- */

/* The narrower of two bounds: x, open or not, instead of what is there. */
static void narrow_lo(struct mb_number_bounds *b, double x, bool open)
{
    if (!b->has_lo || x > b->lo || (x == b->lo && open)) {
        b->has_lo = true;
        b->lo = x;
        b->lo_open = open;
    }
}

static void narrow_hi(struct mb_number_bounds *b, double x, bool open)
{
    if (!b->has_hi || x < b->hi || (x == b->hi && open)) {
        b->has_hi = true;
        b->hi = x;
        b->hi_open = open;
    }
}

static struct mb_number_bounds number_bounds(struct mb_compiler *c, const struct mb_parts *p)
{
    struct mb_number_bounds b = { 0 };
    for (size_t i = 0; i < p->n; i++) {
        double x = 0;
        if (mb_part_number(c, p->at[i], "minimum", &x)) {
            narrow_lo(&b, x, false);
        }
        if (mb_part_number(c, p->at[i], "exclusiveMinimum", &x)) {
            narrow_lo(&b, x, true);
        }
        if (mb_part_number(c, p->at[i], "maximum", &x)) {
            narrow_hi(&b, x, false);
        }
        if (mb_part_number(c, p->at[i], "exclusiveMaximum", &x)) {
            narrow_hi(&b, x, true);
        }
    }
    return b;
}

void mb_number_paths(struct mb_compiler *c, const struct mb_parts *p, bool integer,
                     uint32_t from, uint32_t to)
{
    struct mb_number_bounds b = number_bounds(c, p);
    struct mb_error err;
    b.integer = integer;
    if (mb_compiler_stopped(c)) {
        return;
    }
    enum mb_status st = mb_number_path(c->g, from, &b, to, &err);
    if (st != MB_OK) {
        mb_compiler_fail(c, st, "%s", err.what);
    }
}

bool mb_scalar_in_bounds(struct mb_compiler *c, const struct mb_parts *p,
                         const struct mb_json_value *v)
{
    if (v->kind == MB_JSON_STRING) {
        uint32_t min, max, n = 0;
        length_bounds(c, p, &min, &max);
        for (size_t i = 0; i < v->n; i++) {
            n += ((uint8_t) v->text[i] & 0xc0) != 0x80; /* characters, not bytes */
        }
        return n >= min && n <= max;
    }
    if (v->kind != MB_JSON_INTEGER && v->kind != MB_JSON_REAL) {
        return true;
    }
    struct mb_number_bounds b = number_bounds(c, p);
    double x = v->kind == MB_JSON_INTEGER ? (double) v->integer : v->real;
    bool above = !b.has_lo || x > b.lo || (x == b.lo && !b.lo_open);
    bool below = !b.has_hi || x < b.hi || (x == b.hi && !b.hi_open);
    return above && below;
}
