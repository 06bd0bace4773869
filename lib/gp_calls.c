/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Calls into liburcu, and fork().
 *
 * call_rcu() links its argument into a queue in two steps. A child in which the caller vanished
 * between them has a queue that nobody can read past that point; and a source does not know
 * there if the call was made. So forks wait until nobody is inside such a call, and keep
 * others out meanwhile. One word does both:
 *
 *	 31           16 15            0
 *	+---------------+---------------+
 *	|     forks     | calls inside  |
 *	+---------------+---------------+
 *
 * Who finds a fork waits for its end, but not for ever: the caller may be in a read section, or
 * hold a lock of the program, and a fork handler that comes after ours may wait for that
 * (liburcu's own hooks wait for sections). And a fork of a large process takes its time. The
 * caller gives up after a while, and the call is left to the next one who comes by. It is not
 * left to the fork: after it our handler would call liburcu under locks that liburcu's
 * hooks still hold.
 *
 * A fork waits for calls only, which wait for nobody; with one exception, the first call_rcu()
 * of a process, which makes liburcu's thread under such a lock. So that wait has an end as
 * well, FORK_PATIENCE. A child made with a call inside is `torn`.
 *
 * Guarantees:
 *  C1  A child is torn, or nobody was inside when it was made. The fork's addition and the CAS of a
 *      call are on one word: a call is counted in what prepare loads after the addition, or
 *      finds the fork there. Leave (release) to that load (acquire): what the call did is in
 *      the child's memory.
 *  C2  No wake-up is lost: each sleeps on the word itself, with the value that made it sleep. The
 *      last call to leave wakes forks, the end of a fork wakes calls; other changes of the
 *      word end nobody's wait.
 *  C3  Nobody waits for ever, and no forking thread for itself.
 */
#include "gp_calls.h"

#include "base/atomic.h"
#include "base/compiler.h"
#include "base/fork.h"
#include "base/futex.h"

#define INSIDE UINT32_C(1)
#define INSIDE_ALL UINT32_C(0xffff)
#define FORK UINT32_C(0x10000)
#define FORKS UINT32_C(0xffff0000)

#define FORK_PATIENCE_NS UINT64_C(5000000000)

static uint32_t calls;

/* Written in a child that is alone. */
static bool torn;

/* Between prepare and what comes after it, in this thread. */
static __thread bool forking;

bool gp_calls_are_torn(void)
{
	return unlikely(torn);
}

/* Sleeps until no fork goes on, or its patience is at an end. The word as it is then. */
static uint32_t wait_forks(uint64_t patience_ns)
{
	uint64_t deadline = clock_ns() + patience_ns;
	uint32_t word;

	while (((word = load_relaxed(&calls)) & FORKS) && clock_ns() < deadline)
		futex_wait(&calls, word, deadline);
	return word;
}

bool gp_calls_enter(uint64_t patience_ns)
{
	uint32_t old = load_relaxed(&calls);

	if (gp_calls_are_torn())
		return false;
	do {
		if ((old & FORKS) && patience_ns && !forking)
			old = wait_forks(patience_ns);
		if (old & FORKS)
			return false;
		/* acq_rel: C1, partner the addition in gp_calls_fork_prepare() */
	} while (!cas_acq_rel(&calls, &old, old + INSIDE));
	return true;
}

void gp_calls_leave(void)
{
	/* release: C1, partner the load in gp_calls_fork_prepare() */
	uint32_t old = fetch_sub_release(&calls, INSIDE);

	if ((old & FORKS) && (old & INSIDE_ALL) == INSIDE)
		futex_wake(&calls);
}

void gp_calls_fork_prepare(void)
{
	uint64_t deadline = clock_ns() + FORK_PATIENCE_NS;
	uint32_t word;

	forking = true;
	/* acq_rel: C1, partner the CAS in gp_calls_enter() */
	fetch_add_acq_rel(&calls, FORK);
	/* acquire: C1, partner the subtraction in gp_calls_leave() */
	while (((word = load_acquire(&calls)) & INSIDE_ALL) && clock_ns() < deadline)
		futex_wait(&calls, word, deadline);
}

void gp_calls_fork_parent(void)
{
	forking = false;
	if ((fetch_sub_release(&calls, FORK) & FORKS) == FORK)
		futex_wake(&calls);
}

/* Alone: whatever others were doing, they do no more. */
void gp_calls_fork_child(void)
{
	forking = false;
	torn = torn || (load_relaxed(&calls) & INSIDE_ALL);
	store_relaxed(&calls, 0);
}

int gp_calls_init(void)
{
	static const struct fork_handlers handlers = {gp_calls_fork_prepare, gp_calls_fork_parent,
						      gp_calls_fork_child};

	return fork_handle(FORK_CALLS, &handlers);
}

FORK_EARLY(gp_calls_init())
