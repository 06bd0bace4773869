/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * What the slab backend is made of. lib/slab.c explains how it works.
 *
 *	struct sheaf_slab
 *	  node[0]     bins[0..3] -> slab <-> slab ...	fullest slabs first
 *	  node[1]     partial    -> region <-> ...	have used and empty slabs
 *	  ...         spare      -> region <-> ...	have empty slabs only
 *	              regions    -> all of them
 *
 *	heads of a region (malloc)             memory of a region (2 MiB, aligned)
 *	+--------+------+------+------+        +--------+--------+--------+---
 *	| region | slab | slab | slab | ...    | slab 0 | slab 1 | slab 2 | ...
 *	+--------+------+------+------+        +--------+--------+--------+---
 *
 *	one slab:  | object 0 | object 1 | ... | object slab_objects-1 | rest |
 *	            <-stride->                                          < stride
 *
 * Invariants, at every moment when the node's mutex is free (sheaf_slab_check()):
 *
 *	of a slab	free = bits that are set in bits[], none at or above slab_objects
 *			place = SLAB_FULL	iff free = 0
 *			      = SLAB_EMPTY	iff free = slab_objects iff its bit in empty_bits
 *			      = slab_bin(free)	otherwise; it is in that bin's list
 *	of a region	empty = bits that are set in empty_bits[]
 *			in spare iff empty = slabs; in partial iff 0 < empty < slabs
 *			a used slab is dirty
 *			region_find(any address in it) = the region
 *	of a node	objects = sum over its slabs of slab_objects - free
 *			slabs_used = sum over its regions of slabs - empty
 *			region_count = length of regions
 *			spare_count = length of spare <= spare_regions
 *	of the backend	regions >= sum of region_count; regions_peak >= regions
 */
#ifndef SLAB_TYPES_H
#define SLAB_TYPES_H

#include <sheaf/slab.h>

#include "base/compiler.h"
#include "slab_list.h"

#include <assert.h>
#include <pthread.h>

/* Slabs in a region are at most this many: a slab has at least 4096 bytes. */
#define SLAB_BYTES_MIN 4096u
#define REGION_SLABS_MAX (SHEAF_SLAB_REGION / SLAB_BYTES_MIN)
#define REGION_WORDS (REGION_SLABS_MAX / 64)

/* Objects per slab that are aimed at; see slab_layout(). */
#define SLAB_OBJECTS_AIM 64u

#define OBJECT_SIZE_MAX 65536u
#define OBJECT_ALIGN_MIN 8u
#define OBJECT_ALIGN_MAX 4096u

/* Lists of slabs by fullness: bin i has those with about i to i + 1 quarters free. */
#define SLAB_BINS 4u

/* Where a slab is, if it is not in a bin. HELD only while the node's mutex is. */
enum { SLAB_FULL = SLAB_BINS, SLAB_EMPTY, SLAB_HELD };

/*
 * The head of a slab. Protected by the mutex of its node, but for region and index,
 * which never change. With its bits it fills whole cache lines: two slabs never
 * share one, and up to 256 objects it is one line.
 */
struct slab {
	struct list link;
	struct region *region;
	uint32_t free;
	uint16_t index;
	uint16_t place;
	uint64_t bits[]; /* set: the object is free */
};

static_assert(sizeof(struct slab) + 256 / 8 <= CACHE_LINE, "a slab head is one cache line");

/*
 * A region and the heads of its slabs. The first line never changes and is read
 * by frees that hold no lock; the others are protected by the mutex of the node.
 */
struct region {
	char *base;
	struct sheaf_slab *owner;
	unsigned node;

	struct list all cacheline_aligned; /* in node->regions */
	struct list link;                  /* in node->partial, node->spare or nowhere */
	uint32_t empty;
	uint64_t empty_bits[REGION_WORDS];
	uint64_t dirty_bits[REGION_WORDS]; /* used since the system gave the pages */

	char heads[] cacheline_aligned;
};

/* One NUMA node. The mutex protects the rest, but for the two call counters (atomic)
 * and region_count, which may also be read without it, as a hint. */
struct node {
	pthread_mutex_t mutex;
	struct list bins[SLAB_BINS];
	struct list partial;
	struct list spare;
	struct list regions;
	uint32_t region_count;
	uint32_t spare_count;
	uint64_t objects;
	uint64_t slabs_used;
	uint64_t alloc_calls;
	uint64_t free_calls;
} cacheline_aligned;

/* A slab backend. All but the link and the two region counters never changes. */
struct sheaf_slab {
	uint32_t object_size;
	uint32_t stride;     /* bytes from one object to the next */
	uint64_t inverse;    /* of the stride, see slab_divide() */
	uint32_t slab_shift; /* log2 of the bytes of a slab */
	uint32_t slab_objects;
	uint32_t slabs;      /* in a region */
	uint32_t words;      /* of the bits of a slab */
	uint32_t head_bytes; /* from one slab head to the next */
	uint32_t nodes;
	uint32_t spare_regions;
	bool huge; /* ask for huge pages */
	bool bind; /* the system has nodes to bind to */

	struct list link;      /* in the list of slab_registry.c, under its mutex */
	uint64_t regions;      /* atomic */
	uint64_t regions_peak; /* atomic */

	struct node node[];
};

static inline struct slab *slab_head(const struct sheaf_slab *s, struct region *region,
				     unsigned index)
{
	return (struct slab *)(void *)(region->heads + (size_t)index * s->head_bytes);
}

static inline char *slab_base(const struct sheaf_slab *s, const struct slab *slab)
{
	return slab->region->base + ((size_t)slab->index << s->slab_shift);
}

/* The bin of a slab that is neither full nor empty. */
static inline unsigned slab_bin(const struct sheaf_slab *s, uint32_t free)
{
	uint32_t quarter = s->slab_objects / SLAB_BINS;

	return (free > quarter) + (free > 2 * quarter) + (free > 3 * quarter);
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
