/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

#define _GNU_SOURCE
#include "common.h"

#include "base/atomic.h"
#include "base/memory.h"

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifdef TEST_VALGRIND
#include <valgrind/valgrind.h>
#endif

uint64_t test_seed(void)
{
	static uint64_t seed;
	const char *text = getenv("SHEAF_SEED");

	if (seed)
		return seed;
	if (text) {
		seed = strtoull(text, NULL, 0);
	} else {
		struct timespec now;

		clock_gettime(CLOCK_REALTIME, &now);
		seed = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	}
	if (!seed)
		seed = 1;
	printf("# SHEAF_SEED=%llu\n", (unsigned long long)seed);
	fflush(stdout);
	return seed;
}

uint64_t test_random(uint64_t *state)
{
	uint64_t x = *state;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	*state = x;
	return x * UINT64_C(0x2545f4914f6cdd1d);
}

uint64_t test_below(uint64_t *state, uint64_t n)
{
	return (test_random(state) >> 11) % n;
}

/* 0 if it is not set. */
static unsigned times(void)
{
	const char *text = getenv("SHEAF_FULL");
	unsigned long n = text ? strtoul(text, NULL, 10) : 0;

	return !text ? 0 : n == 0 ? 1 : n > 10000 ? 10000 : (unsigned)n;
}

bool test_full(void)
{
	return times() != 0;
}

unsigned test_more(unsigned quick)
{
	return test_full() ? quick * times() : quick;
}

/* gcc says it by a macro, clang by a question. */
#ifndef __has_feature
#define __has_feature(feature) 0
#endif

bool test_asan(void)
{
#ifdef __SANITIZE_ADDRESS__
	return true;
#else
	return __has_feature(address_sanitizer);
#endif
}

bool test_tsan(void)
{
#ifdef __SANITIZE_THREAD__
	return true;
#else
	return __has_feature(thread_sanitizer);
#endif
}

bool test_valgrind(void)
{
#ifdef TEST_VALGRIND
	return RUNNING_ON_VALGRIND;
#else
	return false;
#endif
}

bool test_slow(void)
{
	return test_asan() || test_tsan() || getenv("SHEAF_SLOW") || test_valgrind();
}

unsigned test_rounds(unsigned quick)
{
	if (test_slow())
		quick = quick / 10 + 1;
	return test_more(quick);
}

bool test_child_good(int status, const char *name)
{
	if (!WIFEXITED(status) || WEXITSTATUS(status) != TEST_NOT_HERE)
		return WIFEXITED(status) && WEXITSTATUS(status) == 0;
	printf("# %s: not tried\n", name);
	fflush(stdout);
	return !test_full() || test_slow();
}

/*
 * Tests that count trips exactly stay on one CPU where slots are per CPU: TEST_PIN is set. Tests that
 * run at the same time are on several CPUs.
 */
static void pin(void)
{
	cpu_set_t one, may;
	int cpu, skip;

	if (!getenv("TEST_PIN") || sched_getaffinity(0, sizeof(may), &may))
		return;
	skip = getpid() % CPU_COUNT(&may);
	for (cpu = 0; cpu < CPU_SETSIZE - 1; cpu++)
		if (CPU_ISSET(cpu, &may) && !skip--)
			break;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	sched_setaffinity(0, sizeof(one), &one);
}

int test_run(Suite *suite)
{
	SRunner *runner = srunner_create(suite);
	int failed;

	pin();

	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

void test_threads(unsigned n, void *(*fn)(void *), void *args, size_t arg_bytes)
{
	pthread_t *threads = calloc(n, sizeof(*threads));
	unsigned i;

	for (i = 0; i < n; i++)
		if (!threads ||
		    pthread_create(&threads[i], NULL, fn, (char *)args + i * arg_bytes)) {
			fprintf(stderr, "cannot make thread %u of %u\n", i, n);
			abort();
		}
	for (i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
	free(threads);
}

static void die_here(void (*fn)(void *arg), void *arg, int out)
{
	const struct rlimit none = {0, 0};

	setrlimit(RLIMIT_CORE, &none);
	signal(SIGABRT, SIG_DFL);
	dup2(out, STDERR_FILENO);
	fn(arg);
	_exit(0);
}

bool test_dies(void (*fn)(void *arg), void *arg, const char *text)
{
	char said[1024];
	size_t n = 0;
	ssize_t got;
	int pipes[2], status;
	pid_t child;

	if (pipe(pipes))
		return false;
	fflush(NULL);
	child = fork();
	if (child == 0)
		die_here(fn, arg, pipes[1]);
	close(pipes[1]);
	while (n < sizeof(said) - 1 && (got = read(pipes[0], said + n, sizeof(said) - 1 - n)) > 0)
		n += (size_t)got;
	said[n] = '\0';
	close(pipes[0]);
	if (child < 0 || waitpid(child, &status, 0) != child)
		return false;
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT && strstr(said, text);
}

uint64_t test_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

uint64_t test_patience_ms(void)
{
	static uint64_t looked, patience;
	uint64_t before = load_relaxed(&looked), now = test_ms(),
		 gap = now > before ? now - before : 0;

	/* Of those who look at the same time one counts. */
	if (gap && cas_weak_relaxed(&looked, &before, now))
		fetch_add_relaxed(&patience, gap < 50 ? gap : 50);
	return load_relaxed(&patience);
}

void test_sleep_ms(unsigned ms)
{
	const struct timespec time = {ms / 1000, (long)(ms % 1000) * 1000000};

	nanosleep(&time, NULL);
}

void test_pause(void)
{
	static __thread unsigned turns;
	const struct timespec time = {0, 20000};

	if (++turns % 16)
		sched_yield();
	else
		nanosleep(&time, NULL);
}

static struct {
	unsigned left;
	bool all;
	bool failed;
} fault;

static bool fail_nth(size_t bytes)
{
	(void)bytes;
	if (fault.left) {
		fault.left--;
		return false;
	}
	if (fault.failed && !fault.all)
		return false;
	fault.failed = true;
	return true;
}

void test_fail_nth(unsigned n, bool all)
{
	fault.left = n;
	fault.all = all;
	fault.failed = false;
	sheaf_memory_fault = fail_nth;
}

bool test_fail_end(void)
{
	sheaf_memory_fault = NULL;
	return fault.failed;
}
