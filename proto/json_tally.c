#include "proto/json_tally.h"

#include <stdbool.h>

void mb_json_tally(const char *text, size_t n, struct mb_json_tally *t)
{
    size_t depth = 0;
    bool in_string = false;
    t->values++;
    for (size_t i = 0; i < n; i++) {
        char c = text[i];
        if (in_string) {
            if (c == '\\') {
                i++;
            } else if (c == '"') {
                in_string = false;
            }
        } else if (c == '"') {
            in_string = true;
        } else if (c == '[' || c == '{') {
            depth++;
            t->depth = depth > t->depth ? depth : t->depth;
            t->containers++;
        } else if ((c == ']' || c == '}') && depth > 0) {
            depth--;
        } else if (c == ',') {
            t->values++;
        } else if (c == ':') {
            t->members++;
        }
    }
}
