/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/**
 * @file sheaf/cache.h
 * A cache of objects of one size: alloc and free without atomics, free after a grace
 * period in whole sheaves, and prefilled sheaves for sections that cannot fail.
 *
 * A cache has slots: a main and a spare sheaf for allocation and free, an rcu sheaf for
 * what is retired. There is one per CPU where the kernel has restartable sequences,
 * rseq(2), else one per thread; see sheaf_cache_slots(). Behind the slots stand a
 * barn and a recycler per NUMA node, and a backend.
 *
 * Which operations may run at the same time on one cache: all with all, except
 * create, destroy and check, which need the cache to be idle. A prefilled sheaf
 * is its borrower's: one thread at a time.
 *
 * In a signal handler only sheaf_cache_alloc_nowait(), sheaf_cache_free_nowait(),
 * sheaf_cache_free_rcu_nowait() and sheaf_cache_alloc_from() may be called; they
 * may interrupt any of the others, on the same cache too. A handler that has interrupted a
 * call of this library must return: after siglongjmp() out of it, what the call had in its
 * hands is lost, locks that it held stay held, and remote parties wait for its slot for ever.
 *
 * fork(2): parent and child go on with their caches, whatever other threads were doing.
 * What those had allocated, or had in their hands inside a call, stays allocated in the
 * child. What the grace-period source has to say on this is in <sheaf/gp.h>.
 */
#ifndef SHEAF_CACHE_H
#define SHEAF_CACHE_H

#include <sheaf/backend.h>
#include <sheaf/gp.h>
#include <sheaf/recycler.h>
#include <sheaf/sheaf.h>
#include <sheaf/stats.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/** Flag of sheaf_cache_prefill(): exactly n objects, and over-use is reported. */
#define SHEAF_STRICT 2u

/** Flag of sheaf_cache_prefill(): all objects are memory of the caller's node. */
#define SHEAF_LOCAL 8u

/** One barn per last-level cache; see sheaf_cache_attr.barns_per_node. */
#define SHEAF_BARN_PER_CACHE UINT32_MAX

/** Flag of sheaf_cache_alloc() and _alloc_bulk(): at the end of a budget wait for what comes back. */
#define SHEAF_WAIT 4u

/** Kinds of slots: attribute and sheaf_cache_slots(). */
#define SHEAF_SLOTS_DEFAULT 0u
#define SHEAF_SLOTS_THREAD 1u
#define SHEAF_SLOTS_CPU 2u

/** Called on over-use of a strict prefilled sheaf, instead of abort(). */
typedef void sheaf_cache_overuse_fn(void *arg, struct sheaf_cache *cache, uint32_t asked,
				    const void *caller);

/** Called over @p n objects that the backend has given. */
typedef void sheaf_cache_ctor_fn(void *arg, size_t n, void *const *objects);

/**
 * Who calls the callback over ripe objects: the thread that takes them for its next allocation,
 * or the source's thread, soon after the grace period; to a taker they then come from the barn.
 * Whoever shrinks or destroys the cache calls it for what is left, and so does who throttles where a
 * driver cannot be made, or has just looked.
 */
#define SHEAF_RIPE_BY_TAKER 0u
#define SHEAF_RIPE_BY_DRIVER 1u

/** How a cache is made; zero means default. */
struct sheaf_cache_attr {
	/** sizeof(struct sheaf_cache_attr); an older program has a smaller one. */
	size_t size;
	/** Bytes of one object, 1 to 2^30; required. */
	size_t object_size;
	/** Alignment of objects in bytes, a power of two; default 16, or 8 below 16 bytes. */
	size_t object_align;
	/** For messages and statistics; copied, cut at 31 characters; default "sheaf". */
	const char *name;
	/** Objects per sheaf, 1 to 65536; default by object size. */
	uint32_t capacity;
	/** Soft limits of each barn in sheaves; UINT32_MAX for a limit of zero. Default: 32 each, or
	 *  four for each slot of its node if that is more; a trim takes back what lies there. */
	uint32_t barn_full;
	uint32_t barn_empty;
	/** Grace-period source for retired objects; must outlive the cache. Default: none, then
	 *  sheaf_cache_free_rcu() must not be called. */
	struct sheaf_gp *gp;
	/** Objects in flight (retired and not yet back), see sheaf_cache_throttle(). Above the soft
	 *  limit allocation gives way to the source, and what is ripe goes to the backend; above
	 *  the hard one throttle waits. In objects and in bytes, the lower one counts; UINT64_MAX
	 *  for none. Default, if neither is set: 8 and 128 MiB, but 8 and 16 sheaves at least. */
	uint64_t rcu_soft_limit;
	uint64_t rcu_soft_bytes;
	uint64_t rcu_hard_limit;
	uint64_t rcu_hard_bytes;
	/** Microseconds after which what was retired is sealed although its sheaf is not full, and
	 *  its grace period has passed, if a period is short; default 10000, UINT32_MAX for
	 *  never. Needs a source with a thread, the urcu source for one. What a signal handler
	 *  has put into an empty place waits for the next call that leaves the fast path, too. */
	uint32_t rcu_age_us;
	/** Called over each sheaf of objects whose grace period has passed, before they are used
	 *  again: destructors, accounting. It may pop objects, which then are its own. It must not
	 *  wait for grace periods, nor call this cache but for alloc and free. Default: none. */
	sheaf_recycler_ripe_fn *ripe;
	/** Passed to @p ripe. */
	void *ripe_arg;
	/** Who calls it: SHEAF_RIPE_BY_TAKER (default) or SHEAF_RIPE_BY_DRIVER. */
	unsigned ripe_by;
	/** Where objects come from; the cache owns it on success and destroys it. Default
	 *  (ops NULL): the slab backend up to 65536 bytes and an alignment of 4096, the malloc one
	 *  above. */
	struct sheaf_backend backend;
	/** NUMA nodes, 1 to 64; default: what the system has. */
	unsigned nodes;
	/** Barns of each node: 0 or 1 for one, SHEAF_BARN_PER_CACHE for one per last-level cache
	 *  where a node has several (chiplets), up to 64 if @p current_node tells places. */
	unsigned barns_per_node;
	/** Tells the place of the calling thread: its node (0 to nodes - 1), times barns_per_node, plus
	 *  the number of its barn in the node; default: ask the system. */
	int (*current_node)(void *arg);
	/** Passed to @p current_node. */
	void *node_arg;
	/** Called on over-use of a strict prefilled sheaf; default: message and abort(). */
	sheaf_cache_overuse_fn *overuse;
	/** Passed to @p overuse. */
	void *overuse_arg;
	/** Called over objects that come from the backend, before anybody gets them; what it writes
	 *  is still there when an object is allocated, unless its last user changed it. Default: none. */
	sheaf_cache_ctor_fn *ctor;
	/** Passed to @p ctor. */
	void *ctor_arg;
	/** Most bytes of objects that the cache may have from its backend: allocated, held and in
	 *  flight. A hard limit, also changeable: sheaf_cache_set_budget(). Default: none but that
	 *  of the process, see sheaf_set_budget(). */
	uint64_t budget;
	/** Microseconds within which what slots and barns hold and nobody needs goes back to the
	 *  backend, and what that then does not need to the system; see sheaf_cache_trim(). Run by
	 *  the source's thread, if it has one; else, if asked for here, by one of the library's.
	 *  Default: a second if the source has a thread, else never; UINT32_MAX for never. */
	uint32_t trim_us;
	/** Let the capacity follow the load, at each trim: up where slots visit the barn often, or
	 *  lose races there, down where they do not. Never so far that free objects could take
	 *  a quarter of the budget (of 64 MiB, if there is none). */
	bool tune;
	/** SHEAF_SLOTS_THREAD; or SHEAF_SLOTS_CPU, where there are no restartable sequences the
	 *  same as THREAD. Default: what the environment variable SHEAF_SLOTS says ("thread" or
	 *  "cpu"), else CPU. */
	unsigned slots;
	/** Debug mode, <sheaf/debug.h>; not kept. Default: what SHEAF_DEBUG says, else none. */
	const struct sheaf_debug_attr *debug;
	/** Show the counters to sheaf-stat, doc/statistics.md; SHEAF_STATS in the environment does for all
	 *  caches. It takes a thread, one for the process, which sleeps while nobody looks. */
	bool stats;
};

/**
 * Make a cache.
 *
 * @param cache written on success; end it with sheaf_cache_destroy()
 * @param attr what for; not kept. On failure its backend stays the caller's.
 *
 * The first cache of a process settles two things for good. A module (shared object) that
 * holds the library stays mapped after dlclose(), for the threads that have used it. And the
 * kernel's barriers are registered for, membarrier(2) and rseq(2): where a seccomp filter forbids
 * membarrier(2) only later, remote parties go to each CPU in turn instead, and abort the program
 * with a message if sched_setaffinity(2) is forbidden too. They cannot go where they may not run,
 * so then all threads of the program have to be in one set of CPUs (cpuset(7)); affinities may
 * differ.
 *
 * Context: any thread; may block. Ordering: none. Progress: blocking (malloc).
 * Return: 0; -EINVAL if an attribute is out of range; -ENOTSUP if callbacks are to be the
 *	driver's and the source has none; -ENOMEM.
 */
int sheaf_cache_create(struct sheaf_cache **cache, const struct sheaf_cache_attr *attr);

/**
 * End a cache: gives everything back to the backend and destroys that too. Waits
 * for retired objects first.
 *
 * @param cache ended on success, usable as before on failure
 * @param live if not NULL, set to the number of objects still allocated; prefilled
 *	sheaves not yet returned count with all they hold
 *
 * Context: the only user of @p cache; as sheaf_gp_wait() if anything was retired.
 * Ordering: none. Progress: blocking.
 * Return: 0; -EBUSY if objects are still allocated or sheaves lent; -EDEADLK if the source
 *	cannot be waited for, see sheaf_gp_wait().
 */
int sheaf_cache_destroy(struct sheaf_cache *cache, size_t *live);

/**
 * Allocate one object.
 *
 * @param cache which
 * @param flags 0; or SHEAF_NOWAIT: only what the layers hold, no system call but those that
 *	<sheaf/debug.h> says of debug mode, a futex(2) that wakes who waits for a slab's mutex, and
 *	rseq(2), once in a thread, where the C library does not register it; or SHEAF_WAIT: where
 *	a budget is used up, wait until objects come back, also for grace periods. With both it
 *	does not wait.
 *
 * Context: any thread, not in a signal handler. Blocks only in the backend, and if more is in
 *	flight than the soft limit says, 100 microseconds for each sheaf, to let the source
 *	work; not that inside a read section. At the end of a budget, or of the backend's memory,
 *	what other slots and the barns hold is taken back first, as sheaf_cache_shrink() does,
 *	callback over ripe objects included. With SHEAF_WAIT not holding what others need to free
 *	objects, or to step a manual source; inside a read section (with qsbr: online) or a
 *	callback it does not wait.
 * Ordering: acquires what the thread that freed the object released.
 * Progress: wait-free from the slot; lock-free from barn and recycler.
 * Return: an object with undefined contents, the caller's until it is freed; NULL
 *	if there is no memory, or the budget is used up and SHEAF_WAIT is not set, or cannot wait.
 */
void *sheaf_cache_alloc(struct sheaf_cache *cache, unsigned flags);

/**
 * Allocate one object on a given NUMA node.
 *
 * @param cache which
 * @param flags as sheaf_cache_alloc()
 * @param node 0 to nodes - 1, or SHEAF_NODE_ANY
 *
 * What a free finds on another node than its own goes back to the barn of that node, so
 * with a backend that knows nodes (the slab backend does) sheaf_cache_alloc() hands out
 * memory of the caller's node too; lib/cache_home.c says when not. Where the node has no memory
 * the object is another one's; so may one be that was retired, under SHEAF_NOWAIT if its own node's barn
 * is full, and with a backend that does not know nodes if more is in flight than the soft limit.
 *
 * Context, Ordering: as sheaf_cache_alloc(). Progress: as there; for another node than the
 *	caller's a barn visit each time.
 * Return: as sheaf_cache_alloc(); NULL also if there is no such node.
 */
void *sheaf_cache_alloc_node(struct sheaf_cache *cache, unsigned flags, int node);

/**
 * Free one object at once.
 *
 * @param cache the one it came from
 * @param object allocated from @p cache, reachable by nobody else; NULL is ignored
 *
 * Context: any thread, not in a signal handler. Blocks only in the backend.
 * Ordering: releases the caller's writes to whoever gets the object.
 * Progress: wait-free into the slot; lock-free into the barn.
 */
void sheaf_cache_free(struct sheaf_cache *cache, void *object);

/**
 * Allocate many objects, all or part.
 *
 * @param cache which
 * @param flags as sheaf_cache_alloc()
 * @param n objects wanted
 * @param objects room for @p n pointers
 *
 * Context, Ordering: as sheaf_cache_alloc(). Progress: as there, O(n).
 * Return: how many were stored in objects[0 ..]; less than @p n if memory ran out.
 */
size_t sheaf_cache_alloc_bulk(struct sheaf_cache *cache, unsigned flags, size_t n, void **objects);

/**
 * Free many objects at once.
 *
 * @param cache the one they came from
 * @param n objects
 * @param objects array of @p n non-NULL pointers; the array stays the caller's
 *
 * Context, Ordering: as sheaf_cache_free(). Progress: as there, O(n).
 */
void sheaf_cache_free_bulk(struct sheaf_cache *cache, size_t n, void *const *objects);

/**
 * Retire an object: it is free once a grace period has passed.
 *
 * @param cache the one it came from, made with a grace-period source
 * @param object allocated from @p cache; no read section that begins now can reach
 *	it; NULL is ignored
 *
 * Context: any thread, also inside a read section; not in a signal handler. Does
 *	not block while there is memory for one more sheaf. Without, it empties
 *	sheaves of this cache to get one; if there is none it waits for a grace
 *	period, and where that is not possible (inside a read section, or a manual
 *	source) it abandons the object: it stays allocated, and is counted in
 *	sheaf_cache_stats.abandoned.
 *
 *	What is ripe waits for the next allocation, or for sheaf_cache_shrink().
 * Ordering: as sheaf_recycler_give() when the sheaf is sealed.
 * Progress: wait-free into the slot; lock-free when a sheaf is sealed.
 */
void sheaf_cache_free_rcu(struct sheaf_cache *cache, void *object);

/**
 * Allocate one object, in any context.
 *
 * @param cache which
 *
 * Context: any, signal handlers included. Takes what slot, barn, recycler and earlier nowait calls
 *	hold; never locks, waits, or goes to the backend. An injected current_node() must do so, too.
 * Ordering: as sheaf_cache_alloc(). Progress: lock-free.
 * Return: an object, the caller's until it is freed; NULL if there is none at hand.
 */
void *sheaf_cache_alloc_nowait(struct sheaf_cache *cache);

/**
 * Free one object, in any context. What has no place in slot and barn is left aside for
 * the next normal call on the cache.
 *
 * @param cache the one it came from
 * @param object allocated from @p cache, reachable by nobody else; NULL is ignored
 *
 * Context: any, signal handlers included; as sheaf_cache_alloc_nowait(). If objects cannot be
 *	chained (smaller than a pointer, with a constructor, of a type-stable backend, in debug mode) it
 *	may ask the kernel for a page; if that fails the object is abandoned, and counted in
 *	sheaf_cache_stats.
 * Ordering: as sheaf_cache_free(). Progress: lock-free.
 */
void sheaf_cache_free_nowait(struct sheaf_cache *cache, void *object);

/**
 * Retire an object, in any context. It takes its ticket when the next normal call
 * comes by, or a barrier.
 *
 * @param cache the one it came from, made with a grace-period source
 * @param object allocated from @p cache; no read section that begins now can reach
 *	it; NULL is ignored
 *
 * Context: any, signal handlers included, also inside a read section; as
 *	sheaf_cache_alloc_nowait(). Where slot and barn have no empty sheaf, up to 256
 *	objects per node wait in notes; beyond that it empties a sheaf, and if there
 *	is none it asks the kernel for a page. Only if that fails the object is abandoned,
 *	and counted in sheaf_cache_stats.abandoned.
 * Ordering: as sheaf_cache_free_rcu(). Progress: lock-free.
 */
void sheaf_cache_free_rcu_nowait(struct sheaf_cache *cache, void *object);

/**
 * Borrow a private sheaf with at least @p n objects, for a section that must not
 * block: sheaf_cache_alloc_from() then cannot fail until @p n are used.
 *
 * @param cache which
 * @param n upper bound of what the section allocates, in objects, up to 2^20; above
 *	the capacity of the cache the sheaf is an oversize one
 * @param flags SHEAF_STRICT: exactly @p n can be allocated from it, one more is reported
 *	with the call site (the sheaf may hold more: no pointers are moved for this);
 *	SHEAF_NOWAIT: only what the layers hold; SHEAF_LOCAL: all objects in it are memory
 *	of the node that the caller is on, not together with SHEAF_NOWAIT
 *
 * Context: as sheaf_cache_alloc().
 * Ordering: acquires as sheaf_cache_alloc(). Progress: as sheaf_cache_alloc_bulk().
 * Return: the sheaf, borrowed until sheaf_cache_return(); NULL if there is no memory
 *	(nothing is lent then), or none on the node with SHEAF_LOCAL, which also is so where
 *	there are several nodes and the backend does not know them; or @p n is above 2^20.
 */
struct sheaf *sheaf_cache_prefill(struct sheaf_cache *cache, uint32_t n, unsigned flags);

/**
 * Allocate from a prefilled sheaf.
 *
 * @param cache the one that lent it
 * @param sheaf borrowed by the caller
 *
 * Context: the borrower, any place, signal handlers included (if no other context
 *	uses the same sheaf). Never blocks.
 * Ordering: none. Progress: wait-free.
 * Return: an object, the caller's until it is freed; NULL when the sheaf is used up, or
 *	a strict one has given what was asked for (it reports that first).
 */
void *sheaf_cache_alloc_from(struct sheaf_cache *cache, struct sheaf *sheaf);

/**
 * Top up a prefilled sheaf so that @p n more allocations cannot fail.
 *
 * @param cache the one that lent it
 * @param sheaf borrowed by the caller; may be exchanged for a larger one
 * @param n objects, up to 2^20
 * @param flags 0 or SHEAF_NOWAIT; a strict sheaf stays strict: exactly @p n more
 *
 * Context, Ordering, Progress: as sheaf_cache_prefill().
 * Return: 0; -ENOMEM (the sheaf is valid, lent for what was asked before, and may hold more);
 *	-EINVAL if @p n is too large (unchanged).
 */
int sheaf_cache_refill(struct sheaf_cache *cache, struct sheaf **sheaf, uint32_t n, unsigned flags);

/**
 * Return a prefilled sheaf and what is left in it. Usually it becomes the spare, else it is one visit.
 *
 * @param cache the one that lent it
 * @param sheaf borrowed by the caller, not to be used afterwards; NULL is ignored
 *
 * Context: any thread, not in a signal handler. Blocks only in the backend.
 * Ordering: releases as sheaf_cache_free(). Progress: lock-free but for the backend.
 */
void sheaf_cache_return(struct sheaf_cache *cache, struct sheaf *sheaf);

/**
 * Wait while more retired objects are in flight than the hard limit allows. Retiring does not
 * wait for that: a writer that may retire faster than readers leave their sections calls this
 * between its operations, where it holds no lock that they need.
 *
 * @param cache any
 *
 * Context: may block, not inside a read section (aborts with a message where the source can tell,
 *	if it has to wait), not in a signal handler. Ordering: none.
 * Progress: a load per node below the limit; else blocking, as long as the longest read section.
 * Return: 0; -EDEADLK if the source cannot be waited for, see sheaf_gp_wait().
 */
int sheaf_cache_throttle(struct sheaf_cache *cache);

/**
 * Change what may be in flight, also while the cache is in use.
 *
 * @param cache which
 * @param soft, hard objects; UINT64_MAX for no limit
 *
 * Context: any thread. Ordering: none. Progress: wait-free.
 * Return: 0; -EINVAL if soft is 0 or above hard (unchanged then).
 */
int sheaf_cache_set_rcu_limits(struct sheaf_cache *cache, uint64_t soft, uint64_t hard);

/**
 * Give what the slot of the calling thread or CPU holds to the barn, and what does not fit to
 * the backend; seals its rcu sheaf.
 *
 * Context: any thread, not in a signal handler. Blocks only in the backend.
 * Ordering: releases as sheaf_cache_free(). Progress: lock-free but for the backend.
 */
void sheaf_cache_flush(struct sheaf_cache *cache);

/**
 * Give all that is free to the backend: slots, barns, what is ripe, and what debug mode holds
 * back. The others go on meanwhile; rcu sheaves are sealed.
 *
 * Context: any thread, not in a signal handler; may block.
 * Ordering: acquires what the others released. Progress: blocking.
 * Return: objects given back.
 */
size_t sheaf_cache_shrink(struct sheaf_cache *cache);

/**
 * Wait until all objects retired before are free: seals the rcu sheaves and waits for their tickets.
 *
 * Context: as sheaf_gp_wait(): may block, not inside a read section.
 * Ordering: as sheaf_gp_elapsed() that is true. Progress: blocking.
 * Return: 0; -EDEADLK if the source cannot be waited for, see sheaf_gp_wait() (all are sealed then).
 */
int sheaf_cache_barrier(struct sheaf_cache *cache);

/**
 * Give back what nobody needed since the last trim: sheaves that lay in the barns all that
 * time, and after that main and spare of slots that made no trip, which go to the barns first.
 * So what is never used is with the backend at the third trim. The backend then gives the
 * system what it does not need. With the attribute trim_us it is called three times in that time.
 *
 * Context: any thread, not in a signal handler, nor in a callback over ripe objects, nor in an
 *	operation of its backend; may block.
 * Ordering: acquires what the others released. Progress: blocking.
 * Return: objects given to the backend.
 */
size_t sheaf_cache_trim(struct sheaf_cache *cache);

/**
 * Give free objects of all caches back until so many bytes are: first what is in barns, and what
 * is ripe in caches without a callback over ripe objects, then what is in slots. For programs that are told to use less memory.
 *
 * @param bytes of objects at least; SIZE_MAX for all
 *
 * Context: as sheaf_cache_trim(). A cache that is destroyed meanwhile waits for it.
 * Ordering: acquires what the others released. Progress: blocking.
 * Return: bytes of objects given to backends.
 */
size_t sheaf_trim(size_t bytes);

/**
 * Change the capacity of sheaves, also while the cache is in use. New sheaves have it; those of
 * another capacity are replaced when they come by empty.
 *
 * @param cache which
 * @param capacity objects, 1 to 65536
 *
 * Context: any thread, not in a signal handler. Ordering: none. Progress: lock-free but for
 *	what is freed.
 * Return: 0; -EINVAL if it is out of range (unchanged then).
 */
int sheaf_cache_set_capacity(struct sheaf_cache *cache, uint32_t capacity);

/**
 * Change the budget of a cache, also while it is in use. If it has more already, that stays
 * until it is freed, and what is free is given back.
 *
 * @param cache which
 * @param bytes of objects; 0 for no limit
 *
 * Context: as sheaf_cache_shrink(). Ordering: none. Progress: blocking.
 */
void sheaf_cache_set_budget(struct sheaf_cache *cache, uint64_t bytes);

/**
 * Limit what all caches of the process have from their backends together, as the attribute budget
 * does for one. The environment variable SHEAF_BUDGET sets it before the first
 * cache is made: bytes, or with K, M or G.
 *
 * @param bytes of objects; 0 for no limit
 *
 * Where it is used up, an allocation takes back what other caches have free, by free_bulk of their
 * backends: so who allocates holds no lock that the backend of any cache wants. An allocation
 * by a backend takes from its own cache only.
 *
 * Context: as sheaf_trim(). Ordering: none. Progress: blocking.
 */
void sheaf_set_budget(uint64_t bytes);

/**
 * Bytes of objects that all caches have from their backends now, or are about to get.
 *
 * Context: any. Ordering: none. Progress: wait-free.
 * Return: bytes, as object_size counts them.
 */
uint64_t sheaf_budget_used(void);

/**
 * Change the soft limits of all barns, also while in use.
 *
 * @param cache which
 * @param full sheaves with objects, per node
 * @param empty sheaves without, per node
 *
 * Context: any thread, not in a signal handler. Ordering: none. Progress: blocking for a moment.
 */
void sheaf_cache_set_barn_limits(struct sheaf_cache *cache, uint32_t full, uint32_t empty);

/**
 * What kind of slots does a cache have, and why?
 *
 * @param cache which
 * @param why if not NULL, set to a few words in English, the library's memory
 *
 * Context: any. Ordering: none. Progress: wait-free.
 * Return: SHEAF_SLOTS_CPU or SHEAF_SLOTS_THREAD.
 */
unsigned sheaf_cache_slots(const struct sheaf_cache *cache, const char **why);

/**
 * Do all invariants hold? They are listed in lib/cache_state.h.
 *
 * Context: the only user of @p cache; for tests.
 * Ordering: none. Progress: blocking, O(objects held).
 * Return: true if they hold.
 */
bool sheaf_cache_check(struct sheaf_cache *cache);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
