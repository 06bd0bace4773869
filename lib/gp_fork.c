/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * fork() and grace periods.
 *
 * Read gp_fork_prepare() and gp_gate_enter() first.
 *
 * A child has one thread. If another one, a driver or a waiter that does without, was
 * inside synchronize_rcu() at that moment, liburcu's own locks stay held in the child by
 * nobody, and no period can ever end there. So a fork waits until none is inside, and
 * keeps them out until it is over. One word does both, for all sources of the process:
 *
 *	 31       30            16 15             0
 *	+--------+----------------+----------------+
 *	| WAITED |     forks      | periods inside |
 *	+--------+----------------+----------------+
 *
 * A period enters by a CAS on a word without forks, a fork by an addition; then it waits
 * for the periods that were inside to leave. A period that finds a fork sets WAITED
 * and sleeps; the next fork lets it go first.
 *
 * Two kinds of periods cannot be waited for:
 *
 *  - The forking thread is inside a read section (qsbr: online). The period may be waiting
 *    for that very section.
 *  - A flavour with fork hooks of its own (liburcu-bp). They take the lock that a period
 *    of ours may be waiting for inside the gate, and the program may call them before our
 *    handler runs. They do for that flavour what the gate does for the others, so its
 *    periods stay out of the gate.
 *
 * And a wait for periods is a wait for other threads' read sections, which may in turn
 * want a lock that a handler before ours has taken. So it has an end, PATIENCE. A child
 * that was made with a period inside is `torn`: it runs no more periods, wait() says so.
 *
 * Guarantees:
 *  F1  A child is torn, or nobody was inside the gate when it was made. The fork's addition
 *      and the CAS of a period are on one word: a period either is counted in what the
 *      addition returns, or finds the fork there. Nobody enters before the fork is over,
 *      so 0 inside stays 0. What a period did before it left is in the child's memory:
 *      leave (release) to the load in prepare (acquire).
 *  F2  No wake-up is lost: each sleeps on the word itself, with the value that made it
 *      sleep. The last period to leave wakes forks; the last fork to end wakes who set
 *      WAITED; who enters and thereby clears WAITED wakes the forks that let it go first.
 *      Other changes of the word end nobody's wait.
 *  F3  Forks do not keep periods out for ever: a fork that begins while a period waits at
 *      the gate lets it in first (but for the exceptions above).
 *  F4  No fork waits for ever, and none waits for another fork but by F3.
 *  F5  A fork holds no lock while other handlers run, and the child makes the one lock that
 *      there is anew, whoever held it.
 *  F6  A child's sources need no list to be put right, in which they would stand for ever if
 *      their memory went with a thread's stack. They compare gp_fork_generation with that of
 *      what they remember of threads.
 *
 * Memory of a child. fork() copies while others write. The copy has of each thread's
 * stores those up to some moment, and with a store all that happened before it: a thread
 * that the copying stops at a page is stopped before its next store. So words that
 * others were changing have a value that they had, in an order that they had.
 */
#include "gp_fork.h"

#include "base/atomic.h"
#include "base/compiler.h"
#include "base/fork.h"
#include "base/futex.h"

#include <errno.h>
#include <urcu/flavor.h>

#define INSIDE UINT32_C(1)
#define INSIDE_ALL UINT32_C(0xffff)
#define FORK UINT32_C(0x10000)
#define FORKS UINT32_C(0x7fff0000)
#define WAITED UINT32_C(0x80000000)

#define PATIENCE_NS UINT64_C(5000000000)

/* Kinds of read sections in one program; liburcu has five. */
#define FLAVORS 16

/* There if the program has liburcu-bp. */
extern const struct rcu_flavor_struct urcu_bp_flavor __attribute__((weak));

static uint32_t gate;

static struct {
	pthread_mutex_t lock; /* protects the table */
	struct {
		const struct rcu_flavor_struct *flavor;
		unsigned sources;
	} table[FLAVORS];
} flavors = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* Written in a child that is alone. */
uint32_t gp_fork_generation = 1;
static bool is_torn;

/* Between prepare and what comes after it, in this thread. */
static __thread bool forking;

bool gp_fork_own_hooks(const struct rcu_flavor_struct *flavor)
{
	return flavor && flavor == &urcu_bp_flavor;
}

bool gp_fork_is_torn(void)
{
	return is_torn;
}

bool gp_lock_try(uint32_t *word)
{
	uint32_t old = load_relaxed(word);

	/* acquire: partner the store in gp_unlock() */
	return old != gp_fork_generation && cas_acquire(word, &old, gp_fork_generation);
}

void gp_lock(uint32_t *word)
{
	while (!gp_lock_try(word))
		futex_wait(word, gp_fork_generation, 0);
}

void gp_unlock(uint32_t *word)
{
	/* release: partner the CAS in gp_lock_try() */
	store_release(word, 0);
	futex_wake(word);
}

void gp_gate_enter(void)
{
	uint32_t old = load_relaxed(&gate);

	for (;;) {
		if (!(old & FORKS)) {
			/* acq_rel: F1, partner the addition in gp_fork_prepare() */
			if (cas_acq_rel(&gate, &old, (old + INSIDE) & ~WAITED))
				break;
		} else if ((old & WAITED) || cas_acq_rel(&gate, &old, old | WAITED)) {
			futex_wait(&gate, old | WAITED, 0);
			old = load_relaxed(&gate);
		}
	}
	if (old & WAITED)
		futex_wake(&gate);
}

void gp_gate_leave(void)
{
	/* release: F1, partner the loads in gp_fork_prepare() */
	uint32_t old = fetch_sub_release(&gate, INSIDE);

	if ((old & FORKS) && (old & INSIDE_ALL) == INSIDE)
		futex_wake(&gate);
}

/* Is the caller inside a read section of any source? bp is not asked: to answer, it would
 * register the caller, under a lock that its hook may have taken. */
static bool in_section(void)
{
	bool inside = false;
	unsigned i;

	pthread_mutex_lock(&flavors.lock);
	for (i = 0; i < FLAVORS && !inside; i++) {
		const struct rcu_flavor_struct *flavor = flavors.table[i].flavor;

		if (flavor && !gp_fork_own_hooks(flavor))
			inside = flavor->read_ongoing();
	}
	pthread_mutex_unlock(&flavors.lock);
	return inside;
}

/* Sleeps until none of these bits is set, or the deadline. */
static void wait_clear(uint32_t bits, uint64_t deadline)
{
	uint32_t word;

	/* acquire: F1, partner the subtraction in gp_gate_leave() */
	while (((word = load_acquire(&gate)) & bits) && clock_ns() < deadline)
		futex_wait(&gate, word, deadline);
}

void gp_fork_prepare(void)
{
	uint64_t deadline;
	bool waits;

	if (forking)
		return;
	forking = true;
	waits = !in_section();
	deadline = clock_ns() + PATIENCE_NS;
	if (waits)
		wait_clear(WAITED, deadline);
	/* acq_rel: F1, partner the CAS in gp_gate_enter() */
	fetch_add_acq_rel(&gate, FORK);
	if (waits)
		wait_clear(INSIDE_ALL, deadline);
}

void gp_fork_parent(void)
{
	uint32_t old;

	if (!forking)
		return;
	forking = false;
	old = fetch_sub_release(&gate, FORK);
	if ((old & WAITED) && (old & FORKS) == FORK)
		futex_wake(&gate);
}

/* Alone: whatever others were doing, they do no more. */
void gp_fork_child(void)
{
	if (!forking)
		return;
	forking = false;
	gp_fork_generation++;
	is_torn = is_torn || (load_relaxed(&gate) & INSIDE_ALL);
	store_relaxed(&gate, 0);
	fork_free_in_child(&flavors.lock);
}

/* The entry of a flavour, else a free one, else FLAVORS. Under the lock. */
static unsigned find_flavor(const struct rcu_flavor_struct *flavor)
{
	unsigned i, free = FLAVORS;

	for (i = 0; i < FLAVORS; i++) {
		if (flavors.table[i].flavor == flavor)
			return i;
		if (!flavors.table[i].flavor && free == FLAVORS)
			free = i;
	}
	return free;
}

/* To set the handlers twice does no harm. */
int gp_fork_register(const struct rcu_flavor_struct *flavor)
{
	static const struct fork_handlers handlers = {gp_fork_prepare, gp_fork_parent,
						      gp_fork_child};
	int err = fork_handle(FORK_GP, &handlers);
	unsigned i;

	if (err)
		return err;
	if (!flavor)
		return 0;
	pthread_mutex_lock(&flavors.lock);
	i = find_flavor(flavor);
	if (i < FLAVORS) {
		flavors.table[i].flavor = flavor;
		flavors.table[i].sources++;
	}
	pthread_mutex_unlock(&flavors.lock);
	return i < FLAVORS ? 0 : -ENOMEM;
}

FORK_EARLY(gp_fork_register(NULL))

void gp_fork_unregister(const struct rcu_flavor_struct *flavor)
{
	unsigned i;

	if (!flavor)
		return;
	pthread_mutex_lock(&flavors.lock);
	i = find_flavor(flavor);
	if (i < FLAVORS && flavors.table[i].flavor && !--flavors.table[i].sources)
		flavors.table[i].flavor = NULL;
	pthread_mutex_unlock(&flavors.lock);
}
