#include "proto/json/error_json.h"

#include <string.h>

#include "proto/json/text_json.h"

char *mb_error_encode(const struct mb_wire_error *e)
{
    json_t *message = mb_json_string_of(e->message, strlen(e->message));
    /* "s?" is null for NULL; "o" takes the reference, and fails as a whole when it is NULL. */
    json_t *root = json_pack("{s:{s:o,s:s,s:s?,s:s?}}", "error", "message", message, "type",
                             e->type, "param", e->param[0] ? e->param : NULL, "code", e->code);
    char *text = root ? json_dumps(root, MB_JSON_DUMP) : NULL;
    json_decref(root);
    return text;
}
