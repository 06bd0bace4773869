/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * A "page fault": inside a read section, look up which mapping holds an address, and
 * prove that the answer was right at that moment.
 *
 * The writer numbers its writes. A fault notes `finished` before the look-up and `begun`
 * after it: the answer must be what the address was after some write in that window.
 * With at most one write under way ("sharp") there are at most two right answers, and
 * only for the addresses of that write; a reader that lost the CPU in between has to
 * allow for more. What the address was comes from shadow.c, which knows nothing of
 * the tree. So these are bad:
 *
 *	wrong	a mapping or permissions that no write of the window left there; a hole
 *		where each of them left a mapping, or the reverse
 *	astray	the object does not hold the address, or is of another space
 *	early	the object was made by a write that had not begun
 *	stale	the object was retired by a write that had finished before the look-up
 *	reused	while the section lasted, the object became another one
 *
 * A section makes several faults and looks at all objects again at its end, some
 * sections after giving up the CPU, so that memory which comes back before its grace
 * period is over is seen to change. Guarantees G1 to G5 of address_space.c are what is
 * checked here; each kind of bad read was seen once, by breaking what it guards.
 *
 * Addresses are probes of the shadow, near what was written last, or anywhere.
 */
#define _GNU_SOURCE
#include "replay_readers.h"

#include "base/atomic.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <urcu.h>

/* Faults of one section; every YIELD-th section gives up the CPU before its end. */
#define FAULTS 8
#define YIELD 32

/* An object found, and what it was. */
struct found {
	const struct vma *vma;
	uint64_t first;
	uint64_t last;
	uint32_t space;
	uint32_t born;
	uint32_t from;
};

struct reader {
	struct readers *owner;
	pthread_t thread;
	uint64_t random;
	struct reader_counts counts;
};

struct readers {
	struct spaces *spaces;
	const struct shadow *shadow;
	uint32_t *hot;
	uint32_t stop;	  /* atomic */
	uint32_t running; /* readers past their registration; atomic */
	unsigned count;
	struct reader readers[];
};

static uint64_t next_random(struct reader *reader)
{
	uint64_t x = reader->random;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	reader->random = x;
	return x;
}

static void bad(struct reader *reader, const char *what, const struct address_space *space,
		uint64_t address, uint32_t from, uint32_t to)
{
	if (!reader->counts.bad++)
		snprintf(reader->counts.first_bad, sizeof(reader->counts.first_bad),
			 "%s: address %llx of space %u, writes %u to %u", what,
			 (unsigned long long)address, space->id, from, to);
}

static uint32_t pick_probe(struct reader *reader, const struct shadow_space *truth, uint32_t begun)
{
	uint64_t random = next_random(reader);
	uint32_t probe, back = (random >> 8) & 15;

	if (!(random & 3))
		return (uint32_t)((random >> 16) % truth->probe_count);
	probe = truth->hot[begun > back ? begun - back : begun];
	probe += (uint32_t)(random >> 16) & 3;
	return probe < truth->probe_count ? probe : truth->probe_count - 1;
}

/* One look-up; *found is what it found, if anything. */
static void fault(struct reader *reader, const struct address_space *space, struct found *found)
{
	const struct shadow_space *truth = &reader->owner->shadow->spaces[space->id];
	/* acquire: partners store_release in space_finish() and space_begin() */
	uint32_t from = load_acquire(&space->finished);
	uint32_t probe = pick_probe(reader, truth, from);
	uint64_t address = truth->probes[probe];
	const struct vma *vma = sheaf_tree_load_rcu(space->tree, address);
	uint32_t to, retired;

	*found = (struct found){.vma = vma, .from = from};
	reader->counts.faults++;
	if (!vma) {
		/* The loads of the tree are acquire loads: this one comes after them. */
		to = load_acquire(&space->begun);
		reader->counts.misses++;
		reader->counts.sharp += to - from <= 1;
		if (!shadow_allows(truth, probe, from, to, SHADOW_HOLE))
			bad(reader, "wrong: a hole", space, address, from, to);
		return;
	}
	found->first = vma->first;
	found->last = vma->last;
	found->space = vma->space;
	found->born = vma->born;
	to = load_acquire(&space->begun);
	/* acquire: partner store_release in space_replace() */
	retired = load_acquire(&vma->retired);
	reader->counts.hits++;
	reader->counts.sharp += to - from <= 1;
	if (address < found->first || address > found->last || found->space != space->id)
		bad(reader, "astray", space, address, from, to);
	else if (found->born > to)
		bad(reader, "early", space, address, from, to);
	else if (retired != VMA_LIVE && retired <= from)
		bad(reader, "stale", space, address, from, to);
	else if (!shadow_allows(truth, probe, from, to, vma->kind.prot))
		bad(reader, "wrong: a mapping", space, address, from, to);
}

/* At the end of the section: is the object still the one that was found? */
static void look_again(struct reader *reader, const struct address_space *space,
		       const struct found *found)
{
	const struct vma *vma = found->vma;
	uint32_t retired = load_acquire(&vma->retired);

	if (load_relaxed(&vma->first) != found->first || load_relaxed(&vma->last) != found->last ||
	    load_relaxed(&vma->space) != found->space || load_relaxed(&vma->born) != found->born ||
	    (retired != VMA_LIVE && retired <= found->from))
		bad(reader, "reused", space, found->first, found->from, load_acquire(&space->begun));
}

/* Which space: mostly the one that is written. NULL if it is not there now. */
static const struct address_space *pick_space(struct reader *reader)
{
	struct readers *owner = reader->owner;
	uint32_t id = load_relaxed(owner->hot);

	if (!(next_random(reader) & 7))
		id = (uint32_t)((next_random(reader) >> 8) % owner->spaces->count);
	/* acquire: partner store_release in publish() */
	return load_acquire(&owner->spaces->table[id]);
}

static void section(struct reader *reader, bool yield)
{
	struct sheaf_gp *gp = reader->owner->spaces->gp;
	const struct address_space *spaces[FAULTS];
	struct found found[FAULTS];

	sheaf_gp_read_lock(gp);
	for (unsigned i = 0; i < FAULTS; i++) {
		found[i].vma = NULL;
		spaces[i] = pick_space(reader);
		if (spaces[i])
			fault(reader, spaces[i], &found[i]);
	}
	if (yield)
		sched_yield();
	for (unsigned i = 0; i < FAULTS; i++)
		if (found[i].vma)
			look_again(reader, spaces[i], &found[i]);
	sheaf_gp_read_unlock(gp);
}

static void *run(void *arg)
{
	struct reader *reader = arg;

	rcu_register_thread();
	fetch_add_relaxed(&reader->owner->running, 1);
	for (unsigned i = 0; !load_relaxed(&reader->owner->stop); i++)
		section(reader, i % YIELD == 0);
	rcu_unregister_thread();
	return NULL;
}

struct readers *readers_start(unsigned count, struct spaces *spaces, const struct shadow *shadow,
			      uint32_t *hot, uint64_t seed)
{
	struct readers *readers = calloc(1, sizeof(*readers) + count * sizeof(readers->readers[0]));
	struct reader_counts none;

	if (!readers)
		return NULL;
	readers->spaces = spaces;
	readers->shadow = shadow;
	readers->hot = hot;
	for (unsigned i = 0; i < count; i++) {
		struct reader *reader = &readers->readers[i];

		reader->owner = readers;
		reader->random = (seed + i) * UINT64_C(0x9e3779b97f4a7c15) | 1;
		if (pthread_create(&reader->thread, NULL, run, reader)) {
			readers_stop(readers, &none);
			return NULL;
		}
		readers->count++;
	}
	while (load_relaxed(&readers->running) < count)
		sched_yield();
	return readers;
}

void readers_stop(struct readers *readers, struct reader_counts *sum)
{
	*sum = (struct reader_counts){0};
	store_relaxed(&readers->stop, 1);
	for (unsigned i = 0; i < readers->count; i++) {
		const struct reader_counts *counts = &readers->readers[i].counts;

		pthread_join(readers->readers[i].thread, NULL);
		if (counts->bad && !sum->bad)
			memcpy(sum->first_bad, counts->first_bad, sizeof(sum->first_bad));
		sum->faults += counts->faults;
		sum->hits += counts->hits;
		sum->misses += counts->misses;
		sum->sharp += counts->sharp;
		sum->bad += counts->bad;
	}
	free(readers);
}
