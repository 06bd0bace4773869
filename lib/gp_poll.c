/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * liburcu's polled grace periods as a source of tickets, without a thread or a callback.
 *
 * Read poll_ticket() and advance() first.
 *
 * One word, `begun`, holds the number of the last period begun and three flags:
 *
 *	 63                         3       2        1        0
 *	+----------------------------+--------+--------+--------+
 *	| period (tickets step by 8) |  BUSY  |  OUT   | WANTED |
 *	+----------------------------+--------+--------+--------+
 *
 *	WANTED  somebody holds a ticket for the period after this one
 *	OUT     `state` is liburcu's for this period, which has not been seen to have passed
 *	BUSY    somebody is inside: looks, publishes, begins
 *
 * A ticket is the period after the one that had begun: period + 8, taken by a
 * read-modify-write that sets WANTED. One at a time is inside: asks liburcu if the period that
 * is out has passed, publishes it, and begins the one that is wanted. Whoever finds somebody
 * inside goes on; who is inside does not leave while there is a period to begin.
 *
 * Guarantees:
 *  G1  elapsed(t) implies that start_poll_synchronize_rcu() was called after t was taken, and
 *      that poll_state_synchronize_rcu() of its state has said yes. As in gp_call_rcu.c: the
 *      taker's read-modify-write comes before the one that began t, on one word, with
 *      acq_rel on both.
 *  G2  `state` and `completed` have one writer at a time, and each sees what the one before it
 *      wrote: leaving (acq_rel) to entering (acq_rel), on the same word.
 *  G3  At rest, WANTED implies OUT (a fork going on apart): a wanted period is begun at once unless
 *      one is out. The CAS that leaves fails if a ticket was taken after its look.
 *  G4  What a read section did happens before the reuse of what was retired: liburcu's
 *      poll orders it, completed (release) to elapsed (acquire) passes it on. TSan is told so
 *      at sheaf_gp_read_unlock() and in look().
 *
 * fork() (the guarantees C1 to C3 are in gp_calls.c):
 *  G5  Nobody is inside, in a child that is not torn: the way in and out is between
 *      gp_calls_enter() and gp_calls_leave(). During a fork nobody looks; WANTED may
 *      then stand without OUT until the next ticket, wait or hurry.
 */
#include <sheaf/gp.h>

#include "base/compiler.h"

#include <errno.h>

#ifdef HAVE_URCU_POLL

#include "base/atomic.h"
#include "base/futex.h"
#include "base/probe.h"
#include "gp_calls.h"
#include "gp_reader.h"

#include <assert.h>
#include <string.h>
#include <urcu/flavor.h>

#define WANTED UINT64_C(1)
#define OUT UINT64_C(2)
#define BUSY UINT64_C(4)
#define FLAGS (WANTED | OUT | BUSY)
#define PERIOD UINT64_C(8)

#define LOOK_NS UINT64_C(1000000)

static_assert(sizeof(struct urcu_gp_poll_state) <= sizeof(((struct sheaf_gp_poll *)0)->state),
	      "the state has its place");

static struct sheaf_gp_poll *poll_of(struct sheaf_gp *gp)
{
	return container_of(gp, struct sheaf_gp_poll, gp);
}

/* Has the period that is out passed? Inside. */
static bool has_passed(const struct sheaf_gp_poll *poll)
{
	struct urcu_gp_poll_state state;

	memcpy(&state, poll->state, sizeof(state));
	return poll->flavor->update_poll_state_synchronize_rcu(state);
}

/* Publishes it if so. Inside; the word as it is after that. */
static uint64_t look(struct sheaf_gp_poll *poll, uint64_t begun)
{
	if (!(begun & OUT) || !has_passed(poll))
		return begun;
	sheaf_edge_acquire(&poll->gp);
	sheaf_edge_acquire(poll->flavor);
	/* release: G4, partner sheaf_gp_elapsed() */
	store_release(&poll->gp.completed, begun & ~FLAGS);
	PROBE(gp_end, poll, begun & ~FLAGS);
	return fetch_and_acq_rel(&poll->begun, ~OUT) & ~OUT;
}

/* Begins the period that is wanted. Inside, nothing is out; the word after that. */
static uint64_t begin(struct sheaf_gp_poll *poll)
{
	const uint64_t step = PERIOD - WANTED + OUT;
	/* acq_rel: G1, partner fetch_or in poll_ticket() */
	uint64_t begun = fetch_add_acq_rel(&poll->begun, step) + step;
	struct urcu_gp_poll_state state = poll->flavor->update_start_poll_synchronize_rcu();

	PROBE(gp_begin, poll, begun & ~FLAGS);
	memcpy(poll->state, &state, sizeof(state));
	return begun;
}

/* Looks, begins, and leaves. Somebody inside, or a fork: not now. */
static void advance(struct sheaf_gp_poll *poll)
{
	uint64_t begun;

	/* As in gp_call_rcu.c: a thread that is new to bp. */
	poll->flavor->read_ongoing();
	if (!gp_calls_enter(0))
		return;
	/* acq_rel: G2, partner the CAS below */
	begun = fetch_or_acq_rel(&poll->begun, BUSY);
	if (!(begun & BUSY)) {
		begun = look(poll, begun | BUSY);
		do {
			if ((begun & (OUT | WANTED)) == WANTED)
				begun = begin(poll);
			/* acq_rel: G2, partner the fetch_or above; G3 */
		} while (!cas_acq_rel(&poll->begun, &begun, begun & ~BUSY));
	}
	gp_calls_leave();
}

static uint64_t poll_ticket(struct sheaf_gp *gp)
{
	struct sheaf_gp_poll *poll = poll_of(gp);
	/* acq_rel: G1, partner fetch_add in begin() */
	uint64_t begun = fetch_or_acq_rel(&poll->begun, WANTED);

	advance(poll);
	return (begun & ~FLAGS) + PERIOD;
}

static void poll_hurry(struct sheaf_gp *gp)
{
	advance(poll_of(gp));
}

static int poll_wait(struct sheaf_gp *gp, uint64_t ticket)
{
	struct sheaf_gp_poll *poll = poll_of(gp);
	uint32_t nobody = 0;

	for (;;) {
		bool elapsed, reader;

		/* Online while it looks: liburcu wants to be called by readers. */
		advance(poll);
		reader = gp_reader_offline(poll->flavor);
		elapsed = sheaf_gp_elapsed(gp, ticket);
		if (!elapsed && !gp_calls_are_torn())
			futex_wait(&nobody, 0, clock_ns() + LOOK_NS);
		gp_reader_online(poll->flavor, reader);
		if (elapsed)
			return 0;
		if (gp_calls_are_torn())
			return -EDEADLK;
	}
}

static bool poll_read_ongoing(struct sheaf_gp *gp)
{
	return poll_of(gp)->flavor->read_ongoing();
}

static const struct sheaf_gp_ops poll_ops = {
	.name = "poll",
	.ticket = poll_ticket,
	.wait = poll_wait,
	.hurry = poll_hurry,
	.read_ongoing = poll_read_ongoing,
};

int sheaf_gp_poll_init(struct sheaf_gp_poll *poll, const struct rcu_flavor_struct *flavor)
{
	if (!flavor)
		return -EINVAL;
	*poll = (struct sheaf_gp_poll){
		.gp = {
			.ops = &poll_ops,
			.read_lock = flavor->read_lock,
			.read_unlock = flavor->read_unlock,
		},
		.flavor = flavor,
	};
	return gp_calls_init();
}

#else

int sheaf_gp_poll_init(struct sheaf_gp_poll *poll, const struct rcu_flavor_struct *flavor)
{
	(void)poll;
	return flavor ? -ENOTSUP : -EINVAL;
}

#endif

void sheaf_gp_poll_fini(struct sheaf_gp_poll *poll)
{
	(void)poll;
}
