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
 *	              regions -> all of them, also those where all are out
 *
 *	head of a region (malloc)              memory of a region (2 MiB, aligned)
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
 *			in empty_bits iff free = slab_objects
 *			in partial_bits iff 0 < free < slab_objects
 *			in dirty_bits if free < slab_objects
 *	of a region	used = sum over its slabs of slab_objects - free
 *			in spare iff used = 0; in no list but regions iff all are out;
 *			else in bins[region_bin(used)]
 *			region_find(any address in it) = the region
 *	of a node	objects = sum over its regions of used
 *			slabs_used = slabs of its regions that are not in empty_bits
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

static_assert(SHEAF_SLAB_REGION / OBJECT_SIZE_MAX >= 2 * REGION_BINS,
	      "the smallest number of objects in a region tells bins apart");

/*
 * The head of a slab; its region and its number follow from where it is. Protected
 * by the mutex of the node. Heads are packed: a line has those of four neighbours if
 * an object is above 64 bytes, and one thread at a time writes them.
 */
struct slab {
	uint64_t free;
	uint64_t bits[]; /* set: the object is free */
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
	struct list link;                  /* in a bin, in node->spare or nowhere */
	uint32_t used;
	uint64_t partial_bits[REGION_WORDS];
	uint64_t empty_bits[REGION_WORDS];
	uint64_t dirty_bits[REGION_WORDS]; /* used since the system gave the pages */

	char heads[] cacheline_aligned;
};

/* One NUMA node. The mutex protects the rest. */
struct node {
	pthread_mutex_t mutex;
	struct list bins[REGION_BINS];
	struct list spare;
	struct list regions;
	uint32_t region_count;
	uint32_t spare_count;
	uint64_t objects;
	uint64_t slabs_used;
	uint64_t alloc_calls;
	uint64_t free_calls;
} cacheline_aligned;

/* A slab backend. What is not protected by a mutex never changes. */
struct sheaf_slab {
	uint32_t object_size;
	uint32_t stride;     /* bytes from one object to the next */
	uint64_t inverse;    /* of the stride, see slab_divide() */
	uint32_t slab_shift; /* log2 of the bytes of a slab */
	uint32_t slab_objects;
	uint32_t slab_words; /* of its bits */
	uint32_t head_bytes; /* from one slab head to the next */
	uint32_t slabs;      /* in a region */
	uint32_t region_objects;
	uint32_t region_words; /* of the bits of its slabs */
	uint32_t bin_shift;    /* log2 of the width of a bin, in objects */
	uint32_t nodes;
	uint32_t spare_regions;
	bool huge; /* ask for huge pages */
	bool bind; /* tell the system which node a region is for */

	struct list link; /* in the list of slab_registry.c, whose mutex protects three */
	uint64_t regions; /* on the map */
	uint64_t regions_peak;

	struct node node[];
};

static inline struct slab *slab_head(const struct sheaf_slab *s, struct region *region, uint32_t i)
{
	return (struct slab *)(void *)(region->heads + (size_t)i * s->head_bytes);
}

/* The bin of a region some of whose objects are out. */
static inline unsigned region_bin(const struct sheaf_slab *s, uint32_t used)
{
	return used >> s->bin_shift;
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
