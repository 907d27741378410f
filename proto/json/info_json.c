#include "proto/json/info_json.h"

#include <inttypes.h>
#include <stdio.h>

#include "proto/completion.h"
#include "proto/json/completion_json.h"
#include "proto/json/text_json.h"

static char *dump(json_t *root)
{
    char *text = root ? json_dumps(root, MB_JSON_DUMP) : NULL;
    json_decref(root);
    return text;
}

char *mb_version_encode(const char *version)
{
    return dump(json_pack("{s:s}", "version", version));
}

static json_t *shape_json(const struct mb_info_model *m)
{
    return json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "layers",
                     (json_int_t) m->n_layers, "width", (json_int_t) m->width, "heads",
                     (json_int_t) m->n_heads, "kv_heads", (json_int_t) m->n_kv_heads,
                     "head_width", (json_int_t) m->head_width, "ffn_width",
                     (json_int_t) m->ffn_width, "vocabulary", (json_int_t) m->n_vocab,
                     "context", (json_int_t) m->context, "window", (json_int_t) m->window);
}

static json_t *model_json(const struct mb_info_model *m)
{
    char epoch[17];
    (void) snprintf(epoch, sizeof epoch, "%016" PRIx64, m->epoch);
    return json_pack(
        "{s:s,s:s,s:s,s:I,s:o,s:{s:I,s:I},s:f,s:I,s:{s:I,s:I,s:I,s:I}}", "id", m->id, "epoch",
        epoch, "system_fingerprint", m->fingerprint, "created", (json_int_t) m->created,
        "shape", shape_json(m), "kernels", "min", (json_int_t) m->kernels_min, "max",
        (json_int_t) m->kernels_max, "bits_per_weight", m->bits_per_weight, "activation_bits",
        (json_int_t) m->n_planes, "limits", "max_model_len", (json_int_t) m->context_max,
        "max_sequences", (json_int_t) m->sequences_max, "kv_blocks", (json_int_t) m->kv_blocks,
        "kv_block_tokens", (json_int_t) m->kv_block_positions);
}

static json_t *limits_json(const struct mb_info *i)
{
    return json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "max_body", (json_int_t) i->body_max,
                     "queue_requests", (json_int_t) i->queue_requests, "queue_tokens",
                     (json_int_t) i->queue_tokens, "step_tokens", (json_int_t) i->step_tokens,
                     "default_max_tokens", (json_int_t) i->default_max_tokens, "stops",
                     (json_int_t) MB_STOPS_MAX, "logprobs",
                     (json_int_t) MB_COMPLETION_LOGPROBS_MAX, "json_depth",
                     (json_int_t) MB_JSON_DEPTH_MAX);
}

char *mb_info_encode(const struct mb_info *i)
{
    json_t *models = json_array();
    for (size_t k = 0; k < i->n_models; k++) {
        if (json_array_append_new(models, model_json(&i->models[k])) != 0) {
            json_decref(models);
            return NULL;
        }
    }
    return dump(json_pack("{s:s,s:s,s:I,s:o,s:o}", "version", i->version, "instruction_set",
                          i->isa, "threads", (json_int_t) i->threads, "limits", limits_json(i),
                          "models", models));
}
