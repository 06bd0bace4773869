/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * A slot per CPU, worked on by restartable sequences (rseq(2)): no atomics, and as many slots
 * as there are CPUs, whatever the number of threads.
 *
 *	+------+------+------+------+------+-------+
 *	| main | rcu  | pair[0..1]  | stop | trips |  128 bytes per CPU
 *	+------+------+------+------+------+-------+
 *
 * main is always one of the two sheaves in pair; the other one is the spare. So main and
 * spare change places by one store, of main, and a sheaf comes and goes by one store, to
 * the place of the spare. Each operation has one committing store; before that store it has
 * changed nothing but dead memory (an array beyond size, the caller's own).
 *
 * Who may touch what.
 *  C1  A sequence runs on the CPU whose slot it works on, from beginning to committing store,
 *      with no other thread and no signal handler in between: the kernel restarts it
 *      otherwise. So sequences on one slot never overlap, and what one has written the next
 *      one sees: it is the same thread, or a context switch lies between them.
 *  C2  A remote party, one at a time (the cache's remote_lock), does with each slot it wants
 *
 *		stop = 1; rseq_fence();          -- now main, rcu, pair stand still
 *		seen = main, rcu, pair; main, rcu, pair = sheaf_none; rseq_fence();
 *		                                 -- now the sheaves seen are its own
 *		stop = 0
 *
 *      After the first fence every sequence that missed stop has ended or will begin
 *      anew and see it: those that store to main, rcu or pair then go away, so the stores of
 *      the remote party meet no others. Only pushes and pops go on, which store to the
 *      sheaves. After the second fence those that had found the old sheaves are over as
 *      well, and what they did is visible (the fence orders memory on every CPU).
 *  C3  A sheaf whose address a sequence has loaded is not freed before the sequence is over:
 *      it leaves the slot by a sequence on the same CPU, which ends the other one (C1), or
 *      by a remote party, which fences before it goes on (C2). Outside of sequences and
 *      remote parties nobody follows a pointer found in a slot.
 *  C4  A signal handler may work on the slot at any point of the thread it interrupts (C1).
 *      So may any number of threads of one CPU: between two sequences of one call the slot
 *      may look different, and each sequence checks what it depends on.
 *
 * A thread that single-steps, or is interrupted each time, never commits; callers count
 * aborts and go round the slot.
 */
#ifndef SLOT_CPU_H
#define SLOT_CPU_H

#include <sheaf/sheaf.h>

#include "base/atomic.h"
#include "base/compiler.h"
#include "base/rseq.h"

#include <assert.h>

/* What an operation on a slot came to. */
enum slot_did {
	SLOT_DID,
	SLOT_UNMET,   /* its condition does not hold; nothing was changed */
	SLOT_AWAY,    /* no way in now; nothing was changed */
	SLOT_ABORTED, /* interrupted; nothing was changed (per-CPU slots only) */
};

/* Visits of slots to the next layer. */
struct slot_trips {
	uint64_t barn_alloc;
	uint64_t barn_free;
	uint64_t alloc_failed;
	uint64_t free_failed;
};

/* The sheaves of a slot; never NULL: sheaf_none stands in. */
struct slot_sheaves {
	struct sheaf *main; /* one of pair */
	struct sheaf *rcu;
	struct sheaf *pair[2];
};

/* What a remote party saw of a slot: addresses, which nobody follows. */
struct slot_mark {
	const struct sheaf *aged; /* the rcu sheaf */
	struct slot_sheaves seen;
	uint64_t trips;
	bool idle;
};

struct cpu_slot {
	struct slot_sheaves held;
	uint32_t stop;
	/* Of the remote party: stopped by it. */
	bool taken;
	/* Added to with relaxed atomics, by whoever counts on this CPU. */
	struct slot_trips trips;
} __attribute__((aligned(128)));

/* n is 0 where a cache has no such slots. */
struct cpu_slots {
	struct cpu_slot *slots;
	uint32_t n;
};

static_assert(sizeof(struct cpu_slot) == 128, "the sequences shift by 7");
static_assert(offsetof(struct cpu_slot, held.main) == 0 &&
		      offsetof(struct cpu_slot, held.rcu) == 8 &&
		      offsetof(struct cpu_slot, held.pair) == 16 &&
		      offsetof(struct cpu_slot, stop) == 32,
	      "the sequences know a slot");
static_assert(offsetof(struct sheaf, size) == 0 && offsetof(struct sheaf, capacity) == 4 &&
		      offsetof(struct sheaf, objects) == 32,
	      "the sequences know a sheaf");

#ifdef RSEQ_WIDEN
/* Turns of a loop before each committing store; set by tests. */
extern uint32_t rseq_pause;
#endif

#if defined(RSEQ_BUILT) && defined(__x86_64__)
#include "rseq/x86_64.h"
#elif defined(RSEQ_BUILT)
#include "rseq/aarch64.h"
#else
#include "rseq/none.h"
#endif

#endif
