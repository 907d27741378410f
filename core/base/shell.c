#include "core/base/shell.h"

#include <string.h>

void mb_shell_put_quoted(struct mb_bytes *b, const char *text, const char *special)
{
    mb_bytes_put_u8(b, '\'');
    for (; *text; text++) {
        if (*text == '\'') { /* out of the quotes, one, and into them again */
            mb_bytes_put_text(b, "'\\''");
            continue;
        }
        if (strchr(special, *text)) {
            mb_bytes_put_u8(b, '\\');
        }
        mb_bytes_put_u8(b, (uint8_t) *text);
    }
    mb_bytes_put_u8(b, '\'');
}
