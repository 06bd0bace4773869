/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * What the slab backend is made of. lib/slab.c explains how it works.
 *
 *	struct sheaf_slab
 *	  node[0]     bins[7] -> region <-> region ...	fullest regions
 *	  node[1]     ...
 *	  ...         bins[0] -> region ...		those with few objects out
 *	              spare   -> region ...		those with none
 *	              leaving -> region ...		of these, in the type-stable mode, those
 *							that wait for the node's ticket
 *	              regions -> all of them, also those where all are out
 *
 *	head of a region (malloc)              memory of a region (2 MiB, aligned)
 *	+--------+------+------+------+        +--------+--------+--------+---
 *	| region | slab | slab | slab | ...    | slab 0 | slab 1 | slab 2 | ...
 *	+--------+------+------+------+        +--------+--------+--------+---
 *
 *	one slab:  | object 0 | object 1 | ... | object slab_objects-1 | rest |
 *	            <-stride->                                          < stride
 *	hardened:  | rest | object 0 | ... | object slab_objects-1 | guard page |
 *	           <-start->
 *
 * Invariants, at every moment when the node's mutex is free (sheaf_slab_check()):
 *
 *	of a slab	free = bits that are set in bits[], none at or above slab_objects
 *			in empty_bits iff free = slab_objects
 *			in partial_bits iff 0 < free < slab_objects
 *			in dirty_bits if free < slab_objects
 *			in aging_bits only if in empty_bits and dirty_bits
 *			with a constructor: made[] is set of each object that is out, and
 *			of none if the slab is not in dirty_bits
 *	of a region	used = sum over its slabs of slab_objects - free
 *			in spare or leaving iff used = 0; in no list but regions iff all
 *			are out; else in bins[region_bin(used)]
 *			region_find(any address in it) = the region
 *			least = region_least(used)
 *	of a node	objects = sum over its regions of used
 *			slabs_used = slabs of its regions that are not in empty_bits
 *			idle = slabs of its regions in empty_bits and dirty_bits
 *			region_count = length of regions
 *			spare_count = length of spare
 *			leaving and aging_bits are empty if not type-stable
 *			base_slabs <= keep <= most_slabs
 *	of the backend	regions >= sum of region_count; regions_peak >= regions
 */
#ifndef SLAB_TYPES_H
#define SLAB_TYPES_H

#include <sheaf/slab.h>

#include "base/compiler.h"
#include "slab_list.h"

#include <assert.h>
#include <pthread.h>

/* A slab has at least this many bytes, so a region at most that many slabs. */
#define SLAB_BYTES_MIN 4096u
#define REGION_SLABS_MAX (SHEAF_SLAB_REGION / SLAB_BYTES_MIN)
#define REGION_WORDS (REGION_SLABS_MAX / 64)

/* Objects per slab that are aimed at; see layout() in slab_create.c. */
#define SLAB_OBJECTS_AIM 64u

#define OBJECT_SIZE_MAX 65536u
#define OBJECT_ALIGN_MIN 8u
#define OBJECT_ALIGN_MAX 4096u

/* Lists of regions by the objects that are out, about equally wide. */
#define REGION_BINS 8u

/* Regions that are kept above the attribute while what goes back is missed. */
#define KEEP_MORE 8u

#define NAME_BYTES 32

static_assert(SHEAF_SLAB_REGION / OBJECT_SIZE_MAX >= (size_t)2 * REGION_BINS,
	      "the smallest number of objects in a region tells bins apart");

/*
 * The head of a slab; its region and its number follow from where it is. Protected
 * by the mutex of the node. Heads are packed: a line has those of four neighbours if
 * an object is above 64 bytes, and one thread at a time writes them.
 */
struct slab {
	uint64_t free;
	/* Set: the object is free. With a constructor as many words follow, made[]; set: the object
	 * has been constructed since the slab's pages came. */
	uint64_t bits[];
};

/*
 * A region and the heads of its slabs. The first line never changes and is read
 * by frees that hold no lock; the others are protected by the mutex of the node.
 */
struct region {
	char *base;
	struct sheaf_slab *owner;
	unsigned node;

	struct list all cacheline_aligned; /* in node->regions */
	struct list link;                  /* in a bin, in spare, in leaving or nowhere */
	uint32_t used;
	uint32_t least; /* of `used` in the list that it is in */
	bool leaving;   /* which of the two it is in */
	uint64_t partial_bits[REGION_WORDS];
	uint64_t empty_bits[REGION_WORDS];
	uint64_t dirty_bits[REGION_WORDS]; /* used since the system gave the pages */
	uint64_t aging_bits[REGION_WORDS]; /* empty since before the node's ticket */

	char heads[] cacheline_aligned;
};

/*
 * What a type-stable node gives back next, a generation: none; or one whose ticket is being
 * taken, without the mutex; or one that waits for its ticket.
 */
enum aging { AGE_NONE, AGE_TAKING, AGE_WAITING };

/* One NUMA node. The mutex protects the rest. */
struct node {
	pthread_mutex_t mutex;
	struct list bins[REGION_BINS];
	struct list spare;
	struct list leaving;
	struct list regions;
	uint32_t region_count;
	uint32_t spare_count;
	/* Slabs: empty and dirty; of those, kept; given back and not missed so far; given back
	 * since one was missed. See slab_trim.c. */
	uint64_t idle;
	uint64_t keep;
	uint64_t regret;
	uint64_t given;
	uint64_t bytes_returned;
	enum aging aging;
	uint64_t ticket;
	uint64_t random; /* of the order in hardened slabs; never 0 */
	uint64_t objects;
	uint64_t slabs_used;
	uint64_t alloc_calls;
	uint64_t free_calls;
} cacheline_aligned;

/* A slab backend. What is not protected by a mutex never changes. */
struct sheaf_slab {
	uint32_t object_size;
	uint32_t stride;     /* bytes from one object to the next */
	uint32_t start;      /* bytes of a slab before its first object */
	uint32_t guard;      /* bytes at its end that cannot be accessed */
	uint64_t inverse;    /* of the stride, see slab_divide() */
	uint32_t slab_shift; /* log2 of the bytes of a slab */
	uint32_t slab_mask;  /* those bytes - 1 */
	uint32_t slab_objects;
	uint32_t slab_words; /* of its bits */
	uint32_t head_bytes; /* from one slab head to the next */
	uint32_t slabs;      /* in a region */
	uint32_t region_objects;
	uint32_t region_words; /* of the bits of its slabs */
	uint32_t bin_shift;    /* log2 of the width of a bin, in objects */
	uint32_t nodes;
	uint64_t base_slabs; /* bounds of node.keep */
	uint64_t most_slabs;
	bool huge;     /* ask for huge pages */
	bool bind;     /* tell the system which node a region is for */
	bool hardened; /* random order */
	sheaf_slab_ctor_fn *ctor;
	void *ctor_arg;
	struct sheaf_gp *gp; /* not NULL: type-stable */
	sheaf_slab_misuse_fn *misuse;
	void *misuse_arg;
	char name[NAME_BYTES];

	/* Of sheaf_slab_destroy(), which has no other call beside it: the ticket that it waited for
	 * in vain, and how many frees there had been. */
	bool ending;
	uint64_t end_ticket;
	uint64_t end_frees;

	struct list link; /* in the list of slab_registry.c, whose mutex protects three */
	uint64_t regions; /* on the map */
	uint64_t regions_peak;

	struct node node[];
};

static inline struct slab *slab_head(const struct sheaf_slab *s, struct region *region, uint32_t i)
{
	return (struct slab *)(void *)(region->heads + (size_t)i * s->head_bytes);
}

static inline uint64_t *slab_made(const struct sheaf_slab *s, struct slab *slab)
{
	return slab->bits + s->slab_words;
}

/* How many spare regions a node keeps. */
static inline uint64_t regions_kept(const struct sheaf_slab *s, const struct node *node)
{
	return (node->keep + s->slabs - 1) / s->slabs;
}

/* The bin of a region some of whose objects are out. */
static inline unsigned region_bin(const struct sheaf_slab *s, uint32_t used)
{
	return used >> s->bin_shift;
}

/* The least number of objects out with which a region belongs where it does with `used`. */
static inline uint32_t region_least(const struct sheaf_slab *s, uint32_t used)
{
	uint32_t least = region_bin(s, used) << s->bin_shift;

	if (!used || used == s->region_objects)
		return used;
	return least ? least : 1;
}

/*
 * offset / stride without a division. inverse * stride = 2^40 + e with 0 <= e < stride,
 * so the product is too large by offset * e / stride; that cannot reach the next
 * multiple while offset * e < 2^40, and it is below 2^21 * 2^16. The product itself
 * stays below 2^21 * 2^38.
 */
#define SLAB_INVERSE_SHIFT 40

static inline uint32_t slab_divide(const struct sheaf_slab *s, uint32_t offset)
{
	return (uint32_t)((offset * s->inverse) >> SLAB_INVERSE_SHIFT);
}

#endif
