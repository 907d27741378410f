#include "proto/response_format.h"

void mb_response_format_fini(struct mb_response_format *f)
{
    mb_json_value_fini(&f->schema);
    f->kind = MB_RESPONSE_TEXT;
}
