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
 * another. The heads are on the node of the thread that made the region. All of it
 * is best effort: kernels without NUMA and filters that refuse mbind(2) do no harm.
 */
#define _GNU_SOURCE
#include "slab_region.h"

#include "base/annotate.h"
#include "base/memory.h"
#include "base/topology.h"
#include "slab_registry.h"

#include <errno.h>
#include <linux/mempolicy.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static_assert(TOPOLOGY_NODES_MAX <= 64, "a node mask is one word");

static void advise(char *base, unsigned node, bool bind, bool huge)
{
	uint64_t mask = (uint64_t)1 << node;
	int saved = errno;

	/* The kernel takes one bit less than it is told. */
	if (bind)
		syscall(__NR_mbind, base, SHEAF_SLAB_REGION, MPOL_PREFERRED, &mask,
			(unsigned long)TOPOLOGY_NODES_MAX + 1, 0);
	if (huge)
		madvise(base, SHEAF_SLAB_REGION, MADV_HUGEPAGE);
	errno = saved;
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
	regions = region_enter(region);
	if (!regions)
		goto no_map;
	advise(region->base, node, s->bind, s->huge && regions > s->nodes);
	annotate_free(region->base, SHEAF_SLAB_REGION);
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
	region_leave(region);
	annotate_alloc(region->base, SHEAF_SLAB_REGION);
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

/* The slabs of a run start .. end - 1 are empty: their whole pages go. */
static size_t discard_run(struct region *region, uint32_t start, uint32_t end)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
	uintptr_t base = (uintptr_t)region->base;
	uint32_t shift = region->owner->slab_shift;
	uintptr_t from = (base + ((uintptr_t)start << shift) + page - 1) & ~(page - 1);
	uintptr_t to = (base + ((uintptr_t)end << shift)) & ~(page - 1);
	int saved = errno;
	int ret = to > from ? madvise((void *)from, to - from, MADV_DONTNEED) : 0;

	errno = saved;
	return to > from && !ret ? to - from : 0;
}

size_t region_discard(struct region *region)
{
	uint32_t slabs = region->owner->slabs;
	uint32_t start = 0;
	size_t bytes = 0;

	for (uint32_t i = 0; i <= slabs; i++) {
		uint64_t bit = (uint64_t)1 << i % 64;

		if (i < slabs && (region->empty_bits[i / 64] & region->dirty_bits[i / 64] & bit)) {
			region->dirty_bits[i / 64] &= ~bit;
			continue;
		}
		if (start < i)
			bytes += discard_run(region, start, i);
		start = i + 1;
	}
	return bytes;
}
