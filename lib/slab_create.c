/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* The beginning and the end of a slab backend, and how it cuts regions. */
#include "slab_types.h"

#include "base/attr.h"
#include "base/memory.h"
#include "base/thread.h"
#include "base/topology.h"
#include "slab_region.h"
#include "slab_registry.h"

#include <stdio.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

/* sizeof(struct sheaf_slab_attr) in the first release. */
#define ATTR_SIZE_MIN sizeof(struct sheaf_slab_attr)

static_assert(TOPOLOGY_NODES_MAX <= 64, "a set of nodes is one word in a bulk free");

/*
 * Cut for objects of one size. The slab is the smallest that holds SLAB_OBJECTS_AIM
 * objects: about what a sheaf does, so that a refill from an empty slab visits one
 * slab, whose bits are one word; and what is left at its end, less than one object,
 * is below 1/64 of it. Above 16 KiB per object a slab is a whole region; above 32 KiB
 * that holds fewer than aimed at, but still 32, and the rest is below 1/32.
 *
 * A guard page costs no memory but two mappings, so hardened slabs have 16 pages at least. The
 * rest comes before the objects, not behind: the last one ends at the guard, but for what its
 * size lacks of its alignment. Of 64 KiB there are 31 in a region then.
 */
static void layout(struct sheaf_slab *s, size_t size, size_t align, uint32_t guard)
{
	uint32_t shift = (uint32_t)__builtin_ctz(SLAB_BYTES_MIN);
	uint32_t room;

	s->object_size = (uint32_t)size;
	s->stride = (uint32_t)((size + align - 1) & ~(align - 1));
	s->guard = guard;
	s->inverse = (((uint64_t)1 << SLAB_INVERSE_SHIFT) + s->stride - 1) / s->stride;
	while (((size_t)1 << shift) < SHEAF_SLAB_REGION &&
	       (((size_t)1 << shift) < 16 * (size_t)guard ||
		(((size_t)1 << shift) - guard) / s->stride < SLAB_OBJECTS_AIM))
		shift++;
	room = (1u << shift) - guard;
	s->slab_shift = shift;
	s->slab_mask = (1u << shift) - 1;
	s->slab_objects = room / s->stride;
	s->start = guard ? room - s->slab_objects * s->stride : 0;
	s->slab_words = (s->slab_objects + 63) / 64;
	s->head_bytes = (uint32_t)(sizeof(struct slab) +
				   sizeof(uint64_t) * (s->ctor ? 2 : 1) * s->slab_words);
	s->slabs = (uint32_t)(SHEAF_SLAB_REGION >> shift);
	s->region_objects = s->slabs * s->slab_objects;
	s->region_words = (s->slabs + 63) / 64;
	while ((s->region_objects - 1) >> s->bin_shift >= REGION_BINS)
		s->bin_shift++;
}

/* What nobody can guess; where the system has no entropy to give, the clock and an address. */
static uint64_t entropy(const void *address)
{
	struct timespec t;
	uint64_t seed;
	int state = cancel_off();
	ssize_t got = getrandom(&seed, sizeof(seed), GRND_NONBLOCK);

	cancel_on(state);
	if (got == (ssize_t)sizeof(seed))
		return seed;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_nsec * UINT64_C(0x9e3779b97f4a7c15) ^ (uintptr_t)address;
}

static void node_init(const struct sheaf_slab *s, struct node *node, uint64_t seed)
{
	pthread_mutex_init(&node->mutex, NULL);
	for (unsigned i = 0; i < REGION_BINS; i++)
		list_init(&node->bins[i]);
	list_init(&node->spare);
	list_init(&node->leaving);
	list_init(&node->regions);
	node->keep = s->base_slabs;
	node->random = seed ? seed : 1;
}

static bool attr_ok(const struct sheaf_slab_attr *a)
{
	return a->object_size && a->object_size <= OBJECT_SIZE_MAX &&
	       a->nodes <= TOPOLOGY_NODES_MAX && a->object_align <= OBJECT_ALIGN_MAX &&
	       !(a->object_align & (a->object_align - 1));
}

/* What is taken over as it is. */
static void copy_attr(struct sheaf_slab *s, const struct sheaf_slab_attr *a)
{
	snprintf(s->name, sizeof(s->name), "%s", a->name ? a->name : "slab");
	s->hardened = a->hardened;
	s->ctor = a->ctor;
	s->ctor_arg = a->ctor_arg;
	s->gp = a->gp;
	s->misuse = a->misuse;
	s->misuse_arg = a->misuse_arg;
}

int sheaf_slab_create(struct sheaf_slab **slab, const struct sheaf_slab_attr *attr)
{
	unsigned system_nodes = topology_nodes();
	struct sheaf_slab_attr a;
	struct sheaf_slab *s;
	int ret = attr_copy(&a, sizeof(a), attr, attr->size, ATTR_SIZE_MIN);

	if (ret)
		return ret;
	if (!attr_ok(&a))
		return -EINVAL;
	if (!a.object_align)
		a.object_align = a.object_size < 16 ? 8 : 16;
	if (a.object_align < OBJECT_ALIGN_MIN)
		a.object_align = OBJECT_ALIGN_MIN;
	if (!a.nodes)
		a.nodes = system_nodes;

	s = memory_zalloc(CACHE_LINE, sizeof(*s) + a.nodes * sizeof(s->node[0]));
	if (!s)
		return -ENOMEM;
	copy_attr(s, &a);
	layout(s, a.object_size, a.object_align, a.hardened ? (uint32_t)sysconf(_SC_PAGESIZE) : 0);
	s->nodes = a.nodes;
	if (a.spare_regions != UINT32_MAX) {
		s->base_slabs = (uint64_t)(a.spare_regions ? a.spare_regions : 1) * s->slabs;
		s->most_slabs = s->base_slabs + (uint64_t)KEEP_MORE * s->slabs;
	}
	s->huge = !a.no_huge_pages && !a.hardened;
	/* Numbers that were injected or folded are not those of the system. */
	s->bind = system_nodes > 1 && s->nodes == system_nodes;
	if (a.hardened && !a.seed)
		a.seed = entropy(s);
	for (unsigned k = 0; k < s->nodes; k++)
		node_init(s, &s->node[k], a.seed + k);
	ret = slab_register(s);
	if (ret) {
		memory_free(s);
		return ret;
	}
	*slab = s;
	return 0;
}

/*
 * Readers of a type-stable backend may still be at objects that are free. The ticket of a call
 * that could not wait is kept, so that the owner of a manual source gets ahead by stepping it.
 */
static int wait_for_readers(struct sheaf_slab *s)
{
	uint64_t frees = 0;
	bool regions = false;

	for (unsigned k = 0; k < s->nodes; k++) {
		frees += s->node[k].free_calls;
		regions |= s->node[k].region_count;
	}
	if (!s->gp || !regions)
		return 0;
	if (!s->ending || s->end_frees != frees)
		s->end_ticket = sheaf_gp_ticket(s->gp);
	s->ending = true;
	s->end_frees = frees;
	return sheaf_gp_wait(s->gp, s->end_ticket);
}

int sheaf_slab_destroy(struct sheaf_slab *slab)
{
	int err;

	for (unsigned k = 0; k < slab->nodes; k++)
		if (slab->node[k].objects)
			return -EBUSY;
	err = wait_for_readers(slab);
	if (err)
		return err;
	slab_unregister(slab);
	for (unsigned k = 0; k < slab->nodes; k++) {
		region_destroy_all(&slab->node[k].leaving);
		region_destroy_all(&slab->node[k].spare);
		pthread_mutex_destroy(&slab->node[k].mutex);
	}
	memory_free(slab);
	return 0;
}
