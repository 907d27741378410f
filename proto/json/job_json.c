/* Requests for jobs: field by field along the tables below. */
#include "proto/json/job_json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/completion.h"
#include "proto/json/input_json.h"
#include "proto/json/text_json.h"

/* ---- values ------------------------------------------------------------------------------ */

struct field;
typedef bool take_fn(const struct field *f, const json_t *v, struct mb_job_request *r,
                     struct mb_wire_error *err);

/* A member of some object of the body; name has the object's own before it: "mbool.steps". */
struct field {
    const char *name;
    take_fn *take;
    size_t offset;
    double min, max;      /* both allowed */
    const char *words[3]; /* that a text may be; the last of two or three is NULL */
};

static bool refuse(struct mb_wire_error *err, const char *name, const char *what)
{
    mb_wire_error_fill(err, 400, NULL, name, "'%s' %s", name, what);
    return false;
}

static bool refuse_memory(struct mb_wire_error *err)
{
    mb_wire_error_fill(err, 503, "out_of_memory", NULL, "no memory for this request");
    return false;
}

static void *place(const struct field *f, struct mb_job_request *r)
{
    return (char *) r + f->offset;
}

static bool take_integer(const struct field *f, const json_t *v, uint64_t *ret,
                         struct mb_wire_error *err)
{
    json_int_t i = json_integer_value(v);
    if (!json_is_integer(v) || i < (json_int_t) f->min || i > (json_int_t) f->max) {
        mb_wire_error_fill(err, 400, NULL, f->name, "'%s' must be an integer in %.0f..%.0f",
                           f->name, f->min, f->max);
        return false;
    }
    *ret = (uint64_t) i;
    return true;
}

static bool take_u32(const struct field *f, const json_t *v, struct mb_job_request *r,
                     struct mb_wire_error *err)
{
    uint64_t i;
    if (!take_integer(f, v, &i, err)) {
        return false;
    }
    *(uint32_t *) place(f, r) = (uint32_t) i;
    return true;
}

static bool take_u64(const struct field *f, const json_t *v, struct mb_job_request *r,
                     struct mb_wire_error *err)
{
    return take_integer(f, v, place(f, r), err);
}

static bool take_double(const struct field *f, const json_t *v, struct mb_job_request *r,
                        struct mb_wire_error *err)
{
    double x = json_number_value(v);
    if (!json_is_number(v) || !(x >= f->min && x <= f->max)) {
        mb_wire_error_fill(err, 400, NULL, f->name, "'%s' must be a number in %g..%g", f->name,
                           f->min, f->max);
        return false;
    }
    *(double *) place(f, r) = x;
    return true;
}

/* OpenAI's hyperparameters: a number, or "auto", which leaves 0. */
static bool is_auto(const json_t *v)
{
    return json_is_string(v) && strcmp(json_string_value(v), "auto") == 0;
}

static bool take_auto_u32(const struct field *f, const json_t *v, struct mb_job_request *r,
                          struct mb_wire_error *err)
{
    return is_auto(v) || take_u32(f, v, r, err);
}

static bool take_auto_double(const struct field *f, const json_t *v, struct mb_job_request *r,
                             struct mb_wire_error *err)
{
    return is_auto(v) || take_double(f, v, r, err);
}

static bool take_bool(const struct field *f, const json_t *v, struct mb_job_request *r,
                      struct mb_wire_error *err)
{
    if (!json_is_boolean(v)) {
        return refuse(err, f->name, "must be true or false");
    }
    *(bool *) place(f, r) = json_is_true(v);
    return true;
}

/* Which of the words it is. */
static bool take_index(const struct field *f, const json_t *v, int *ret,
                       struct mb_wire_error *err)
{
    char allowed[96] = "";
    for (int i = 0; i < 3 && f->words[i]; i++) {
        if (json_is_string(v) && strcmp(json_string_value(v), f->words[i]) == 0) {
            *ret = i;
            return true;
        }
        size_t n = strlen(allowed);
        (void) snprintf(allowed + n, sizeof allowed - n, "%s%s", i ? " or " : "", f->words[i]);
    }
    mb_wire_error_fill(err, 400, NULL, f->name, "'%s' must be %s", f->name, allowed);
    return false;
}

/* One of two words, of which the second is true. */
static bool take_choice(const struct field *f, const json_t *v, struct mb_job_request *r,
                        struct mb_wire_error *err)
{
    int i;
    if (!take_index(f, v, &i, err)) {
        return false;
    }
    *(bool *) place(f, r) = i == 1;
    return true;
}

static bool take_promote(const struct field *f, const json_t *v, struct mb_job_request *r,
                         struct mb_wire_error *err)
{
    int i;
    if (!take_index(f, v, &i, err)) {
        return false;
    }
    r->promote = (enum mb_job_promote) i;
    return true;
}

/* What may stand in a name of a model. */
static bool is_plain(const char *text, size_t n)
{
    static const char plain[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    return n > 0 && strspn(text, plain) == n;
}

/* A short name, copied into its place, which has max bytes and a terminator. */
static bool take_name(const struct field *f, const json_t *v, struct mb_job_request *r,
                      struct mb_wire_error *err)
{
    const char *text = json_string_value(v);
    size_t n = json_string_length(v);
    if (!text || (double) n > f->max || !is_plain(text, n)) {
        mb_wire_error_fill(err, 400, NULL, f->name,
                           "'%s' must be 1 to %.0f of A-Z a-z 0-9 . _ -", f->name, f->max);
        return false;
    }
    memcpy(place(f, r), text, n + 1);
    return true;
}

static bool take_text(const struct field *f, const json_t *v, struct mb_job_request *r,
                      struct mb_wire_error *err)
{
    size_t n = json_string_length(v);
    if (!json_is_string(v) || n == 0 || n > (size_t) f->max ||
        strlen(json_string_value(v)) != n) {
        mb_wire_error_fill(err, 400, NULL, f->name, "'%s' must be a name of 1 to %.0f bytes",
                           f->name, f->max);
        return false;
    }
    char **to = place(f, r);
    *to = strdup(json_string_value(v));
    return *to || refuse_memory(err);
}

static bool take_seed(const struct field *f, const json_t *v, struct mb_job_request *r,
                      struct mb_wire_error *err)
{
    r->has_seed = true;
    return take_u32(f, v, r, err);
}

/* Known, not offered, and harmless when empty. */
static bool take_nothing(const struct field *f, const json_t *v, struct mb_job_request *r,
                         struct mb_wire_error *err)
{
    (void) r;
    return (json_is_array(v) && json_array_size(v) == 0) ||
           refuse(err, f->name, "is not supported");
}

static bool take_metadata(const struct field *f, const json_t *v, struct mb_job_request *r,
                          struct mb_wire_error *err)
{
    const char *name;
    json_t *value;
    bool ok = json_is_object(v) && json_object_size(v) <= MB_JOB_METADATA_MAX;
    json_object_foreach ((json_t *) v, name, value) {
        ok = ok && strlen(name) <= MB_JOB_METADATA_KEY && json_is_string(value) &&
             json_string_length(value) <= MB_JOB_METADATA_VALUE;
    }
    if (!ok) {
        mb_wire_error_fill(err, 400, NULL, f->name,
                           "'%s' must be an object of at most %d texts, of at most %d bytes "
                           "each under names of at most %d",
                           f->name, MB_JOB_METADATA_MAX, MB_JOB_METADATA_VALUE,
                           MB_JOB_METADATA_KEY);
        return false;
    }
    r->metadata = json_dumps(v, MB_JSON_DUMP);
    return r->metadata || refuse_memory(err);
}

/* ---- tables ------------------------------------------------------------------------------ */

static bool take_all(const struct field *table, size_t n, const json_t *from,
                     struct mb_job_request *r, struct mb_wire_error *err)
{
    for (size_t i = 0; i < n; i++) {
        const char *dot = strrchr(table[i].name, '.');
        const json_t *v = json_object_get(from, dot ? dot + 1 : table[i].name);
        if (v && !json_is_null(v) && !table[i].take(&table[i], v, r, err)) {
            return false;
        }
    }
    return true;
}

#define AT(member)   offsetof(struct mb_job_request, member)
#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* Where hyperparameters may stand: OpenAI's old place, and its new one. */
#define HYPER(place)                                                                              \
    { place ".n_epochs", take_auto_u32, AT(hyper.n_epochs), 1, MB_JOB_EPOCHS_MAX, { 0 } },        \
        { place ".batch_size", take_auto_u32, AT(hyper.batch_size), 1, MB_JOB_BATCH_MAX, { 0 } }, \
    {                                                                                             \
        place ".learning_rate_multiplier", take_auto_double,                                      \
            AT(hyper.learning_rate_multiplier), 1e-6, MB_JOB_RATE_MAX,                            \
        {                                                                                         \
            0                                                                                     \
        }                                                                                         \
    }
static const struct field old_hyper_fields[] = { HYPER("hyperparameters") };
static const struct field hyper_fields[] = { HYPER("method.supervised.hyperparameters") };

static bool take_old_hyperparameters(const struct field *f, const json_t *v,
                                     struct mb_job_request *r, struct mb_wire_error *err)
{
    return json_is_object(v) ? take_all(old_hyper_fields, COUNT(old_hyper_fields), v, r, err)
                             : refuse(err, f->name, "must be an object");
}

static bool take_hyperparameters(const struct field *f, const json_t *v,
                                 struct mb_job_request *r, struct mb_wire_error *err)
{
    return json_is_object(v) ? take_all(hyper_fields, COUNT(hyper_fields), v, r, err)
                             : refuse(err, f->name, "must be an object");
}

static const struct field supervised_fields[] = {
    { .name = "method.supervised.hyperparameters", .take = take_hyperparameters },
};

static bool take_method(const struct field *f, const json_t *v, struct mb_job_request *r,
                        struct mb_wire_error *err)
{
    static const struct field type = { .name = "method.type", .words = { "supervised" } };
    int i;
    const json_t *supervised = json_object_get(v, "supervised");
    if (!json_is_object(v)) {
        return refuse(err, f->name, "must be an object");
    }
    if (!take_index(&type, json_object_get(v, "type"), &i, err)) {
        return false;
    }
    if (supervised && !json_is_null(supervised) && !json_is_object(supervised)) {
        return refuse(err, "method.supervised", "must be an object");
    }
    return take_all(supervised_fields, COUNT(supervised_fields), supervised, r, err);
}

static const struct field own_fields[] = {
    { .name = "mbool.optimizer",
      .take = take_choice,
      .offset = AT(stochastic),
      .words = { "accumulate", "stochastic" } },
    { .name = "mbool.kernels_trained",
      .take = take_choice,
      .offset = AT(last_kernel),
      .words = { "all", "last" } },
    { .name = "mbool.vocabulary", .take = take_bool, .offset = AT(vocabulary) },
    { "mbool.flip_rate", take_double, AT(flip_rate), 1e-6, 1, { 0 } },
    { "mbool.teacher",
      take_name,
      AT(teacher),
      1,
      sizeof(((struct mb_job_request *) 0)->teacher) - 1,
      { 0 } },
    { "mbool.threads", take_u32, AT(threads), 1, MB_JOB_THREADS_MAX, { 0 } },
    { "mbool.steps", take_u64, AT(steps), 1, MB_JOB_STEPS_MAX, { 0 } },
    { "mbool.batch_tokens", take_u32, AT(batch_tokens), 2, MB_JOB_BATCH_TOKENS_MAX, { 0 } },
    { "mbool.window", take_u32, AT(window), 1, MB_JOB_BATCH_TOKENS_MAX, { 0 } },
    { "mbool.snapshot_every", take_u64, AT(snapshot_every), 1, MB_JOB_STEPS_MAX, { 0 } },
    { "mbool.valid_every", take_u64, AT(valid_every), 1, MB_JOB_STEPS_MAX, { 0 } },
    { "mbool.invalid_sample_skip_percentage",
      take_double,
      AT(invalid_sample_skip_percentage),
      0,
      100,
      { 0 } },
    { .name = "mbool.promote",
      .take = take_promote,
      .words = { "manual", "always", "if_better" } },
    { "mbool.promote_margin", take_double, AT(promote_margin), 0, 100, { 0 } },
    { .name = "mbool.dry_run", .take = take_bool, .offset = AT(dry_run) },
};

static bool take_own(const struct field *f, const json_t *v, struct mb_job_request *r,
                     struct mb_wire_error *err)
{
    return json_is_object(v) ? take_all(own_fields, COUNT(own_fields), v, r, err)
                             : refuse(err, f->name, "must be an object");
}

static const struct field fields[] = {
    { "model", take_text, AT(model), 1, MB_MODEL_NAME_MAX, { 0 } },
    { "training_file", take_text, AT(training_file), 1, MB_JOB_ID_MAX, { 0 } },
    { "validation_file", take_text, AT(validation_file), 1, MB_JOB_ID_MAX, { 0 } },
    { "suffix", take_name, AT(suffix), 1, MB_JOB_SUFFIX_MAX, { 0 } },
    { "seed", take_seed, AT(seed), 0, INT32_MAX, { 0 } },
    { .name = "hyperparameters", .take = take_old_hyperparameters },
    { .name = "method", .take = take_method },
    { .name = "metadata", .take = take_metadata },
    { .name = "integrations", .take = take_nothing },
    { .name = "mbool", .take = take_own },
};

/* What one field alone can not say. */
static bool agree(const struct mb_job_request *r, struct mb_wire_error *err)
{
    if (!r->model) {
        return refuse(err, "model", "is required");
    }
    if (!r->training_file) {
        return refuse(err, "training_file", "is required");
    }
    if (r->promote == MB_PROMOTE_IF_BETTER && !r->validation_file) {
        return refuse(err, "mbool.promote", "if_better needs a 'validation_file'");
    }
    return true;
}

enum mb_status mb_job_request_decode(const char *text, size_t n, struct mb_job_request *ret,
                                     struct mb_wire_error *err)
{
    if (n > MB_JOB_BODY_BYTES_MAX) {
        mb_wire_error_fill(err, 413, NULL, NULL, "a job's body may have %u bytes",
                           MB_JOB_BODY_BYTES_MAX);
        return MB_E_INVALID;
    }
    json_t *root = mb_json_load_body(text, n, err);
    if (!root) {
        return MB_E_INVALID;
    }
    struct mb_job_request r;
    mb_job_request_init(&r);
    bool ok = take_all(fields, COUNT(fields), root, &r, err) && agree(&r, err);
    json_decref(root);
    if (!ok) {
        mb_job_request_fini(&r);
        return err->http == 503 ? MB_E_NOMEM : MB_E_INVALID;
    }
    *ret = r;
    return MB_OK;
}
