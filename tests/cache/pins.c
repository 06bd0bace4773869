/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves that walkers of the registry (sheaf_trim()) and the end of caches keep out of each
 * other's way: whoever closes a cache has it to itself from then on, what walkers did with it
 * happened before, and they see what was done before it was opened again; caches with
 * objects in them are made, trimmed by others, and destroyed, and every object is back. What is
 * shared is plain memory, so ThreadSanitizer sees the order, and AddressSanitizer who is late.
 */
#include <sheaf/cache.h>

#include "base/atomic.h"
#include "cache_state.h"
#include "common.h"

#include <errno.h>

#define CACHES 2
#define WALKERS 2
#define OBJECTS 12

static bool stop;

/* What a pin protects: plain, and not looked at without one. */
static struct protected
{
	struct sheaf_cache *cache;
	uint64_t alive;
	unsigned visits[WALKERS];
}
protected[CACHES];

struct walker {
	unsigned me;
	unsigned visits;
	unsigned errors;
};

static void visit(struct walker *w, const struct sheaf_cache *cache)
{
	for (unsigned i = 0; i < CACHES; i++) {
		if (protected[i].cache != cache)
			continue;
		w->errors += protected[i].alive != 1;
		protected[i].visits[w->me]++;
		w->visits++;
	}
}

static void *walk(void *arg)
{
	struct walker *w = arg;

	do {
		struct sheaf_cache *cache;
		uint32_t next = 0;

		while ((cache = registry_pin(&next)) != NULL) {
			visit(w, cache);
			registry_unpin(cache);
		}
	} while (!load_acquire(&stop));
	return NULL;
}

static struct sheaf_cache *make(void)
{
	struct sheaf_cache_attr attr = {.size = sizeof(attr), .object_size = 32, .capacity = 2};
	struct sheaf_cache *cache = NULL;

	if (sheaf_backend_malloc(&attr.backend, attr.object_size, 0) ||
	    sheaf_cache_create(&cache, &attr))
		return NULL;
	return cache;
}

/* Closed, changed, opened, again and again. */
START_TEST(closed_is_ones_own)
{
	struct walker walkers[WALKERS];
	pthread_t threads[WALKERS];
	unsigned errors = 0, visits = 0;

	store_release(&stop, false);
	for (unsigned i = 0; i < CACHES; i++) {
		protected[i] = (struct protected){.cache = make(), .alive = 1};
		ck_assert_ptr_nonnull(protected[i].cache);
	}
	for (unsigned i = 0; i < WALKERS; i++) {
		walkers[i] = (struct walker){.me = i};
		ck_assert_int_eq(pthread_create(&threads[i], NULL, walk, &walkers[i]), 0);
	}
	for (unsigned n = 0; n < test_rounds(20000); n++) {
		struct protected *p = &protected[n % CACHES];

		registry_close(p->cache);
		p->alive = 0;
		for (unsigned i = 0; i < WALKERS; i++)
			visits += p->visits[i];
		for (unsigned i = 0; i < WALKERS; i++)
			p->visits[i] = 0;
		if (n % 64 == 0)
			test_pause();
		p->alive = 1;
		registry_open(p->cache);
	}
	store_release(&stop, true);
	for (unsigned i = 0; i < WALKERS; i++) {
		pthread_join(threads[i], NULL);
		errors += walkers[i].errors;
		visits -= walkers[i].visits;
	}
	for (unsigned i = 0; i < CACHES; i++) {
		for (unsigned k = 0; k < WALKERS; k++)
			visits += protected[i].visits[k];
		ck_assert_int_eq(sheaf_cache_destroy(protected[i].cache, NULL), 0);
	}
	ck_assert_uint_eq(errors, 0);
	/* Not one is lost: two in a cache at once write to places of their own. */
	ck_assert_uint_eq(visits, 0);
}
END_TEST

static void *trim_all(void *arg)
{
	struct walker *w = arg;

	do {
		sheaf_trim(SIZE_MAX);
		w->visits++;
	} while (!load_acquire(&stop));
	return NULL;
}

struct maker {
	unsigned rounds;
	unsigned errors;
};

static void *make_and_end(void *arg)
{
	struct maker *m = arg;
	void *objects[OBJECTS];

	for (unsigned n = 0; n < m->rounds; n++) {
		struct sheaf_cache *cache = make();
		size_t live = 0;

		if (!cache) {
			m->errors++;
			continue;
		}
		for (unsigned i = 0; i < OBJECTS; i++)
			objects[i] = sheaf_cache_alloc(cache, 0);
		for (unsigned i = 1; i < OBJECTS; i++)
			sheaf_cache_free(cache, objects[i]);
		/* Not yet, and walkers may come in again. */
		m->errors += sheaf_cache_destroy(cache, &live) != -EBUSY || live != 1;
		sheaf_cache_free(cache, objects[0]);
		m->errors += sheaf_cache_destroy(cache, &live) != 0 || live;
	}
	return NULL;
}

START_TEST(caches_end_under_walkers)
{
	struct maker makers[2] = {{.rounds = test_rounds(2000)}, {.rounds = test_rounds(2000)}};
	struct walker walkers[WALKERS] = {{0}};
	pthread_t threads[WALKERS];

	store_release(&stop, false);
	for (unsigned i = 0; i < WALKERS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, trim_all, &walkers[i]), 0);
	test_threads(2, make_and_end, makers, sizeof(makers[0]));
	store_release(&stop, true);
	for (unsigned i = 0; i < WALKERS; i++) {
		pthread_join(threads[i], NULL);
		ck_assert_uint_gt(walkers[i].visits, 0);
	}
	ck_assert_uint_eq(makers[0].errors + makers[1].errors, 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("cache");
	TCase *tc = tcase_create("pins");

	tcase_set_timeout(tc, test_full() ? 600 : 120);
	tcase_add_test(tc, closed_is_ones_own);
	tcase_add_test(tc, caches_end_under_walkers);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
