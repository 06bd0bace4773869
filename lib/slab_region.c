/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * A region comes in two pieces: 2 MiB from the system that hold objects and nothing
 * else, and a head with those of its slabs, from malloc. Keeping the heads out of the region
 * has these effects:
 *
 * - Objects of a page, or of any power of two, fill the region to the last byte; with
 *   heads inside, one in 512 objects of a page would be lost, and one in 32 of 64 KiB.
 * - Heads of different regions fall on different cache sets. At the same offset of
 *   2 MiB regions they would all meet in the same few sets of every cache.
 * - The backend never touches the memory of an object. Its pages are first touched,
 *   and so placed, by whoever uses it, and a write beyond an object spoils objects
 *   but no free bits.
 *
 * What it costs is one more load in a free, for the map of regions (slab_registry.c),
 * that has to be asked anyway: a pointer that was never ours may be anything.
 *
 * Huge pages are asked for when a backend has a region per node: one of a few objects
 * then costs a few pages, and with more regions 2 MiB are no matter.
 *
 * NUMA: memory is bound by preference, so that a node which runs out takes from
 * another. The heads are on the node of the thread that made the region. A node
 * that has no memory, or none that this process may have, is not asked for: its
 * regions come from where the thread that first touches them gets its own. All of it
 * is best effort: kernels without NUMA and filters that refuse mbind(2) do no harm.
 *
 * Guard pages are promised, not advised: a region that cannot have them, because the
 * process has as many mappings as it may, counts as no memory.
 */
#define _GNU_SOURCE
#include "slab_region.h"

#include "base/annotate.h"
#include "base/memory.h"
#include "base/probe.h"
#include "base/topology.h"
#include "slab_registry.h"

#include <errno.h>
#include <linux/mempolicy.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Nodes that a kernel can have at most; it refuses shorter masks. */
#define MASK_BITS 1024
#define LONG_BITS (8 * sizeof(unsigned long))

/* Tell the system that a region is for a node, if that has memory for us. */
static void bind_to(char *base, unsigned node)
{
	unsigned long allowed[MASK_BITS / LONG_BITS] = {0};
	unsigned long wanted[MASK_BITS / LONG_BITS] = {0};
	unsigned long bit = 1ul << node % LONG_BITS;

	if (syscall(__NR_get_mempolicy, NULL, allowed, (unsigned long)MASK_BITS, 0,
		    MPOL_F_MEMS_ALLOWED) ||
	    !(allowed[node / LONG_BITS] & bit))
		return;
	wanted[node / LONG_BITS] = bit;
	/* The kernel takes one bit less than it is told. */
	syscall(__NR_mbind, base, SHEAF_SLAB_REGION, MPOL_PREFERRED, wanted,
		(unsigned long)MASK_BITS, 0);
}

static void advise(char *base, unsigned node, bool bind, bool huge)
{
	int saved = errno;

	if (bind)
		bind_to(base, node);
	if (huge)
		madvise(base, SHEAF_SLAB_REGION, MADV_HUGEPAGE);
	errno = saved;
}

/* The last page of each slab. */
static bool guard(const struct sheaf_slab *s, char *base)
{
	size_t bytes = (size_t)1 << s->slab_shift;
	int saved = errno;

	for (size_t end = bytes; s->guard && end <= SHEAF_SLAB_REGION; end += bytes) {
		if (mprotect(base + end - s->guard, s->guard, PROT_NONE)) {
			errno = saved;
			return false;
		}
	}
	return true;
}

static void slab_init(const struct sheaf_slab *s, struct slab *slab)
{
	uint32_t rest = s->slab_objects % 64;

	slab->free = s->slab_objects;
	for (uint32_t w = 0; w < s->slab_words; w++)
		slab->bits[w] = ~(uint64_t)0;
	if (rest)
		slab->bits[s->slab_words - 1] = ((uint64_t)1 << rest) - 1;
}

static struct region *make_head(struct sheaf_slab *s, unsigned node)
{
	size_t bytes = sizeof(struct region) + (size_t)s->slabs * s->head_bytes;
	struct region *region = memory_zalloc(CACHE_LINE, bytes);

	if (!region)
		return NULL;
	region->owner = s;
	region->node = node;
	list_init(&region->all);
	list_init(&region->link);
	for (uint32_t i = 0; i < s->slabs; i++) {
		slab_init(s, slab_head(s, region, i));
		region->empty_bits[i / 64] |= (uint64_t)1 << i % 64;
	}
	return region;
}

struct region *region_create(struct sheaf_slab *s, unsigned node)
{
	struct region *region = make_head(s, node);
	uint64_t regions;

	if (!region)
		return NULL;
	region->base = memory_map(SHEAF_SLAB_REGION, SHEAF_SLAB_REGION);
	if (!region->base)
		goto no_memory;
	if (!guard(s, region->base))
		goto no_map;
	regions = region_enter(region);
	if (!regions)
		goto no_map;
	annotate_root(region->base, SHEAF_SLAB_REGION);
	PROBE(region_map, s, &s->name[0], node, region->base);
	advise(region->base, node, s->bind, s->huge && regions > s->nodes);
	if (!s->gp)
		annotate_shut(region->base, SHEAF_SLAB_REGION);
	return region;

no_map:
	memory_unmap(region->base, SHEAF_SLAB_REGION);
no_memory:
	memory_free(region);
	return NULL;
}

/* Off the map first: once unmapped, the address may be another region's. */
static void region_destroy(struct region *region)
{
	PROBE(region_unmap, region->owner, &region->owner->name[0], region->node, region->base);
	region_leave(region);
	annotate_open(region->base, SHEAF_SLAB_REGION);
	annotate_unroot(region->base, SHEAF_SLAB_REGION);
	memory_unmap(region->base, SHEAF_SLAB_REGION);
	memory_free(region);
}

size_t region_destroy_all(struct list *regions)
{
	size_t n = 0;

	for (; !list_empty(regions); n++) {
		struct region *region = container_of(regions->next, struct region, link);

		list_remove(&region->link);
		region_destroy(region);
	}
	return n;
}

/* Pages have gone: the objects of their slabs are to be constructed again. */
static void lost(struct region *region, uintptr_t from, uintptr_t to)
{
	const struct sheaf_slab *s = region->owner;
	const uintptr_t base = (uintptr_t)region->base;
	uint32_t i = (uint32_t)((from - base) >> s->slab_shift);
	const uint32_t last = (uint32_t)((to - 1 - base) >> s->slab_shift);

	for (; s->ctor && i <= last; i++)
		memset(slab_made(s, slab_head(s, region, i)), 0, s->slab_words * sizeof(uint64_t));
}

static bool drop(uintptr_t from, uintptr_t to)
{
	int saved = errno;
	bool dropped = madvise((void *)from, to - from, MADV_DONTNEED) == 0;

	errno = saved;
	return dropped;
}

/*
 * Slabs start .. end - 1: their whole pages go. Where the program has locked some (mlock(2)) the system stops at
 * the first, so they are tried one by one. What stays counts as gone for all that, or it would be tried again with
 * each free; only its objects stay constructed.
 */
static size_t discard_run(struct region *region, uint32_t start, uint32_t end)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
	uintptr_t base = (uintptr_t)region->base;
	uint32_t shift = region->owner->slab_shift;
	uintptr_t from = (base + ((uintptr_t)start << shift) + page - 1) & ~(page - 1);
	uintptr_t to = (base + ((uintptr_t)end << shift)) & ~(page - 1);
	size_t bytes = 0;

	if (to <= from)
		return 0;
	if (drop(from, to)) {
		lost(region, from, to);
		return to - from;
	}
	for (; from < to; from += page) {
		if (!drop(from, from + page))
			continue;
		lost(region, from, from + page);
		bytes += page;
	}
	return bytes;
}

size_t region_discard(struct region *region, const uint64_t *set)
{
	uint32_t slabs = region->owner->slabs;
	uint32_t start = 0;
	size_t bytes = 0;

	for (uint32_t i = 0; i <= slabs; i++) {
		if (i < slabs && (set[i / 64] & region->dirty_bits[i / 64]) >> i % 64 & 1) {
			region->dirty_bits[i / 64] &= ~((uint64_t)1 << i % 64);
			region->aging_bits[i / 64] &= ~((uint64_t)1 << i % 64);
			continue;
		}
		if (start < i)
			bytes += discard_run(region, start, i);
		start = i + 1;
	}
	PROBE(region_discard, region->owner, &region->owner->name[0], region->node, bytes);
	return bytes;
}
