/* Faults on purpose, so that tests can see what becomes of a job: MB_TRAINER_FAULT is
 * "WHAT@EVENT:STEP", such as "kill@snapshot:4"; WHAT is
 *
 *     kill    SIGKILL, right after the event was told
 *     hang    it stands still there
 *     memory  it is refused memory from there on
 *     exit    it ends without a word
 *
 * and happens once in the life of a job: a file "fault" in its folder says that it did.
 *
 * Threads: one. */
#ifndef MBD_FAULT_H
#define MBD_FAULT_H

#include "proto/task.h"

void mbd_fault_after(const struct mb_task *t, const struct mb_task_event *e, const char *kind);

#endif
