/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/**
 * @file sheaf/gp.h
 * Grace-period sources: tickets instead of callbacks.
 *
 * A ticket is a number t such that, once sheaf_gp_elapsed(gp, t) is true, every
 * read-side section that was running when t was taken has ended. Tickets never
 * go backwards and are compared by signed difference, so they may wrap. A new
 * source fills struct sheaf_gp_ops and publishes `completed`; one that has a function like
 * synchronize_rcu() gets the rest from sheaf_gp_driver_init().
 *
 * Which operations may run at the same time on one source:
 *
 *	                      | ticket, elapsed, | step   | init,
 *	                      | hurry, wait, read| manual | fini
 *	----------------------+------------------+--------+------
 *	ticket .. read, tasks |       yes        |  yes   |  no
 *	step (manual)         |       yes        |  no    |  no
 *	init, fini            |       no         |  no    |  no
 *
 * After fork() a child goes on with its parent's sources. Tickets of before elapse there
 * as well: a manual source's by the next step, an urcu source's after the next ticket,
 * wait, hurry or arming, which makes a driver for the child. fork() waits for grace periods that
 * are being run, so call it as you would call sheaf_gp_wait(). Inside a read section of
 * a memb, mb or qsbr source (qsbr: online) it does not wait, and elsewhere 5 seconds at most (bp
 * and sources of your own kind are not asked for sections): if
 * a period is still being run then, the child cannot run any; its tickets do not elapse, and
 * sheaf_gp_wait() says -EDEADLK. What liburcu itself does not do in a child, by flavour:
 *
 *	memb, mb  A thread that has vanished inside a read section holds up grace periods
 *	          for ever.
 *	qsbr      So does one that has vanished online.
 *	all three A thread that has vanished registered leaves its registration on its
 *	          stack, which goes to the next thread that the child makes; then grace
 *	          periods crash. The driver is not such a thread. If the child makes other
 *	          threads, unregister before fork(), which is liburcu's rule anyway.
 *	bp        Call urcu_bp_before_fork(), urcu_bp_after_fork_parent() and
 *	          urcu_bp_after_fork_child() round every fork(), directly or by
 *	          pthread_atfork(): they wait for the period, keep liburcu's locks and drop who
 *	          vanished. Without them a child may wait for ever.
 *
 * liburcu's hooks for call_rcu() and those of bp are to be called before fork() ahead of the ones of this
 * library: register them after it is loaded, as programs that are linked with it do anyway. Behind them
 * they would wait for periods while the library holds what a reader may want.
 */
#ifndef SHEAF_GP_H
#define SHEAF_GP_H

#include <sheaf/edges.h>

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct rcu_flavor_struct;
struct sheaf_gp;
struct sheaf_gp_task;

/** What a source can do; one table per kind of source. Those after `read_ongoing` may be NULL. */
struct sheaf_gp_ops {
	/** For who debugs: "manual", "driver", "call_rcu", "poll". */
	const char *name;
	/** See sheaf_gp_ticket(). */
	uint64_t (*ticket)(struct sheaf_gp *gp);
	/** See sheaf_gp_wait(). */
	int (*wait)(struct sheaf_gp *gp, uint64_t ticket);
	/** Is the calling thread inside a read section? For assertions. */
	bool (*read_ongoing)(struct sheaf_gp *gp);
	/** See sheaf_gp_hurry(); NULL if there is nothing to hasten. */
	void (*hurry)(struct sheaf_gp *gp);
	/** See sheaf_gp_give_way(); NULL if there is nobody to give way to. */
	void (*give_way)(struct sheaf_gp *gp);
	/** See sheaf_gp_attach() and so on; NULL if the source has no thread. */
	int (*attach)(struct sheaf_gp *gp, struct sheaf_gp_task *task);
	void (*detach)(struct sheaf_gp *gp, struct sheaf_gp_task *task);
	void (*arm)(struct sheaf_gp *gp, struct sheaf_gp_task *task);
};

/** What a task's word says, for sources of your own kind: armed, by one who asked the source. */
#define SHEAF_GP_ARMED 1u
/** Armed where the source had no thread and could have none: it runs when there is one, and who arms
 *  it asks again. */
#define SHEAF_GP_ARMED_FOR_NOBODY 2u

/**
 * Work that a thread of a source does a while after it was asked to. In the caller's memory, which
 * is not a thread's stack; `run` and `delay_ns` are the caller's to fill, the rest is private.
 * In a child of fork() detach it and attach it again before it is armed there.
 */
struct sheaf_gp_task {
	/** What to do, on the source's thread, not inside a read section, one task at a time: must
	 *  not wait for a grace period nor detach its own task. It may arm its own task again. A
	 *  long period, the pause before one, or another task delays it. */
	void (*run)(struct sheaf_gp_task *task);
	/** Nanoseconds from the call that arms it to the run. */
	uint64_t delay_ns;
	/* private */
	uint64_t due_ns;
	/* 0, or SHEAF_GP_ARMED and so on. */
	uint32_t armed;
	struct sheaf_gp_task *next;
};

/** A grace-period source. Embed it as the first member of your own. */
struct sheaf_gp {
	/** What it can do. */
	const struct sheaf_gp_ops *ops;
	/** Enters and leaves a read section; the flavour's own functions. */
	void (*read_lock)(void);
	void (*read_unlock)(void);
	/** Every ticket up to this one has elapsed. The source alone writes it. */
	uint64_t completed;
};

/**
 * Is ticket @p a at or before ticket @p b? Wrap-safe.
 *
 * Context: any. Ordering: none. Progress: wait-free.
 * Return: true if b - a, as a signed number, is not negative.
 */
static inline bool sheaf_gp_not_after(uint64_t a, uint64_t b)
{
	return (int64_t)(b - a) >= 0;
}

/**
 * Take a ticket for everything that the caller has made unreachable so far.
 *
 * @param gp the source; it sees to it that the ticket elapses
 *
 * Context: any thread, also inside a read section. Does not block; the urcu source
 *	may create its driver thread here.
 * Ordering: what the caller wrote before is visible to every read section that
 *	the ticket does not wait for.
 * Progress: wait-free once the source runs.
 * Return: the ticket; good for ever (compare within 2^63 of now).
 */
static inline uint64_t sheaf_gp_ticket(struct sheaf_gp *gp)
{
	return gp->ops->ticket(gp);
}

/**
 * Has a ticket elapsed?
 *
 * Context: any thread, any place, signal handlers included.
 * Ordering: true acquires everything that the read sections in question did, so
 *	the memory may be used again. One load.
 * Progress: wait-free.
 * Return: true if every read section that ran when the ticket was taken has ended.
 */
static inline bool sheaf_gp_elapsed(const struct sheaf_gp *gp, uint64_t ticket)
{
	return sheaf_gp_not_after(ticket, __atomic_load_n(&gp->completed, __ATOMIC_ACQUIRE));
}

/**
 * Wait until a ticket has elapsed.
 *
 * @param gp the source
 * @param ticket from sheaf_gp_ticket() of the same source
 *
 * Context: may block; not inside a read section (aborts with a message where the
 *	source can tell), not in a signal handler, not from a callback of the
 *	source. A thread that is registered with the qsbr flavour is taken offline
 *	while it waits.
 * Ordering: as sheaf_gp_elapsed() that is true.
 * Progress: blocking, as long as the longest read section.
 * Return: 0; -EDEADLK from a manual source whose ticket has not elapsed, because
 *	nobody but its owner can step it, and from any other source in a child that was
 *	forked in the middle of a grace period (see above), or of a call into liburcu.
 */
static inline int sheaf_gp_wait(struct sheaf_gp *gp, uint64_t ticket)
{
	return sheaf_gp_elapsed(gp, ticket) ? 0 : gp->ops->wait(gp, ticket);
}

/**
 * Ask the source to finish what is outstanding as soon as it can.
 *
 * Context: any thread, also inside a read section. Does not block; after fork() the
 *	urcu source may create its driver thread here.
 * Ordering: none. Progress: wait-free.
 */
static inline void sheaf_gp_hurry(struct sheaf_gp *gp)
{
	if (gp->ops->hurry)
		gp->ops->hurry(gp);
}

/**
 * Hurry, and let the thread of the source run if it waits for a processor: where all of them are
 * busy, a period otherwise takes as long as the scheduler lets others run.
 *
 * Context: any thread outside of read sections; blocks for 100 microseconds at most.
 * Ordering: none. Progress: blocking, but not for a period.
 */
static inline void sheaf_gp_give_way(struct sheaf_gp *gp)
{
	if (gp->ops->give_way)
		gp->ops->give_way(gp);
}

/**
 * Make a task known to a source.
 *
 * @param gp the source
 * @param task filled in by the caller; stays its, and stays where it is until detached
 *
 * Context: any thread; may block for a moment. Ordering: none. Progress: blocking.
 * Return: 0; -ENOTSUP if the source has no thread, and never runs a task then.
 */
static inline int sheaf_gp_attach(struct sheaf_gp *gp, struct sheaf_gp_task *task)
{
	return gp->ops->attach ? gp->ops->attach(gp, task) : -ENOTSUP;
}

/**
 * On return the task does not run and never will.
 *
 * Context: any thread, not in a task; nobody arms the task any more. Waits for its run.
 * Ordering: acquires what the task did. Progress: blocking.
 */
static inline void sheaf_gp_detach(struct sheaf_gp *gp, struct sheaf_gp_task *task)
{
	if (gp->ops->detach)
		gp->ops->detach(gp, task);
}

/**
 * Ask for one run of an attached task, its delay from now. If it was asked for already that
 * one counts; a run that has begun does not. If the source's thread cannot be had, it runs when
 * that can, which each call tries anew, its delay from then.
 *
 * Context: any thread, also inside a read section. Does not block; may create the driver.
 * Ordering: releases the caller's writes to the run. Progress: wait-free.
 */
static inline void sheaf_gp_arm(struct sheaf_gp *gp, struct sheaf_gp_task *task)
{
	/* acq_rel: who finds it armed is seen by the run, which clears it first */
	if (__atomic_exchange_n(&task->armed, SHEAF_GP_ARMED, __ATOMIC_ACQ_REL) != SHEAF_GP_ARMED &&
	    gp->ops->arm)
		gp->ops->arm(gp, task);
}

/**
 * Is the calling thread inside a read section of this source?
 *
 * Context: any thread. Ordering: none. Progress: wait-free.
 * Return: true if it is; false if not, or if the source cannot tell.
 */
static inline bool sheaf_gp_read_ongoing(struct sheaf_gp *gp)
{
	return gp->ops->read_ongoing(gp);
}

/**
 * Enter a read section: the flavour's own rcu_read_lock(). A program may call
 * that directly instead; race checkers then see its end with <sheaf/rcu.h>.
 *
 * Context: a thread registered with the flavour. Nests. Ordering: as the flavour's.
 * Progress: wait-free.
 */
static inline void sheaf_gp_read_lock(struct sheaf_gp *gp)
{
	gp->read_lock();
}

/**
 * Leave a read section: the flavour's own rcu_read_unlock().
 *
 * Context: a thread registered with the flavour, inside a section.
 * Ordering: what the section did happens before the tickets it held up elapse.
 * Progress: wait-free.
 */
static inline void sheaf_gp_read_unlock(struct sheaf_gp *gp)
{
	/* Checkers do not see the flavour's own order. */
	sheaf_edge_release(gp);
	gp->read_unlock();
}

/** How a source with a driver thread paces itself; zero means default. */
struct sheaf_gp_driver_attr {
	/** sizeof(struct sheaf_gp_driver_attr); an older program has a smaller one. */
	size_t size;
	/** Microseconds from the start of one grace period to the next while busy; default: by
	 *  what a period costs, see `share`. */
	uint32_t spacing_us;
	/** Thousandths of each processor's time that grace periods may take; default 10, at most
	 *  1000. Under pressure ten times as much. */
	uint32_t share;
};

struct sheaf_gp_driver;

/** What kind of read sections a driver waits for. Those after `read_ongoing` may be NULL. */
struct sheaf_gp_driver_ops {
	/** For messages: "urcu", "ck". */
	const char *name;
	/** Returns when every read section that ran when it was called has ended; orders memory
	 *  as synchronize_rcu() does. Called by one thread at a time. */
	void (*synchronize)(struct sheaf_gp_driver *driver);
	/** As sheaf_gp_read_ongoing(). */
	bool (*read_ongoing)(struct sheaf_gp_driver *driver);
	/** Round a wait of a thread for which `read_ongoing` says true: a reader that is one
	 *  all the time it is registered does not count meanwhile. */
	void (*offline)(struct sheaf_gp_driver *driver);
	void (*online)(struct sheaf_gp_driver *driver);
};

/** A source with a thread that runs grace periods. In the caller's memory; fields are private. */
struct sheaf_gp_driver {
	struct sheaf_gp gp;
	const struct sheaf_gp_driver_ops *kind;
	const struct rcu_flavor_struct *flavor;
	uint64_t spacing_ns;
	uint32_t share;
	uint32_t lock;
	uint64_t begun;
	uint32_t wake;
	uint32_t hurried;
	uint32_t done;
	uint32_t running;
	uint32_t stop;
	uint32_t tasks_lock;
	struct sheaf_gp_task *tasks;
	struct sheaf_gp_task *current;
	uint32_t task_ends;
	uint64_t periods;
	uint64_t cost_ns;
	uint64_t pause_ns;
	pthread_t thread;
	void *stack;
	size_t stack_bytes;
};

/** Counters of a source with a driver; see sheaf_gp_driver_stats(). */
struct sheaf_gp_driver_stats {
	/** Grace periods run since init. */
	uint64_t periods;
	/** Processor time of one period on the driver's processor, nanoseconds, smoothed. What it
	 *  takes of each other one is less: an interrupt, for whose end the driver waits. */
	uint64_t cost_ns;
	/** Nanoseconds from the start of one period to the next while busy and not hurried. */
	uint64_t spacing_ns;
	/** Is the driver thread there? */
	bool running;
};

/**
 * Make a source of your own kind of read sections. Its driver thread starts with the first
 * ticket, runs grace periods while tickets are outstanding, and sleeps otherwise.
 *
 * @param driver memory of the caller; pass &driver->gp to whoever wants a source
 * @param kind must outlive the source
 * @param attr pacing; NULL means defaults; not kept
 * @param read_lock, read_unlock for sheaf_gp_read_lock() and its partner
 *
 * Context: any thread, also inside a read section. Ordering: none. Progress: blocking for
 *	a moment.
 * Return: 0; -EINVAL if @p attr is not of a known size or its share above 1000, or a
 *	function is missing; -ENOMEM if there is no memory for the handlers.
 */
int sheaf_gp_driver_init(struct sheaf_gp_driver *driver, const struct sheaf_gp_driver_ops *kind,
			 const struct sheaf_gp_driver_attr *attr, void (*read_lock)(void),
			 void (*read_unlock)(void));

/**
 * End a source: stops and joins its driver.
 *
 * Context: may block for a grace period; nobody else uses the source, nobody will
 *	ask for its tickets, no task is attached; not inside a read section.
 * Ordering: acquires all that the driver did. Progress: blocking.
 */
void sheaf_gp_driver_fini(struct sheaf_gp_driver *driver);

/**
 * Read the counters.
 *
 * Context: any thread. Ordering: none. Progress: wait-free.
 */
void sheaf_gp_driver_stats(const struct sheaf_gp_driver *driver,
			   struct sheaf_gp_driver_stats *stats);

/** A liburcu flavour as a source. In the caller's memory; fields are private. */
struct sheaf_gp_urcu {
	union {
		struct sheaf_gp gp;
		struct sheaf_gp_driver driver;
	};
};

/**
 * Make a source over any liburcu flavour, with a driver.
 *
 * @param urcu memory of the caller; pass &urcu->gp to whoever wants a source
 * @param flavor &rcu_flavor of the flavour that the readers use (memb, mb, bp, qsbr)
 * @param attr pacing; NULL means defaults; not kept
 *
 * Context, Ordering, Progress: as sheaf_gp_driver_init().
 * Return: as there; -EINVAL also if @p flavor is NULL.
 */
int sheaf_gp_urcu_init(struct sheaf_gp_urcu *urcu, const struct rcu_flavor_struct *flavor,
		       const struct sheaf_gp_driver_attr *attr);

/**
 * End a source over a flavour.
 *
 * Context, Ordering, Progress: as sheaf_gp_driver_fini().
 */
void sheaf_gp_urcu_fini(struct sheaf_gp_urcu *urcu);

/**
 * Read the counters; see struct sheaf_gp_driver_stats.
 *
 * Context, Ordering, Progress: as sheaf_gp_driver_stats().
 */
static inline void sheaf_gp_urcu_stats(const struct sheaf_gp_urcu *urcu,
				       struct sheaf_gp_driver_stats *stats)
{
	sheaf_gp_driver_stats(&urcu->driver, stats);
}

/**
 * The process's one source over a flavour: one driver thread for all who share it.
 *
 * @param gp written on success; give it back with sheaf_gp_urcu_put()
 * @param flavor &rcu_flavor of the flavour that the readers use
 *
 * Context: any thread outside of read sections; may block for a moment. Ordering: none.
 * Progress: blocking.
 * Return: 0; -EINVAL if @p flavor is NULL; -ENOMEM.
 */
int sheaf_gp_urcu_get(struct sheaf_gp **gp, const struct rcu_flavor_struct *flavor);

/**
 * Give a shared source back. The last one ends it.
 *
 * Context: may block for a grace period; not inside a read section. The caller and its
 *	caches do not use the source any more.
 * Ordering: as sheaf_gp_driver_fini(). Progress: blocking.
 */
void sheaf_gp_urcu_put(struct sheaf_gp *gp);

/** A source that its owner steps. In the caller's memory; fields are private. */
struct sheaf_gp_manual {
	struct sheaf_gp gp;
	uint64_t now;
};

/**
 * Make a source that its owner steps: for event loops and deterministic tests.
 * Its read sections are whatever the owner says they are; sheaf_gp_read_lock()
 * does nothing.
 *
 * @param manual memory of the caller; pass &manual->gp to whoever wants a source
 * @param first the first ticket; 0 will do (tests start near the wrap)
 *
 * Context: any thread. Ordering: none. Progress: wait-free.
 */
void sheaf_gp_manual_init(struct sheaf_gp_manual *manual, uint64_t first);

/**
 * Declare that every read section that ran when this call began has ended: all
 * tickets taken before it elapse.
 *
 * Context: the owner, one thread at a time.
 * Ordering: what happened before the step is visible to whoever sees its tickets
 *	elapsed. Progress: wait-free.
 */
void sheaf_gp_manual_step(struct sheaf_gp_manual *manual);

/** call_rcu() of a liburcu flavour as a source. In the caller's memory; fields are private. */
struct sheaf_gp_call_rcu {
	struct sheaf_gp gp;
	const struct rcu_flavor_struct *flavor;
	uint64_t begun;
	uint64_t head[4];
	uint32_t done;
};

/**
 * Make a source that liburcu's own call_rcu() moves on, for programs that must not have a
 * thread of this library's. One callback per grace period, however many tickets; none while
 * none is wanted. Tickets take their time, because liburcu's thread looks every 10 ms, so more
 * waits in recyclers than with a driver.
 *
 * @param source memory of the caller; pass &source->gp to whoever wants a source
 * @param flavor &rcu_flavor of the flavour that the readers use (memb, mb, bp, qsbr)
 *
 * What else is different from the urcu source:
 *
 *	ticket  may call call_rcu(), which makes liburcu's thread the first time (or ends the
 *		program if it cannot), and which liburcu wants to be called by registered
 *		threads, qsbr: online. Others may take tickets, wait and hurry as well as
 *		long as none of liburcu's call_rcu threads is taken away meanwhile
 *		(free_all_cpu_call_rcu_data(), call_rcu_data_free()); but a liburcu that was
 *		built with its debug checks aborts. bp registers them by itself.
 *	wait	aborts with a message also inside a callback of call_rcu() of that flavour, where
 *		it can tell: on a thread that has called this library back once.
 *		sheaf_gp_read_ongoing() says true there.
 *	hurry	hastens nothing: there is no way to.
 *	tasks	are not run: sheaf_gp_attach() says -ENOTSUP, and a cache seals nothing by age.
 *	fork	liburcu's call_rcu_before_fork(), call_rcu_after_fork_parent() and
 *		call_rcu_after_fork_child() have to be called round every fork(), directly or by
 *		pthread_atfork(), bp's own as well; without them no ticket elapses in the child, and
 *		neither sheaf_gp_wait() nor the end of the source returns there. Then both sides
 *		go on, the child as the top of this file has it. A ticket that meets a fork may
 *		wait for its end, for 5 seconds at most and in a read section (qsbr: online) for
 *		100 ms; after more than that its period is begun by the next ticket, wait or
 *		hurry. fork() waits for no period on behalf of this source; but if call_rcu() has
 *		never been called in the process, and its first call, by a ticket, meets the
 *		fork, it takes 5 seconds: then no ticket elapses in the child, sheaf_gp_wait()
 *		says -EDEADLK, and the source has to be left where it is.
 *
 * Context: any thread, also inside a read section. Ordering: none. Progress: wait-free.
 * Return: 0; -EINVAL if @p flavor is NULL; -ENOMEM if there is no memory for the handlers.
 */
int sheaf_gp_call_rcu_init(struct sheaf_gp_call_rcu *source,
			   const struct rcu_flavor_struct *flavor);

/**
 * End a source: waits for the callback that is out, if there is one.
 *
 * Context: may block for a grace period; nobody else uses the source, nobody will
 *	ask for its tickets; not inside a read section or a callback of call_rcu().
 * Ordering: acquires all that the callback did. Progress: blocking.
 */
void sheaf_gp_call_rcu_fini(struct sheaf_gp_call_rcu *source);

/** Polled grace periods of a liburcu flavour as a source. In the caller's memory; fields are private. */
struct sheaf_gp_poll {
	struct sheaf_gp gp;
	const struct rcu_flavor_struct *flavor;
	uint64_t begun;
	uint64_t state[2];
};

/**
 * Make a source over liburcu's start_poll_synchronize_rcu(), which came with version 0.14. There
 * is no thread and no callback: who takes a ticket, waits or hurries also looks whether the
 * period that was begun last has passed, and begins the next one. So tickets elapse only while
 * somebody does one of these; sheaf_gp_elapsed() alone does not look. liburcu uses call_rcu() to
 * get there, so they take as long as those of the call_rcu source.
 *
 * @param poll memory of the caller; pass &poll->gp to whoever wants a source
 * @param flavor &rcu_flavor of the flavour that the readers use (memb, mb, bp, qsbr)
 *
 * What else is different from the urcu source:
 *
 *	ticket, wait and hurry
 *		call liburcu, which takes a mutex for a moment and wants to be called as
 *		call_rcu() does: see sheaf_gp_call_rcu_init()
 *	wait	looks every millisecond
 *	tasks, fork
 *		as sheaf_gp_call_rcu_init() has it; but a ticket does not wait for a fork
 *
 * Context: any thread, also inside a read section. Ordering: none. Progress: wait-free.
 * Return: 0; -EINVAL if @p flavor is NULL; -ENOTSUP if liburcu did not have it where this
 *	library was built; -ENOMEM if there is no memory for the handlers.
 */
int sheaf_gp_poll_init(struct sheaf_gp_poll *poll, const struct rcu_flavor_struct *flavor);

/**
 * End a source. Does not wait.
 *
 * Context: nobody else uses the source, nobody will ask for its tickets.
 * Ordering: none. Progress: wait-free.
 */
void sheaf_gp_poll_fini(struct sheaf_gp_poll *poll);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
