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
 *   they are from once per FREE_CHUNK objects (slab_free.c). A region moves between
 *   lists when it crosses the border of a bin, once per hundreds of objects.
 * 3 An object goes back to the node that its region belongs to, whoever frees it.
 * 4 A freed pointer is believed only after it was found in the map of regions, in a
 *   region of this backend, at a multiple of the stride in a slab, with its bit
 *   clear. Else it is reported. Nothing is read at or near the pointer, so that any
 *   value whatever is told apart. (Only two threads that free one object at the same
 *   moment may get past this, if it was the last of its region.)
 * 5 Spare regions, and the pages of empty slabs in others, go back to the system with
 *   hysteresis, which slab_trim.c explains, and in the type-stable mode a grace period
 *   after they became so.
 * 6 Under SHEAF_NOWAIT a mutex is only tried, and a busy node is passed over.
 * 7 Nodes are a preference. For a given node its own objects come first, then a new
 *   region there, and the objects of other nodes when the system has no memory. For
 *   SHEAF_NODE_ANY what other nodes have comes before a new region.
 *
 * 8 With a constructor, an object is constructed before anybody gets it, once per life
 *   of its page: made[] tells. The constructor runs when the mutex is free again; until
 *   then the lowest bit of the pointer, which an object's alignment leaves clear,
 *   tells which of those taken are new. They are out, so nobody else has them.
 * 9 In the hardened mode each object is drawn at random from the free ones of its slab.
 *
 * Two threads that find a node exhausted may both bring a region; no lock is held
 * while they do. The later one's is a spare region then, or goes back at once.
 *
 * Progress: blocking; a holder of a mutex works through its batch, with no system
 * call but for the pages of one region at a time that go back. Without a mutex only
 * the map of regions and the constant line of a region are read; both stay while an
 * object of it is out.
 *
 * Read slab_take() here and region_place() in slab_place.h first.
 */
#include "slab_registry.h"
#include "slab_types.h"

#include "base/annotate.h"
#include "base/probe.h"
#include "base/report.h"
#include "base/topology.h"
#include "slab_free.h"
#include "slab_locate.h"
#include "slab_place.h"
#include "slab_region.h"
#include "slab_trim.h"

#include <errno.h>

/* The mark of an object that is not constructed yet. */
#define UNMADE ((uintptr_t)1)

static_assert(OBJECT_ALIGN_MIN > UNMADE, "the alignment leaves the bit clear");

/* Take up to n objects that start at `base` by a slab's bits. */
static size_t slab_take(const struct sheaf_slab *s, struct slab *slab, char *base, size_t n,
			void **objects)
{
	const size_t stride = s->stride;
	size_t got = 0;

	for (uint32_t w = 0; w < s->slab_words && got < n; w++, base += 64 * stride) {
		uint64_t bits = slab->bits[w];

		if (bits == ~(uint64_t)0 && n - got >= 64) {
			for (unsigned i = 0; i < 64; i++)
				objects[got + i] = base + i * stride;
			got += 64;
			bits = 0;
		}
		for (; bits && got < n; bits &= bits - 1)
			objects[got++] = base + (unsigned)__builtin_ctzll(bits) * stride;
		slab->bits[w] = bits;
	}
	slab->free -= got;
	return got;
}

/* A number below n. */
static uint64_t node_random(struct node *node, uint64_t n)
{
	uint64_t x = node->random;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	node->random = x;
	return ((x * UINT64_C(0x2545f4914f6cdd1d)) >> 32) * n >> 32;
}

/* The number of the object that is k-th among the free ones of a slab. */
static uint32_t slab_nth(const struct slab *slab, uint64_t k)
{
	uint64_t bits;
	uint32_t w = 0;

	for (;; w++) {
		uint64_t here = (uint64_t)__builtin_popcountll(slab->bits[w]);

		if (k < here)
			break;
		k -= here;
	}
	for (bits = slab->bits[w]; k; k--)
		bits &= bits - 1;
	return w * 64 + (uint32_t)__builtin_ctzll(bits);
}

/* As slab_take(), where order or construction matter. */
static size_t slab_take_each(const struct sheaf_slab *s, struct node *node, struct slab *slab,
			     char *base, size_t n, void **objects)
{
	size_t got = 0;

	for (; got < n && slab->free; got++) {
		uint64_t k = s->hardened ? node_random(node, slab->free) : 0;
		uint32_t index = slab_nth(slab, k);
		uint64_t bit = (uint64_t)1 << index % 64;
		char *object = base + (size_t)index * s->stride;
		uint64_t *made = slab_made(s, slab);

		slab->bits[index / 64] &= ~bit;
		slab->free--;
		if (s->ctor && !(made[index / 64] & bit)) {
			made[index / 64] |= bit;
			object += UNMADE;
		}
		objects[got] = object;
	}
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
	/* cppcheck-suppress arrayIndexOutOfBounds ; a region that is asked has a slab to give */
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
		char *base = region->base + ((size_t)i << s->slab_shift) + s->start;
		uint64_t free = slab->free;
		size_t taken = s->hardened || s->ctor
				       ? slab_take_each(s, node, slab, base, n - got, objects + got)
				       : slab_take(s, slab, base, n - got, objects + got);

		slab_place(s, node, region, i, free, slab->free);
		region->used += (uint32_t)taken;
		got += taken;
	} while (got < n && region->used < s->region_objects);
	region_place(s, node, region, before);
	return got;
}

/* A region that waits for its ticket is a spare one again, and the last to go. */
static struct region *region_reclaim(struct node *node)
{
	struct region *region = container_of(node->leaving.next, struct region, link);

	list_remove(&region->link);
	list_add(&region->link, &node->spare);
	region->leaving = false;
	node->spare_count++;
	return region;
}

/* The fullest region of a node that has a free object, or NULL. */
static struct region *node_pick(struct node *node)
{
	for (unsigned i = REGION_BINS; i-- > 0;)
		if (!list_empty(&node->bins[i]))
			return container_of(node->bins[i].next, struct region, link);
	if (!list_empty(&node->spare))
		return container_of(node->spare.next, struct region, link);
	if (!list_empty(&node->leaving))
		return region_reclaim(node);
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
	size_t got;
	bool over;

	if (!region)
		return 0;
	pthread_mutex_lock(&node->mutex);
	list_add(&region->all, &node->regions);
	list_add(&region->link, &node->spare);
	node->region_count++;
	node->spare_count++;
	got = node_take_locked(s, node, n, objects);
	over = node_over(s, node);
	pthread_mutex_unlock(&node->mutex);
	if (over)
		node_relieve(s, node);
	return got;
}

/* Construct those that are not, in runs, and remove their marks. */
static void construct(const struct sheaf_slab *s, size_t n, void **objects)
{
	size_t i, first;

	for (i = 0; i < n; i++) {
		for (first = i; i < n && ((uintptr_t)objects[i] & UNMADE); i++)
			objects[i] = (char *)objects[i] - UNMADE;
		if (!s->gp)
			for (size_t k = first; k < i; k++)
				annotate_open(objects[k], s->object_size);
		if (first < i)
			s->ctor(s->ctor_arg, i - first, objects + first);
		if (i < n && !s->gp)
			annotate_open_filled(objects[i], s->object_size);
	}
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
	PROBE(slab_refill, s, &s->name[0], k, n, got);
	if (s->ctor)
		construct(s, got, objects);
	else if (!s->gp)
		for (size_t i = 0; i < got; i++)
			annotate_open(objects[i], s->object_size);
	return got;
}

static void slab_destroy(void *ctx)
{
	struct sheaf_slab *s = ctx;

	int err = sheaf_slab_destroy(s);

	if (err)
		fatal("destroyed the slab backend \"%s\" of %u-byte objects %s", s->name,
		      s->object_size,
		      err == -EBUSY ? "with objects still out"
				    : "whose grace-period source cannot be waited for");
}

static size_t slab_trim(void *ctx)
{
	return sheaf_slab_trim(ctx);
}

/* The object is out, so its region stays; and a region never changes its node. */
static int slab_node_of(void *ctx, const void *object)
{
	const struct region *region = region_find(object);

	return region && region->owner == ctx ? (int)region->node : SHEAF_NODE_ANY;
}

#define SLAB_OPS                                                                                   \
	.name = "slab", .alloc_bulk = slab_alloc_bulk, .free_bulk = slab_free_bulk,                \
	.destroy = slab_destroy, .trim = slab_trim, .node_of = slab_node_of

static const struct sheaf_backend_ops slab_ops = {SLAB_OPS};
static const struct sheaf_backend_ops slab_stable_ops = {SLAB_OPS, .stable = true};

struct sheaf_backend sheaf_slab_backend(struct sheaf_slab *slab)
{
	return (struct sheaf_backend){.ops = slab->gp ? &slab_stable_ops : &slab_ops,
				      .ctx = slab};
}

struct sheaf_slab *slab_of(const struct sheaf_backend *backend)
{
	return backend->ops == &slab_ops || backend->ops == &slab_stable_ops ? backend->ctx : NULL;
}
