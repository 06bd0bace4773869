/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * call_rcu() of a liburcu flavour as a source of tickets, for programs that must not have a
 * thread of this library's own.
 *
 * Read call_rcu_ticket(), begin_wanted() and period_over() first.
 *
 * One word, `begun`, holds the number of the last period begun and two flags:
 *
 *	 63                         2       1        0
 *	+----------------------------+--------+--------+
 *	| period (tickets step by 4) |  BUSY  | WANTED |
 *	+----------------------------+--------+--------+
 *
 *	WANTED  somebody holds a ticket for the period after this one
 *	BUSY    the one rcu_head of this period is out: queued with liburcu, or being called
 *
 * A ticket is the period after the one that had begun: period + 4, taken by a
 * read-modify-write that sets WANTED. Whoever finds that nothing is out begins that period: moves
 * the word on (period + 4, WANTED clear, BUSY set) and calls call_rcu(). The callback publishes
 * the period, and begins the next one if WANTED is set by then, else clears BUSY.
 *
 * Guarantees:
 *  G1  elapsed(t) implies that call_rcu() was called after t was taken, and has called back. The
 *      taker's read-modify-write saw a period before t, so it comes before the one that
 *      began t in the order of that one word, and with acq_rel on both what the taker did
 *      before (unlinking the object) happens before call_rcu(). No store-load order is needed,
 *      so no fence.
 *  G2  The head is out once at most. Only a CAS on a word without BUSY sets BUSY; while it is
 *      set, only the callback moves the word on.
 *  G3  No ticket is forgotten (but see G8). If the taker's read-modify-write finds BUSY, the
 *      callback's CAS on the same word comes later and finds WANTED. If not, the taker itself
 *      begins, or somebody else who found the same.
 *  G4  ticket() is one read-modify-write, and call_rcu() if nothing is out.
 *  G5  What a read section did happens before the reuse of what was retired: call_rcu()
 *      orders it, completed (release) to elapsed (acquire) passes it on. TSan is told so at
 *      sheaf_gp_read_unlock() and in period_over().
 *  G6  fini returns after the last access of a callback: that is the CAS that clears BUSY.
 *
 * fork() (the way in and out of call_rcu(), and its guarantees C1 to C3, are in gp_calls.c; the
 * callback runs on a thread that liburcu's hooks stop between two callbacks):
 *  G7  In a child that is not torn BUSY means that the head is in a queue of liburcu, which its
 *      hook hands to a thread of the child: the word is moved on and call_rcu() is called
 *      inside. So every ticket elapses there once its period is begun.
 *  G8  WANTED without BUSY is begun by the next ticket, wait or hurry, in a child, and in a
 *      parent whose fork has taken longer than a ticket's patience; polling alone does not.
 *      Elsewhere it stands only until who has taken the ticket is inside.
 */
#include <sheaf/gp.h>

#include "base/atomic.h"
#include "base/compiler.h"
#include "base/futex.h"
#include "base/probe.h"
#include "base/report.h"
#include "base/wait.h"
#include "gp_calls.h"
#include "gp_reader.h"

#include <assert.h>
#include <errno.h>
#include <urcu/call-rcu.h>
#include <urcu/flavor.h>

#define WANTED UINT64_C(1)
#define BUSY UINT64_C(2)
#define FLAGS (WANTED | BUSY)
#define PERIOD UINT64_C(4)

/* How long a ticket waits for the end of a fork, in a section that may hold up that very fork, and
 * elsewhere; and how often a wait looks for it. */
#define PATIENCE_READER_NS UINT64_C(100000000)
#define PATIENCE_NS UINT64_C(5000000000)
#define LOOK_NS UINT64_C(1000000)

static_assert(sizeof(struct rcu_head) <= sizeof(((struct sheaf_gp_call_rcu *)0)->head),
	      "the head has its place");
static_assert(_Alignof(struct rcu_head) <= _Alignof(uint64_t), "and is aligned there");

/* Is this thread one that calls back, and for which flavour? */
static __thread const struct rcu_flavor_struct *calls_back;

static struct sheaf_gp_call_rcu *source_of(struct sheaf_gp *gp)
{
	return container_of(gp, struct sheaf_gp_call_rcu, gp);
}

static void period_over(struct rcu_head *head);

static void call(struct sheaf_gp_call_rcu *source)
{
	/* liburcu's queue orders this, which TSan does not see. */
	sheaf_edge_release(source->head);
	PROBE(gp_begin, source, load_relaxed(&source->begun) & ~FLAGS);
	source->flavor->update_call_rcu((struct rcu_head *)source->head, period_over);
}

/* Begins the period that is wanted, unless one is out. Inside gp_calls. */
static void begin_wanted(struct sheaf_gp_call_rcu *source)
{
	uint64_t old = load_relaxed(&source->begun);

	do {
		if ((old & FLAGS) != WANTED)
			return;
		/* acq_rel: G1, partner fetch_or in call_rcu_ticket() */
	} while (!cas_acq_rel(&source->begun, &old, old + PERIOD - WANTED + BUSY));
	call(source);
}

/* The callback: on a thread of liburcu's, after a grace period. */
static void period_over(struct rcu_head *head)
{
	struct sheaf_gp_call_rcu *source = container_of(head, struct sheaf_gp_call_rcu, head);
	uint64_t old, next;

	sheaf_edge_acquire(source->head);
	/* acquire: partner the CAS in begin_wanted() */
	old = load_acquire(&source->begun);
	calls_back = source->flavor;
	sheaf_edge_acquire(&source->gp);
	sheaf_edge_acquire(source->flavor);
	/* release: G5, partner sheaf_gp_elapsed() */
	store_release(&source->gp.completed, old & ~FLAGS);
	PROBE(gp_end, source, old & ~FLAGS);
	fetch_add_acq_rel(&source->done, 1);
	futex_wake(&source->done);
	do {
		next = old & WANTED ? old + PERIOD - WANTED : old - BUSY;
		/* acq_rel: G1, G3, partner fetch_or in call_rcu_ticket(); G6, partner fini */
	} while (!cas_acq_rel(&source->begun, &old, next));
	if (next & BUSY)
		call(source);
}

/* Nobody is asked inside if it is a reader: a thread that is new to bp becomes known by that, or by
 * call_rcu(), under a lock that bp's hook takes. */
static void begin(struct sheaf_gp_call_rcu *source, bool waits)
{
	uint64_t patience = source->flavor->read_ongoing() ? PATIENCE_READER_NS : PATIENCE_NS;

	if (gp_calls_enter(waits ? patience : 0)) {
		begin_wanted(source);
		gp_calls_leave();
	}
}

/* G8. */
static bool is_left(const struct sheaf_gp_call_rcu *source)
{
	return (load_relaxed(&source->begun) & FLAGS) == WANTED;
}

static uint64_t call_rcu_ticket(struct sheaf_gp *gp)
{
	struct sheaf_gp_call_rcu *source = source_of(gp);
	/* acq_rel: G1, G3, partners the CAS in begin_wanted() and in period_over() */
	uint64_t begun = fetch_or_acq_rel(&source->begun, WANTED);

	if (!(begun & BUSY))
		begin(source, true);
	return (begun & ~FLAGS) + PERIOD;
}

static void call_rcu_hurry(struct sheaf_gp *gp)
{
	if (is_left(source_of(gp)))
		begin(source_of(gp), false);
}

/* In a callback a wait would be for its own end. */
static void check_thread(const struct sheaf_gp_call_rcu *source)
{
	if (calls_back == source->flavor)
		fatal("waiting for a grace period inside a callback of call_rcu()");
}

/* Begins what is left. Online while it calls liburcu, which wants to be called by readers; and
 * not while it lets a fork go on that may be waiting for this one. */
static void begin_left(struct sheaf_gp_call_rcu *source)
{
	for (;;) {
		uint32_t done = load_relaxed(&source->done);
		bool reader;

		call_rcu_hurry(&source->gp);
		if (!is_left(source))
			return;
		reader = gp_reader_offline(source->flavor);
		futex_wait(&source->done, done, clock_ns() + LOOK_NS);
		gp_reader_online(source->flavor, reader);
	}
}

static int call_rcu_wait(struct sheaf_gp *gp, uint64_t ticket)
{
	struct sheaf_gp_call_rcu *source = source_of(gp);
	bool reader;

	check_thread(source);
	if (gp_calls_are_torn())
		return -EDEADLK;
	begin_left(source);
	reader = gp_reader_offline(source->flavor);
	for (;;) {
		/* acquire: partner fetch_add in period_over(); changes after `completed` */
		uint32_t done = load_acquire(&source->done);

		if (sheaf_gp_elapsed(gp, ticket))
			break;
		futex_wait(&source->done, done, 0);
	}
	gp_reader_online(source->flavor, reader);
	return 0;
}

/* Callbacks count as sections, because nobody can wait in them. */
static bool call_rcu_read_ongoing(struct sheaf_gp *gp)
{
	const struct rcu_flavor_struct *flavor = source_of(gp)->flavor;

	return calls_back == flavor || flavor->read_ongoing();
}

static const struct sheaf_gp_ops call_rcu_ops = {
	.name = "call_rcu",
	.ticket = call_rcu_ticket,
	.wait = call_rcu_wait,
	.hurry = call_rcu_hurry,
	.read_ongoing = call_rcu_read_ongoing,
};

int sheaf_gp_call_rcu_init(struct sheaf_gp_call_rcu *source, const struct rcu_flavor_struct *flavor)
{
	if (!flavor)
		return -EINVAL;
	*source = (struct sheaf_gp_call_rcu){
		.gp = {
			.ops = &call_rcu_ops,
			.read_lock = flavor->read_lock,
			.read_unlock = flavor->read_unlock,
		},
		.flavor = flavor,
	};
	return gp_calls_init();
}

void sheaf_gp_call_rcu_fini(struct sheaf_gp_call_rcu *source)
{
	unsigned turns = 0;
	uint64_t begun;
	bool reader;

	check_thread(source);
	if (gp_calls_are_torn())
		return;
	/* acq_rel: as a ticket's; the next callback finds nothing wanted */
	fetch_and_acq_rel(&source->begun, ~WANTED);
	reader = gp_reader_offline(source->flavor);
	/* acquire: G6, partner the CAS in period_over() */
	while ((begun = load_acquire(&source->begun)) & BUSY) {
		uint32_t done = load_acquire(&source->done);

		if (sheaf_gp_elapsed(&source->gp, begun & ~FLAGS))
			wait_a_little(&turns);
		else
			futex_wait(&source->done, done, 0);
	}
	gp_reader_online(source->flavor, reader);
}
