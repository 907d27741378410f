#include "clients/cli/load.h"

#include <errno.h>
#include <stdbool.h>
#include <sys/stat.h>

#include "core/base/file.h"
#include "core/checkpoint/reader.h"
#include "core/import/gguf.h"
#include "core/import/hf.h"

static enum mb_status load_file(const char *path, struct mbc_model *ret, struct mb_error *err)
{
    struct mb_checkpoint *c = NULL;
    enum mb_status st = mb_checkpoint_open(path, &c, err);
    if (st != MB_OK) {
        return st;
    }
    st = mb_checkpoint_tokenizer(c, &ret->tokenizer, err);
    if (st == MB_OK || st == MB_E_NOTFOUND) { /* without, it can still be computed with */
        st = mb_model_from_checkpoint(c, &ret->model, err);
    }
    if (st != MB_OK) {
        mb_checkpoint_free(c);
    }
    return st;
}

static enum mb_status is_gguf(const char *path, bool *ret, struct mb_error *err)
{
    struct mb_file_map map;
    enum mb_status st = mb_file_map(path, &map, err);
    if (st == MB_OK) {
        *ret = mb_gguf_is(map.at, map.n);
        mb_file_unmap(&map);
    }
    return st;
}

/* A folder or a GGUF file, run as the float model. */
static enum mb_status load_source(const char *path, struct mbc_model *ret, struct mb_error *err)
{
    struct mb_hf *hf = NULL;
    struct mb_bytes spec = { 0 };
    ret->is_float = true;
    enum mb_status st = mb_hf_open(path, &hf, err);
    if (st != MB_OK) {
        return st;
    }
    st = mb_hf_tokenizer(hf, &spec, err);
    if (st == MB_OK) {
        st = mb_tokenizer_from_bytes(spec.at, spec.len, &ret->tokenizer, err);
    } else if (st == MB_E_NOTFOUND) { /* it can still be computed with */
        st = MB_OK;
    }
    if (st == MB_OK) {
        st = mb_model_from_hf(hf, &ret->model, err);
    }
    if (st != MB_OK) {
        mb_hf_free(hf);
    }
    mb_bytes_fini(&spec);
    return st;
}

enum mb_status mbc_load(const char *path, struct mbc_model *ret, struct mb_error *err)
{
    struct mbc_model m = { 0 };
    struct stat sb;
    if (stat(path, &sb) != 0) {
        return mb_fail(err, errno == ENOENT ? MB_E_NOTFOUND : MB_E_IO, errno, "'%s'", path);
    }
    bool is_source = S_ISDIR(sb.st_mode);
    enum mb_status st = is_source ? MB_OK : is_gguf(path, &is_source, err);
    if (st == MB_OK) {
        st = is_source ? load_source(path, &m, err) : load_file(path, &m, err);
    }
    if (st != MB_OK) {
        mbc_unload(&m);
        return st;
    }
    *ret = m;
    return MB_OK;
}

void mbc_unload(struct mbc_model *m)
{
    mb_model_unref(m->model);
    mb_tokenizer_free(m->tokenizer);
    *m = (struct mbc_model) { 0 };
}
