/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves what the attributes of a slab backend add: a constructor runs once per life of a page,
 * before anybody gets the object, and what it wrote survives frees; a type-stable backend
 * hands free objects out again at once, but lets no page and no region go before its ticket has
 * elapsed, and takes back what is wanted meanwhile; memory that is missed is kept, and that of a
 * burst is not; statistics are those of a layout that is made by hand.
 */
#include "helpers.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static struct sheaf_slab *make_with(const struct sheaf_slab_attr *attr)
{
	struct sheaf_slab *slab;

	ck_assert_int_eq(sheaf_slab_create(&slab, attr), 0);
	return slab;
}

/* ---- Constructor ---- */

#define MAGIC 0x5a5a5a5au

struct made {
	uint64_t objects;
	uint64_t calls;
};

static void construct(void *arg, size_t n, void *const *objects)
{
	struct made *made = arg;

	made->calls++;
	made->objects += n;
	for (size_t i = 0; i < n; i++)
		*(uint32_t *)objects[i] = MAGIC;
}

static void assert_constructed(size_t n, void *const *objects)
{
	for (size_t i = 0; i < n; i++)
		ck_assert_uint_eq(*(uint32_t *)objects[i], MAGIC);
}

START_TEST(constructor_runs_once_per_page_life)
{
	struct made made = {0, 0};
	const struct sheaf_slab_attr attr = {
		.size = sizeof(attr),
		.object_size = 1000,
		.nodes = 1,
		.ctor = construct,
		.ctor_arg = &made,
	};
	struct sheaf_slab *slab = make_with(&attr);
	void *objects[300], *again[300];

	take(slab, 0, 100, objects);
	ck_assert_uint_eq(made.objects, 100);
	assert_constructed(100, objects);
	/* One call for neighbours that are new; none for objects that were there. */
	ck_assert_uint_eq(made.calls, 1);
	give(slab, 100, objects);
	take(slab, 0, 100, again);
	ck_assert_uint_eq(made.objects, 100);
	assert_constructed(100, again);
	/* Old ones, then new ones. */
	give(slab, 30, again + 10);
	take(slab, 0, 130, objects);
	ck_assert_uint_eq(made.objects, 200);
	assert_constructed(130, objects);
	give(slab, 130, objects);
	give(slab, 10, again);
	give(slab, 60, again + 40);
	/* The pages go: all begins again. */
	ck_assert_uint_eq(sheaf_slab_trim(slab), SHEAF_SLAB_REGION);
	take(slab, 0, 300, objects);
	ck_assert_uint_eq(made.objects, 500);
	assert_constructed(300, objects);
	/* Only those of empty slabs go: 4 slabs of 65, the last one stays. */
	give(slab, 299, objects);
	ck_assert_uint_eq(sheaf_slab_trim(slab), 4 * stats_of(slab).slab_bytes);
	take(slab, 0, 299, objects);
	ck_assert_uint_eq(made.objects, 500 + 260);
	assert_constructed(300, objects);
	give(slab, 300, objects);
	ck_assert_int_eq(sheaf_slab_destroy(slab), 0);
}
END_TEST

/* Pages that the program has locked do not go, so what is on them is not constructed again. */
START_TEST(objects_stay_with_their_pages)
{
	struct made made = {0, 0};
	const struct sheaf_slab_attr attr = {
		.size = sizeof(attr),
		.object_size = 1000,
		.nodes = 1,
		.ctor = construct,
		.ctor_arg = &made,
	};
	struct sheaf_slab *slab = make_with(&attr);
	void *objects[325];
	uintptr_t from;
	bool locked;

	/* Five slabs. */
	take(slab, 0, 325, objects);
	/* All of it, or one page of the third slab. Checkers make mlock(2) do nothing. */
	from = (uintptr_t)objects[_i ? 150 : 0] & ~(uintptr_t)((_i ? 4096 : SHEAF_SLAB_REGION) - 1);
	locked = syscall(SYS_mlock, from, (size_t)(_i ? 4096 : SHEAF_SLAB_REGION)) == 0;
	if (!locked)
		printf("# memory cannot be locked\n");
	give(slab, 324, objects);
	ck_assert(!sheaf_slab_trim(slab) == (locked && !_i));
	take(slab, 0, 324, objects);
	ck_assert_uint_le(made.objects, 325 + 260);
	ck_assert_uint_ge(made.objects, locked ? 325 : 325 + 260);
	ck_assert(made.objects == 325 || !locked || _i);
	assert_constructed(325, objects);
	give(slab, 325, objects);
	ck_assert_int_eq(sheaf_slab_destroy(slab), 0);
}
END_TEST

/* ---- Type-stable ---- */

static struct sheaf_slab *make_stable(struct sheaf_gp_manual *gp, size_t size, uint32_t spare)
{
	const struct sheaf_slab_attr attr = {
		.size = sizeof(attr),
		.object_size = size,
		.nodes = 1,
		.spare_regions = spare,
		.gp = &gp->gp,
	};

	sheaf_gp_manual_init(gp, UINT64_MAX - 1);
	return make_with(&attr);
}

/* A reader's view: what was written to a free object is still there. */
START_TEST(regions_wait_for_their_ticket)
{
	struct sheaf_gp_manual gp;
	struct sheaf_slab *slab = make_stable(&gp, 65536, UINT32_MAX);
	void *objects[64], *one;

	take(slab, 0, 64, objects);
	for (unsigned i = 0; i < 64; i++)
		memset(objects[i], (int)i, 65536);
	give(slab, 64, objects);
	ck_assert_uint_eq(stats_of(slab).regions, 2);
	for (unsigned i = 0; i < 64; i++)
		for (unsigned j = 0; j < 65536; j += 511)
			ck_assert_uint_eq(((unsigned char *)objects[i])[j], i);
	/* At once for the same type: no new region, the one that waits. */
	take(slab, 0, 1, &one);
	ck_assert_uint_eq(stats_of(slab).regions, 2);
	give(slab, 1, &one);
	/* Without a step nothing goes, however often it is asked for. */
	for (unsigned i = 0; i < 3; i++)
		ck_assert_uint_eq(sheaf_slab_trim(slab), 0);
	/* The one that was used meanwhile waits for a later ticket. */
	sheaf_gp_manual_step(&gp);
	ck_assert_uint_eq(sheaf_slab_trim(slab), SHEAF_SLAB_REGION);
	ck_assert(sheaf_slab_check(slab));
	ck_assert_uint_eq(sheaf_slab_trim(slab), 0);
	ck_assert_int_eq(sheaf_slab_destroy(slab), -EDEADLK);
	ck_assert_int_eq(sheaf_slab_destroy(slab), -EDEADLK);
	ck_assert(sheaf_slab_check(slab));
	sheaf_gp_manual_step(&gp);
	ck_assert_int_eq(sheaf_slab_destroy(slab), 0);
}
END_TEST

START_TEST(pages_wait_for_their_ticket)
{
	struct sheaf_gp_manual gp;
	struct sheaf_slab *slab = make_stable(&gp, 256, 0);
	size_t n = stats_of(slab).slab_objects, bytes = stats_of(slab).slab_bytes;
	void **objects = room_for(4 * n);

	take(slab, 0, 4 * n, objects);
	for (size_t i = 0; i < 4 * n; i++)
		memset(objects[i], (int)(i % 251) + 1, 256);
	give(slab, 3 * n, objects);
	ck_assert_uint_eq(sheaf_slab_trim(slab), 0);
	for (size_t i = 0; i < 4 * n; i++)
		ck_assert_uint_eq(*(unsigned char *)objects[i], i % 251 + 1);
	/* One of the three slabs is used and given back meanwhile: it stays. */
	take(slab, 0, 1, objects);
	give(slab, 1, objects);
	sheaf_gp_manual_step(&gp);
	ck_assert_uint_eq(sheaf_slab_trim(slab), 2 * bytes);
	ck_assert_uint_eq(stats_of(slab).bytes_touched, 2 * bytes);
	ck_assert_uint_eq(*(unsigned char *)objects[1], 2);
	ck_assert_uint_eq(*(unsigned char *)objects[n], 0);
	sheaf_gp_manual_step(&gp);
	ck_assert_uint_eq(sheaf_slab_trim(slab), bytes);
	give(slab, n, objects + 3 * n);
	/* Empty by trim, without a wait in destroy. */
	ck_assert_uint_eq(sheaf_slab_trim(slab), 0);
	sheaf_gp_manual_step(&gp);
	ck_assert_uint_eq(sheaf_slab_trim(slab), SHEAF_SLAB_REGION);
	ck_assert_int_eq(sheaf_slab_destroy(slab), 0);
	free(objects);
}
END_TEST

/* In a child, a generation whose ticket another thread was taking is none. */
START_TEST(child_goes_on_without_the_ticket_of_another)
{
	struct sheaf_gp_manual gp;
	struct sheaf_slab *slab = make_stable(&gp, 65536, UINT32_MAX);
	void *objects[64];
	int status;
	pid_t pid;

	take(slab, 0, 64, objects);
	give(slab, 64, objects);
	sheaf_slab_trim(slab);
	pthread_mutex_lock(&slab->node[0].mutex);
	slab->node[0].aging = AGE_TAKING;
	pthread_mutex_unlock(&slab->node[0].mutex);
	ck_assert_uint_eq(sheaf_slab_trim(slab), 0);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (!pid) {
		size_t gone = sheaf_slab_trim(slab);

		sheaf_gp_manual_step(&gp);
		gone += sheaf_slab_trim(slab);
		sheaf_gp_manual_step(&gp);
		gone += sheaf_slab_trim(slab);
		_exit(sheaf_slab_check(slab) && gone == 2 * SHEAF_SLAB_REGION ? 0 : 1);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	slab->node[0].aging = AGE_WAITING;
	sheaf_gp_manual_step(&gp);
	sheaf_slab_trim(slab);
	sheaf_gp_manual_step(&gp);
	sheaf_slab_trim(slab);
	ck_assert_int_eq(sheaf_slab_destroy(slab), 0);
}
END_TEST

/* ---- Hysteresis ---- */

START_TEST(what_is_missed_is_kept)
{
	const size_t n = 4 * 32;
	struct sheaf_slab *slab = make(65536, 0, 1, 0);
	void **objects = room_for(40 * 32);
	uint64_t returned;

	/* Four regions by turns: the first turns give back, the later ones do not. */
	for (unsigned i = 0; i < 8; i++) {
		take(slab, 0, n, objects);
		give(slab, n, objects);
	}
	returned = stats_of(slab).bytes_returned;
	ck_assert_uint_gt(returned, 0);
	for (unsigned i = 0; i < 100; i++) {
		take(slab, 0, n, objects);
		give(slab, n, objects);
	}
	ck_assert_uint_eq(stats_of(slab).bytes_returned, returned);
	ck_assert_uint_eq(stats_of(slab).regions, 4);
	/* Much more, once: only what the attribute says stays. */
	take(slab, 0, 40 * 32, objects);
	give(slab, 40 * 32, objects);
	ck_assert_uint_eq(stats_of(slab).regions, 1);
	/* And trim takes back what was learned. */
	for (unsigned i = 0; i < 8; i++) {
		take(slab, 0, n, objects);
		give(slab, n, objects);
	}
	ck_assert_uint_gt(stats_of(slab).regions, 1);
	ck_assert_uint_gt(sheaf_slab_trim(slab), SHEAF_SLAB_REGION);
	take(slab, 0, n, objects);
	give(slab, n, objects);
	ck_assert_uint_eq(stats_of(slab).regions, 1);
	ck_assert_int_eq(sheaf_slab_destroy(slab), 0);
	free(objects);
}
END_TEST

/* A slab that becomes empty and used by turns beside one that stays costs no system call. */
START_TEST(pages_go_in_large_portions)
{
	struct sheaf_slab *slab = make(4096, 0, 1, 0);
	size_t n = 8 * SHEAF_SLAB_REGION / 4096, per = stats_of(slab).slab_objects;
	void **objects = room_for(n);
	uint64_t returned = 0;
	unsigned portions = 0;

	take(slab, 0, n, objects);
	/* One object of each region stays; the rest goes slab by slab. */
	for (size_t i = 0; i < n; i += per) {
		bool first = i % (SHEAF_SLAB_REGION / 4096) == 0;

		give(slab, per - first, objects + i + first);
		if (stats_of(slab).bytes_returned == returned)
			continue;
		ck_assert_uint_ge(stats_of(slab).bytes_returned - returned, SHEAF_SLAB_REGION / 2);
		returned = stats_of(slab).bytes_returned;
		portions++;
	}
	ck_assert_uint_ge(portions, 3);
	ck_assert_uint_eq(stats_of(slab).regions, 8);
	for (size_t i = 0; i < n; i += SHEAF_SLAB_REGION / 4096)
		give(slab, 1, objects + i);
	ck_assert_int_eq(sheaf_slab_destroy(slab), 0);
	free(objects);
}
END_TEST

/* ---- Statistics ---- */

START_TEST(statistics_of_a_known_layout)
{
	struct sheaf_slab *slab = make(256, 0, 1, 0);
	struct sheaf_slab_stats stats;
	void *objects[5 * 64];

	ck_assert_uint_eq(stats_of(slab).fragmentation, 0);
	take(slab, 0, 5 * 64, objects);
	/* Slabs with 64, 33, 32, 1 and 0 of 64 out. */
	give(slab, 31, objects + 64);
	give(slab, 32, objects + 128);
	give(slab, 63, objects + 192);
	give(slab, 64, objects + 256);
	stats = stats_of(slab);
	ck_assert_uint_eq(stats.slab_objects, 64);
	ck_assert_uint_eq(stats.slabs_used, 4);
	ck_assert_uint_eq(stats.fill[7], 1);
	ck_assert_uint_eq(stats.fill[4], 1);
	ck_assert_uint_eq(stats.fill[3], 1);
	ck_assert_uint_eq(stats.fill[0], 1);
	ck_assert_uint_eq(stats.bytes_touched, 5 * 16384);
	ck_assert_uint_eq(stats.fragmentation, 5 * 16384 * 1000 / (130 * 256));
	ck_assert_uint_ge(stats.bytes_mapped, SHEAF_SLAB_REGION);
	ck_assert_uint_le(stats.bytes_mapped, SHEAF_SLAB_REGION + SHEAF_SLAB_REGION / 64);
	ck_assert_uint_eq(sheaf_slab_trim(slab), 16384);
	ck_assert_uint_eq(stats_of(slab).fragmentation, 4 * 16384 * 1000 / (130 * 256));
	give(slab, 64, objects);
	give(slab, 33, objects + 95);
	give(slab, 32, objects + 160);
	give(slab, 1, objects + 255);
	ck_assert_int_eq(sheaf_slab_destroy(slab), 0);
}
END_TEST

/* ---- Hardened: order ---- */

static struct sheaf_slab *make_hardened(size_t size, uint64_t seed)
{
	const struct sheaf_slab_attr attr = {
		.size = sizeof(attr),
		.object_size = size,
		.nodes = 1,
		.hardened = true,
		.seed = seed,
	};

	return make_with(&attr);
}

static void order_of(uint64_t seed, size_t n, int64_t *order)
{
	struct sheaf_slab *slab = make_hardened(256, seed);
	void *objects[128];

	take(slab, 0, n, objects);
	for (size_t i = 0; i < n; i++)
		order[i] = (char *)objects[i] - (char *)region_find(objects[i])->base;
	give(slab, n, objects);
	ck_assert_int_eq(sheaf_slab_destroy(slab), 0);
}

START_TEST(order_is_that_of_the_seed)
{
	int64_t a[128], b[128], c[128], d[128], e[128];
	unsigned rising = 0;

	order_of(7, 128, a);
	order_of(7, 128, b);
	order_of(8, 128, c);
	order_of(0, 128, d);
	order_of(0, 128, e);
	ck_assert_mem_eq(a, b, sizeof(a));
	ck_assert_mem_ne(a, c, sizeof(a));
	ck_assert_mem_ne(d, e, sizeof(d));
	for (unsigned i = 1; i < 128; i++)
		rising += a[i] > a[i - 1];
	ck_assert_uint_gt(rising, 32);
	ck_assert_uint_lt(rising, 96);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("slab-features");
	TCase *tc = tcase_create("features");

	tcase_add_test(tc, constructor_runs_once_per_page_life);
	tcase_add_loop_test(tc, objects_stay_with_their_pages, 0, 2);
	tcase_add_test(tc, regions_wait_for_their_ticket);
	tcase_add_test(tc, pages_wait_for_their_ticket);
	tcase_add_test(tc, child_goes_on_without_the_ticket_of_another);
	tcase_add_test(tc, what_is_missed_is_kept);
	tcase_add_test(tc, pages_go_in_large_portions);
	tcase_add_test(tc, statistics_of_a_known_layout);
	tcase_add_test(tc, order_is_that_of_the_seed);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
