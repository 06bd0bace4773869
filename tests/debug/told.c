/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves of reports that they reach stderr whole, and leave the call they are made in as it was: a thread that has
 * been cancelled goes on until the call is over, signals do not cut the text, errno stays. What an address is can be
 * told on an alternate signal stack of 8192 bytes. Without memory the text comes line by line.
 */
#define _GNU_SOURCE
#include "base/atomic.h"
#include "common.h"

#include <errno.h>
#include <fcntl.h>
#include <sheaf/cache.h>
#include <sheaf/debug.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SIZE 48
#define STACK 8192
#define PAGE 65536

static struct sheaf_cache *cache;
static void *object;
static unsigned came;

static void begin(unsigned flags, sheaf_debug_report_fn *report)
{
	const struct sheaf_debug_attr debug = {
		.size = sizeof(debug), .flags = flags, .report = report};
	const struct sheaf_cache_attr attr = {
		.size = sizeof(attr), .object_size = SIZE, .name = "told", .debug = &debug};

	ck_assert_int_eq(sheaf_cache_create(&cache, &attr), 0);
	object = sheaf_cache_alloc(cache, 0);
	ck_assert_ptr_nonnull(object);
	came = 0;
}

static void end(void)
{
	ck_assert(sheaf_cache_check(cache));
	ck_assert_int_eq(sheaf_cache_destroy(cache, NULL), 0);
}

/* stderr goes into a pipe meanwhile. */
static struct {
	int ends[2];
	int was;
	char text[16384];
	size_t n;
} out;

static void listen_begin(void)
{
	out.n = 0;
	fflush(NULL);
	ck_assert_int_eq(pipe(out.ends), 0);
	out.was = dup(STDERR_FILENO);
	dup2(out.ends[1], STDERR_FILENO);
}

static void hear(void)
{
	ssize_t n;

	fcntl(out.ends[0], F_SETFL, O_NONBLOCK);
	while ((n = read(out.ends[0], out.text + out.n, sizeof(out.text) - 1 - out.n)) > 0)
		out.n += (size_t)n;
	out.text[out.n] = '\0';
}

static void listen_end(void)
{
	dup2(out.was, STDERR_FILENO);
	close(out.was);
	hear();
	close(out.ends[0]);
	close(out.ends[1]);
}

/* All that a report of a double free, without call chains, has. */
static void expect_all(void)
{
	ck_assert_msg(strstr(out.text, "libsheaf: cache told: double free: 0x") == out.text, "%s",
		      out.text);
	ck_assert_ptr_nonnull(strstr(out.text, " of 48 bytes\n  found by thread"));
	ck_assert_ptr_nonnull(strstr(out.text, "\n  allocated by thread"));
	ck_assert_ptr_nonnull(strstr(out.text, "\n  freed by thread"));
	ck_assert_int_eq(out.text[out.n - 1], '\n');
}

static void chatty(void *arg, const struct sheaf_debug_report *report)
{
	(void)arg;
	if (write(STDERR_FILENO, report->text, strlen(report->text)) < 0)
		abort();
	errno = EDOM;
}

static void *free_cancelled(void *arg)
{
	(void)arg;
	pthread_cancel(pthread_self());
	errno = ENOTTY;
	sheaf_cache_free(cache, object);
	came = errno == ENOTTY ? 1 : 2;
	pthread_testcancel();
	came = 3;
	return NULL;
}

START_TEST(nobody_is_cancelled)
{
	pthread_t thread;
	void *how;

	begin(SHEAF_DEBUG_OWNER, _i ? chatty : NULL);
	sheaf_cache_free(cache, object);
	listen_begin();
	ck_assert_int_eq(pthread_create(&thread, NULL, free_cancelled, NULL), 0);
	pthread_join(thread, &how);
	listen_end();
	ck_assert_uint_eq(came, 1);
	ck_assert_ptr_eq(how, PTHREAD_CANCELED);
	expect_all();
	end();
}
END_TEST

static void on_signal(int number)
{
	(void)number;
	fetch_add_relaxed(&came, 1);
}

static void *free_again(void *arg)
{
	(void)arg;
	sheaf_cache_free(cache, object);
	return NULL;
}

/* The pipe is full, and signals come before anything was written. */
START_TEST(signals_cut_nothing)
{
	struct sigaction action = {.sa_handler = on_signal};
	static char full[1 << 12];
	size_t filled = 0;
	pthread_t thread;

	sigaction(SIGUSR1, &action, NULL);
	begin(SHEAF_DEBUG_OWNER, NULL);
	sheaf_cache_free(cache, object);
	listen_begin();
	fcntl(out.ends[1], F_SETFL, O_NONBLOCK);
	while (write(out.ends[1], full, sizeof(full)) > 0)
		filled += sizeof(full);
	fcntl(out.ends[1], F_SETFL, 0);
	ck_assert_int_eq(pthread_create(&thread, NULL, free_again, NULL), 0);
	for (unsigned i = 0; i < 20; i++) {
		test_sleep_ms(5);
		pthread_kill(thread, SIGUSR1);
	}
	for (; filled; filled -= sizeof(full))
		ck_assert_int_eq(read(out.ends[0], full, sizeof(full)), sizeof(full));
	pthread_join(thread, NULL);
	listen_end();
	ck_assert_uint_ge(came, 1);
	expect_all();
	end();
}
END_TEST

static void on_fault(int number)
{
	(void)number;
	errno = ENOTTY;
	sheaf_debug_explain((char *)object + 5);
	came = errno == ENOTTY;
}

/* With a page below it that cannot be accessed. */
static stack_t small_stack(void)
{
	char *pages = mmap(NULL, 2 * (size_t)PAGE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ck_assert_ptr_ne(pages, MAP_FAILED);
	ck_assert_int_eq(mprotect(pages, PAGE, PROT_NONE), 0);
	return (stack_t){.ss_sp = pages + PAGE, .ss_size = STACK};
}

static __attribute__((noinline)) void *get_deep(unsigned depth)
{
	void *got = depth ? get_deep(depth - 1) : sheaf_cache_alloc(cache, 0);

	compiler_barrier();
	return got;
}

/* An object with long call chains, and a report that has all it can have. */
START_TEST(explained_on_a_small_stack)
{
	stack_t stack = small_stack(), was;
	struct sigaction action = {.sa_handler = on_fault, .sa_flags = SA_ONSTACK};

	begin(SHEAF_DEBUG_TRACE, NULL);
	sheaf_cache_free(cache, object);
	object = get_deep(20);
	sheaf_cache_free(cache, object);
	sigaction(SIGUSR1, &action, NULL);
	ck_assert_int_eq(sigaltstack(&stack, &was), 0);
	listen_begin();
	test_fail_nth(0, true);
	if (!_i)
		test_fail_end();
	raise(SIGUSR1);
	ck_assert_int_eq(test_fail_end(), _i);
	listen_end();
	ck_assert_int_eq(sigaltstack(&was, NULL), 0);
	munmap((char *)stack.ss_sp - PAGE, 2 * (size_t)PAGE);
	ck_assert_uint_eq(came, 1);
	ck_assert_ptr_nonnull(strstr(out.text, " is byte 5 of object 0x"));
	ck_assert_ptr_nonnull(strstr(out.text, " of 48 bytes, of cache told, free\n"));
	ck_assert_ptr_nonnull(strstr(out.text, "  allocated by thread"));
	ck_assert_ptr_nonnull(strstr(out.text, "\n  freed by thread"));
	ck_assert_int_eq(out.text[out.n - 1], '\n');
	end();
}
END_TEST

static void on_report(void *arg, const struct sheaf_debug_report *report)
{
	(void)arg;
	came++;
	ck_assert_ptr_nonnull(strstr(report->text, "libsheaf: cache told: double free: 0x"));
	ck_assert_uint_lt(strlen(report->text), 512);
}

/* Line by line to stderr, the beginning to a callback. */
START_TEST(without_memory)
{
	begin(SHEAF_DEBUG_OWNER, _i ? on_report : NULL);
	sheaf_cache_free(cache, object);
	listen_begin();
	test_fail_nth(0, true);
	sheaf_cache_free(cache, object);
	ck_assert(test_fail_end());
	listen_end();
	ck_assert_uint_eq(came, (unsigned)_i);
	if (_i)
		ck_assert_uint_eq(out.n, 0);
	else
		expect_all();
	end();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("debug");
	TCase *tc = tcase_create("told");

	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, nobody_is_cancelled, 0, 2);
	tcase_add_test(tc, signals_cut_nothing);
	/* Their frames are larger, and so are those of builds for checkers. */
	if (!test_valgrind() && !test_asan() && !test_tsan())
		tcase_add_loop_test(tc, explained_on_a_small_stack, 0, 2);
	tcase_add_loop_test(tc, without_memory, 0, 2);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
