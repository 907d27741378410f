/* Files, the two ways core uses them: a whole file mapped to be read, and a file written
 * aside, synced and renamed, so that a reader finds the old one or the new one, never half.
 *
 * Threads: one thread at a time per object; a mapping may be read by any number. */
#ifndef MB_CORE_FILE_H
#define MB_CORE_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "proto/status.h"

/* A read-only mapping of a whole regular file. An empty file has at = NULL, n = 0.
 * Asks for large pages. The system has them for what it keeps of a file in large pieces: what it
 * reads because such a mapping wants it, and what mb_file_writer wrote. What a program has read or
 * copied by small pieces stays in small ones as long as it is kept.
 * A file that is truncated by someone else while mapped raises SIGBUS on access: whoever
 * owns the folder must replace files by rename, as mb_file_writer does. */
struct mb_file_map {
    const uint8_t *at;
    size_t n;
};

/* A descriptor to read path by. Errors: MB_E_NOTFOUND, MB_E_IO. */
enum mb_status mb_file_open(const char *path, int *ret, struct mb_error *err);
/* The file of a descriptor, which stays the caller's; name is for messages.
 * Errors: MB_E_IO; MB_E_INVALID when it is no regular file. */
enum mb_status mb_file_map_fd(int fd, const char *name, struct mb_file_map *ret,
                              struct mb_error *err);
/* Both. */
enum mb_status mb_file_map(const char *path, struct mb_file_map *ret, struct mb_error *err);
void mb_file_unmap(struct mb_file_map *m); /* leaves it empty; an empty one is allowed */

/* Writes "<path>.tmp-<pid>" in path's folder, and makes it path at commit.
 *
 *     open -> write/pad ... -> commit      the file is path, durable, mode 0644 & ~umask
 *                           -> abort       nothing is left behind
 */
struct mb_file_writer;

/* What is at path now is a regular file, or nothing: a device is never replaced. Removes what
 * writers of path left aside that were killed (one that lives holds a lock on its own). One
 * writer of a path in a process at a time.
 * Errors: MB_E_INVALID, MB_E_IO, MB_E_NOMEM. */
enum mb_status mb_file_writer_open(const char *path, struct mb_file_writer **ret,
                                   struct mb_error *err);
enum mb_status mb_file_writer_put(struct mb_file_writer *w, const void *at, size_t n,
                                  struct mb_error *err);
/* Zeros up to the next multiple of unit. */
enum mb_status mb_file_writer_pad(struct mb_file_writer *w, size_t unit, struct mb_error *err);
/* Overwrites n bytes at offset, which lie before the end. */
enum mb_status mb_file_writer_patch(struct mb_file_writer *w, uint64_t offset, const void *at,
                                    size_t n, struct mb_error *err);
uint64_t mb_file_writer_offset(const struct mb_file_writer *w);
/* All that was put is in the file, which is at *ret_aside until it is path. */
enum mb_status mb_file_writer_flush(struct mb_file_writer *w, const char **ret_aside,
                                    struct mb_error *err);
/* Syncs the file, renames it, syncs the folder. Frees w, whatever the outcome. */
enum mb_status mb_file_writer_commit(struct mb_file_writer *w, struct mb_error *err);
void mb_file_writer_abort(struct mb_file_writer *w); /* NULL is allowed */

#endif
