/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/**
 * @file sheaf/gp.h
 * Grace-period sources: tickets instead of callbacks.
 *
 * A ticket is a number t such that, once sheaf_gp_elapsed(gp, t) is true, every
 * read-side section that was running when t was taken has ended. Tickets never
 * go backwards and are compared by signed difference, so they may wrap. A new
 * source fills struct sheaf_gp_ops and publishes `completed`.
 *
 * Which operations may run at the same time on one source:
 *
 *	                      | ticket, elapsed, | step   | init,
 *	                      | hurry, wait, read| manual | fini
 *	----------------------+------------------+--------+------
 *	ticket .. read        |       yes        |  yes   |  no
 *	step (manual)         |       yes        |  no    |  no
 *	init, fini            |       no         |  no    |  no
 */
#ifndef SHEAF_GP_H
#define SHEAF_GP_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* TSan cannot see into liburcu's read sections: name the edge for it. */
#if defined(__SANITIZE_THREAD__)
#define SHEAF_GP_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SHEAF_GP_TSAN 1
#endif
#endif
#ifdef SHEAF_GP_TSAN
void __tsan_release(void *addr);
#endif

struct rcu_flavor_struct;
struct sheaf_gp;

/** What a source can do; one table per kind of source. Fill all but `hurry`. */
struct sheaf_gp_ops {
	/** For messages: "urcu", "manual". */
	const char *name;
	/** See sheaf_gp_ticket(). */
	uint64_t (*ticket)(struct sheaf_gp *gp);
	/** See sheaf_gp_wait(). */
	int (*wait)(struct sheaf_gp *gp, uint64_t ticket);
	/** See sheaf_gp_hurry(); NULL if there is nothing to hasten. */
	void (*hurry)(struct sheaf_gp *gp);
	/** Is the calling thread inside a read section? For assertions. */
	bool (*read_ongoing)(struct sheaf_gp *gp);
};

/** A grace-period source. Embed it as the first member of your own. */
struct sheaf_gp {
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
 *	nobody but its owner can step it.
 */
static inline int sheaf_gp_wait(struct sheaf_gp *gp, uint64_t ticket)
{
	return sheaf_gp_elapsed(gp, ticket) ? 0 : gp->ops->wait(gp, ticket);
}

/**
 * Ask the source to finish what is outstanding as soon as it can.
 *
 * Context: any thread, also inside a read section. Does not block.
 * Ordering: none. Progress: wait-free.
 */
static inline void sheaf_gp_hurry(struct sheaf_gp *gp)
{
	if (gp->ops->hurry)
		gp->ops->hurry(gp);
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
 * that directly instead; only TSan then misses the edge (section 9 of the design).
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
#ifdef SHEAF_GP_TSAN
	__tsan_release(gp);
#endif
	gp->read_unlock();
}

/** How the urcu source paces itself; zero means default. */
struct sheaf_gp_urcu_attr {
	/** sizeof(struct sheaf_gp_urcu_attr); an older program has a smaller one. */
	size_t size;
	/** Microseconds from the start of one grace period to the next while busy; default 100. */
	uint32_t spacing_us;
};

/** A liburcu flavour as a source. In the caller's memory; fields are private. */
struct sheaf_gp_urcu {
	struct sheaf_gp gp;
	const struct rcu_flavor_struct *flavor;
	uint64_t spacing_ns;
	uint64_t begun;
	uint32_t wake;
	uint32_t hurried;
	uint32_t done;
	uint32_t running;
	uint32_t stop;
	uint64_t periods;
	pthread_mutex_t lock;
	pthread_t driver;
};

/** Counters of an urcu source; see sheaf_gp_urcu_stats(). */
struct sheaf_gp_urcu_stats {
	/** Grace periods run since init. */
	uint64_t periods;
	/** Is the driver thread there? */
	bool running;
};

/**
 * Make a source over any liburcu flavour. Its driver thread starts with the first
 * ticket, runs grace periods while tickets are outstanding, and sleeps otherwise.
 *
 * @param urcu memory of the caller; pass &urcu->gp to whoever wants a source
 * @param flavor &rcu_flavor of the flavour that the readers use (memb, mb, bp, qsbr)
 * @param attr pacing; NULL means defaults; not kept
 *
 * Context: any thread. Ordering: none. Progress: wait-free.
 * Return: 0; -EINVAL if @p flavor is NULL or @p attr is not of a known size.
 */
int sheaf_gp_urcu_init(struct sheaf_gp_urcu *urcu, const struct rcu_flavor_struct *flavor,
		       const struct sheaf_gp_urcu_attr *attr);

/**
 * End a source: stops and joins its driver.
 *
 * Context: may block for a grace period; nobody else uses the source, nobody will
 *	ask for its tickets; not inside a read section.
 * Ordering: acquires all that the driver did. Progress: blocking.
 */
void sheaf_gp_urcu_fini(struct sheaf_gp_urcu *urcu);

/**
 * Read the counters.
 *
 * Context: any thread. Ordering: none. Progress: wait-free.
 */
void sheaf_gp_urcu_stats(const struct sheaf_gp_urcu *urcu, struct sheaf_gp_urcu_stats *stats);

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

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
