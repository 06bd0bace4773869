/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves what a process holds: after a burst of a million objects of 256 bytes through a cache
 * over the slab backend, freed in random order, and one shrink of the cache, it is resident as
 * before, but for a tenth; also where objects from before the burst and from the middle of it stay.
 * And that where the system refuses memory an allocation comes back short, without a loss:
 * whatever it got can be used and freed, and more is had when there is memory again. A region of a
 * hardened backend that cannot have its guard pages counts as no memory.
 */
#include "helpers.h"

#include <sheaf/cache.h>

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZE 256
#define BURST 1000000

static size_t statm(unsigned which)
{
	unsigned long pages[2] = {0, 0};
	FILE *file = fopen("/proc/self/statm", "r");

	ck_assert_ptr_nonnull(file);
	ck_assert_int_eq(fscanf(file, "%lu %lu", &pages[0], &pages[1]), 2);
	fclose(file);
	return pages[which] * (size_t)sysconf(_SC_PAGESIZE);
}

static struct sheaf_cache *make_cache(struct sheaf_slab **slab)
{
	const struct sheaf_slab_attr slab_attr = {.size = sizeof(slab_attr), .object_size = SIZE};
	struct sheaf_cache_attr attr = {.size = sizeof(attr), .object_size = SIZE};
	struct sheaf_cache *cache;

	ck_assert_int_eq(sheaf_slab_create(slab, &slab_attr), 0);
	attr.backend = sheaf_slab_backend(*slab);
	ck_assert_int_eq(sheaf_cache_create(&cache, &attr), 0);
	return cache;
}

static void alloc_all(struct sheaf_cache *cache, size_t n, void **objects)
{
	ck_assert_uint_eq(sheaf_cache_alloc_bulk(cache, 0, n, objects), n);
	for (size_t i = 0; i < n; i++)
		memset(objects[i], (int)i, SIZE);
}

static void free_all(struct sheaf_cache *cache, size_t n, void **objects, uint64_t *state)
{
	shuffle(objects, n, state);
	for (size_t i = 0; i < n / 2; i++)
		sheaf_cache_free(cache, objects[i]);
	sheaf_cache_free_bulk(cache, n - n / 2, objects + n / 2);
	sheaf_cache_shrink(cache);
}

/* `every`: one of so many objects of the burst stays. */
static void burst(size_t held, size_t every)
{
	size_t n = test_slow() ? BURST / 50 : BURST, kept = 0;
	void **objects = room_for(n), **old = room_for(held);
	uint64_t state = test_seed();
	struct sheaf_slab *slab;
	struct sheaf_cache *cache = make_cache(&slab);
	size_t before, after, live;

	/* The pointers themselves are no matter. */
	memset(objects, 1, n * sizeof(objects[0]));
	alloc_all(cache, held, old);
	before = statm(1);
	alloc_all(cache, n, objects);
	if (!test_slow())
		ck_assert_uint_ge(statm(1), before + BURST * (size_t)SIZE);
	/* Those that stay come first. */
	for (size_t i = 0; every && i < n; i += every) {
		void *object = objects[i];

		objects[i] = objects[kept];
		objects[kept++] = object;
	}
	free_all(cache, n - kept, objects + kept, &state);
	after = statm(1);
	live = kept * (size_t)stats_of(slab).slab_bytes;
	printf("# before %zu KiB, after %zu KiB, in slabs that stay at most %zu KiB\n",
	       before / 1024, after / 1024, live / 1024);
	if (!test_slow())
		ck_assert_uint_le(after, before + before / 10 + live);
	ck_assert_uint_le(stats_of(slab).bytes_touched,
			  (stats_of(slab).slabs_used * stats_of(slab).slab_bytes) +
				  4 * SHEAF_SLAB_REGION);
	ck_assert(sheaf_slab_check(slab));
	free_all(cache, kept, objects, &state);
	free_all(cache, held, old, &state);
	ck_assert_int_eq(sheaf_cache_destroy(cache, NULL), 0);
	free(objects);
	free(old);
}

START_TEST(burst_goes_back)
{
	/* 64 MiB of its own. */
	burst(((size_t)64 << 20) / SIZE, 0);
}
END_TEST

/* 400 objects of the burst stay, so no region comes free: the pages of its other slabs go. */
START_TEST(burst_goes_back_though_some_stay)
{
	burst(((size_t)64 << 20) / SIZE, 2500);
}
END_TEST

/* As a process may use so much address space and no more. The child's result is its exit code. */
static int alloc_under_limit(bool hardened)
{
	const struct sheaf_slab_attr attr = {
		.size = sizeof(attr), .object_size = 4096, .nodes = 2, .hardened = hardened};
	const size_t most = 200 * SHEAF_SLAB_REGION / 4096;
	const struct rlimit low = {statm(0) + 24 * SHEAF_SLAB_REGION, RLIM_INFINITY};
	const struct rlimit high = {RLIM_INFINITY, RLIM_INFINITY};
	struct sheaf_slab *slab = NULL;
	void **objects = calloc(most, sizeof(objects[0]));
	size_t got, more;

	if (!objects || sheaf_slab_create(&slab, &attr) || setrlimit(RLIMIT_AS, &low))
		return 1;
	got = take_some(slab, 0, 0, most, objects);
	if (!got || got >= most)
		return 2;
	for (size_t i = 0; i < got; i++)
		memset(objects[i], 1, 4096);
	/* Again and again: nothing is there, nothing is lost. */
	for (unsigned i = 0; i < 10; i++)
		if (take_some(slab, (int)(i % 3) - 1, 0, 1, objects + got) != 0)
			return 3;
	if (!sheaf_slab_check(slab) || stats_of(slab).objects != got)
		return 4;
	give(slab, 1, objects + got - 1);
	if (take_some(slab, 1, 0, 2, objects + got - 1) != 1)
		return 5;
	setrlimit(RLIMIT_AS, &high);
	more = take_some(slab, 0, 0, most - got, objects + got);
	if (got + more != most)
		return 6;
	give(slab, most, objects);
	return sheaf_slab_destroy(slab) ? 7 : 0;
}

static void expect_zero(int (*run)(bool), bool arg)
{
	int status;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (!pid)
		_exit(run(arg));
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %#x",
		      (unsigned)status);
}

/* Checkers reserve address space of their own. */
START_TEST(address_space_runs_out)
{
	if (test_slow())
		return;
	expect_zero(alloc_under_limit, false);
	expect_zero(alloc_under_limit, true);
}
END_TEST

/*
 * No more mappings than a process may have: each page of an area is made one. A region without its
 * guards is none. The system may allow more than are tried here.
 */
static int guard_without_mappings(bool hardened)
{
	const struct sheaf_slab_attr attr = {
		.size = sizeof(attr), .object_size = 256, .nodes = 1, .hardened = hardened};
	const size_t page = (size_t)sysconf(_SC_PAGESIZE), pages = 70000;
	char *area = mmap(NULL, pages * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct sheaf_slab *slab = NULL;
	void *objects[100];
	size_t i;

	if (area == MAP_FAILED || sheaf_slab_create(&slab, &attr))
		return 1;
	for (i = 0; i < pages; i += 2)
		if (mprotect(area + i * page, page, PROT_READ))
			break;
	if (i >= pages)
		return 0;
	/* Room for a region, but not for all its guards. */
	for (unsigned k = 1; k <= 10; k++)
		mprotect(area + (i - 2 * k) * page, page, PROT_NONE);
	if (take_some(slab, 0, 0, 100, objects) != 0 || !sheaf_slab_check(slab) ||
	    stats_of(slab).regions)
		return 2;
	munmap(area, pages * page);
	if (take_some(slab, 0, 0, 100, objects) != 100)
		return 3;
	give(slab, 100, objects);
	return sheaf_slab_destroy(slab) ? 4 : 0;
}

START_TEST(guards_run_out)
{
	if (test_slow())
		return;
	expect_zero(guard_without_mappings, true);
}
END_TEST

/* As address space, but through a cache, whose own memory is refused as well. */
static int cache_under_limit(bool bulk)
{
	const size_t most = 200 * SHEAF_SLAB_REGION / SIZE;
	const struct rlimit low = {statm(0) + 24 * SHEAF_SLAB_REGION, RLIM_INFINITY};
	const struct rlimit high = {RLIM_INFINITY, RLIM_INFINITY};
	void **objects = calloc(most, sizeof(objects[0]));
	struct sheaf_slab *slab;
	struct sheaf_cache *cache = make_cache(&slab);
	size_t got = 0, live = 1;

	if (!objects || setrlimit(RLIMIT_AS, &low))
		return 1;
	if (bulk)
		got = sheaf_cache_alloc_bulk(cache, 0, most, objects);
	else
		while (got < most && (objects[got] = sheaf_cache_alloc(cache, 0)))
			got++;
	if (!got || got >= most || !sheaf_slab_check(slab))
		return 2;
	for (size_t i = 0; i < got; i++)
		memset(objects[i], 1, SIZE);
	sheaf_cache_free_bulk(cache, got, objects);
	sheaf_cache_shrink(cache);
	if (stats_of(slab).objects)
		return 3;
	setrlimit(RLIMIT_AS, &high);
	if (sheaf_cache_alloc_bulk(cache, 0, most, objects) != most)
		return 4;
	sheaf_cache_free_bulk(cache, most, objects);
	return sheaf_cache_destroy(cache, &live) || live ? 5 : 0;
}

START_TEST(address_space_runs_out_under_a_cache)
{
	if (test_slow())
		return;
	expect_zero(cache_under_limit, true);
	expect_zero(cache_under_limit, false);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("slab-memory");
	TCase *tc = tcase_create("memory");

	tcase_add_test(tc, burst_goes_back);
	tcase_add_test(tc, burst_goes_back_though_some_stay);
	tcase_add_test(tc, address_space_runs_out);
	tcase_add_test(tc, guards_run_out);
	tcase_add_test(tc, address_space_runs_out_under_a_cache);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
