/* Renders what another program asks for: one line {"template": text, "variables": {...}}
 * in, one line {"text": text} or {"error": message} out. compare.py holds it against Jinja. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/template/template.h"
#include "tests/core/template/cases.h"

static json_t *answer(const json_t *asked)
{
    struct mb_bytes out = { 0 };
    struct mb_error err;
    enum mb_status st = render_case(asked, &out, &err);
    json_t *reply = st == MB_OK
                        ? json_pack("{s:o}", "text", json_stringn(mb_bytes_text(&out), out.len))
                        : json_pack("{s:s}", "error", err.what);
    mb_bytes_fini(&out);
    return reply;
}

int main(void)
{
    char *line = NULL;
    size_t cap = 0;
    for (ssize_t n; (n = getline(&line, &cap, stdin)) > 0;) {
        json_t *asked = json_loadb(line, (size_t) n, JSON_ALLOW_NUL, NULL);
        json_t *reply =
            asked ? answer(asked) : json_pack("{s:s}", "error", "the line is no JSON");
        char *text = json_dumps(reply, JSON_COMPACT);
        puts(text ? text : "{\"error\": \"no answer\"}");
        (void) fflush(stdout);
        free(text);
        json_decref(reply);
        json_decref(asked);
    }
    free(line);
    return EXIT_SUCCESS;
}
