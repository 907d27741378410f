#include "core/base/roff.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

static void put_escaped(struct mb_bytes *b, const char *text, size_t n)
{
    bool line_start = b->len == 0 || b->at[b->len - 1] == '\n';
    for (size_t i = 0; i < n; i++) {
        char c = text[i];
        if (line_start && (c == '.' || c == '\'')) {
            mb_bytes_put_text(b, "\\&");
        }
        if (c == '\\') {
            mb_bytes_put_text(b, "\\e");
        } else if (c == '-') { /* bare, it would become a hyphen that can not be copied */
            mb_bytes_put_text(b, "\\-");
        } else if (c == '\'' || c == '^' || c == '~' || c == '`') { /* not typographic ones */
            mb_bytes_put_text(b, c == '\''  ? "\\(aq"
                                 : c == '^' ? "\\(ha"
                                 : c == '~' ? "\\(ti"
                                            : "\\(ga");
        } else {
            mb_bytes_put_u8(b, (uint8_t) c);
        }
        line_start = c == '\n';
    }
}

void mb_roff_put(struct mb_bytes *b, const char *text)
{
    put_escaped(b, text, strlen(text));
}

void mb_roff_put_paragraphs(struct mb_bytes *b, const char *text)
{
    bool as_it_stands = false;
    while (*text) {
        size_t n = strcspn(text, "\n");
        bool indented = text[0] == ' ';
        if (indented != as_it_stands && n > 0) {
            mb_bytes_put_text(b, indented ? ".nf\n" : ".fi\n");
            as_it_stands = indented;
        }
        if (n == 0 && !as_it_stands) {
            mb_bytes_put_text(b, ".PP\n");
        } else {
            put_escaped(b, text, n);
            mb_bytes_put_u8(b, '\n');
        }
        text += n + (text[n] == '\n');
    }
    if (as_it_stands) {
        mb_bytes_put_text(b, ".fi\n");
    }
}

void mb_roff_begin(struct mb_bytes *b, const char *name, int section, const char *version,
                   const char *summary)
{
    mb_bytes_put_text(b, ".TH \"");
    for (const char *p = name; *p; p++) {
        char c[2] = { (char) toupper((unsigned char) *p), '\0' };
        mb_roff_put(b, c);
    }
    mb_bytes_printf(b, "\" %d \"\" \"mboold %s\"\n.SH NAME\n", section, version);
    mb_roff_put(b, name);
    mb_bytes_put_text(b, " \\- ");
    mb_roff_put(b, summary);
    mb_bytes_put_u8(b, '\n');
}
