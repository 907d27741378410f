#include "server/http/sse.h"

#include <assert.h>
#include <string.h>

void mbd_sse_data(struct mb_bytes *ret, const char *json)
{
    assert(!strpbrk(json, "\r\n")); /* would end the event in its middle */
    mb_bytes_put_text(ret, "data: ");
    mb_bytes_put_text(ret, json);
    mb_bytes_put_text(ret, "\n\n");
}

void mbd_sse_ping(struct mb_bytes *ret)
{
    mb_bytes_put_text(ret, ":\n\n");
}

void mbd_sse_done(struct mb_bytes *ret)
{
    mbd_sse_data(ret, "[DONE]");
}
