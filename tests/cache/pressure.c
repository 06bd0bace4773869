/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves of the watch for memory pressure: when the count "high" of an events file grows, free
 * objects go back, and not when another count does; wrong attributes and files that are not there are
 * refused and leave nothing open; there is one watch at a time, a child has none; a real pressure
 * file takes the trigger, where the kernel has one.
 */
#include "arena.h"
#include "base/atomic.h"
#include "child.h"
#include "common.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sheaf/pressure.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static struct arena arena;
static struct sheaf_cache *cache;
static char path[] = "/tmp/sheaf-pressure-XXXXXX";

static void write_events(unsigned low, unsigned high)
{
	char text[96];
	int n = snprintf(text, sizeof(text), "low %u\nhigh %u\nmax 0\noom 0\n", low, high);
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(pwrite(fd, text, (size_t)n, 0), n);
	close(fd);
}

static unsigned open_files(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned n = 0;

	ck_assert_ptr_nonnull(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static void setup(void)
{
	int fd = mkstemp(path);

	ck_assert_int_ge(fd, 0);
	close(fd);
	write_events(0, 7);
	arena_init(&arena, 32);
	cache = arena_cache(&arena, (struct sheaf_cache_attr){.capacity = 4, .nodes = 1});
}

static void teardown(void)
{
	arena_cache_end(&arena, cache);
	unlink(path);
	strcpy(path, "/tmp/sheaf-pressure-XXXXXX");
}

static void hold_something(void)
{
	void *object = sheaf_cache_alloc(cache, 0);

	ck_assert_ptr_nonnull(object);
	ck_assert(arena_own(&arena, object, ARENA_USER));
	ck_assert(arena_disown(&arena, object, ARENA_USER));
	sheaf_cache_free(cache, object);
	ck_assert_uint_gt(arena_out(&arena), 0);
}

START_TEST(group_above_its_limit)
{
	struct sheaf_pressure_attr attr = {.size = sizeof(attr), .events = path};
	uint64_t deadline = test_patience_ms() + 20000;
	unsigned files = open_files();

	ck_assert_int_eq(sheaf_pressure_start(&attr), 0);
	ck_assert_int_eq(sheaf_pressure_start(&attr), -EBUSY);
	for (unsigned i = 1; i <= 3; i++) {
		hold_something();
		write_events(i, 6 + i);
		test_sleep_ms(20);
		ck_assert_uint_gt(arena_out(&arena), 0);
		write_events(i, 7 + i);
		while (arena_out(&arena)) {
			ck_assert_uint_lt(test_patience_ms(), deadline);
			test_sleep_ms(1);
		}
	}
	ck_assert_uint_eq(sheaf_pressure_stop(), 3);
	ck_assert_uint_eq(sheaf_pressure_stop(), 0);
	ck_assert_uint_eq(open_files(), files);
	hold_something();
	write_events(9, 90);
	test_sleep_ms(20);
	ck_assert_uint_gt(arena_out(&arena), 0);
}
END_TEST

START_TEST(what_cannot_be_watched)
{
	struct sheaf_pressure_attr attr = {.size = 1};
	unsigned files = open_files();

	ck_assert_int_eq(sheaf_pressure_start(&attr), -EINVAL);
	attr = (struct sheaf_pressure_attr){.size = sizeof(attr), .events = "/nowhere/events"};
	ck_assert_int_eq(sheaf_pressure_start(&attr), -ENOENT);
	attr = (struct sheaf_pressure_attr){.size = sizeof(attr), .psi = "/nowhere/pressure"};
	ck_assert_int_eq(sheaf_pressure_start(&attr), -ENOENT);
	/* The first is opened, the second is not there. */
	attr.events = path;
	ck_assert_int_eq(sheaf_pressure_start(&attr), -ENOENT);
	ck_assert_uint_eq(sheaf_pressure_stop(), 0);
	ck_assert_uint_eq(open_files(), files);
}
END_TEST

START_TEST(kernel_takes_the_trigger)
{
	struct sheaf_pressure_attr attr = {.size = sizeof(attr), .trigger = "some 1 2"};

	if (access("/proc/pressure/memory", W_OK) == 0) {
		ck_assert_int_eq(sheaf_pressure_start(NULL), 0);
		ck_assert_uint_eq(sheaf_pressure_stop(), 0);
		ck_assert_int_eq(sheaf_pressure_start(&attr), -EINVAL);
	} else {
		ck_assert_int_lt(sheaf_pressure_start(NULL), 0);
	}
}
END_TEST

START_TEST(child_has_none)
{
	struct sheaf_pressure_attr attr = {.size = sizeof(attr), .events = path};
	unsigned files = open_files();
	int status;
	pid_t child;

	ck_assert_int_eq(sheaf_pressure_start(&attr), 0);
	child = fork();
	ck_assert_int_ge(child, 0);
	if (!child)
		_exit(sheaf_pressure_stop() || open_files() != files);
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_int_eq(status, 0);
	sheaf_pressure_stop();
}
END_TEST

/* What a child opens under the numbers of its parent's watch is its own. */
START_TEST(child_uses_the_numbers)
{
	struct sheaf_pressure_attr attr = {.size = sizeof(attr), .events = path};
	/* What the watch opens begins here. */
	int status, fd[16], first = dup(0);
	pid_t child;

	close(first);
	ck_assert_int_eq(sheaf_pressure_start(&attr), 0);
	child = fork();
	ck_assert_int_ge(child, 0);
	if (!child) {
		for (int i = first; i < first + 16; i++)
			close(i);
		for (unsigned i = 0; i < 16; i++)
			fd[i] = dup(0);
		if (_i && sheaf_pressure_start(&attr))
			_exit(1);
		if (sheaf_pressure_stop())
			_exit(2);
		for (unsigned i = 0; i < 16; i++)
			if (fcntl(fd[i], F_GETFD) < 0)
				_exit(3);
		_exit(0);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_int_eq(status, 0);
	sheaf_pressure_stop();
}
END_TEST

static void *stop_watch(void *arg)
{
	store_release((uint32_t *)arg, 2);
	sheaf_pressure_stop();
	return NULL;
}

/* In each operation of the backend: the watch's thread stays here as long as it is 1. */
static uint32_t hold;

static void hold_up(void *arg)
{
	uint32_t one = 1;

	(void)arg;
	if (cas_acquire(&hold, &one, 3))
		while (load_acquire(&hold) == 3)
			test_sleep_ms(1);
}

/* A child that is made while another thread stops the watch, which takes a while. */
START_TEST(child_of_a_stop)
{
	struct sheaf_pressure_attr attr = {.size = sizeof(attr), .events = path};
	uint32_t stopping = 0;
	pthread_t thread;
	int ended;
	pid_t pid;

	arena.hook = hold_up;
	hold_something();
	ck_assert_int_eq(sheaf_pressure_start(&attr), 0);
	store_release(&hold, 1);
	write_events(0, 8);
	while (load_acquire(&hold) != 3)
		test_sleep_ms(1);
	ck_assert_int_eq(pthread_create(&thread, NULL, stop_watch, &stopping), 0);
	while (load_acquire(&stopping) != 2)
		test_sleep_ms(1);
	test_sleep_ms(20);
	pid = fork();
	if (pid == 0)
		_exit(sheaf_pressure_stop() != 0);
	ended = child_end(pid);
	store_release(&hold, 0);
	pthread_join(thread, NULL);
	ck_assert_int_eq(ended, 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("cache");
	TCase *tc = tcase_create("pressure");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, group_above_its_limit);
	tcase_add_test(tc, what_cannot_be_watched);
	tcase_add_test(tc, kernel_takes_the_trigger);
	if (!test_valgrind()) {
		tcase_add_test(tc, child_has_none);
		tcase_add_loop_test(tc, child_uses_the_numbers, 0,
				    /* Which has no threads in such a child. */
				    test_tsan() ? 1 : 2);
		tcase_add_test(tc, child_of_a_stop);
	}
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
