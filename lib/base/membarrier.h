/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * The slow side of an asymmetric fence; the fast side is compiler_barrier().
 *
 *	fast:  store A; compiler_barrier(); load B
 *	slow:  store B; membarrier();       load A
 *
 * Then it cannot be that both loads miss the other's store.
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

#endif
