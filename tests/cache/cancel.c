/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves that no function of the library is a cancellation point: a thread that is to be cancelled comes through all of
 * them, those that sleep, read files, and write messages too, and is cancelled by its own
 * pthread_testcancel(). Each test is a process, so that what is done once is done here.
 */
#include "common.h"

#include <sheaf/cache.h>
#include <sheaf/pressure.h>
#include <sheaf/slab.h>
#include <sheaf/stats.h>
#include <sheaf/tree.h>
#include <stdlib.h>
#include <urcu/urcu-memb.h>

#define OBJECTS 64
#define SIZE 64

static struct sheaf_gp_urcu urcu;

/* Not Check's, which are cancellation points. */
static void must(bool right)
{
	if (!right)
		abort();
}

struct part {
	void (*run)(void);
	bool through;
};

static __attribute__((noinline)) void unregister(void)
{
	int state;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
	urcu_memb_unregister_thread();
	pthread_setcancelstate(state, NULL);
}

/* Nothing of the frame that the cancellation unwinds has an address: AddressSanitizer would not clear what is round it,
 * and stumble over that itself. */
static void *to_be_cancelled(void *arg)
{
	struct part *part = arg;

	urcu_memb_register_thread();
	pthread_cancel(pthread_self());
	part->run();
	part->through = true;
	unregister();
	pthread_testcancel();
	return NULL;
}

static void comes_through(void (*run)(void))
{
	struct part part = {.run = run};
	pthread_t thread;
	void *end = NULL;

	ck_assert_int_eq(pthread_create(&thread, NULL, to_be_cancelled, &part), 0);
	ck_assert_int_eq(pthread_join(thread, &end), 0);
	ck_assert(part.through);
	ck_assert_ptr_eq(end, PTHREAD_CANCELED);
}

static struct sheaf_cache *cache_of(struct sheaf_cache_attr attr)
{
	struct sheaf_cache *cache;

	attr.size = sizeof(attr);
	attr.object_size = SIZE;
	attr.capacity = 4;
	attr.gp = &urcu.gp;
	must(sheaf_cache_create(&cache, &attr) == 0);
	return cache;
}

static void use(struct sheaf_cache *cache)
{
	void *objects[OBJECTS];
	struct sheaf *sheaf;
	unsigned i;

	must(sheaf_cache_alloc_bulk(cache, 0, OBJECTS, objects) == OBJECTS);
	for (i = 0; i < OBJECTS; i++)
		if (i % 2)
			sheaf_cache_free(cache, objects[i]);
		else
			sheaf_cache_free_rcu(cache, objects[i]);
	sheaf = sheaf_cache_prefill(cache, 7, 0);
	must(sheaf != NULL);
	sheaf_cache_free(cache, sheaf_cache_alloc_from(cache, sheaf));
	sheaf_cache_return(cache, sheaf);
	sheaf_cache_throttle(cache);
	sheaf_cache_barrier(cache);
	sheaf_cache_shrink(cache);
	sheaf_cache_trim(cache);
}

static void hardened_slabs(void)
{
	const struct sheaf_slab_attr attr = {
		.size = sizeof(attr), .object_size = SIZE, .hardened = true};
	struct sheaf_slab *slab;

	must(sheaf_slab_create(&slab, &attr) == 0);
	must(sheaf_slab_destroy(slab) == 0);
}

START_TEST(slabs)
{
	comes_through(hardened_slabs);
}
END_TEST

static void all_of_a_cache(void)
{
	struct sheaf_cache *cache;

	must(sheaf_gp_urcu_init(&urcu, &urcu_memb_flavor, NULL) == 0);
	cache = cache_of(
		(struct sheaf_cache_attr){.stats = 1, .barns_per_node = SHEAF_BARN_PER_CACHE});
	use(cache);
	must(sheaf_cache_destroy(cache, NULL) == 0);
	sheaf_gp_urcu_fini(&urcu);
}

START_TEST(caches)
{
	comes_through(all_of_a_cache);
}
END_TEST

static struct sheaf_cache *scarce;
static void *taken;

static void *give_back(void *arg)
{
	test_sleep_ms(30);
	sheaf_cache_free(scarce, taken);
	return arg;
}

static void waiting(void)
{
	void *object = sheaf_cache_alloc(scarce, SHEAF_WAIT);

	must(object != NULL);
	sheaf_cache_free(scarce, object);
}

START_TEST(budgets)
{
	pthread_t thread;

	ck_assert_int_eq(sheaf_gp_urcu_init(&urcu, &urcu_memb_flavor, NULL), 0);
	scarce = cache_of((struct sheaf_cache_attr){.budget = SIZE});
	taken = sheaf_cache_alloc(scarce, 0);
	ck_assert_ptr_nonnull(taken);
	ck_assert_int_eq(pthread_create(&thread, NULL, give_back, NULL), 0);
	comes_through(waiting);
	pthread_join(thread, NULL);
	ck_assert_int_eq(sheaf_cache_destroy(scarce, NULL), 0);
	sheaf_gp_urcu_fini(&urcu);
}
END_TEST

static void all_of_a_tree(void)
{
	struct sheaf_tree_attr attr = {.size = sizeof(attr), .gp = &urcu.gp};
	struct sheaf_tree *tree;
	uint64_t key;

	must(sheaf_gp_urcu_init(&urcu, &urcu_memb_flavor, NULL) == 0);
	must(sheaf_tree_create(&tree, &attr) == 0);
	for (key = 0; key < 1000; key++)
		must(sheaf_tree_store(tree, 2 * key, 2 * key, &urcu) == 0);
	for (key = 0; key < 1000; key += 2)
		must(sheaf_tree_erase(tree, 2 * key, NULL) == 0);
	must(sheaf_tree_destroy(tree) == 0);
	sheaf_gp_urcu_fini(&urcu);
}

START_TEST(trees)
{
	comes_through(all_of_a_tree);
}
END_TEST

/* A kernel may refuse the one or the other: what matters is that it comes back. */
static void watching(void)
{
	static const struct sheaf_pressure_attr nothing = {.size = sizeof(nothing),
							   .psi = "/nowhere/at/all"};

	must(sheaf_pressure_start(&nothing) < 0);
	if (sheaf_pressure_start(NULL) == 0)
		(void)sheaf_pressure_stop();
	else
		must(sheaf_pressure_stop() == 0);
}

START_TEST(pressure)
{
	comes_through(watching);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("cancel");
	TCase *tcase = tcase_create("cancel");

	tcase_add_test(tcase, slabs);
	tcase_add_test(tcase, caches);
	tcase_add_test(tcase, budgets);
	tcase_add_test(tcase, trees);
	tcase_add_test(tcase, pressure);
	suite_add_tcase(suite, tcase);
	return test_run(suite);
}
