/* The trainer: mboold --trainer, a process of its own that fine-tunes while the daemon serves.
 * It may crash, be killed, stand still or run out of memory; the daemon sees that it ended, and
 * starts another, which goes on from the last snapshot to the same bits.
 *
 *     standard input   the task, a line (proto/task.h); later words, a line each
 *     standard output  events, a line each; the last one says how it ended
 *     standard error   the daemon's, for what a crash writes
 *
 * It makes itself small: the idle scheduling class (or the lowest priority, where that is
 * forbidden; --finetune-priority), the first to go when the machine has no memory, a bound on its own memory, and
 * death with its parent. Signals from a terminal are for the daemon: it ignores them.
 *
 * Files, in the task's folder: out.mbool and out.mbool.state, what it goes on from; start.mbool,
 * what it began with, when that is a delta; step-N.delta, a snapshot, durable before it is told.
 *
 * Threads: the process's first. */
#ifndef MBD_TRAINER_H
#define MBD_TRAINER_H

/* Returns the exit status: 0 when an event told how it ended. */
int mbd_trainer_main(void);

#endif
