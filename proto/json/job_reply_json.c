/* What jobs, their events and their checkpoints look like on the wire. */
#include <math.h>
#include <string.h>

#include "proto/json/job_json.h"
#include "proto/json/text_json.h"

static char *dump(json_t *root)
{
    char *text = root ? json_dumps(root, MB_JSON_DUMP) : NULL;
    json_decref(root);
    return text;
}

static json_t *text_of(const char *s)
{
    return s ? mb_json_string_of(s, strlen(s)) : json_null();
}

/* A time, or another number of which 0 is none. */
static json_t *number_of(uint64_t v)
{
    return v > 0 ? json_integer((json_int_t) v) : json_null();
}

static json_t *real_of(double x)
{
    return isfinite(x) ? json_real(x) : json_null();
}

/* JSON that we wrote ourselves, and kept as text. */
static json_t *document_of(const char *text)
{
    return text ? json_loads(text, JSON_DECODE_ANY, NULL) : json_null();
}

/* ---- jobs -------------------------------------------------------------------------------- */

static json_t *hyper_of(const struct mb_hyperparameters *h)
{
    return json_pack("{s:o,s:o,s:o}", "n_epochs",
                     h->n_epochs ? json_integer(h->n_epochs) : json_string("auto"),
                     "batch_size",
                     h->batch_size ? json_integer(h->batch_size) : json_string("auto"),
                     "learning_rate_multiplier",
                     h->learning_rate_multiplier > 0 ? json_real(h->learning_rate_multiplier)
                                                     : json_string("auto"));
}

static json_t *error_of(const struct mb_job_view *j)
{
    if (!j->error_code) {
        return json_null();
    }
    return json_pack("{s:s,s:o,s:s?}", "code", j->error_code, "message",
                     text_of(j->error_message), "param", j->error_param);
}

static json_t *own_of(const struct mb_job_view *j)
{
    const struct mb_job_request *r = j->request;
    return json_pack(
        "{s:s,s:s,s:o,s:I,s:I,s:I,s:I,s:b,s:s,s:f,s:b}", "optimizer",
        r->stochastic ? "stochastic" : "accumulate", "kernels_trained",
        r->last_kernel ? "last" : "all", "teacher", text_of(r->teacher[0] ? r->teacher : NULL),
        "step", (json_int_t) j->step, "total_steps", (json_int_t) j->total_steps, "attempts",
        (json_int_t) j->attempts, "queued_before", (json_int_t) j->n_queued_before, "throttled",
        (int) j->throttled, "promote", mb_job_promote_name(r->promote), "promote_margin",
        r->promote_margin, "dry_run", (int) r->dry_run);
}

static json_t *job_of(const struct mb_job_view *j)
{
    const struct mb_job_request *r = j->request;
    json_t *hyper = hyper_of(&r->hyper);
    json_t *method = json_pack("{s:s,s:{s:O}}", "type", "supervised", "supervised",
                               "hyperparameters", hyper);
    json_t *metadata = document_of(r->metadata);
    return json_pack("{s:s,s:s,s:I,s:o,s:o,s:s,s:o,s:s,s:s,s:o,s:s,s:o,s:[],s:o,s:o,s:I,s:o,"
                     "s:[],s:o,s:o}",
                     "id", j->id, "object", "fine_tuning.job", "created_at",
                     (json_int_t) j->created, "finished_at", number_of((uint64_t) j->finished),
                     "estimated_finish", number_of((uint64_t) j->estimated_finish), "model",
                     j->model, "fine_tuned_model", text_of(j->fine_tuned_model),
                     "organization_id", "mboold", "status", mb_job_status_name(j->status),
                     "trained_tokens", number_of(j->trained_tokens), "training_file",
                     j->training_file, "validation_file", text_of(j->validation_file),
                     "result_files", "hyperparameters", hyper, "method", method, "seed",
                     (json_int_t) j->seed, "metadata", metadata, "integrations", "error",
                     error_of(j), "mbool", own_of(j));
}

char *mb_job_encode(const struct mb_job_view *j)
{
    return dump(job_of(j));
}

/* Takes data. OpenAI's lists of jobs and events have no ids of their ends; pages of checkpoints
 * and files do. */
static char *list(json_t *data, bool has_more, bool with_ends)
{
    size_t n = json_array_size(data);
    json_t *root =
        json_pack("{s:s,s:o,s:b}", "object", "list", "data", data, "has_more", (int) has_more);
    if (root && with_ends) {
        json_t *first = json_object_get(json_array_get(data, 0), "id");
        json_t *last = json_object_get(json_array_get(data, n - 1), "id");
        json_t *ends = json_pack("{s:O?,s:O?}", "first_id", first, "last_id", last);
        if (!ends || json_object_update(root, ends) != 0) {
            json_decref(root);
            root = NULL;
        }
        json_decref(ends);
    }
    return dump(root);
}

/* Appends what may be NULL. false when memory was refused; array is gone then. */
static bool append(json_t *array, json_t *one)
{
    if (json_array_append_new(array, one) != 0) {
        json_decref(array);
        return false;
    }
    return true;
}

char *mb_job_list_encode(const struct mb_job_view *jobs, size_t n, bool has_more)
{
    json_t *data = json_array();
    for (size_t i = 0; i < n; i++) {
        if (!append(data, job_of(&jobs[i]))) {
            return NULL;
        }
    }
    return list(data, has_more, false);
}

/* ---- events and checkpoints -------------------------------------------------------------- */

static json_t *event_of(const struct mb_job_event *e)
{
    static const char *const levels[] = { "info", "warn", "error" };
    return json_pack("{s:s,s:s,s:I,s:s,s:o,s:s,s:o}", "id", e->id, "object",
                     "fine_tuning.job.event", "created_at", (json_int_t) e->created, "level",
                     levels[e->level], "message", text_of(e->message), "type",
                     e->is_metrics ? "metrics" : "message", "data", document_of(e->data));
}

char *mb_job_event_encode(const struct mb_job_event *e)
{
    return dump(event_of(e));
}

char *mb_job_event_list_encode(const struct mb_job_event *events, size_t n, bool has_more)
{
    json_t *data = json_array();
    for (size_t i = 0; i < n; i++) {
        if (!append(data, event_of(&events[i]))) {
            return NULL;
        }
    }
    return list(data, has_more, false);
}

static json_t *checkpoint_of(const struct mb_job_checkpoint *c)
{
    return json_pack("{s:s,s:s,s:I,s:s,s:s,s:I,s:o}", "id", c->id, "object",
                     "fine_tuning.job.checkpoint", "created_at", (json_int_t) c->created,
                     "fine_tuning_job_id", c->job, "fine_tuned_model_checkpoint", c->model,
                     "step_number", (json_int_t) c->step, "metrics", document_of(c->metrics));
}

char *mb_job_checkpoint_list_encode(const struct mb_job_checkpoint *c, size_t n, bool has_more)
{
    json_t *data = json_array();
    for (size_t i = 0; i < n; i++) {
        if (!append(data, checkpoint_of(&c[i]))) {
            return NULL;
        }
    }
    return list(data, has_more, true);
}

char *mb_job_metrics_encode(const struct mb_job_metrics *m, bool of_checkpoint)
{
    json_t *root = json_pack(
        "{s:I,s:I,s:o,s:o,s:I,s:I,s:o,s:o,s:o,s:I}", "step", (json_int_t) m->step,
        "total_steps", (json_int_t) m->total_steps, "train_loss", real_of(m->train_loss),
        "valid_loss", real_of(m->valid_loss), "flips", (json_int_t) m->flips, "total_flips",
        (json_int_t) m->total_flips, "moved_share", real_of(m->moved_share),
        "tokens_per_second", real_of(m->tokens_per_s), "eta_seconds", real_of(m->eta_s),
        "trained_tokens", (json_int_t) m->trained_tokens);
    if (root && of_checkpoint) { /* OpenAI's name of a loss on the whole of the file */
        if (json_object_set_new(root, "full_valid_loss", real_of(m->valid_loss)) != 0) {
            json_decref(root);
            return NULL;
        }
    }
    return dump(root);
}
