/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * The map of regions is a tree of two levels over the upper bits of an address:
 *
 *	 47           34 33           21 20                         0
 *	+---------------+---------------+----------------------------+
 *	|  which leaf   |  slot in it   |  inside the region         |
 *	+---------------+---------------+----------------------------+
 *
 * A free reads it without a lock for each pointer it gets, and must get an answer
 * for any pointer without touching the memory behind it; that is why the regions
 * have no magic word in them. One map serves all backends, so that an object given
 * to the wrong one is told from a pointer that never was an object.
 *
 * 1 A slot holds a region from region_enter() to region_leave(), or to region_hide() where that
 *   comes before. The object that is being freed is out, so its region does not leave meanwhile:
 *   what a lawful free reads stays valid. An unlawful one, of what is free already, looks under the
 *   mutex of the node, under which the region is hidden before it goes; but on a machine with
 *   several nodes it asks for the node before, without. The store of a region is a release, its
 *   partner is the acquire in region_find(), and it publishes the constant fields of the region.
 * 2 A leaf stays until no backend is left at the end of the process or library;
 *   only its touched pages cost memory. A tree needs no resizing, which is what
 *   makes it safe to read while others write.
 *
 * fork() copies the mutexes in whatever state they are. The handlers here hold all of
 * them across it, so that a child of a program with threads finds every backend at
 * rest. Lock order: the registry's mutex, then those of nodes, as slab_locate() does; nothing
 * else holds two, and nothing is locked below a node's.
 */
#include "slab_registry.h"

#include "base/atomic.h"
#include "base/fork.h"
#include "base/memory.h"
#include "slab_locate.h"

#include <errno.h>

#define LEAF_BYTES (LEAF_SLOTS * sizeof(struct region *))

/* Leaves are written once, under the registry's mutex; a region's slot under that, and NULL also under the mutex
 * of its node. Read by all. */
struct region **slab_map[ROOT_SLOTS];

static struct {
	pthread_mutex_t mutex; /* protects the rest, and who writes the map */
	struct list slabs;
	size_t leaves;
} registry = {
	.mutex = PTHREAD_MUTEX_INITIALIZER,
	.slabs = {&registry.slabs, &registry.slabs},
};

uint64_t region_enter(struct region *region)
{
	struct sheaf_slab *s = region->owner;
	size_t at = root_index(region->base);
	struct region **leaf;
	uint64_t regions = 0;

	if (at >= ROOT_SLOTS)
		return 0;
	pthread_mutex_lock(&registry.mutex);
	leaf = slab_map[at];
	if (!leaf) {
		leaf = memory_map(LEAF_BYTES, LEAF_BYTES);
		registry.leaves += leaf != NULL;
		/* Partner: region_find(). Publishes that the slots are NULL. */
		store_release(&slab_map[at], leaf);
	}
	if (leaf) {
		store_release(&leaf[leaf_index(region->base)], region);
		regions = ++s->regions;
		if (s->regions_peak < regions)
			s->regions_peak = regions;
	}
	pthread_mutex_unlock(&registry.mutex);
	return regions;
}

/* Relaxed: who looks for it in vain reads nothing through it, and who must not find it has the mutex. */
void region_hide(struct region *region)
{
	store_relaxed(&slab_map[root_index(region->base)][leaf_index(region->base)], NULL);
}

void region_leave(struct region *region)
{
	pthread_mutex_lock(&registry.mutex);
	region_hide(region);
	region->owner->regions--;
	pthread_mutex_unlock(&registry.mutex);
}

uint64_t regions_peak(struct sheaf_slab *s)
{
	uint64_t peak;

	pthread_mutex_lock(&registry.mutex);
	peak = s->regions_peak;
	pthread_mutex_unlock(&registry.mutex);
	return peak;
}

/* The region stays while the registry's mutex is held (1), its bits while the node's is. */
bool slab_locate(const void *address, struct slab_found *found)
{
	struct region *region;
	const struct sheaf_slab *s;
	struct node *node;
	struct slab *slab;
	uint32_t offset, inside, i;

	*found = (struct slab_found){0};
	pthread_mutex_lock(&registry.mutex);
	region = region_find(address);
	if (!region) {
		pthread_mutex_unlock(&registry.mutex);
		return false;
	}
	s = found->owner = region->owner;
	offset = (uint32_t)((const char *)address - region->base);
	inside = offset & s->slab_mask;
	i = inside < s->start ? s->slab_objects : slab_divide(s, inside - s->start);
	if (i < s->slab_objects) {
		node = &region->owner->node[region->node];
		pthread_mutex_lock(&node->mutex);
		slab = slab_head(s, region, offset >> s->slab_shift);
		found->out = !(slab->bits[i / 64] >> i % 64 & 1);
		pthread_mutex_unlock(&node->mutex);
		found->object = region->base + (offset - inside) + s->start + (size_t)i * s->stride;
	}
	pthread_mutex_unlock(&registry.mutex);
	return true;
}

static void fork_prepare(void)
{
	pthread_mutex_lock(&registry.mutex);
	for (struct list *l = registry.slabs.next; l != &registry.slabs; l = l->next) {
		struct sheaf_slab *s = container_of(l, struct sheaf_slab, link);

		for (unsigned i = 0; i < s->nodes; i++)
			fork_lock(&s->node[i].mutex);
	}
}

static void fork_parent(void)
{
	for (struct list *l = registry.slabs.next; l != &registry.slabs; l = l->next) {
		struct sheaf_slab *s = container_of(l, struct sheaf_slab, link);

		for (unsigned i = 0; i < s->nodes; i++)
			fork_unlock(&s->node[i].mutex);
	}
	pthread_mutex_unlock(&registry.mutex);
}

/* The one thread of the child is a copy of the one that locked. Who was taking a ticket for a
 * generation is not there (slab_trim.c). */
static void fork_child(void)
{
	for (struct list *l = registry.slabs.next; l != &registry.slabs; l = l->next) {
		struct sheaf_slab *s = container_of(l, struct sheaf_slab, link);

		for (unsigned i = 0; i < s->nodes; i++) {
			if (s->node[i].aging == AGE_TAKING)
				s->node[i].aging = AGE_NONE;
			fork_unlock_in_child(&s->node[i].mutex);
		}
	}
	pthread_mutex_unlock(&registry.mutex);
}

static int handle_forks(void)
{
	static const struct fork_handlers handlers = {fork_prepare, fork_parent, fork_child};

	return fork_handle(FORK_SLAB, &handlers);
}

FORK_EARLY(handle_forks())

int slab_register(struct sheaf_slab *s)
{
	int err = handle_forks();

	if (err)
		return err;
	pthread_mutex_lock(&registry.mutex);
	list_add(&s->link, &registry.slabs);
	pthread_mutex_unlock(&registry.mutex);
	return 0;
}

void slab_unregister(struct sheaf_slab *s)
{
	pthread_mutex_lock(&registry.mutex);
	list_remove(&s->link);
	pthread_mutex_unlock(&registry.mutex);
}

/* The library goes. While backends are alive, others may go on using them. */
__attribute__((destructor)) static void registry_fini(void)
{
	pthread_mutex_lock(&registry.mutex);
	for (size_t i = 0; list_empty(&registry.slabs) && registry.leaves; i++) {
		struct region **leaf = slab_map[i];

		if (leaf) {
			store_relaxed(&slab_map[i], NULL);
			memory_unmap(leaf, LEAF_BYTES);
			registry.leaves--;
		}
	}
	pthread_mutex_unlock(&registry.mutex);
}
