#include "core/convert/provenance.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/base/checksum.h"
#include "core/base/file.h"

/* What a folder may hold that ends up in a checkpoint. */
static const char *const suffixes[] = { ".json", ".safetensors", ".jinja" };

static int is_read(const struct dirent *d)
{
    size_t n = strlen(d->d_name);
    for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) {
        size_t m = strlen(suffixes[i]);
        if (n > m && strcmp(d->d_name + n - m, suffixes[i]) == 0) {
            return 1;
        }
    }
    return 0;
}

/* By bytes, whatever the locale. */
static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static enum mb_status add_path(const char *path, const char *name, struct mb_bytes *ret,
                               struct mb_error *err)
{
    struct mb_file_map map;
    enum mb_status st = mb_file_map(path, &map, err);
    if (st == MB_OK) {
        mb_bytes_printf(ret, "source.file: %s %zu bytes xxh3 %016llx\n", name, map.n,
                        (unsigned long long) mb_checksum(map.at, map.n));
        mb_file_unmap(&map);
    }
    return st;
}

static enum mb_status add_file(const char *dir, const char *name, struct mb_bytes *ret,
                               struct mb_error *err)
{
    struct mb_bytes path = { 0 };
    mb_bytes_printf(&path, "%s/%s", dir, name);
    enum mb_status st = path.failed ? mb_fail(err, MB_E_NOMEM, 0, "no memory for a path")
                                    : add_path(mb_bytes_text(&path), name, ret, err);
    mb_bytes_fini(&path);
    return st;
}

static enum mb_status add_files(const char *dir, struct mb_bytes *ret, struct mb_error *err)
{
    struct dirent **entries;
    int n = scandir(dir, &entries, is_read, by_name);
    if (n < 0) {
        return mb_fail(err, MB_E_IO, errno, "read folder '%s'", dir);
    }
    enum mb_status st = MB_OK;
    for (int i = 0; i < n; i++) {
        if (st == MB_OK) {
            st = add_file(dir, entries[i]->d_name, ret, err);
        }
        free(entries[i]);
    }
    free(entries);
    return st;
}

static void add_options(const struct mb_convert_options *o, uint64_t n_tokens,
                        struct mb_bytes *ret)
{
    static const char *const inits[] = {
        [MB_INIT_GREEDY] = "greedy", [MB_INIT_SVD] = "svd", [MB_INIT_RANDOM] = "random"
    };
    if (o->bits > 0) {
        mb_bytes_printf(ret, "convert.bits: %g\n", o->bits);
    } else {
        mb_bytes_printf(ret, "convert.kernels: %u\n", (unsigned) o->fit.n_kernels);
    }
    if (o->fit.group > 0) {
        mb_bytes_printf(ret, "convert.group: %u\n", (unsigned) o->fit.group);
    } else {
        mb_bytes_put_text(ret, "convert.group: row\n");
    }
    if (o->head_kernels > 0) {
        mb_bytes_printf(ret, "convert.head_kernels: %u\n", (unsigned) o->head_kernels);
    } else {
        mb_bytes_put_text(ret, "convert.head_kernels: float16\n");
    }
    mb_bytes_printf(ret, "convert.planes: %u\n", (unsigned) o->n_planes);
    mb_bytes_printf(ret, "convert.init: %s\n", inits[o->fit.init]);
    mb_bytes_printf(ret, "convert.seed: %llu\n", (unsigned long long) o->fit.seed);
    mb_bytes_printf(ret, "convert.turns: %u\n", (unsigned) o->fit.n_turns);
    if (o->fit.once) {
        mb_bytes_put_text(ret, "convert.once: yes\n");
    }
    if (!o->text) {
        mb_bytes_put_text(ret, "calibration: none\n");
        return;
    }
    mb_bytes_printf(ret, "convert.damping: %g\n", o->damping);
    mb_bytes_printf(ret, "convert.follow: %g\n", (double) o->fit.follow);
    mb_bytes_printf(ret, "calibration.text: %zu bytes xxh3 %016llx\n", o->n_text,
                    (unsigned long long) mb_checksum(o->text, o->n_text));
    mb_bytes_printf(ret, "calibration.tokens: %llu\n", (unsigned long long) n_tokens);
}

enum mb_status mb_provenance(const char *dir, const struct mb_convert_options *o,
                             uint64_t n_tokens, struct mb_bytes *ret, struct mb_error *err)
{
    char whole[PATH_MAX]; /* so that "." has a name too */
    if (!realpath(dir, whole)) {
        return mb_fail(err, MB_E_IO, errno, "find '%s'", dir);
    }
    const char *name = strrchr(whole, '/');
    mb_bytes_put_text(ret, "made_by: mboold " MB_VERSION "\n");
    mb_bytes_printf(ret, "source: %s\n", name && name[1] ? name + 1 : whole);
    struct stat sb;
    enum mb_status st = stat(whole, &sb) == 0 && S_ISREG(sb.st_mode)
                            ? add_path(whole, name + 1, ret, err) /* realpath gave it a '/' */
                            : add_files(dir, ret, err);
    if (st != MB_OK) {
        return st;
    }
    add_options(o, n_tokens, ret);
    return ret->failed ? mb_fail(err, MB_E_NOMEM, 0, "no memory for the provenance") : MB_OK;
}
