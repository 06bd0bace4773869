/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Slots: where a cache's sheaves stand that are in use. A cache has one per CPU (slot_cpu.h),
 * or one per thread, described here; slot_do() works on either.
 *
 *	+------+------+------+------+-------------+
 *	| busy | stop | main | rcu  | pair[0..1]  |   owner's line
 *	+------+------+------+------+-------------+
 *	| trips, lock, cache, next, orphan        |   others' line
 *
 * The sheaves are arranged as in slot_cpu.h, for the same reason: each operation has one
 * committing store, so a copy of the slot made at any moment (fork) is whole.
 *
 * main, rcu and pair are never NULL: sheaf_none (size = capacity = 0, both empty
 * and full) stands in, so the fast paths test one thing.
 *
 * Who is inside. The owner is the only thread that enters without the lock:
 *
 *	owner:   busy = 1; compiler_barrier(); if (stop) { busy = 0; lock; busy = 1 }
 *	         ...; busy = 0 (release); unlock if locked
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
 *  S4  A signal handler that comes in while the owner is inside, by either way, finds busy
 *      set, does not enter, and goes round the slot. It never touches the lock.
 *  S5  A remote party that wants slots to stand still all at the same time does not hold all
 *      their locks. It marks each as frozen under its lock; an owner that finds the mark lets go
 *      of the lock, waits for the remote_lock, and tries again.
 *  S6  Where the kernel refuses membarrier, stop is 1 for ever: all use the lock.
 *
 * One remote party at a time (the cache's remote_lock). Nothing inside a slot blocks,
 * frees memory or calls a backend.
 */
#ifndef SLOT_H
#define SLOT_H

#include <sheaf/sheaf.h>

#include "base/atomic.h"
#include "base/compiler.h"
#include "slot_cpu.h"

#include <assert.h>
#include <pthread.h>

struct sheaf_cache;

struct slot {
	/* The owner writes busy, remotes write stop; the rest: who is inside. */
	uint32_t busy cacheline_aligned;
	uint32_t stop;
	struct slot_sheaves held;

	/* Added to with relaxed atomics. */
	struct slot_trips trips cacheline_aligned;
	/* Has no owner; under the registry's lock. */
	bool orphan;
	/* Of the remote party: stopped by it; and what it saw when it last looked. */
	bool taken;
	/* Not even who has the lock goes in; under the lock. */
	bool frozen;
	struct slot_mark mark;
	/* Fixed. */
	struct sheaf_cache *cache;
	struct slot *next;
	pthread_mutex_t lock;
};

static_assert(offsetof(struct slot, trips) == CACHE_LINE,
	      "what the owner uses on every call is one line, and nobody else's");

struct slot_record;

/* One thread's slots by cache number; entries are never NULL. */
struct slot_table {
	struct slot **slots;
	uint32_t n;
	struct slot_record *record;
};

/* initial-exec: one instruction instead of a call. All such storage of the library is less than
 * 100 bytes of the 1,664 that glibc keeps for libraries that are opened at run time. */
extern __thread struct slot_table slot_table __attribute__((tls_model("initial-exec")));

/* Stands in for a slot that is not there: always busy, so nobody enters or writes it. */
extern struct slot slot_none;

/* Stands in for a sheaf that is not there: empty and full. */
extern struct sheaf sheaf_none;

/* A slot without sheaves. */
extern const struct slot_sheaves slot_no_sheaves;

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
	store_release(&slot->busy, 0); /* S3, partner load in seize() */
}

/* One store commits, whatever moment a copy of memory is made at. Inside. */
static inline bool slot_push(struct sheaf *sheaf, void *object)
{
	uint32_t size = sheaf->size;

	if (size == sheaf->capacity)
		return false;
	sheaf->objects[size] = object;
	compiler_barrier();
	sheaf->size = size + 1;
	return true;
}

/*
 * What can be done to the calling party's slot. Each happens at once or not at all; in
 * between the slot may be another one, or look different.
 */
enum slot_op {
	SLOT_POP_MANY,         /* n of main's newest, at most; unmet: main is empty */
	SLOT_PUSH_MANY,        /* n objects into main, at most; unmet: main is full */
	SLOT_PUSH_RCU,         /* objects[0]; unmet: rcu is full */
	SLOT_SWAP,             /* main and spare */
	SLOT_SWAP_FILLED,      /* the same; unmet: the spare is empty */
	SLOT_SWAP_ROOMY,       /* the same; unmet: the spare is full */
	SLOT_INSTALL,          /* sheaf as spare; what was there comes back */
	SLOT_INSTALL_IF_EMPTY, /* the same; unmet: the spare is not empty */
	SLOT_INSTALL_RCU,      /* sheaf as rcu; what was there comes back */
	SLOT_INSTALL_RCU_FULL, /* the same; unmet: rcu is not full */
};

struct slot_io {
	uint32_t n; /* wanted or offered; then: done */
	void **objects;
	struct sheaf *sheaf; /* to install, NULL for none; then: what was there, NULL for none */
};

/*
 * Works on the slot of the caller. SLOT_AWAY: go round the slot. With nowait set it neither waits
 * for a remote party nor makes a slot, and may be called in a signal handler.
 */
enum slot_did slot_do(struct sheaf_cache *cache, enum slot_op op, bool nowait, struct slot_io *io);

/* A slot for the calling thread: an orphan of the cache, or a new one; &slot_none if there is no
 * memory. */
struct slot *slot_make(struct sheaf_cache *cache);

/* Where trips of the caller are counted. */
struct slot_trips *slot_trips(struct sheaf_cache *cache);

/*
 * Remote side, under the cache's remote_lock: stop those slots that there are now and where
 * there is something of these parts, work on them, let go. Others go on and must not be
 * touched; thread slots made later are before cache->stopped in the list.
 *
 * A slot whose rcu is sheaf_none need not be stopped for what was retired before: what lies in
 * a sheaf came after the sheaf had come into the slot, and that is what we would see (in
 * program order, or through the kernel's switch of threads on that CPU), unless another
 * remote party has taken it out, before we had the lock.
 *
 * slots_collect() takes what matches out of all stopped slots; sheaves come as a list
 * through link, in the caller's hands.
 *
 * slots_freeze() stops all slots; until slots_thaw() no sheaf comes into one or leaves it. Who
 * needs his slot for that waits. Slots of CPUs are pushed to and popped from meanwhile. Between the
 * two slots_count() adds up objects held, and slots_each() shows the sheaves that are there: what
 * they hold, read relaxed. The caller holds the registry, so that no thread slot is made.
 */
enum slot_part {
	PART_RCU = 1,
	PART_ALLOC = 2,
	PART_AGED = 4, /* rcu, where slots_look() has found it twice */
	PART_IDLE = 8, /* main and spare, where slots_look_idle() saw no change */
};
void slots_stop(struct sheaf_cache *cache, unsigned parts);
struct sheaf *slots_collect(struct sheaf_cache *cache, unsigned parts);
void slots_freeze(struct sheaf_cache *cache);
void slots_thaw(struct sheaf_cache *cache);
struct slots_held {
	uint64_t objects; /* all of them */
	uint64_t retired; /* of these, in rcu sheaves */
};
struct slots_held slots_count(struct sheaf_cache *cache);
/* what: one of slot_part, PART_RCU or PART_ALLOC; spare: not main. number: of the CPU, or of the
 * thread slot, newest first. */
typedef void slots_each_fn(void *arg, uint32_t number, unsigned part, bool spare,
			   const struct sheaf *sheaf);
void slots_each(struct sheaf_cache *cache, slots_each_fn *fn, void *arg);
void slots_go(struct sheaf_cache *cache);

/* Notes where each slot's rcu sheaf is; under the remote_lock, nothing is stopped. */
struct slots_look {
	bool aged;      /* some were there the last time as well */
	bool young;     /* some were not */
	uint64_t trips; /* of all slots since the cache was made */
};
struct slots_look slots_look(struct sheaf_cache *cache);

/* The same for main and spare: aged are slots that made no trip and hold the sheaves that they held
 * the last time. What is pushed and popped within main is not seen: an aged slot may be busy. */
struct slots_look slots_look_idle(struct sheaf_cache *cache);

/* Slots per CPU for a new cache; false if there is no memory. */
bool cpu_slots_make(struct sheaf_cache *cache);

/* Frees all slots of an idle cache. */
void slots_delete(struct sheaf_cache *cache);

/* Does every slot of an idle cache look right? */
bool slots_check(const struct sheaf_cache *cache);

/* A number for a new cache, lowest first; -1 if there is no memory. */
int registry_add(struct sheaf_cache *cache);

/* Between these nobody makes, adopts or leaves a thread slot. Blocks for a moment. */
void registry_hold(void);
void registry_let_go(void);

/* End of an idle cache: no thread's table points to its slots any more. */
void registry_remove(struct sheaf_cache *cache);

/*
 * The next cache by number, which stays until it is unpinned; NULL after the last one. *next is 0
 * at first. close: waits until nobody has it pinned, nobody will from then on; open ends that.
 */
struct sheaf_cache *registry_pin(uint32_t *next);
void registry_unpin(struct sheaf_cache *cache);
void registry_close(struct sheaf_cache *cache);
void registry_open(struct sheaf_cache *cache);

/*
 * fork(2). Between prepare and the other two no cache comes or goes, and no thread makes, adopts
 * or leaves a slot. Each calls fn for every cache, prepare before it has locked the registry. In
 * the child the thread slots of other threads become orphans.
 */
void registry_fork_prepare(void (*fn)(struct sheaf_cache *cache));
void registry_fork_parent(void (*fn)(struct sheaf_cache *cache));
void registry_fork_child(void (*fn)(struct sheaf_cache *cache));

#endif
