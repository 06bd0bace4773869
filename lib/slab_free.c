/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * How objects come back to the slab backend; guarantees 2 to 4 of slab.c.
 *
 * Objects come in any order, from any slab. They are not sorted first: the heads that a
 * chunk of them touches fit the first-level cache, and each object costs one word of its
 * slab, the counts of slab and region, and nothing else unless a slab becomes empty or
 * stops being full, or a region crosses the border of a bin. What would be gained by
 * runs of one slab is less than what sorting costs.
 *
 * With one node an object is looked up when it is freed, under the mutex. With several, a
 * first pass without a mutex writes down the node of each; then each node is visited, and
 * looks its own objects up again. Those are out until then, so their regions stay; the region of
 * another node's object, which is free already, is not looked at.
 *
 * A wrong pointer ends the process right there, unless there is a callback. For that it is noted,
 * the rest of the chunk is freed, and then it is reported, with no lock held.
 */
#include "slab_free.h"

#include "base/annotate.h"
#include "base/probe.h"
#include "base/topology.h"
#include "slab_misuse.h"
#include "slab_place.h"
#include "slab_registry.h"
#include "slab_trim.h"

/* Objects at a time: a bound of the stack, and of how long a mutex is held. */
#define FREE_CHUNK 256

/* The node of what is no object. */
#define NO_NODE UINT8_MAX

/* Wrong pointers of a chunk, by number. */
struct wrongs {
	unsigned n;
	struct wrong {
		uint16_t i;
		uint16_t why; /* enum sheaf_slab_misuse */
	} of[FREE_CHUNK];
};

static_assert(TOPOLOGY_NODES_MAX < NO_NODE, "the number of a node is a byte here");

/* It is wrong to free object i of a chunk. Returns if there is a callback, which is called later. */
static __attribute__((cold, noinline)) void refuse(const struct sheaf_slab *s, const void *object,
						   size_t i, enum sheaf_slab_misuse why,
						   struct wrongs *wrongs)
{
	if (!s->misuse)
		slab_report(s, object, why);
	wrongs->of[wrongs->n++] = (struct wrong){.i = (uint16_t)i, .why = (uint16_t)why};
}

/* Take back object i of a chunk, which somebody claims is an object of the node's; guarantee 4.
 * The caller holds the mutex of the node. Returns 1, or 0 if it is none. */
static inline unsigned put_object(struct sheaf_slab *s, struct node *node, void *object, size_t i,
				  struct wrongs *wrongs)
{
	const uint32_t offset = (uint32_t)((uintptr_t)object & (SHEAF_SLAB_REGION - 1));
	/* Before `start` it wraps: then no number of an object times the stride is that much. */
	const uint32_t in_slab = (offset & s->slab_mask) - s->start;
	const uint32_t index = slab_divide(s, in_slab);
	struct region *region = region_find(object);
	struct slab *slab;
	uint64_t *word, bits, bit, free;

	if (unlikely(!region || region->owner != s)) {
		refuse(s, object, i, region ? SHEAF_SLAB_OTHER : SHEAF_SLAB_FOREIGN, wrongs);
		return 0;
	}
	if (unlikely(index >= s->slab_objects || index * s->stride != in_slab)) {
		refuse(s, object, i, SHEAF_SLAB_MISALIGNED, wrongs);
		return 0;
	}
	slab = slab_head(s, region, offset >> s->slab_shift);
	word = &slab->bits[index / 64];
	bits = *word;
	bit = (uint64_t)1 << index % 64;
	if (unlikely(bits & bit)) {
		refuse(s, object, i, SHEAF_SLAB_DOUBLE, wrongs);
		return 0;
	}
	if (!s->gp)
		annotate_shut(object, s->object_size);
	*word = bits | bit;
	free = slab->free++;
	if (unlikely(!free || free + 1 == s->slab_objects))
		slab_place(s, node, region, offset >> s->slab_shift, free, free + 1);
	if (unlikely(--region->used < region->least))
		region_place(s, node, region, region->used + 1);
	return 1;
}

/* Take back those of n objects that `nodes` says are from node k; NULL: all. @calls: how many
 * more to count. */
static void node_put(struct sheaf_slab *s, unsigned k, unsigned calls, const uint8_t *nodes,
		     size_t n, void *const *objects, struct wrongs *wrongs)
{
	struct node *node = &s->node[k];
	size_t put = 0;
	bool over;

	pthread_mutex_lock(&node->mutex);
	node->free_calls += calls;
	for (size_t i = 0; i < n; i++)
		if (!nodes || nodes[i] == k)
			put += put_object(s, node, objects[i], i, wrongs);
	node->objects -= put;
	over = node_over(s, node);
	pthread_mutex_unlock(&node->mutex);
	if (over)
		node_relieve(s, node);
}

/* Several nodes: each object's. Returns the set of nodes. */
static uint64_t find_nodes(const struct sheaf_slab *s, size_t n, void *const *objects,
			   uint8_t *nodes, struct wrongs *wrongs)
{
	uint64_t set = 0;

	for (size_t i = 0; i < n; i++) {
		const struct region *region = region_find(objects[i]);

		if (unlikely(!region || region->owner != s)) {
			nodes[i] = NO_NODE;
			refuse(s, objects[i], i, region ? SHEAF_SLAB_OTHER : SHEAF_SLAB_FOREIGN,
			       wrongs);
			continue;
		}
		nodes[i] = (uint8_t)region->node;
		set |= (uint64_t)1 << region->node;
	}
	return set;
}

static void free_chunk(struct sheaf_slab *s, size_t n, void *const *objects, unsigned calls)
{
	uint8_t nodes[FREE_CHUNK];
	struct wrongs wrongs;
	uint64_t set;

	wrongs.n = 0;
	if (s->nodes == 1) {
		node_put(s, 0, calls, NULL, n, objects, &wrongs);
	} else {
		set = find_nodes(s, n, objects, nodes, &wrongs);
		for (; set; set &= set - 1, calls = 0)
			node_put(s, (unsigned)__builtin_ctzll(set), calls, nodes, n, objects,
				 &wrongs);
	}
	for (unsigned i = 0; i < wrongs.n; i++)
		slab_report(s, objects[wrongs.of[i].i], (enum sheaf_slab_misuse)wrongs.of[i].why);
}

void slab_free_bulk(void *ctx, size_t n, void *const *objects)
{
	size_t chunk;

	PROBE(slab_free, ctx, &((struct sheaf_slab *)ctx)->name[0], n);
	for (unsigned calls = 1; n; calls = 0, n -= chunk, objects += chunk) {
		chunk = n < FREE_CHUNK ? n : FREE_CHUNK;
		free_chunk(ctx, chunk, objects, calls);
	}
}
