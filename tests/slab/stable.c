/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves that readers may look at objects of a type-stable slab backend that are free: writers
 * publish objects, unpublish them, and free them at once, while another thread trims all the
 * time and no spare regions are kept, so that memory comes and goes. What a reader finds in a
 * read section has the mark of the constructor to the end of the section, whosever the object
 * is by then: an unmapped region would be a fault, and a page without an object reads zero.
 */
#include "helpers.h"

#include <stdio.h>
#include <urcu.h>

#define WRITERS 2
#define READERS 2
#define THREADS (WRITERS + READERS + 1)
#define PLACES 256
#define BATCH 200
#define MAGIC UINT64_C(0x7e57ab1e7e57ab1e)

struct object {
	uint64_t magic;
	uint64_t owner;
};

struct shared {
	struct sheaf_slab *slab;
	struct sheaf_gp_urcu gp;
	struct object *places[PLACES];
	unsigned writing;
};

struct actor {
	struct shared *shared;
	unsigned number;
	unsigned rounds;
	uint64_t state;
	uint64_t wrong;
	uint64_t done;
};

static void construct(void *arg, size_t n, void *const *objects)
{
	(void)arg;
	for (size_t i = 0; i < n; i++) {
		struct object *object = objects[i];

		__atomic_store_n(&object->magic, MAGIC, __ATOMIC_RELAXED);
	}
}

/* Publish some, free what was there before. */
static void write_on(struct actor *a)
{
	struct shared *shared = a->shared;
	struct sheaf_backend b = sheaf_slab_backend(shared->slab);
	void *objects[BATCH], *old[BATCH];

	while (a->rounds--) {
		size_t n = 1 + test_below(&a->state, BATCH), gone = 0;

		if (b.ops->alloc_bulk(b.ctx, -1, 0, n, objects) != n) {
			a->wrong++;
			break;
		}
		for (size_t i = 0; i < n; i++) {
			struct object **place = &shared->places[test_below(&a->state, PLACES)];
			struct object *object = objects[i];

			a->wrong += __atomic_load_n(&object->magic, __ATOMIC_RELAXED) != MAGIC;
			__atomic_store_n(&object->owner, a->number, __ATOMIC_RELAXED);
			old[gone] = __atomic_exchange_n(place, object, __ATOMIC_ACQ_REL);
			gone += old[gone] != NULL;
		}
		b.ops->free_bulk(b.ctx, gone, old);
		a->done += n;
		/* Now and then nothing is out, and all regions leave. */
		for (size_t i = 0; i < PLACES && a->rounds % 8 == 0; i++) {
			old[0] = __atomic_exchange_n(&shared->places[i], NULL, __ATOMIC_ACQ_REL);
			if (old[0])
				b.ops->free_bulk(b.ctx, 1, old);
		}
	}
	__atomic_sub_fetch(&shared->writing, 1, __ATOMIC_RELEASE);
}

static bool going_on(const struct actor *a)
{
	return __atomic_load_n(&a->shared->writing, __ATOMIC_ACQUIRE);
}

static void read_on(struct actor *a)
{
	struct shared *shared = a->shared;

	rcu_register_thread();
	while (going_on(a)) {
		struct object *object;

		sheaf_gp_read_lock(&shared->gp.gp);
		object = __atomic_load_n(&shared->places[test_below(&a->state, PLACES)],
					 __ATOMIC_ACQUIRE);
		for (unsigned i = 0; object && i < 200; i++)
			a->wrong += __atomic_load_n(&object->magic, __ATOMIC_RELAXED) != MAGIC;
		a->done += object != NULL;
		sheaf_gp_read_unlock(&shared->gp.gp);
	}
	rcu_unregister_thread();
}

static void trim_on(struct actor *a)
{
	while (going_on(a)) {
		a->done += sheaf_slab_trim(a->shared->slab);
		a->wrong += !sheaf_slab_check(a->shared->slab);
		test_pause();
	}
}

static void *act(void *arg)
{
	struct actor *a = arg;

	if (a->number < WRITERS)
		write_on(a);
	else if (a->number < WRITERS + READERS)
		read_on(a);
	else
		trim_on(a);
	return NULL;
}

START_TEST(readers_of_free_objects)
{
	static struct actor actors[THREADS];
	static struct shared shared;
	const struct sheaf_gp_driver_attr pace = {.size = sizeof(pace), .spacing_us = 50};
	struct sheaf_slab_attr attr = {
		.size = sizeof(attr),
		.object_size = 65536,
		.nodes = 2,
		.spare_regions = UINT32_MAX,
		.ctor = construct,
		.gp = &shared.gp.gp,
	};
	struct sheaf_backend b;
	uint64_t returned;

	ck_assert_int_eq(sheaf_gp_urcu_init(&shared.gp, &rcu_flavor, &pace), 0);
	ck_assert_int_eq(sheaf_slab_create(&shared.slab, &attr), 0);
	shared.writing = WRITERS;
	for (unsigned i = 0; i < THREADS; i++)
		actors[i] = (struct actor){
			.shared = &shared,
			.number = i,
			.rounds = test_rounds(6000),
			.state = test_seed() + 7919 * i + 1,
		};
	test_threads(THREADS, act, actors, sizeof(actors[0]));
	returned = stats_of(shared.slab).bytes_returned;
	for (unsigned i = 0; i < THREADS; i++)
		ck_assert_uint_eq(actors[i].wrong, 0);
	ck_assert_uint_gt(actors[0].done, 0);
	printf("# %llu reads, %llu MiB went back\n",
	       (unsigned long long)(actors[WRITERS].done + actors[WRITERS + 1].done),
	       (unsigned long long)(returned >> 20));
	ck_assert(returned > 0 || test_slow());
	b = sheaf_slab_backend(shared.slab);
	for (unsigned i = 0; i < PLACES; i++)
		if (shared.places[i])
			b.ops->free_bulk(b.ctx, 1, (void *const *)&shared.places[i]);
	ck_assert_int_eq(sheaf_slab_destroy(shared.slab), 0);
	sheaf_gp_urcu_fini(&shared.gp);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("slab-stable");
	TCase *tc = tcase_create("stable");

	tcase_add_test(tc, readers_of_free_objects);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
