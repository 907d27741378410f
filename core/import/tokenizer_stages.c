#include "core/import/tokenizer_stages.h"

#include <stdio.h>
#include <string.h>

#include "core/import/json.h"

enum mb_status mb_tokenizer_inside(const char *where, enum mb_status st, struct mb_error *err)
{
    if (st != MB_OK && err) {
        char what[sizeof err->what];
        memcpy(what, err->what, sizeof what);
        (void) snprintf(err->what, sizeof err->what, "%s: %.*s", where,
                        (int) (sizeof what - strlen(where) % sizeof what - 3), what);
    }
    return st;
}

static enum mb_status flag_of(const json_t *obj, const char *field, bool absent,
                              enum mb_bpe_step_flags flag, struct mb_bpe_step *step,
                              struct mb_error *err)
{
    int on = absent;
    enum mb_status st = mb_json_bool(obj, field, MB_JSON_OPTIONAL, &on, err);
    if (st == MB_OK && on) {
        step->flags |= (uint8_t) flag;
    }
    return st;
}

static enum mb_status text_of(const json_t *obj, const char *field, struct mb_bpe_spec *s,
                              struct mb_bpe_text *ret, struct mb_error *err)
{
    const char *text = NULL;
    enum mb_status st = mb_json_text(obj, field, MB_JSON_REQUIRED, &text, err);
    if (st == MB_OK) {
        *ret = mb_bpe_spec_text(s, text, strlen(text));
    }
    return st;
}

/* {"String": "..."} or {"Regex": "..."}. */
static enum mb_status pattern_of(const json_t *obj, bool regex_too, struct mb_bpe_spec *s,
                                 struct mb_bpe_step *step, struct mb_error *err)
{
    const json_t *pattern = json_object_get(obj, "pattern");
    if (json_object_get(pattern, "String")) {
        return text_of(pattern, "String", s, &step->pattern, err);
    }
    if (!json_object_get(pattern, "Regex")) {
        return mb_fail(err, MB_E_FORMAT, 0, "pattern: neither String nor Regex");
    }
    if (!regex_too) {
        return mb_fail(err, MB_E_UNSUPPORTED, 0,
                       "pattern Regex is not supported here; "
                       "supported: String");
    }
    step->flags |= MB_BPE_REGEX;
    return text_of(pattern, "Regex", s, &step->pattern, err);
}

typedef enum mb_status step_fn(const json_t *obj, struct mb_bpe_spec *s,
                               struct mb_bpe_step *step, struct mb_error *err);

static enum mb_status read_nothing(const json_t *obj, struct mb_bpe_spec *s,
                                   struct mb_bpe_step *step, struct mb_error *err)
{
    return MB_OK;
}

static enum mb_status read_prepend(const json_t *obj, struct mb_bpe_spec *s,
                                   struct mb_bpe_step *step, struct mb_error *err)
{
    return text_of(obj, "prepend", s, &step->content, err);
}

static enum mb_status read_replace(const json_t *obj, struct mb_bpe_spec *s,
                                   struct mb_bpe_step *step, struct mb_error *err)
{
    enum mb_status st = pattern_of(obj, false, s, step, err);
    return st == MB_OK ? text_of(obj, "content", s, &step->content, err) : st;
}

static enum mb_status read_split(const json_t *obj, struct mb_bpe_spec *s,
                                 struct mb_bpe_step *step, struct mb_error *err)
{
    static const struct {
        const char *name;
        enum mb_bpe_mode mode;
    } behaviors[] = {
        { "Isolated", MB_BPE_ISOLATED },
        { "Removed", MB_BPE_REMOVED },
        { "MergedWithPrevious", MB_BPE_MERGED_WITH_PREVIOUS },
        { "MergedWithNext", MB_BPE_MERGED_WITH_NEXT },
        { "Contiguous", MB_BPE_CONTIGUOUS },
    };
    enum mb_status st = pattern_of(obj, true, s, step, err);
    if (st == MB_OK) {
        st = flag_of(obj, "invert", false, MB_BPE_INVERT, step, err);
    }
    const char *behavior = NULL;
    if (st == MB_OK) {
        st = mb_json_text(obj, "behavior", MB_JSON_REQUIRED, &behavior, err);
    }
    if (st != MB_OK) {
        return st;
    }
    for (size_t i = 0; i < sizeof behaviors / sizeof *behaviors; i++) {
        if (strcmp(behaviors[i].name, behavior) == 0) {
            step->mode = (uint8_t) behaviors[i].mode;
            return MB_OK;
        }
    }
    return mb_fail(err, MB_E_FORMAT, 0, "behavior: \"%.40s\" is unknown", behavior);
}

static enum mb_status read_digits(const json_t *obj, struct mb_bpe_spec *s,
                                  struct mb_bpe_step *step, struct mb_error *err)
{
    return flag_of(obj, "individual_digits", false, MB_BPE_EACH, step, err);
}

/* Older files say add_prefix_space where newer ones say prepend_scheme. */
static enum mb_status read_metaspace(const json_t *obj, struct mb_bpe_spec *s,
                                     struct mb_bpe_step *step, struct mb_error *err)
{
    enum mb_status st = text_of(obj, "replacement", s, &step->pattern, err);
    int prefix = 1;
    if (st == MB_OK) {
        st = mb_json_bool(obj, "add_prefix_space", MB_JSON_OPTIONAL, &prefix, err);
    }
    const char *scheme = prefix ? "always" : "never";
    if (st == MB_OK) {
        st = mb_json_text(obj, "prepend_scheme", MB_JSON_OPTIONAL, &scheme, err);
    }
    if (st == MB_OK) {
        st = flag_of(obj, "split", true, MB_BPE_WORDS, step, err);
    }
    if (st != MB_OK) {
        return st;
    }
    if (strcmp(scheme, "always") == 0) {
        step->mode = MB_BPE_PREPEND_ALWAYS;
    } else if (strcmp(scheme, "first") == 0) {
        step->mode = MB_BPE_PREPEND_FIRST;
    } else if (strcmp(scheme, "never") == 0) {
        step->mode = MB_BPE_PREPEND_NEVER;
    } else {
        return mb_fail(err, MB_E_FORMAT, 0, "prepend_scheme: \"%.40s\" is unknown", scheme);
    }
    return MB_OK;
}

static enum mb_status read_byte_level(const json_t *obj, struct mb_bpe_spec *s,
                                      struct mb_bpe_step *step, struct mb_error *err)
{
    enum mb_status st = flag_of(obj, "add_prefix_space", true, MB_BPE_PREFIX_SPACE, step, err);
    return st == MB_OK ? flag_of(obj, "use_regex", true, MB_BPE_WORDS, step, err) : st;
}

static enum mb_status read_strip(const json_t *obj, struct mb_bpe_spec *s,
                                 struct mb_bpe_step *step, struct mb_error *err)
{
    uint32_t start = 0, stop = 0;
    enum mb_status st = text_of(obj, "content", s, &step->content, err);
    if (st == MB_OK) {
        st = mb_json_u32(obj, "start", MB_JSON_REQUIRED, 0, UINT8_MAX, &start, err);
    }
    if (st == MB_OK) {
        st = mb_json_u32(obj, "stop", MB_JSON_REQUIRED, 0, UINT8_MAX, &stop, err);
    }
    step->count_start = (uint8_t) start;
    step->count_stop = (uint8_t) stop;
    return st;
}

struct reader {
    const char *type;
    enum mb_bpe_step_kind kind;
    step_fn *read;
};

static const struct reader normalizers[] = {
    { "Prepend", MB_BPE_PREPEND, read_prepend },
    { "Replace", MB_BPE_REPLACE, read_replace },
    { "NFC", MB_BPE_NFC, read_nothing },
    { "NFD", MB_BPE_NFD, read_nothing },
    { "NFKC", MB_BPE_NFKC, read_nothing },
    { "NFKD", MB_BPE_NFKD, read_nothing },
    { NULL, 0, NULL },
};

static const struct reader pre_tokenizers[] = {
    { "ByteLevel", MB_BPE_BYTE_LEVEL, read_byte_level },
    { "Split", MB_BPE_SPLIT, read_split },
    { "Metaspace", MB_BPE_METASPACE, read_metaspace },
    { "Digits", MB_BPE_DIGITS, read_digits },
    { NULL, 0, NULL },
};

static const struct reader decoders[] = {
    { "ByteLevel", MB_BPE_BYTE_LEVEL, read_nothing },
    { "Metaspace", MB_BPE_METASPACE, read_metaspace },
    { "Replace", MB_BPE_REPLACE, read_replace },
    { "ByteFallback", MB_BPE_BYTE_TOKENS, read_nothing },
    { "Fuse", MB_BPE_FUSE, read_nothing },
    { "Strip", MB_BPE_STRIP, read_strip },
    { NULL, 0, NULL },
};

/* A stage's name in the file, and the name of the list in its Sequence. */
static const struct stage {
    const char *name, *sequence;
    const struct reader *readers;
} stages[MB_BPE_STAGES] = {
    [MB_BPE_NORMALIZER] = { "normalizer", "normalizers", normalizers },
    [MB_BPE_PRE_TOKENIZER] = { "pre_tokenizer", "pretokenizers", pre_tokenizers },
    [MB_BPE_DECODER] = { "decoder", "decoders", decoders },
};

static enum mb_status unsupported(const struct stage *stage, const char *type,
                                  struct mb_error *err)
{
    char names[200] = "Sequence";
    for (const struct reader *r = stage->readers; r->type; r++) {
        size_t n = strlen(names);
        (void) snprintf(names + n, sizeof names - n, ", %s", r->type);
    }
    return mb_fail(err, MB_E_UNSUPPORTED, 0, "%s %.60s is not supported; supported: %s",
                   stage->name, type, names);
}

static enum mb_status read_step(const json_t *obj, enum mb_bpe_stage which, const char *type,
                                struct mb_bpe_spec *s, struct mb_error *err)
{
    const struct stage *stage = &stages[which];
    for (const struct reader *r = stage->readers; r->type; r++) {
        if (strcmp(r->type, type) != 0) {
            continue;
        }
        struct mb_bpe_step step = { .kind = (uint8_t) r->kind };
        char where[80];
        (void) snprintf(where, sizeof where, "%s %s", stage->name, type);
        enum mb_status st = r->read(obj, s, &step, err);
        if (which == MB_BPE_DECODER && r->kind == MB_BPE_METASPACE) {
            step.flags = 0; /* split has no meaning there */
        }
        if (st == MB_OK) {
            st = mb_bpe_spec_step(s, which, step, err);
        }
        return mb_tokenizer_inside(where, st, err);
    }
    return unsupported(stage, type, err);
}

static enum mb_status read_stage(const json_t *obj, enum mb_bpe_stage which,
                                 struct mb_bpe_spec *s, struct mb_error *err)
{
    const struct stage *stage = &stages[which];
    const char *type = NULL;
    enum mb_status st = mb_json_text(obj, "type", MB_JSON_REQUIRED, &type, err);
    if (st != MB_OK) {
        return mb_tokenizer_inside(stage->name, st, err);
    }
    if (strcmp(type, "Sequence") != 0) {
        return read_step(obj, which, type, s, err);
    }
    const json_t *list = json_object_get(obj, stage->sequence);
    if (!json_is_array(list)) {
        return mb_fail(err, MB_E_FORMAT, 0, "%s: %s: not a list", stage->name, stage->sequence);
    }
    for (size_t i = 0; i < json_array_size(list) && st == MB_OK; i++) {
        st = read_stage(json_array_get(list, i), which, s, err); /* depth: MB_JSON_DEPTH_MAX */
    }
    return st;
}

enum mb_status mb_tokenizer_stages(const json_t *root, struct mb_bpe_spec *s,
                                   struct mb_error *err)
{
    for (unsigned i = 0; i < MB_BPE_STAGES; i++) {
        const json_t *obj = json_object_get(root, stages[i].name);
        if (obj && !json_is_null(obj)) {
            enum mb_status st = read_stage(obj, (enum mb_bpe_stage) i, s, err);
            if (st != MB_OK) {
                return st;
            }
        } else if (i == MB_BPE_DECODER) {
            return unsupported(&stages[i], "null", err);
        }
    }
    return s->text.failed ? mb_fail(err, MB_E_NOMEM, 0, "no memory for the steps' texts")
                          : MB_OK;
}
