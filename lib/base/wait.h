/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* Waiting for a few instructions of another thread. */
#ifndef BASE_WAIT_H
#define BASE_WAIT_H

#include "base/futex.h"

#include <ck_pr.h>
#include <sched.h>

#define WAIT_SPINS 64
#define WAIT_YIELDS 16

/* Sleep, on a futex that nobody wakes: nanosleep(2) is a cancellation point (base/thread.h). */
static inline void wait_ns(uint64_t ns)
{
	uint32_t nobody = 0;

	futex_wait(&nobody, 0, clock_ns() + ns);
}

/*
 * Between two looks; turns counts them, from 0. The other thread may have been preempted, and by
 * us: to yield does not help if ours has a real-time priority and the other one has not, so
 * after some turns we sleep.
 */
static inline void wait_a_little(unsigned *turns)
{
	unsigned turn = (*turns)++;

	if (turn < WAIT_SPINS)
		ck_pr_stall();
	else if (turn < WAIT_SPINS + WAIT_YIELDS)
		sched_yield();
	else
		wait_ns(50000);
}

#endif
