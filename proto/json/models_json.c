#include "proto/json/models_json.h"

#include "proto/json/text_json.h"

static json_t *card_json(const struct mb_model_card *c)
{
    return json_pack("{s:s,s:s,s:I,s:s,s:I,s:s}", "id", c->id, "object", "model", "created",
                     (json_int_t) c->created, "owned_by", "mboold", "max_model_len",
                     (json_int_t) c->context_max, "system_fingerprint", c->fingerprint);
}

static char *dump(json_t *root)
{
    char *text = root ? json_dumps(root, MB_JSON_DUMP) : NULL;
    json_decref(root);
    return text;
}

char *mb_model_card_encode(const struct mb_model_card *card)
{
    return dump(card_json(card));
}

char *mb_model_list_encode(const struct mb_model_card *cards, size_t n)
{
    json_t *data = json_array();
    for (size_t i = 0; i < n; i++) {
        if (json_array_append_new(data, card_json(&cards[i])) != 0) {
            json_decref(data);
            return NULL;
        }
    }
    return dump(json_pack("{s:s,s:o}", "object", "list", "data", data));
}
