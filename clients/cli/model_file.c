#include "clients/cli/model_file.h"

#include <sys/stat.h>

#include "core/checkpoint/reader.h"
#include "core/import/hf.h"

static enum mb_status open_folder(const char *path, struct mbc_model_file *f,
                                  struct mb_error *err)
{
    struct mb_hf *h;
    struct mb_bytes bytes = { 0 };
    enum mb_status st = mb_hf_open(path, &h, err);
    if (st != MB_OK) {
        return st;
    }
    st = mb_hf_tokenizer(h, &bytes, err);
    if (st == MB_OK) {
        st = mb_tokenizer_from_bytes(bytes.at, bytes.len, &f->tokenizer, err);
    } else if (st == MB_E_NOTFOUND) {
        st = MB_OK;
    }
    mb_bytes_fini(&bytes);
    if (st == MB_OK) {
        st = mb_model_from_hf(h, &f->model, err);
    }
    if (st != MB_OK) {
        mb_hf_free(h);
    }
    return st;
}

static enum mb_status open_checkpoint(const char *path, struct mbc_model_file *f,
                                      struct mb_error *err)
{
    struct mb_checkpoint *c;
    enum mb_status st = mb_checkpoint_open(path, &c, err);
    if (st != MB_OK) {
        return st;
    }
    const struct mb_section *s = mb_checkpoint_find(c, "tokenizer");
    if (s) {
        st = mb_tokenizer_from_bytes(mb_checkpoint_data(c, s), s->bytes, &f->tokenizer, err);
    }
    if (st == MB_OK) {
        st = mb_model_from_checkpoint(c, &f->model, err);
    }
    if (st != MB_OK) {
        mb_checkpoint_free(c);
    }
    return st;
}

enum mb_status mbc_model_file_open(const char *path, struct mbc_model_file *ret,
                                   struct mb_error *err)
{
    struct mbc_model_file f = { 0 };
    struct stat sb;
    bool folder = stat(path, &sb) == 0 && S_ISDIR(sb.st_mode);
    enum mb_status st = folder ? open_folder(path, &f, err) : open_checkpoint(path, &f, err);
    if (st != MB_OK) {
        mbc_model_file_close(&f);
        return st;
    }
    *ret = f;
    return MB_OK;
}

void mbc_model_file_close(struct mbc_model_file *f)
{
    mb_model_unref(f->model);
    mb_tokenizer_free(f->tokenizer);
    *f = (struct mbc_model_file) { 0 };
}
