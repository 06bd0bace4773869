/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * The slow side of an asymmetric fence; the fast side is compiler_barrier().
 *
 *	fast:  store A; compiler_barrier(); load B
 *	slow:  store B; membarrier();       load A
 *
 * Then it cannot be that both loads miss the other's store.
 *
 * What the kernel once granted it may refuse later: a program that locks itself in by a seccomp filter
 * after it has begun, or a kernel that has no memory for the call. The fast side relies on the
 * slow one by then, so there is no way back, and the fence is made by hand: the caller goes to
 * each CPU in turn. Who was running there was switched out meanwhile, which orders memory as the call
 * does and ends a restartable sequence; who was not running had been switched out before; and
 * who went from one CPU to another did so by being switched. Slow, and for the slow side only.
 */
#ifndef BASE_MEMBARRIER_H
#define BASE_MEMBARRIER_H

#include <stdbool.h>

/* Ask the kernel once for private expedited membarriers. True if they work. */
bool membarrier_ready(void);

/* In the child after fork(2). */
void membarrier_fork_child(void);

/* Only after membarrier_ready() said true. */
void membarrier_all(void);

/*
 * The fence by hand: the caller has been on every CPU that it may be on, and is back where it
 * may be; what another thread makes its affinity meanwhile is lost. Ends the program with a
 * message if it is refused as well. CPUs that a cpuset gives to other threads of the process, but
 * not to this one, are not reached.
 */
void membarrier_walk(void);

#endif
