/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * An address space: threads map and unmap ranges of pages while others touch pages in them. To
 * touch a page that is there takes no lock; to bring one in takes the lock of its mapping
 * only. The lock of the whole space is for those who change it.
 *
 *  L1  A mapping is retired: whoever found it in the tree may lock it until its read section ends.
 *  L2  Unmapping takes the pages out of the tree first, and then, under the mapping's lock, their
 *      frames out of the mapping. So who finds a page in the tree while it holds that lock may
 *      put a frame there: an unmapping that is under way will come and take it.
 *  L3  Locks are taken in the order space, mapping.
 */
#include <sheaf/tree.h>

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <urcu.h>

#include <sheaf/rcu.h> /* for race checkers */

#define PAGE 4096u
#define PAGES_MOST 16u
#define WINDOW (256u * PAGE) /* of each thread that maps */
#define MAPPERS 2
#define TOUCHERS 2

/* What stands for a page of memory. */
struct frame {
	uint64_t page;
	uint64_t check; /* ~page, as long as the frame is ours */
};

struct mapping {
	pthread_mutex_t lock; /* made by the cache's constructor, kept from one life to the next */
	uint64_t first;
	unsigned pages; /* still mapped; under the lock of the space */
	struct frame *frame[PAGES_MOST];
};

struct worker {
	pthread_t thread;
	unsigned index;
	unsigned random;
	unsigned long free, locked, slow; /* touches without a lock, with the mapping's, with all */
	unsigned long errors;
};

static struct sheaf_tree *space;
static struct sheaf_cache *mappings, *frames;
static unsigned rounds = 5000;
static int stop;

static void make_locks(void *arg, size_t n, void *const *objects)
{
	(void)arg;
	for (size_t i = 0; i < n; i++)
		pthread_mutex_init(&((struct mapping *)objects[i])->lock, NULL);
}

static struct frame **place_of(struct mapping *mapping, uint64_t address)
{
	return &mapping->frame[(address - mapping->first) / PAGE];
}

/* Under the mapping's lock: the frame of a page, a new one if there was none; L2. */
static struct frame *bring_in(struct mapping *mapping, uint64_t address)
{
	struct frame **place = place_of(mapping, address), *frame = *place;

	if (frame || sheaf_tree_load_rcu(space, address) != mapping)
		return frame;
	frame = sheaf_cache_alloc(frames, 0);
	if (frame) {
		*frame = (struct frame){address / PAGE, ~(uint64_t)(address / PAGE)};
		__atomic_store_n(place, frame, __ATOMIC_RELEASE); /* pairs with touch() */
	}
	return frame;
}

/* When the mapping was busy: nobody unmaps while we hold the lock of the space. */
static struct frame *touch_slowly(uint64_t address)
{
	struct mapping *mapping;
	struct frame *frame = NULL;

	sheaf_tree_lock(space);
	mapping = sheaf_tree_load_rcu(space, address);
	if (mapping) {
		pthread_mutex_lock(&mapping->lock);
		frame = bring_in(mapping, address);
		pthread_mutex_unlock(&mapping->lock);
	}
	rcu_read_lock();
	sheaf_tree_unlock(space);
	return frame;
}

/* The frame of an address, NULL if nothing is mapped there. Enters a read section, at whose end
 * the frame may vanish; the caller leaves it in any case. */
static struct frame *touch(struct worker *me, uint64_t address)
{
	struct mapping *mapping;
	struct frame *frame;

	rcu_read_lock();
	mapping = sheaf_tree_load_rcu(space, address);
	if (!mapping)
		return NULL;
	frame = __atomic_load_n(place_of(mapping, address), __ATOMIC_ACQUIRE);
	if (frame) {
		me->free++;
		return frame;
	}
	if (pthread_mutex_trylock(&mapping->lock)) {
		rcu_read_unlock(); /* a section that waits for a lock would hold up memory */
		me->slow++;
		return touch_slowly(address);
	}
	frame = bring_in(mapping, address);
	pthread_mutex_unlock(&mapping->lock);
	me->locked++;
	return frame;
}

/* Maps pages in the lowest hole of a window where they fit. */
static int map(uint64_t window, unsigned pages, uint64_t *at)
{
	struct mapping *mapping = sheaf_cache_alloc(mappings, 0);
	int err;

	if (!mapping)
		return -ENOMEM;
	mapping->pages = pages;
	for (unsigned i = 0; i < PAGES_MOST; i++)
		mapping->frame[i] = NULL;
	sheaf_tree_lock(space);
	err = sheaf_tree_lowest_gap_locked(space, window, window + WINDOW - 1, pages * PAGE, PAGE,
					   at);
	if (!err) {
		mapping->first = *at; /* before anybody can find it */
		err = sheaf_tree_store_locked(space, NULL, *at, *at + pages * PAGE - 1, mapping);
	}
	sheaf_tree_unlock(space);
	if (err)
		sheaf_cache_free(mappings, mapping);
	return err;
}

/* Under the lock of the space, after the pages have left the tree: L1 and L2. */
static void take_frames(struct mapping *mapping, uint64_t first, uint64_t last)
{
	struct frame *taken[PAGES_MOST];
	unsigned n = 0, i;

	pthread_mutex_lock(&mapping->lock);
	for (; first < last; first += PAGE) {
		struct frame **place = place_of(mapping, first);

		taken[n++] = *place;
		__atomic_store_n(place, NULL, __ATOMIC_RELAXED);
	}
	pthread_mutex_unlock(&mapping->lock);
	for (i = 0; i < n; i++)
		sheaf_cache_free_rcu(frames, taken[i]); /* NULL where none was brought in */
	mapping->pages -= n;
	if (!mapping->pages)
		sheaf_cache_free_rcu(mappings, mapping);
}

/* Unmaps what is mapped of some pages, all or nothing: the tree's nodes are set aside before. */
static int unmap(uint64_t first, unsigned pages)
{
	const uint64_t last = first + pages * PAGE - 1;
	struct sheaf_tree_cursor cursor;
	struct sheaf_tree_prep prep;
	struct mapping *mapping;
	int err;

	sheaf_tree_lock(space);
	err = sheaf_tree_prepare(space, &prep, pages); /* there are no more pieces than pages */
	if (err) {
		sheaf_tree_unlock(space);
		return err;
	}
	sheaf_tree_cursor_init(&cursor, space);
	while ((mapping = sheaf_tree_find_rcu(&cursor, first)) && cursor.first <= last) {
		const uint64_t from = cursor.first > first ? cursor.first : first;
		const uint64_t to = cursor.last < last ? cursor.last : last;

		sheaf_tree_cursor_pause(&cursor);
		sheaf_tree_erase_range_locked(space, &prep, from, to); /* cannot fail */
		take_frames(mapping, from, to);
	}
	sheaf_tree_finish(space, &prep);
	sheaf_tree_unlock(space);
	return 0;
}

/* Maps, touches and unmaps in a window of its own, so it knows what must be there. */
static void *change(void *arg)
{
	struct worker *me = arg;
	const uint64_t window = me->index * WINDOW;
	uint64_t at;

	rcu_register_thread();
	for (unsigned i = 0; i < rounds; i++) {
		unsigned pages = 1 + rand_r(&me->random) % PAGES_MOST;

		if (map(window, pages, &at) == 0) {
			me->errors += !touch(me, at + (pages - 1) * PAGE);
			rcu_read_unlock();
		}
		/* From anywhere on: parts of mappings, and several of them. */
		at = window + rand_r(&me->random) % (WINDOW / PAGE) * PAGE;
		pages = 1 + rand_r(&me->random) % (2 * PAGES_MOST);
		if (at + pages * PAGE > window + WINDOW)
			pages = 1;
		me->errors += unmap(at, pages) != 0;
		me->errors += touch(me, at) != NULL;
		rcu_read_unlock();
	}
	rcu_unregister_thread();
	return NULL;
}

static void *touch_all(void *arg)
{
	struct worker *me = arg;

	rcu_register_thread();
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		const uint64_t page = rand_r(&me->random) % (MAPPERS * WINDOW / PAGE);
		const struct frame *frame = touch(me, page * PAGE + 8);

		if (frame)
			me->errors += frame->page != page || frame->check != ~page;
		rcu_read_unlock();
	}
	rcu_unregister_thread();
	return NULL;
}

/* Number of errors. */
static unsigned long run(void)
{
	struct worker worker[MAPPERS + TOUCHERS] = {0};
	unsigned long free = 0, locked = 0, slow = 0, errors = 0;
	unsigned i;

	for (i = 0; i < MAPPERS + TOUCHERS; i++) {
		worker[i].index = worker[i].random = i;
		if (pthread_create(&worker[i].thread, NULL, i < MAPPERS ? change : touch_all,
				   &worker[i]))
			abort();
	}
	for (i = 0; i < MAPPERS + TOUCHERS; i++) {
		if (i == MAPPERS)
			__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
		pthread_join(worker[i].thread, NULL);
		free += worker[i].free;
		locked += worker[i].locked;
		slow += worker[i].slow;
		errors += worker[i].errors;
	}
	printf("touched: %lu without a lock, %lu with the mapping's, %lu with all; %lu errors\n",
	       free, locked, slow, errors);
	return errors + (sheaf_tree_check(space) != NULL);
}

int main(int argc, char **argv)
{
	struct sheaf_gp_urcu source;
	struct sheaf_cache_attr attr = {.size = sizeof(attr), .gp = &source.gp};
	struct sheaf_tree_attr tree = {
		.size = sizeof(tree), .gp = &source.gp, .flags = SHEAF_TREE_GAPS};
	unsigned long errors;
	size_t lost = 0;

	if (argc > 1)
		rounds = (unsigned)atoi(argv[1]);
	if (sheaf_gp_urcu_init(&source, &rcu_flavor, NULL) || sheaf_tree_create(&space, &tree))
		return 1;
	attr.object_size = sizeof(struct frame);
	if (sheaf_cache_create(&frames, &attr))
		return 1;
	attr.object_size = sizeof(struct mapping);
	attr.ctor = make_locks;
	if (sheaf_cache_create(&mappings, &attr))
		return 1;
	errors = run() + (unmap(0, MAPPERS * WINDOW / PAGE) != 0);
	/* Each says so if something was lost. */
	if (sheaf_tree_destroy(space) || sheaf_cache_destroy(mappings, &lost) ||
	    sheaf_cache_destroy(frames, &lost)) {
		fprintf(stderr, "%zu objects are still out\n", lost);
		return 1;
	}
	sheaf_gp_urcu_fini(&source);
	return errors ? 1 : 0;
}
