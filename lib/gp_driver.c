/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * A source of tickets with a driver thread that paces itself. What a period is, is said by its
 * kind (gp_urcu.c, <sheaf/gp_ck.h>).
 *
 * Read driver_ticket() and run_period() first.
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
 * flags clear) by a read-modify-write, calls synchronize() of its kind, and then
 * publishes the period in `completed`.
 *
 * Guarantees:
 *  G1  elapsed(t) implies that synchronize() was called after t was taken, and has
 *      returned. The taker's read-modify-write saw a period before t, so it comes before
 *      the driver's that began t in the order of that one word, and with acq_rel on both
 *      what the taker did before (unlinking the object) happens before
 *      synchronize(). No store-load order is needed, so no fence.
 *  G2  No wake-up is lost, with no second word to compare: the driver goes to sleep only
 *      by a CAS that sets ASLEEP on a word without WANTED; a ticket that sets WANTED sees
 *      ASLEEP in the same operation if it came second, and makes the CAS fail if first.
 *  G3  ticket() is wait-free once the driver runs: one read-modify-write, and a wake-up
 *      when the driver sleeps.
 *  G4  What a read section did happens before the reuse of what was retired:
 *      synchronize() orders it, completed (release) to elapsed (acquire) passes it
 *      on. TSan is told so at sheaf_gp_read_unlock() and in run_period().
 *
 * Pacing. Each period takes time of every CPU that runs the process: the driver's own, and an
 * interrupt on each of the others (membarrier), for whose end the driver waits. So the time that a
 * period takes of the driver's CPU is the most that it takes of any. The driver measures it, and
 * smooths it: cost. While tickets are wanted it begins periods so far apart, from begin to begin,
 * that cost is `share` of that time (a hundredth), but 100 us to 4 ms. That serves those who
 * retire little: what they retire comes back within 10 ms, nobody notices the periods.
 *
 * For those who retire much, time is the wrong measure. What is in flight should fit the cache and
 * be bounded, so they count what they give, and hurry() once it is enough for a period of its own
 * (cache_seal()). hurry() drops the rest of the pause, down to a tenth of it, so periods take ten
 * times the share at most. Where all CPUs are busy the driver gets none of them for
 * milliseconds. Who notices, by what is in flight, calls give_way(): it sleeps until a period has
 * ended, at most 100 us, and the scheduler brings the driver here.
 *
 * With nothing wanted and no task armed it sleeps without a timeout: an idle source costs no
 * wake-up.
 *
 * Tasks are for who needs a thread a while later, such as caches that seal what lies about. One is
 * armed by an exchange on its own word, and then a read-modify-write of `begun` wakes the driver as
 * a ticket does (G2): the driver looks at the tasks after its CAS that sets ASLEEP, so either it
 * sees the task armed, or the armer sees ASLEEP. A run clears `armed` first, so who finds it set
 * comes before the run, which sees what he did; and who finds it clear asks for another run. Where
 * there is no driver, and none can be made or another thread is at that, the armer says so in the
 * word, for the next one to try again (SHEAF_GP_ARMED_FOR_NOBODY); whoever makes a driver later, that
 * one finds the task armed all the same.
 *
 * Why not call_rcu(): its helper polls every 10 ms, so what was retired comes back late,
 * in one burst, on one thread and cold.
 *
 * If the driver cannot be created (thread limit), tickets stay good: the next
 * ticket tries again, and wait() runs periods on the waiting thread.
 *
 * fork() (the gate and its guarantees F1 to F5 are in gp_fork.c):
 *  G5  In a child no period is under way, or it is torn, or the flavour's own hooks have
 *      seen to its locks: each period runs between gp_gate_enter() and gp_gate_leave(), and
 *      has published `completed` by then. So liburcu's locks are free and begun ==
 *      completed, flags aside; with hooks of its own, begun may be one period ahead.
 *  G6  Every ticket taken before the fork elapses in the child once a new driver runs,
 *      whatever its taker, the driver or its creator were doing. WANTED is in the word
 *      from the taker's read-modify-write on, until a driver begins that period; should that
 *      one have vanished inside, the next driver sets WANTED itself when it comes, and the
 *      next period, being later, completes both.
 *  G7  What a source remembers of threads holds for one generation of processes: `running`
 *      and `lock` are the number of the one in which there is a driver or a holder, and any
 *      other number means none. So nobody waits in a child for who has vanished, and no
 *      handler has to find the source. The rest may be as it was: ASLEEP or hurried without
 *      a driver cost a wake-up of nobody, or one pause; a driver that finds them takes them
 *      for its own. The next ticket, wait, hurry or arming makes a driver; polling alone does not.
 *  G8  The driver of a child takes no thread's place. liburcu keeps the registrations of
 *      vanished readers in a list through their thread-local storage, which is on their
 *      stacks; pthread_create() gives those out anew, zeroed. So the driver brings a stack.
 */
#define _GNU_SOURCE
#include <sheaf/gp.h>

#include "base/atomic.h"
#include "base/attr.h"
#include "base/compiler.h"
#include "base/futex.h"
#include "base/memory.h"
#include "base/probe.h"
#include "base/report.h"
#include "base/thread.h"
#include "gp_driver.h"
#include "gp_fork.h"

#include <errno.h>
#include <limits.h>
#include <sys/prctl.h>
#include <time.h>

#define WANTED UINT64_C(1)
#define ASLEEP UINT64_C(2)
#define FLAGS (WANTED | ASLEEP)
#define PERIOD UINT64_C(4)

/* Thousandths of a CPU. */
#define SHARE 10
#define SPACING_LEAST_NS UINT64_C(100000)
#define SPACING_MOST_NS UINT64_C(4000000)
#define SLEEP_LEAST_NS UINT64_C(10000)
#define GIVE_WAY_NS UINT64_C(100000)

static struct sheaf_gp_driver *driver_of(struct sheaf_gp *gp)
{
	return container_of(gp, struct sheaf_gp_driver, gp);
}

static uint64_t thread_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* What the last period cost, and how far apart the next ones are to begin. */
static void count_cost(struct sheaf_gp_driver *driver, uint64_t cost)
{
	uint64_t before = load_relaxed(&driver->cost_ns), pause;

	PROBE(gp_cost, driver, cost, before);
	cost = before ? (7 * before + cost) / 8 : cost;
	pause = driver->spacing_ns ? driver->spacing_ns : cost * 1000 / driver->share;
	if (!driver->spacing_ns && pause < SPACING_LEAST_NS)
		pause = SPACING_LEAST_NS;
	if (!driver->spacing_ns && pause > SPACING_MOST_NS)
		pause = SPACING_MOST_NS;
	store_relaxed(&driver->cost_ns, cost);
	store_relaxed(&driver->pause_ns, pause);
}

/* One grace period. The caller is the driver, or holds the lock while there is none. */
static void run_period(struct sheaf_gp_driver *driver)
{
	bool gated = !gp_fork_own_hooks(driver->flavor);
	uint64_t old, period, start;

	if (gated)
		gp_gate_enter();
	start = thread_ns();
	old = load_relaxed(&driver->begun);
	do {
		period = (old & ~FLAGS) + PERIOD;
		/* acq_rel: G1, partner fetch_or in driver_ticket() */
	} while (!cas_acq_rel(&driver->begun, &old, period));
	PROBE(gp_begin, driver, period);

	driver->kind->synchronize(driver);
	/* From read sections, by sheaf_gp_read_unlock() or <sheaf/rcu.h>. */
	sheaf_edge_acquire(&driver->gp);
	if (driver->flavor)
		sheaf_edge_acquire(driver->flavor);

	fetch_add_relaxed(&driver->periods, 1);
	/* release: G4, partner sheaf_gp_elapsed() */
	store_release(&driver->gp.completed, period);
	PROBE(gp_end, driver, period);
	count_cost(driver, thread_ns() - start);
	if (gated)
		gp_gate_leave();
	fetch_add_acq_rel(&driver->done, 1);
	futex_wake(&driver->done);
}

/* G7: is there a driver? */
static bool has_driver(const struct sheaf_gp_driver *driver)
{
	/* acquire: partners the stores in start_driver() and driver_main(), which publish current */
	return likely(load_acquire(&driver->running) == gp_fork_generation);
}

/* Is there a ticket that has not elapsed? In a child a period may have begun and not ended (G5). */
static bool is_outstanding(const struct sheaf_gp_driver *driver)
{
	uint64_t begun = load_relaxed(&driver->begun);

	return (begun & WANTED) || (begun & ~FLAGS) != load_relaxed(&driver->gp.completed);
}

static void wake_driver(struct sheaf_gp_driver *driver)
{
	fetch_add_acq_rel(&driver->wake, 1);
	futex_wake(&driver->wake);
}

/* When the first of the armed tasks is due; 0 if none is armed. */
static uint64_t tasks_due(struct sheaf_gp_driver *driver)
{
	const struct sheaf_gp_task *task;
	uint64_t first = 0, due;

	/* acquire: partner the store in driver_attach() */
	if (!load_acquire(&driver->tasks))
		return 0;
	gp_lock(&driver->tasks_lock);
	for (task = driver->tasks; task; task = task->next) {
		/* acquire: partner the exchange in sheaf_gp_arm() */
		if (!load_acquire(&task->armed))
			continue;
		/* In the midst of being armed it is far away, and its armer wakes us. */
		due = load_relaxed(&task->due_ns);
		if (!first || due < first)
			first = due;
	}
	gp_unlock(&driver->tasks_lock);
	return first;
}

/* One that is armed and due. Under the lock. */
static struct sheaf_gp_task *find_due(struct sheaf_gp_driver *driver, uint64_t now)
{
	struct sheaf_gp_task *task;

	for (task = driver->tasks; task; task = task->next)
		if (load_acquire(&task->armed) && load_relaxed(&task->due_ns) <= now)
			return task;
	return NULL;
}

/*
 * Not under the lock: what runs may wait for who attaches or detaches. Who detaches the task that
 * runs waits for its end. One that is armed again while it runs is due later than now.
 */
static void run_tasks(struct sheaf_gp_driver *driver)
{
	uint64_t now = clock_ns();
	struct sheaf_gp_task *task;

	gp_lock(&driver->tasks_lock);
	while ((task = find_due(driver, now)) != NULL) {
		store_relaxed(&driver->current, task);
		gp_unlock(&driver->tasks_lock);
		store_relaxed(&task->due_ns, UINT64_MAX);
		/* acq_rel: partner the exchange in sheaf_gp_arm() */
		exchange_acq_rel(&task->armed, 0);
		task->run(task);
		gp_lock(&driver->tasks_lock);
		store_relaxed(&driver->current, NULL);
		fetch_add_acq_rel(&driver->task_ends, 1);
		futex_wake(&driver->task_ends);
	}
	gp_unlock(&driver->tasks_lock);
}

/* Sleeps until a ticket is wanted, a task is due or armed, or the source ends. */
static void sleep_unwanted(struct sheaf_gp_driver *driver)
{
	/* acquire: partner fetch_add in wake_driver(), so that what led to it is seen below */
	uint32_t wake = load_acquire(&driver->wake);
	uint64_t begun = load_relaxed(&driver->begun);

	if ((begun & WANTED) || load_acquire(&driver->stop))
		return;
	/* acq_rel: G2, partners fetch_or in driver_ticket() and fetch_and in driver_arm() */
	if (!cas_acq_rel(&driver->begun, &begun, begun | ASLEEP))
		return;
	futex_wait(&driver->wake, wake, tasks_due(driver));
}

/* Lets the pause pass since the last period began at `start`, or a tenth of it if hurried. */
static void pause_since(struct sheaf_gp_driver *driver, uint64_t start)
{
	uint64_t pause = load_relaxed(&driver->pause_ns), now;

	while ((now = clock_ns()) < start + pause) {
		/* acquire: as in sleep_unwanted() */
		uint32_t wake = load_acquire(&driver->wake);

		if (load_acquire(&driver->stop))
			return;
		if (load_acquire(&driver->hurried))
			pause = driver->spacing_ns ? 0 : load_relaxed(&driver->pause_ns) / 10;
		/* Less is not worth a sleep. */
		if (now + SLEEP_LEAST_NS >= start + pause)
			return;
		futex_wait(&driver->wake, wake, start + pause);
	}
}

static void *driver_main(void *arg)
{
	struct sheaf_gp_driver *driver = arg;
	uint64_t start = 0, due;

	/* Before it runs anything, whatever its maker is about: who detaches a task has to know.
	 * release: partner the load in has_driver() */
	store_release(&driver->running, gp_fork_generation);
	/* The default slack of 50 us would add half to the spacing; only this thread's. */
	prctl(PR_SET_TIMERSLACK, 1000ul, 0ul, 0ul, 0ul);
	/* G6: it has tickets, if nobody is inside any more. acq_rel: as in driver_ticket() */
	if (is_outstanding(driver))
		fetch_or_acq_rel(&driver->begun, WANTED);
	while (!load_acquire(&driver->stop)) {
		due = tasks_due(driver);
		if (due && due <= clock_ns())
			run_tasks(driver);
		if (!(load_relaxed(&driver->begun) & WANTED)) {
			sleep_unwanted(driver);
			continue;
		}
		if (start)
			pause_since(driver, start);
		store_relaxed(&driver->hurried, 0);
		start = clock_ns();
		run_period(driver);
	}
	return NULL;
}

/* G8. A child's child has its parent's stack to spare. */
static int create_driver(struct sheaf_gp_driver *driver)
{
	struct thread_stack stack = {driver->stack, driver->stack_bytes};
	int err = thread_start(&driver->thread, driver_main, driver, &stack);

	driver->stack = stack.base;
	driver->stack_bytes = stack.bytes;
	return err;
}

/* A child that was made in the middle of a period cannot run one. */
static bool is_torn(const struct sheaf_gp_driver *driver)
{
	return unlikely(gp_fork_is_torn()) && !gp_fork_own_hooks(driver->flavor);
}

/*
 * Creates the driver once. It takes no signals: they are for the program's threads.
 * The flag is read without the lock first; stale, it only costs the lock. Who finds the
 * lock taken goes on: its holder creates the driver, or could not and runs periods
 * itself, perhaps waiting for the very read section that the caller is in.
 */
static void start_driver(struct sheaf_gp_driver *driver)
{
	if (is_torn(driver) || !gp_lock_try(&driver->lock))
		return;
	if (!has_driver(driver)) {
		/* G7: what a driver of before a fork was running. */
		store_relaxed(&driver->current, NULL);
		if (create_driver(driver) == 0) {
			PROBE(gp_driver, driver);
			pthread_setname_np(driver->thread, "sheaf-gp");
			/* release: partner load_acquire in has_driver() */
			store_release(&driver->running, gp_fork_generation);
		}
	}
	gp_unlock(&driver->lock);
}

static uint64_t driver_ticket(struct sheaf_gp *gp)
{
	struct sheaf_gp_driver *driver = driver_of(gp);
	/* acq_rel: G1, partner the CAS in run_period(); G2, partner that in sleep_unwanted() */
	uint64_t old = fetch_or_acq_rel(&driver->begun, WANTED);

	if (unlikely(!has_driver(driver)))
		start_driver(driver);
	/* Not else: a driver just created may have run a period and gone to sleep by now. */
	if (unlikely(old & ASLEEP) && (fetch_and_acq_rel(&driver->begun, ~ASLEEP) & ASLEEP))
		wake_driver(driver);
	return (old & ~FLAGS) + PERIOD;
}

static void driver_hurry(struct sheaf_gp *gp)
{
	struct sheaf_gp_driver *driver = driver_of(gp);

	/* In a child, tickets of its parent may be out without a driver. */
	if (unlikely(!has_driver(driver)) && is_outstanding(driver))
		start_driver(driver);
	/* One wake-up per pause: the driver clears the flag when the pause is over. */
	if (!load_relaxed(&driver->hurried) && !fetch_or_acq_rel(&driver->hurried, 1)) {
		PROBE(gp_hurry, driver);
		wake_driver(driver);
	}
}

/* Without a driver the waiters run the periods, one at a time. */
static void wait_alone(struct sheaf_gp_driver *driver, uint64_t ticket)
{
	/* liburcu polls. */
	int state = cancel_off();

	gp_lock(&driver->lock);
	while (!has_driver(driver) && !sheaf_gp_elapsed(&driver->gp, ticket))
		run_period(driver);
	gp_unlock(&driver->lock);
	cancel_on(state);
}

static void wait_elapsed(struct sheaf_gp_driver *driver, uint64_t ticket)
{
	if (!sheaf_gp_elapsed(&driver->gp, ticket) && !has_driver(driver))
		start_driver(driver);
	while (!sheaf_gp_elapsed(&driver->gp, ticket)) {
		PROBE(gp_wait, driver, ticket);
		/* acquire: partner fetch_add in run_period(); changes after `completed` */
		uint32_t done = load_acquire(&driver->done);

		if (!has_driver(driver))
			wait_alone(driver, ticket);
		if (sheaf_gp_elapsed(&driver->gp, ticket))
			return;
		driver_hurry(&driver->gp);
		futex_wait(&driver->done, done, 0);
	}
}

/*
 * A reader that is one all the time it is registered (qsbr) has to go offline, or the driver would
 * wait for it. For the others that does nothing, and whoever still is in a read section
 * after it would wait for itself.
 */
static bool reader_offline(struct sheaf_gp_driver *driver)
{
	const struct sheaf_gp_driver_ops *kind = driver->kind;
	bool reader = kind->read_ongoing(driver);

	if (reader) {
		if (kind->offline)
			kind->offline(driver);
		if (kind->read_ongoing(driver))
			fatal("waiting for a grace period inside a read section");
	}
	return reader;
}

static void reader_online(struct sheaf_gp_driver *driver, bool reader)
{
	if (reader && driver->kind->online)
		driver->kind->online(driver);
}

static int driver_wait(struct sheaf_gp *gp, uint64_t ticket)
{
	struct sheaf_gp_driver *driver = driver_of(gp);
	bool reader;

	if (is_torn(driver))
		return -EDEADLK;
	reader = reader_offline(driver);
	wait_elapsed(driver, ticket);
	reader_online(driver, reader);
	return 0;
}

static void driver_give_way(struct sheaf_gp *gp)
{
	struct sheaf_gp_driver *driver = driver_of(gp);
	/* acquire: partner fetch_add in run_period(); changes after `completed` */
	uint32_t done = load_acquire(&driver->done);

	if (!is_outstanding(driver))
		return;
	PROBE(gp_give_way, driver);
	driver_hurry(gp);
	futex_wait(&driver->done, done, clock_ns() + GIVE_WAY_NS);
}

static int driver_attach(struct sheaf_gp *gp, struct sheaf_gp_task *task)
{
	struct sheaf_gp_driver *driver = driver_of(gp);

	task->armed = 0;
	task->due_ns = UINT64_MAX;
	gp_lock(&driver->tasks_lock);
	task->next = driver->tasks;
	/* release: partner the load in tasks_due() */
	store_release(&driver->tasks, task);
	gp_unlock(&driver->tasks_lock);
	return 0;
}

static void driver_detach(struct sheaf_gp *gp, struct sheaf_gp_task *task)
{
	struct sheaf_gp_driver *driver = driver_of(gp);
	struct sheaf_gp_task **link;

	gp_lock(&driver->tasks_lock);
	for (link = &driver->tasks; *link && *link != task; link = &(*link)->next)
		;
	if (*link)
		store_release(link, task->next);
	/* In this order: a driver of before a fork does not come back, and who finds one of after it
	 * sees what start_driver() has made of current. */
	while (has_driver(driver) && load_relaxed(&driver->current) == task) {
		uint32_t ends = load_relaxed(&driver->task_ends);

		gp_unlock(&driver->tasks_lock);
		futex_wait(&driver->task_ends, ends, 0);
		gp_lock(&driver->tasks_lock);
	}
	gp_unlock(&driver->tasks_lock);
}

static void driver_arm(struct sheaf_gp *gp, struct sheaf_gp_task *task)
{
	struct sheaf_gp_driver *driver = driver_of(gp);

	store_relaxed(&task->due_ns, clock_ns() + task->delay_ns);
	if (unlikely(!has_driver(driver)))
		start_driver(driver);
	if (unlikely(!has_driver(driver))) {
		uint32_t armed = SHEAF_GP_ARMED;

		/* Should one have come and run it by now, it is not armed any more.
		 * acq_rel: partner the exchange in run_tasks() */
		(void)cas_acq_rel(&task->armed, &armed, SHEAF_GP_ARMED_FOR_NOBODY);
	}
	/* acq_rel: partner the CAS in sleep_unwanted() */
	if (fetch_and_acq_rel(&driver->begun, ~ASLEEP) & ASLEEP)
		wake_driver(driver);
}

static bool driver_read_ongoing(struct sheaf_gp *gp)
{
	struct sheaf_gp_driver *driver = driver_of(gp);

	return driver->kind->read_ongoing(driver);
}

static const struct sheaf_gp_ops driver_ops = {
	.name = "driver",
	.ticket = driver_ticket,
	.wait = driver_wait,
	.read_ongoing = driver_read_ongoing,
	.hurry = driver_hurry,
	.give_way = driver_give_way,
	.attach = driver_attach,
	.detach = driver_detach,
	.arm = driver_arm,
};

int gp_driver_init(struct sheaf_gp_driver *driver, const struct sheaf_gp_driver_ops *kind,
		   const struct rcu_flavor_struct *flavor, const struct sheaf_gp_driver_attr *attr)
{
	struct sheaf_gp_driver_attr a = {.size = sizeof(a)};

	if ((attr && attr_copy(&a, sizeof(a), attr, attr->size, sizeof(a))) || a.share > 1000 ||
	    !kind || !kind->synchronize || !kind->read_ongoing)
		return -EINVAL;
	*driver = (struct sheaf_gp_driver){
		.gp = {.ops = &driver_ops},
		.kind = kind,
		.flavor = flavor,
		.spacing_ns = a.spacing_us * UINT64_C(1000),
		.share = a.share ? a.share : SHARE,
	};
	return gp_fork_register(flavor);
}

int sheaf_gp_driver_init(struct sheaf_gp_driver *driver, const struct sheaf_gp_driver_ops *kind,
			 const struct sheaf_gp_driver_attr *attr, void (*read_lock)(void),
			 void (*read_unlock)(void))
{
	int err = read_lock && read_unlock ? gp_driver_init(driver, kind, NULL, attr) : -EINVAL;

	if (!err) {
		driver->gp.read_lock = read_lock;
		driver->gp.read_unlock = read_unlock;
	}
	return err;
}

void sheaf_gp_driver_fini(struct sheaf_gp_driver *driver)
{
	if (has_driver(driver)) {
		/* A period of the driver's may be waiting for the caller. */
		bool reader = reader_offline(driver);

		/* release: partner load_acquire in driver_main() */
		store_release(&driver->stop, 1);
		wake_driver(driver);
		thread_join(driver->thread);
		reader_online(driver, reader);
	}
	if (driver->stack)
		memory_unmap(driver->stack, driver->stack_bytes);
	gp_fork_unregister(driver->flavor);
}

void sheaf_gp_driver_stats(const struct sheaf_gp_driver *driver,
			   struct sheaf_gp_driver_stats *stats)
{
	stats->periods = load_relaxed(&driver->periods);
	stats->cost_ns = load_relaxed(&driver->cost_ns);
	stats->spacing_ns = load_relaxed(&driver->pause_ns);
	stats->running = has_driver(driver);
}
