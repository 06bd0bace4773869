/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * A liburcu flavour as a source of tickets, with a driver thread that paces itself.
 *
 * Read urcu_ticket() and run_period() first.
 *
 * One word, `begun`, holds the number of the last grace period begun and two flags:
 *
 *	 63                         2       1        0
 *	+----------------------------+--------+--------+
 *	| period (tickets step by 4) | ASLEEP | WANTED |
 *	+----------------------------+--------+--------+
 *
 *	WANTED  somebody holds a ticket for the period after this one
 *	ASLEEP  the driver sleeps, or is about to, until somebody clears this
 *
 * A ticket is the period after the one that had begun: period + 4, taken by a
 * read-modify-write that sets WANTED. The driver moves the word on (period + 4, both
 * flags clear) by a read-modify-write, calls the flavour's synchronize_rcu(), and then
 * publishes the period in `completed`.
 *
 * Guarantees:
 *  G1  elapsed(t) implies that synchronize_rcu() was called after t was taken, and has
 *      returned. The taker's read-modify-write saw a period before t, so it comes before
 *      the driver's that began t in the order of that one word, and with acq_rel on both
 *      what the taker did before (unlinking the object) happens before
 *      synchronize_rcu(). No store-load order is needed, so no fence.
 *  G2  No wake-up is lost, with no second word to compare: the driver goes to sleep only
 *      by a CAS that sets ASLEEP on a word without WANTED; a ticket that sets WANTED sees
 *      ASLEEP in the same operation if it came second, and makes the CAS fail if first.
 *  G3  ticket() is wait-free once the driver runs: one read-modify-write, and a wake-up
 *      when the driver sleeps.
 *  G4  What a read section did happens before the reuse of what was retired:
 *      synchronize_rcu() orders it, completed (release) to elapsed (acquire) passes it
 *      on. TSan is told so at sheaf_gp_read_unlock() and in run_period().
 *
 * Pacing. Each period interrupts every CPU that runs the process (membarrier), so it
 * should serve many sheaves: while tickets are wanted the driver begins periods
 * `spacing` apart, from begin to begin. hurry() makes it skip the rest of one pause. With
 * nothing wanted it sleeps without a timeout: an idle source costs no wake-up.
 *
 * Why not call_rcu(): its helper polls every 10 ms, so what was retired comes back late,
 * in one burst, on one thread and cold.
 *
 * If the driver cannot be created (thread limit), tickets stay good: the next
 * ticket tries again, and wait() runs periods on the waiting thread.
 */
#define _GNU_SOURCE
#include <sheaf/gp.h>

#include "base/annotate.h"
#include "base/atomic.h"
#include "base/attr.h"
#include "base/compiler.h"
#include "base/futex.h"
#include "base/report.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <sys/prctl.h>
#include <urcu/flavor.h>

#define WANTED UINT64_C(1)
#define ASLEEP UINT64_C(2)
#define FLAGS (WANTED | ASLEEP)
#define PERIOD UINT64_C(4)

#define SPACING_US 100

static struct sheaf_gp_urcu *urcu_of(struct sheaf_gp *gp)
{
	return container_of(gp, struct sheaf_gp_urcu, gp);
}

/* One grace period. The caller is the driver, or holds the lock while there is none. */
static void run_period(struct sheaf_gp_urcu *urcu)
{
	uint64_t old = load_relaxed(&urcu->begun);
	uint64_t period;

	do {
		period = (old & ~FLAGS) + PERIOD;
		/* acq_rel: G1, partner fetch_or in urcu_ticket() */
	} while (!cas_acq_rel(&urcu->begun, &old, period));

	urcu->flavor->update_synchronize_rcu();
	annotate_tsan_acquire(&urcu->gp);

	fetch_add_relaxed(&urcu->periods, 1);
	/* release: G4, partner sheaf_gp_elapsed() */
	store_release(&urcu->gp.completed, period);
	fetch_add_acq_rel(&urcu->done, 1);
	futex_wake(&urcu->done);
}

static void wake_driver(struct sheaf_gp_urcu *urcu)
{
	fetch_add_acq_rel(&urcu->wake, 1);
	futex_wake(&urcu->wake);
}

/* Sleeps until a ticket is wanted or the source ends. */
static void sleep_unwanted(struct sheaf_gp_urcu *urcu)
{
	/* acquire: partner fetch_add in wake_driver(), so that what led to it is seen below */
	uint32_t wake = load_acquire(&urcu->wake);
	uint64_t begun = load_relaxed(&urcu->begun);

	if ((begun & WANTED) || load_acquire(&urcu->stop))
		return;
	/* acq_rel: G2, partner fetch_or in urcu_ticket() */
	if (!(begun & ASLEEP) && !cas_acq_rel(&urcu->begun, &begun, begun | ASLEEP))
		return;
	futex_wait(&urcu->wake, wake, 0);
}

/* Lets the spacing pass since the last period began, unless hurried. */
static void pause_until(struct sheaf_gp_urcu *urcu, uint64_t deadline)
{
	while (clock_ns() < deadline) {
		uint32_t wake = load_acquire(&urcu->wake);

		if (load_acquire(&urcu->hurried) || load_acquire(&urcu->stop))
			return;
		futex_wait(&urcu->wake, wake, deadline);
	}
}

static void *driver_main(void *arg)
{
	struct sheaf_gp_urcu *urcu = arg;
	uint64_t next = 0;

	/* The default slack of 50 us would add half to the spacing; only this thread's. */
	prctl(PR_SET_TIMERSLACK, 1000ul, 0ul, 0ul, 0ul);
	while (!load_acquire(&urcu->stop)) {
		if (!(load_relaxed(&urcu->begun) & WANTED)) {
			sleep_unwanted(urcu);
			continue;
		}
		pause_until(urcu, next);
		store_relaxed(&urcu->hurried, 0);
		next = clock_ns() + urcu->spacing_ns;
		run_period(urcu);
	}
	return NULL;
}

/*
 * Creates the driver once. It takes no signals: they are for the program's threads.
 * The flag is read without the lock first; stale, it only costs the lock. Who finds the
 * lock taken goes on: its holder creates the driver, or could not and runs periods
 * itself, perhaps waiting for the very read section that the caller is in.
 */
static void start_driver(struct sheaf_gp_urcu *urcu)
{
	sigset_t all, old;

	if (pthread_mutex_trylock(&urcu->lock) != 0)
		return;
	if (!urcu->running) {
		sigfillset(&all);
		pthread_sigmask(SIG_SETMASK, &all, &old);
		if (pthread_create(&urcu->driver, NULL, driver_main, urcu) == 0) {
			pthread_setname_np(urcu->driver, "sheaf-gp");
			/* release: partner load_acquire in urcu_ticket() and wait */
			store_release(&urcu->running, 1);
		}
		pthread_sigmask(SIG_SETMASK, &old, NULL);
	}
	pthread_mutex_unlock(&urcu->lock);
}

static uint64_t urcu_ticket(struct sheaf_gp *gp)
{
	struct sheaf_gp_urcu *urcu = urcu_of(gp);
	/* acq_rel: G1, partner the CAS in run_period(); G2, partner that in sleep_unwanted() */
	uint64_t old = fetch_or_acq_rel(&urcu->begun, WANTED);

	if (unlikely(!load_acquire(&urcu->running)))
		start_driver(urcu);
	/* Not else: a driver just created may have run a period and gone to sleep by now. */
	if (unlikely(old & ASLEEP) && (fetch_and_acq_rel(&urcu->begun, ~ASLEEP) & ASLEEP))
		wake_driver(urcu);
	return (old & ~FLAGS) + PERIOD;
}

static void urcu_hurry(struct sheaf_gp *gp)
{
	struct sheaf_gp_urcu *urcu = urcu_of(gp);

	/* One wake-up per pause: the driver clears the flag when the pause is over. */
	if (!load_relaxed(&urcu->hurried) && !fetch_or_acq_rel(&urcu->hurried, 1))
		wake_driver(urcu);
}

/* Without a driver the waiters run the periods, one at a time. */
static void wait_alone(struct sheaf_gp_urcu *urcu, uint64_t ticket)
{
	pthread_mutex_lock(&urcu->lock);
	while (!urcu->running && !sheaf_gp_elapsed(&urcu->gp, ticket))
		run_period(urcu);
	pthread_mutex_unlock(&urcu->lock);
}

static void wait_elapsed(struct sheaf_gp_urcu *urcu, uint64_t ticket)
{
	if (!load_acquire(&urcu->running))
		start_driver(urcu);
	while (!sheaf_gp_elapsed(&urcu->gp, ticket)) {
		/* acquire: partner fetch_add in run_period(); changes after `completed` */
		uint32_t done = load_acquire(&urcu->done);

		if (!load_acquire(&urcu->running))
			wait_alone(urcu, ticket);
		if (sheaf_gp_elapsed(&urcu->gp, ticket))
			return;
		urcu_hurry(&urcu->gp);
		futex_wait(&urcu->done, done, 0);
	}
}

/*
 * A registered qsbr thread counts as a reader all the time and has to go offline, or
 * the driver would wait for it. For the other flavours these are no-ops, and whoever
 * still is in a read section after that would wait for itself.
 */
static int urcu_wait(struct sheaf_gp *gp, uint64_t ticket)
{
	struct sheaf_gp_urcu *urcu = urcu_of(gp);
	const struct rcu_flavor_struct *flavor = urcu->flavor;
	bool reader = flavor->read_ongoing();

	if (reader) {
		flavor->thread_offline();
		if (flavor->read_ongoing())
			fatal("waiting for a grace period inside a read section");
	}
	wait_elapsed(urcu, ticket);
	if (reader)
		flavor->thread_online();
	return 0;
}

static bool urcu_read_ongoing(struct sheaf_gp *gp)
{
	return urcu_of(gp)->flavor->read_ongoing();
}

static const struct sheaf_gp_ops urcu_ops = {
	.name = "urcu",
	.ticket = urcu_ticket,
	.wait = urcu_wait,
	.hurry = urcu_hurry,
	.read_ongoing = urcu_read_ongoing,
};

int sheaf_gp_urcu_init(struct sheaf_gp_urcu *urcu, const struct rcu_flavor_struct *flavor,
		       const struct sheaf_gp_urcu_attr *attr)
{
	struct sheaf_gp_urcu_attr a = {.size = sizeof(a)};

	if (!flavor || (attr && attr_copy(&a, sizeof(a), attr, attr->size, sizeof(a))))
		return -EINVAL;
	*urcu = (struct sheaf_gp_urcu){
		.gp = {
			.ops = &urcu_ops,
			.read_lock = flavor->read_lock,
			.read_unlock = flavor->read_unlock,
		},
		.flavor = flavor,
		.spacing_ns = (a.spacing_us ? a.spacing_us : SPACING_US) * UINT64_C(1000),
	};
	pthread_mutex_init(&urcu->lock, NULL);
	return 0;
}

void sheaf_gp_urcu_fini(struct sheaf_gp_urcu *urcu)
{
	if (urcu->running) {
		/* release: partner load_acquire in driver_main() */
		store_release(&urcu->stop, 1);
		wake_driver(urcu);
		pthread_join(urcu->driver, NULL);
	}
	pthread_mutex_destroy(&urcu->lock);
}

void sheaf_gp_urcu_stats(const struct sheaf_gp_urcu *urcu, struct sheaf_gp_urcu_stats *stats)
{
	stats->periods = load_relaxed(&urcu->periods);
	stats->running = load_relaxed(&urcu->running);
}
