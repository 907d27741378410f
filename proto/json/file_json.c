#include "proto/json/file_json.h"

#include <string.h>

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

static json_t *file_of(const struct mb_file_card *f)
{
    return json_pack("{s:s,s:s,s:I,s:I,s:o,s:o,s:s,s:s,s:o}", "id", f->id, "object", "file",
                     "bytes", (json_int_t) f->bytes, "created_at", (json_int_t) f->created,
                     "expires_at",
                     f->expires ? json_integer((json_int_t) f->expires) : json_null(),
                     "filename", text_of(f->name), "purpose", "fine-tune", "status",
                     f->details ? "error" : "processed", "status_details", text_of(f->details));
}

char *mb_file_encode(const struct mb_file_card *f)
{
    return dump(file_of(f));
}

char *mb_file_list_encode(const struct mb_file_card *files, size_t n, bool has_more)
{
    json_t *data = json_array();
    for (size_t i = 0; i < n; i++) {
        if (json_array_append_new(data, file_of(&files[i])) != 0) {
            json_decref(data);
            return NULL;
        }
    }
    return dump(json_pack("{s:s,s:o,s:s?,s:s?,s:b}", "object", "list", "data", data, "first_id",
                          n ? files[0].id : NULL, "last_id", n ? files[n - 1].id : NULL,
                          "has_more", (int) has_more));
}

char *mb_deleted_encode(const char *id, const char *object)
{
    return dump(json_pack("{s:s,s:s,s:b}", "id", id, "object", object, "deleted", 1));
}
