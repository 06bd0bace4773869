/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves what happens where two wishes meet: who asks to wait and not to block does not block; and
 * limits that are set while a thread makes a slot, for which barns would grow, stay as set.
 */
#include "base/atomic.h"
#include "cache_state.h"
#include "common.h"

#include <sheaf/cache.h>
#include <stdlib.h>

static struct sheaf_cache *cache;

/* In the midst of fitting barns to slots: somebody sets limits, or waits for us to be done. */
static uint32_t meddle, meddled;
static pthread_t meddler;

void __real_sheaf_barn_set_limits(struct sheaf_barn *barn, uint32_t full, uint32_t empty);
void __wrap_sheaf_barn_set_limits(struct sheaf_barn *barn, uint32_t full, uint32_t empty);

static void *set_limits(void *arg)
{
	sheaf_cache_set_barn_limits(cache, 7, 5);
	store_release(&meddled, 1);
	return arg;
}

void __wrap_sheaf_barn_set_limits(struct sheaf_barn *barn, uint32_t full, uint32_t empty)
{
	uint64_t end = test_ms() + 100;

	if (exchange_relaxed(&meddle, 0)) {
		if (pthread_create(&meddler, NULL, set_limits, NULL))
			abort();
		while (!load_acquire(&meddled) && test_ms() < end)
			test_pause();
	}
	__real_sheaf_barn_set_limits(barn, full, empty);
}

static void *use(void *arg)
{
	static uint32_t used;

	sheaf_cache_free(cache, sheaf_cache_alloc(cache, 0));
	fetch_add_relaxed(&used, 1);
	/* All at once, so that each needs a slot of its own. */
	while (load_relaxed(&used) < 12)
		test_pause();
	return arg;
}

START_TEST(limits_stay_as_set)
{
	struct sheaf_cache_attr attr = {
		.size = sizeof(attr), .object_size = 64, .nodes = 1, .slots = SHEAF_SLOTS_THREAD};
	char args[12];

	ck_assert_int_eq(sheaf_cache_create(&cache, &attr), 0);
	meddled = 0;
	store_relaxed(&meddle, 1);
	test_threads(12, use, args, 1);
	/* More slots than the default limit serves: one of them met the other party. */
	ck_assert_uint_eq(meddle, 0);
	pthread_join(meddler, NULL);
	ck_assert_uint_eq(cache->node[0].barn.full.limit, 7);
	ck_assert_uint_eq(cache->node[0].barn.empty.limit, 5);
	ck_assert_int_eq(sheaf_cache_destroy(cache, NULL), 0);
}
END_TEST

/* One call; Check's timeout ends one that waits. */
START_TEST(nowait_goes_before_wait)
{
	struct sheaf_cache_attr attr = {
		.size = sizeof(attr), .object_size = 64, .nodes = 2, .budget = 10 * 64};
	void *objects[10], *more;

	ck_assert_int_eq(sheaf_cache_create(&cache, &attr), 0);
	ck_assert_uint_eq(sheaf_cache_alloc_bulk(cache, 0, 10, objects), 10);
	ck_assert_ptr_null(sheaf_cache_alloc(cache, SHEAF_NOWAIT | SHEAF_WAIT));
	ck_assert_ptr_null(sheaf_cache_alloc_node(cache, SHEAF_NOWAIT | SHEAF_WAIT, 1));
	ck_assert_uint_eq(sheaf_cache_alloc_bulk(cache, SHEAF_NOWAIT | SHEAF_WAIT, 1, &more), 0);
	sheaf_cache_free_bulk(cache, 10, objects);
	ck_assert_int_eq(sheaf_cache_destroy(cache, NULL), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("faults");
	TCase *tc = tcase_create("edges");

	tcase_set_timeout(tc, 20);
	tcase_add_test(tc, limits_stay_as_set);
	tcase_add_test(tc, nowait_goes_before_wait);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
