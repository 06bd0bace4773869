/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * A slot: one thread's place in one cache, and who may touch it when.
 *
 *	+------+------+------+-------+------+---------------------------+
 *	| busy | stop | main | spare | rcu  | counters ...              |  owner's line
 *	+------+------+------+-------+------+---------------------------+
 *	| lock, cache, next, transit, orphan |                             others' line
 *
 * main, spare and rcu are never NULL: sheaf_none (size = capacity = 0, both empty
 * and full) stands in, so the fast paths test one thing.
 *
 * Who is inside. The owner is the only thread that enters without the lock:
 *
 *	owner:   busy = 1; compiler_barrier(); if (stop) { busy = 0; lock; ... unlock }
 *	         ...; busy = 0 (release)
 *	remote:  stop = 1; membarrier(); lock; while (busy (acquire)) wait; ...; unlock;
 *	         stop = 0 (release)
 *
 *  S1  Owner inside without the lock and remote inside exclude each other: owner
 *      stores busy then loads stop, remote stores stop then loads busy, and membarrier()
 *      on the remote side makes it impossible that both miss the other's store.
 *  S2  An owner that sees stop uses the lock, which a remote holds while it is inside.
 *  S3  What the owner did inside is visible to the remote: busy = 0 (release) to the load
 *      (acquire). What the remote did is visible to the owner: stop = 0 (release) to the
 *      owner's load (acquire), or the lock.
 *  S4  A signal handler that comes in while the owner is inside finds busy set, does not
 *      enter, and goes round the slot.
 *  S5  Where the kernel refuses membarrier, stop is 1 for ever: all use the lock.
 *
 * One remote party at a time (the cache's remote_lock). Nothing inside a slot blocks,
 * frees memory or calls a backend.
 */
#ifndef SLOT_H
#define SLOT_H

#include <sheaf/sheaf.h>

#include "base/atomic.h"
#include "base/compiler.h"

#include <assert.h>
#include <pthread.h>

struct sheaf_cache;

/* Trips of one slot; written by who is inside. */
struct slot_trips {
	uint64_t barn_alloc;
	uint64_t barn_free;
	uint64_t barn_failed;
};

struct slot {
	/* The owner writes busy, remotes write stop; the rest: who is inside. */
	uint32_t busy cacheline_aligned;
	uint32_t stop;
	struct sheaf *main;
	struct sheaf *spare;
	struct sheaf *rcu;
	struct slot_trips trips;

	/* Odd while a sealed sheaf of this slot is on its way to the recycler; the owner
	 * makes it odd inside and even (release) when the recycler has it. */
	uint32_t transit cacheline_aligned;
	/* Has no owner; under the registry's lock. */
	bool orphan;
	/* Fixed. */
	struct sheaf_cache *cache;
	struct slot *next;
	pthread_mutex_t lock;
};

static_assert(offsetof(struct slot, transit) == CACHE_LINE,
	      "what the owner uses on every call is one line, and nobody else's");

struct slot_record;

/* One thread's slots by cache number; entries are never NULL. */
struct slot_table {
	struct slot **slots;
	uint32_t n;
	struct slot_record *record;
};

/* initial-exec: one instruction instead of a call; it takes 24 bytes of what the C
 * library keeps for libraries that are opened at run time. */
extern __thread struct slot_table slot_table __attribute__((tls_model("initial-exec")));

/* Stands in for a slot that is not there: always busy, so nobody enters or writes it. */
extern struct slot slot_none;

/* Stands in for a sheaf that is not there: empty and full. */
extern struct sheaf sheaf_none;

static inline bool sheaf_is_none(const struct sheaf *sheaf)
{
	return sheaf == &sheaf_none;
}

/* The owner's way in. False: somebody else is or wants in, or the caller interrupted
 * its own thread inside. Nothing was changed then. */
static inline bool slot_enter(struct slot *slot)
{
	if (unlikely(load_relaxed(&slot->busy)))
		return false;
	store_relaxed(&slot->busy, 1);
	compiler_barrier(); /* S1, partner membarrier_all() in slots_stop() */
	/* acquire: S3, partner store in slots_go() */
	if (likely(!load_acquire(&slot->stop)))
		return true;
	store_release(&slot->busy, 0);
	return false;
}

static inline void slot_leave(struct slot *slot)
{
	store_release(&slot->busy, 0); /* S3, partner load in slot_seize() */
}

/* How the caller of slow paths got in. */
enum slot_way {
	SLOT_ROUND,  /* not in: go round the slot */
	SLOT_INSIDE, /* entered */
	SLOT_LOCKED, /* holds the lock */
};

/* Get in by either way. With nowait set it does not wait for the lock. */
enum slot_way slot_hold(struct slot *slot, bool nowait);
void slot_release(struct slot *slot, enum slot_way way);

/* The calling thread's slot in a cache: found, adopted or made; &slot_none if there
 * is no memory, or nowait is set and it is not there. */
struct slot *slot_get(struct sheaf_cache *cache, bool nowait);

/*
 * Remote side, under the cache's remote_lock: stop all slots that there are now, seize
 * and leave each of them, let go. They are the list that begins at cache->stopped; slots
 * made later are before it, were not stopped, and must not be seized.
 */
void slots_stop(struct sheaf_cache *cache);
void slot_seize(struct slot *slot);
void slot_unseize(struct slot *slot);
void slots_go(struct sheaf_cache *cache);

/* A number for a new cache, lowest first; -1 if there is no memory. */
int registry_add(struct sheaf_cache *cache);

/* Slots of the cache whose thread has ended. */
uint32_t registry_orphans(struct sheaf_cache *cache);

/* End of an idle cache: no thread's table points to its slots any more. */
void registry_remove(struct sheaf_cache *cache);

#endif
