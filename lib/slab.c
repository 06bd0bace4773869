/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * The slab backend. It sells in bulk: a cache comes for a sheaf of objects at a time,
 * and brings whole sheaves back, whose objects are from anywhere.
 *
 * Memory comes in regions of 2 MiB, each cut into slabs of one power-of-two size, each
 * cut into objects. slab_types.h shows the structs, says what protects each field,
 * and lists the invariants. Free objects are bits in the head of their slab, not a
 * chain through the objects: taking 60 objects is a few count-trailing-zeros in few
 * cache lines instead of 60 misses, the objects stay untouched until they are used,
 * an object has no overhead beyond its bit, and freeing it twice is seen.
 *
 * Terms: an object is out from alloc_bulk to free_bulk. A slab is full if all its
 * objects are out, empty if none is, else partial. A region is spare if no object of
 * it is out.
 *
 * 1 A refill holds one mutex once, and empties one slab after the other. It takes
 *   from the regions where most objects are out, and in those from partial slabs
 *   before empty ones. So the other regions drain, and become spare. Regions and not
 *   slabs are in lists, because regions are what goes back to the system; which
 *   slabs of a region have free objects is one bit each, so that a slab that changes
 *   its state costs no list operation, and the next head can be fetched early.
 * 2 A bulk free looks all objects up first, without a lock, then visits each node
 *   they are from once per FREE_CHUNK objects. A region moves between lists when it
 *   crosses the border of a bin, once per hundreds of objects.
 * 3 An object goes back to the node that its region belongs to, whoever frees it.
 * 4 A freed pointer is believed only after it was found in the map of regions, in a
 *   region of this backend, at a multiple of the stride in a slab, with its bit
 *   clear. Else the process ends with a message. Nothing is read at or near the
 *   pointer, so that any value whatever is told apart. (Only two threads that free one
 *   object at the same moment may get past this, if it was the last of its region.)
 * 5 At most spare_regions spare regions per node stay; what is above is unlinked
 *   under the mutex and unmapped after it. Empty slabs of other regions keep their
 *   pages until sheaf_slab_trim(): giving back a part of a huge page breaks it up,
 *   and the next refill would fault it in again.
 * 6 Under SHEAF_NOWAIT a mutex is only tried, and a busy node is passed over.
 * 7 Nodes are a preference. For a given node its own objects come first, then a new
 *   region there, and the objects of other nodes when the system has no memory. For
 *   SHEAF_NODE_ANY what other nodes have comes before a new region.
 *
 * Two threads that find a node exhausted may both bring a region; no lock is held
 * while they do. The later one's is a spare region then, or goes back at once.
 *
 * Progress: blocking; a holder of a mutex works through its batch, with no system
 * call but in sheaf_slab_trim(). Without a mutex only the map of regions and the
 * constant line of a region are read; both stay while an object of it is out.
 *
 * Read slab_take() and region_place() first.
 */
#include "slab_types.h"

#include "base/annotate.h"
#include "base/report.h"
#include "base/topology.h"
#include "slab_region.h"
#include "slab_registry.h"

/* Objects looked up at a time by a bulk free; a bound of its stack. */
#define FREE_CHUNK 128

/* Where an object is: which of which slab of which region. The node is written down,
 * because the region may be gone by the time when it is another node's turn. */
struct place {
	struct region *region;
	struct slab *slab;
	uint32_t index;
	uint16_t slab_index;
	uint16_t node;
};

static_assert(REGION_SLABS_MAX <= UINT16_MAX, "the number of a slab fits a place");

/* The list that a region with that many objects out belongs in; NULL if all are. */
static struct list *region_list(const struct sheaf_slab *s, struct node *node, uint32_t used)
{
	if (!used)
		return &node->spare;
	return used < s->region_objects ? &node->bins[region_bin(s, used)] : NULL;
}

/* Link a region, of which `before` objects were out, where it belongs now. One that
 * fills up goes ahead of its new bin and is filled on; one that drains goes last. */
static void region_place(const struct sheaf_slab *s, struct node *node, struct region *region,
			 uint32_t before)
{
	struct list *list = region_list(s, node, region->used);

	if (list == region_list(s, node, before))
		return;
	list_remove(&region->link);
	node->spare_count -= !before;
	node->spare_count += !region->used;
	if (list && (region->used > before || !region->used))
		list_add(&region->link, list);
	else if (list)
		list_add_last(&region->link, list);
}

/* Note in the region that slab i, which had `before` objects free, has `after`. */
static void slab_place(const struct sheaf_slab *s, struct node *node, struct region *region,
		       uint32_t i, uint64_t before, uint64_t after)
{
	uint64_t bit = (uint64_t)1 << i % 64;

	if (before == s->slab_objects) {
		region->empty_bits[i / 64] &= ~bit;
		region->dirty_bits[i / 64] |= bit;
		node->slabs_used++;
	}
	if (!after || after == s->slab_objects)
		region->partial_bits[i / 64] &= ~bit;
	else
		region->partial_bits[i / 64] |= bit;
	if (after == s->slab_objects) {
		region->empty_bits[i / 64] |= bit;
		node->slabs_used--;
	}
}

/* Take up to n objects that start at `base` by a slab's bits. */
static size_t slab_take(const struct sheaf_slab *s, struct slab *slab, char *base, size_t n,
			void **objects)
{
	size_t got = 0;

	for (uint32_t w = 0; w < s->slab_words && got < n; w++) {
		uint64_t bits = slab->bits[w];

		for (; bits && got < n; bits &= bits - 1) {
			size_t index = w * 64 + (unsigned)__builtin_ctzll(bits);

			objects[got++] = base + index * s->stride;
		}
		slab->bits[w] = bits;
	}
	slab->free -= got;
	return got;
}

/*
 * Choose a slab of a region that has a free object: partial ones first, then empty
 * ones that have been used, because their pages are there.
 */
static uint32_t region_pick(const struct sheaf_slab *s, struct region *region)
{
	uint32_t used = REGION_WORDS, fresh = REGION_WORDS;

	for (uint32_t w = 0; w < s->region_words; w++) {
		uint64_t bits = region->partial_bits[w];
		uint64_t rest = bits & (bits - 1);

		if (rest)
			__builtin_prefetch(
				slab_head(s, region, w * 64 + (uint32_t)__builtin_ctzll(rest)), 1);
		if (bits)
			return w * 64 + (uint32_t)__builtin_ctzll(bits);
		if (used == REGION_WORDS && (region->empty_bits[w] & region->dirty_bits[w]))
			used = w;
		if (fresh == REGION_WORDS && region->empty_bits[w])
			fresh = w;
	}
	if (used < REGION_WORDS)
		return used * 64 + (uint32_t)__builtin_ctzll(region->empty_bits[used] &
							     region->dirty_bits[used]);
	return fresh * 64 + (uint32_t)__builtin_ctzll(region->empty_bits[fresh]);
}

/* Take up to n objects of a region that has one. The caller holds the node's mutex. */
static size_t region_take(struct sheaf_slab *s, struct node *node, struct region *region, size_t n,
			  void **objects)
{
	uint32_t before = region->used;
	size_t got = 0;

	do {
		uint32_t i = region_pick(s, region);
		struct slab *slab = slab_head(s, region, i);
		char *base = region->base + ((size_t)i << s->slab_shift);
		uint64_t free = slab->free;
		size_t taken = slab_take(s, slab, base, n - got, objects + got);

		slab_place(s, node, region, i, free, slab->free);
		region->used += (uint32_t)taken;
		got += taken;
	} while (got < n && region->used < s->region_objects);
	region_place(s, node, region, before);
	return got;
}

/* The fullest region of a node that has a free object, or NULL. */
static struct region *node_pick(struct node *node)
{
	for (unsigned i = REGION_BINS; i-- > 0;)
		if (!list_empty(&node->bins[i]))
			return container_of(node->bins[i].next, struct region, link);
	if (!list_empty(&node->spare))
		return container_of(node->spare.next, struct region, link);
	return NULL;
}

/* The caller holds the mutex of the node. */
static size_t node_take_locked(struct sheaf_slab *s, struct node *node, size_t n, void **objects)
{
	struct region *region;
	size_t got = 0;

	while (got < n && (region = node_pick(node)))
		got += region_take(s, node, region, n - got, objects + got);
	node->objects += got;
	return got;
}

/* Unlink the spare regions above the limit, those that were spare longest, and collect
 * them in a list. The caller holds the mutex of the node. */
static void node_shed_locked(struct node *node, uint32_t limit, struct list *shed)
{
	while (node->spare_count > limit) {
		struct region *region = container_of(node->spare.prev, struct region, link);

		list_remove(&region->all);
		list_remove(&region->link);
		list_add(&region->link, shed);
		node->spare_count--;
		node->region_count--;
	}
}

/* Take from node k what it has. @calls: how many more to count. */
static size_t node_take(struct sheaf_slab *s, unsigned k, unsigned flags, unsigned calls, size_t n,
			void **objects)
{
	struct node *node = &s->node[k];
	size_t got;

	if (!(flags & SHEAF_NOWAIT))
		pthread_mutex_lock(&node->mutex);
	else if (pthread_mutex_trylock(&node->mutex))
		return 0;
	node->alloc_calls += calls;
	got = node_take_locked(s, node, n, objects);
	pthread_mutex_unlock(&node->mutex);
	return got;
}

static size_t others_take(struct sheaf_slab *s, unsigned k, unsigned flags, size_t n,
			  void **objects)
{
	size_t got = 0;

	for (unsigned i = 1; i < s->nodes && got < n; i++)
		got += node_take(s, (k + i) % s->nodes, flags, 0, n - got, objects + got);
	return got;
}

/* Bring a region and take from it. Returns at least 1, or 0 if there is no memory. */
static size_t node_grow(struct sheaf_slab *s, unsigned k, size_t n, void **objects)
{
	struct node *node = &s->node[k];
	struct region *region = region_create(s, k);
	struct list shed;
	size_t got;

	if (!region)
		return 0;
	list_init(&shed);
	pthread_mutex_lock(&node->mutex);
	list_add(&region->all, &node->regions);
	list_add(&region->link, &node->spare);
	node->region_count++;
	node->spare_count++;
	got = node_take_locked(s, node, n, objects);
	node_shed_locked(node, s->spare_regions, &shed);
	pthread_mutex_unlock(&node->mutex);
	region_destroy_all(&shed);
	return got;
}

static size_t slab_alloc_bulk(void *ctx, int wanted, unsigned flags, size_t n, void **objects)
{
	struct sheaf_slab *s = ctx;
	unsigned k = 0;
	size_t got, more;

	if (!n)
		return 0;
	if (s->nodes > 1)
		k = (unsigned)(wanted < 0 ? topology_current_node(NULL) : wanted) % s->nodes;

	got = node_take(s, k, flags, 1, n, objects);
	if (got < n && wanted < 0)
		got += others_take(s, k, flags, n - got, objects + got);
	while (got < n && !(flags & SHEAF_NOWAIT)) {
		more = node_grow(s, k, n - got, objects + got);
		if (!more)
			break;
		got += more;
	}
	if (got < n && wanted >= 0)
		got += others_take(s, k, flags, n - got, objects + got);
	for (size_t i = 0; i < got; i++)
		annotate_alloc(objects[i], s->object_size);
	return got;
}

__attribute__((noreturn, cold)) static void refuse(const struct sheaf_slab *s, const void *object,
						   const char *why)
{
	fatal("freed %p to the slab backend of %u-byte objects: %s", object, s->object_size, why);
}

/* Find an object that somebody claims is one; guarantee 4 up to the bit. */
static void find_object(const struct sheaf_slab *s, const void *object, struct place *place)
{
	struct region *region = region_find(object);
	uint32_t offset, in_slab;

	if (unlikely(!region))
		refuse(s, object, "not an object, its memory is of no slab backend");
	if (unlikely(region->owner != s))
		refuse(s, object, "an object of another slab backend");
	offset = (uint32_t)((const char *)object - region->base);
	in_slab = offset & ((1u << s->slab_shift) - 1);
	place->index = slab_divide(s, in_slab);
	if (unlikely(place->index * s->stride != in_slab || place->index >= s->slab_objects))
		refuse(s, object, "misaligned, not the start of an object");
	place->region = region;
	place->node = (uint16_t)region->node;
	place->slab_index = (uint16_t)(offset >> s->slab_shift);
	place->slab = slab_head(s, region, place->slab_index);
	__builtin_prefetch(&place->slab->bits[place->index / 64], 1);
}

/* Take back the first of n objects and those behind it that are of the same slab. The
 * caller holds the mutex of the node. Returns how many. */
static uint32_t slab_put(struct sheaf_slab *s, struct node *node, const struct place *places,
			 size_t n, void *const *objects)
{
	struct region *region = places[0].region;
	struct slab *slab = places[0].slab;
	uint64_t free = slab->free;
	uint32_t put = 0;

	do {
		uint64_t *word = &slab->bits[places[put].index / 64];
		uint64_t bit = (uint64_t)1 << places[put].index % 64;

		if (unlikely(*word & bit))
			refuse(s, objects[put], "double free, it is free already");
		*word |= bit;
	} while (++put < n && places[put].slab == slab);
	slab->free = free + put;
	if (!free || slab->free == s->slab_objects)
		slab_place(s, node, region, places[0].slab_index, free, slab->free);
	region->used -= put;
	region_place(s, node, region, region->used + put);
	return put;
}

/* Take back those of n objects that are from node k. @calls: how many more to count. */
static void node_put(struct sheaf_slab *s, unsigned k, unsigned calls, const struct place *places,
		     size_t n, void *const *objects)
{
	struct node *node = &s->node[k];
	struct list shed;
	uint32_t put;

	list_init(&shed);
	pthread_mutex_lock(&node->mutex);
	node->free_calls += calls;
	for (size_t i = 0; i < n; i += put) {
		put = 1;
		if (places[i].node != k)
			continue;
		put = slab_put(s, node, places + i, n - i, objects + i);
		node->objects -= put;
	}
	node_shed_locked(node, s->spare_regions, &shed);
	pthread_mutex_unlock(&node->mutex);
	region_destroy_all(&shed);
}

static void free_chunk(struct sheaf_slab *s, size_t n, void *const *objects, unsigned calls)
{
	struct place places[FREE_CHUNK];
	uint64_t nodes = 0;

	for (size_t i = 0; i < n; i++) {
		find_object(s, objects[i], &places[i]);
		nodes |= (uint64_t)1 << places[i].node;
		annotate_free(objects[i], s->object_size);
	}
	for (; nodes; nodes &= nodes - 1, calls = 0)
		node_put(s, (unsigned)__builtin_ctzll(nodes), calls, places, n, objects);
}

static void slab_free_bulk(void *ctx, size_t n, void *const *objects)
{
	size_t chunk;

	for (unsigned calls = 1; n; calls = 0, n -= chunk, objects += chunk) {
		chunk = n < FREE_CHUNK ? n : FREE_CHUNK;
		free_chunk(ctx, chunk, objects, calls);
	}
}

static void slab_destroy(void *ctx)
{
	struct sheaf_slab *s = ctx;

	if (sheaf_slab_destroy(s))
		fatal("destroyed the slab backend of %u-byte objects with objects still out",
		      s->object_size);
}

static const struct sheaf_backend_ops slab_ops = {
	.name = "slab",
	.alloc_bulk = slab_alloc_bulk,
	.free_bulk = slab_free_bulk,
	.destroy = slab_destroy,
};

struct sheaf_backend sheaf_slab_backend(struct sheaf_slab *slab)
{
	return (struct sheaf_backend){.ops = &slab_ops, .ctx = slab};
}

/* One region per lock hold, so that the others get in between; each goes to the end
 * of the list. */
static size_t node_trim(struct node *node, struct list *shed)
{
	uint32_t done = 0;
	size_t bytes = 0;
	bool more;

	do {
		struct list *link;

		pthread_mutex_lock(&node->mutex);
		node_shed_locked(node, 0, shed);
		link = node->regions.next;
		if (link != &node->regions) {
			bytes += region_discard(container_of(link, struct region, all));
			list_remove(link);
			list_add_last(link, &node->regions);
		}
		more = ++done < node->region_count;
		pthread_mutex_unlock(&node->mutex);
	} while (more);
	return bytes;
}

size_t sheaf_slab_trim(struct sheaf_slab *slab)
{
	struct list shed;
	size_t bytes = 0;

	list_init(&shed);
	for (unsigned k = 0; k < slab->nodes; k++)
		bytes += node_trim(&slab->node[k], &shed);
	return bytes + region_destroy_all(&shed) * SHEAF_SLAB_REGION;
}
