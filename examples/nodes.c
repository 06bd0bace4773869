/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * NUMA nodes on any machine: a cache that is told of four, and in which place a thread is. What is
 * freed on another node than its memory's goes home, in whole sheaves.
 */
#include <sheaf/cache.h>
#include <sheaf/slab.h>

#include <stdio.h>

#define NODES 4
#define OBJECTS 1000

/* Where this thread says that it runs; without current_node the system is asked. */
static __thread int place;

static int current_place(void *arg)
{
	(void)arg;
	return place;
}

int main(void)
{
	struct sheaf_slab_attr slab_attr = {
		.size = sizeof(slab_attr), .object_size = 256, .nodes = NODES};
	struct sheaf_cache_attr attr = {.size = sizeof(attr),
					.object_size = 256,
					.nodes = NODES,
					.current_node = current_place};
	struct sheaf_cache_stats stats;
	struct sheaf_backend *backend = &attr.backend;
	struct sheaf_cache *cache;
	struct sheaf_slab *slab;
	void *objects[OBJECTS];
	int i, here = 0;

	if (sheaf_slab_create(&slab, &slab_attr))
		return 1;
	*backend = sheaf_slab_backend(slab);
	if (sheaf_cache_create(&cache, &attr)) {
		sheaf_slab_destroy(slab);
		return 1;
	}
	/* Made on node 0, used up on node 1. */
	for (i = 0; i < OBJECTS; i++) {
		objects[i] = sheaf_cache_alloc(cache, 0);
		if (!objects[i])
			return 1;
		here += backend->ops->node_of(backend->ctx, objects[i]) == 0;
	}
	printf("of %d objects for node 0, %d are its memory\n", OBJECTS, here);
	place = 1;
	for (i = 0; i < OBJECTS; i++)
		sheaf_cache_free(cache, objects[i]);
	here = 0;
	for (i = 0; i < OBJECTS; i++) {
		objects[i] = sheaf_cache_alloc(cache, 0);
		if (!objects[i])
			return 1;
		here += backend->ops->node_of(backend->ctx, objects[i]) == 1;
	}
	printf("of %d objects for node 1, %d are its memory\n", OBJECTS, here);
	sheaf_cache_free_bulk(cache, OBJECTS, objects);
	sheaf_cache_stats(cache, &stats, sizeof(stats));
	printf("%llu visits to barns took objects home\n", (unsigned long long)stats.home_trips);
	/* What the slot held when the thread moved is not sorted: a sheaf at most. */
	here += (int)stats.capacity;
	return sheaf_cache_destroy(cache, NULL) || here < OBJECTS || !stats.home_trips ? 1 : 0;
}
