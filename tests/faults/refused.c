/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves that the library bears what a system may refuse, from the start or in the midst of
 * use: membarrier(2), with each error that filters give, rseq(2), mmap(2), madvise(2), mbind(2), new
 * threads, what a watch for memory pressure is made of, address space. In each case calls give a clear answer or take another way, nothing
 * is lost, and where the fault ends they succeed again.
 *
 * Each case is this program once more, with its number as argument: filters hold for a process.
 */
#define _GNU_SOURCE
#include "base/atomic.h"
#include "base/membarrier.h"
#include "cache_state.h"
#include "common.h"
#include "users.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sheaf/pressure.h>
#include <sheaf/slab.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <urcu/urcu-memb.h>

#define THREADS 3
#define MANY 100000

static struct users users;

static void expect_true(bool is, const char *what, int line)
{
	if (is)
		return;
	fprintf(stderr, "refused.c:%d: not so: %s\n", line, what);
	_exit(1);
}

#define expect(is) expect_true(is, #is, __LINE__)

static void not_here(const char *why)
{
	printf("# %s\n", why);
	fflush(stdout);
	_exit(TEST_NOT_HERE);
}

/* Refuses a system call from now on. */
static void refuse(long number, int error)
{
#if defined(__x86_64__)
	const uint32_t machine = AUDIT_ARCH_X86_64;
#else
	const uint32_t machine = AUDIT_ARCH_AARCH64;
#endif
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, machine, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)number, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog program = {sizeof(filter) / sizeof(filter[0]), filter};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program))
		not_here("no seccomp filters here");
}

/*
 * Threads and a remote party, who look whether each object is theirs alone.
 */
static void work(void *arg)
{
	unsigned me = *(unsigned *)arg, i;

	for (i = 0; i < test_rounds(4000); i++)
		user_work(&users, me);
}

static void generation(void)
{
	unsigned number[THREADS], i;

	for (i = 0; i < THREADS; i++)
		number[i] = i;
	expect(users_run(&users, THREADS, work, number, sizeof(number[0])));
}

static void end(void)
{
	struct sheaf_cache_stats stats;

	expect(users_end(&users, &stats) == 0);
}

/* A filter comes when slots already rely on the kernel's fences. */
static void membarrier_later(int error, unsigned slots)
{
	cpu_set_t before, after;
	int status;
	pid_t child;

	expect(users_begin_small(&users, slots));
	generation();
	sched_getaffinity(0, sizeof(before), &before);
	refuse(SYS_membarrier, error);
	generation();
	generation();
	sched_getaffinity(0, sizeof(after), &after);
	expect(CPU_EQUAL(&before, &after));
	child = fork();
	if (child == 0) {
		sheaf_cache_free(users.cache, sheaf_cache_alloc(users.cache, 0));
		expect(sheaf_cache_barrier(users.cache) == 0);
		sheaf_cache_shrink(users.cache);
		expect(sheaf_cache_check(users.cache));
		_exit(0);
	}
	expect(waitpid(child, &status, 0) == child && status == 0);
	end();
}

static void membarrier_first(int error, unsigned slots)
{
	refuse(SYS_membarrier, error);
	expect(users_begin_small(&users, slots));
	expect(sheaf_cache_slots(users.cache, NULL) == SHEAF_SLOTS_THREAD && !membarrier_ready());
	generation();
	generation();
	end();
}

static void rseq_first(int error, unsigned slots)
{
	refuse(SYS_rseq, error);
	expect(users_begin_small(&users, slots));
	generation();
	generation();
	end();
}

static void shrink_it(void *arg)
{
	(void)arg;
	refuse(SYS_membarrier, EPERM);
	refuse(SYS_sched_setaffinity, EPERM);
	sheaf_cache_shrink(users.cache);
}

static void no_fence_at_all(int error, unsigned slots)
{
	(void)error;
	expect(users_begin_small(&users, slots));
	sheaf_cache_free(users.cache, sheaf_cache_alloc(users.cache, 0));
	expect(test_dies(shrink_it, NULL,
			 "membarrier(2) is refused now, and so is sched_setaffinity(2)"));
	end();
}

/*
 * Memory. Each object is written to and looked at.
 *
 * trim_us: what a trim has given to the system does not come back once that is refused.
 */
static struct sheaf_cache *make(struct sheaf_gp *gp, size_t object_size, uint32_t trim_us)
{
	struct sheaf_cache_attr attr = {
		.size = sizeof(attr), .object_size = object_size, .gp = gp, .trim_us = trim_us};
	struct sheaf_cache *cache;

	expect(sheaf_cache_create(&cache, &attr) == 0);
	return cache;
}

static void *objects[MANY];

static size_t take_all(struct sheaf_cache *cache, size_t most)
{
	size_t n;

	for (n = 0; n < most && (objects[n] = sheaf_cache_alloc(cache, 0)) != NULL; n++)
		*(size_t *)objects[n] = n;
	return n;
}

static void give_all(struct sheaf_cache *cache, size_t n)
{
	while (n--) {
		expect(*(size_t *)objects[n] == n);
		if (n % 3 == 0)
			sheaf_cache_free(cache, objects[n]);
		else if (n % 3 == 1)
			sheaf_cache_free_rcu(cache, objects[n]);
		else
			sheaf_cache_free_rcu_nowait(cache, objects[n]);
	}
}

/* No memory comes any more: what there is goes round. */
static void out_of_memory(struct sheaf_cache *cache, size_t had)
{
	struct sheaf_cache_attr attr = {.size = sizeof(attr), .object_size = 64};
	struct sheaf_cache_stats stats;
	struct sheaf_cache *other = NULL;
	unsigned round;
	size_t n = had;
	int err;

	/* Fails, or lives on what the C library still has. */
	err = sheaf_cache_create(&other, &attr);
	expect(err == 0 || err == -ENOMEM);
	if (!err)
		expect(sheaf_cache_destroy(other, NULL) == 0);
	for (round = 0; round < 3; round++) {
		expect(!sheaf_cache_prefill(cache, MANY, 0));
		give_all(cache, n);
		expect(sheaf_cache_barrier(cache) == 0);
		n = take_all(cache, had);
		/* What the slot of another CPU holds is not to be had, if we came from there. */
		sheaf_cache_stats(cache, &stats, sizeof(stats));
		expect(n + stats.held_slots >= had && stats.in_use == n && stats.abandoned == 0);
	}
	give_all(cache, n);
	expect(sheaf_cache_barrier(cache) == 0);
}

/* How many fit before the system gives no more; the driver is there already. */
static size_t exhaust(struct sheaf_cache *cache)
{
	size_t n = take_all(cache, MANY);

	expect(n && n < MANY);
	return n;
}

static void mmap_refused(int error, unsigned slots)
{
	struct sheaf_gp_urcu urcu;
	struct sheaf_cache *cache;

	(void)slots;
	if (test_asan() || test_tsan())
		not_here("sanitizers map memory themselves");
	expect(sheaf_gp_urcu_init(&urcu, &rcu_flavor, NULL) == 0);
	cache = make(&urcu.gp, 1024, UINT32_MAX);
	sheaf_cache_free_rcu(cache, sheaf_cache_alloc(cache, 0));
	refuse(SYS_mmap, error);
	out_of_memory(cache, exhaust(cache));
	expect(sheaf_cache_destroy(cache, NULL) == 0);
	sheaf_gp_urcu_fini(&urcu);
}

static void set_address_space(rlim_t bytes)
{
	struct rlimit limit;

	getrlimit(RLIMIT_AS, &limit);
	limit.rlim_cur = bytes < limit.rlim_max ? bytes : limit.rlim_max;
	expect(setrlimit(RLIMIT_AS, &limit) == 0);
}

static rlim_t mapped(void)
{
	unsigned long long pages = 0;
	FILE *file = fopen("/proc/self/statm", "re");

	expect(file && fscanf(file, "%llu", &pages) == 1);
	fclose(file);
	return pages * (rlim_t)sysconf(_SC_PAGESIZE);
}

static void address_space(int error, unsigned slots)
{
	struct sheaf_gp_urcu urcu;
	struct sheaf_cache *cache;
	struct sheaf *sheaf;
	size_t n;

	(void)error;
	(void)slots;
	if (test_asan() || test_tsan())
		not_here("sanitizers map memory themselves");
	expect(sheaf_gp_urcu_init(&urcu, &rcu_flavor, NULL) == 0);
	cache = make(&urcu.gp, 1024, UINT32_MAX);
	sheaf_cache_free_rcu(cache, sheaf_cache_alloc(cache, 0));
	set_address_space(mapped() + ((rlim_t)12 << 20));
	n = exhaust(cache);
	out_of_memory(cache, n);
	/* There is room again. */
	set_address_space(RLIM_INFINITY);
	sheaf = sheaf_cache_prefill(cache, (uint32_t)(2 * n), 0);
	expect(sheaf != NULL);
	sheaf_cache_return(cache, sheaf);
	n = take_all(cache, MANY);
	expect(n == MANY);
	give_all(cache, n);
	expect(sheaf_cache_destroy(cache, NULL) == 0);
	sheaf_gp_urcu_fini(&urcu);
}

/* No huge pages, none given back, none bound to nodes: all of that is advice. */
static void advice_refused(int error, unsigned slots)
{
	struct sheaf_slab_attr attr = {.size = sizeof(attr), .object_size = 1024, .nodes = 2};
	struct sheaf_backend backend;
	struct sheaf_slab *slab;
	unsigned round;
	size_t n, i;

	(void)slots;
	refuse(SYS_madvise, error);
	refuse(SYS_mbind, error);
	expect(sheaf_slab_create(&slab, &attr) == 0);
	backend = sheaf_slab_backend(slab);
	for (round = 0; round < 3; round++) {
		for (n = 0; n < MANY / 4; n += 100) {
			expect(backend.ops->alloc_bulk(backend.ctx, (int)(n / 100 % 2), 0, 100,
						       objects + n) == 100);
			for (i = n; i < n + 100; i++)
				*(size_t *)objects[i] = i;
		}
		for (i = 0; i < n; i++)
			expect(*(size_t *)objects[i] == i);
		/* All but one in a slab's worth: regions stay, slabs are empty. */
		for (i = 0; i < n; i++)
			if (i % 500)
				backend.ops->free_bulk(backend.ctx, 1, &objects[i]);
		sheaf_slab_trim(slab);
		expect(sheaf_slab_check(slab));
		for (i = 0; i < n; i += 500) {
			expect(*(size_t *)objects[i] == i);
			backend.ops->free_bulk(backend.ctx, 1, &objects[i]);
		}
		expect(sheaf_slab_check(slab));
	}
	expect(sheaf_slab_destroy(slab) == 0);
}

static void ripe(void *arg, struct sheaf *sheaf)
{
	*(size_t *)arg += sheaf_size(sheaf);
}

/* Callbacks are the driver's, and there is none. */
static void throttle_alone(struct sheaf_gp *gp)
{
	size_t called = 0, i;
	struct sheaf_cache_attr attr = {.size = sizeof(attr),
					.object_size = 64,
					.capacity = 8,
					.gp = gp,
					.rcu_soft_limit = 8,
					.rcu_hard_limit = 32,
					.ripe = ripe,
					.ripe_arg = &called,
					.ripe_by = SHEAF_RIPE_BY_DRIVER};
	struct sheaf_cache *cache;

	expect(sheaf_cache_create(&cache, &attr) == 0);
	for (i = 0; i < 200; i++)
		sheaf_cache_free_rcu(cache, sheaf_cache_alloc(cache, 0));
	expect(called == 0);
	expect(sheaf_cache_throttle(cache) == 0);
	expect(called > 200 - 32 - 16 && called <= 200);
	expect(sheaf_cache_destroy(cache, NULL) == 0);
	expect(called == 200);
}

/* The driver, and the library's thread for trims, cannot be made: who waits does their work. */
static void threads_refused(int error, unsigned slots)
{
	struct sheaf_gp_urcu urcu;
	struct sheaf_cache *cache, *plain;
	unsigned round;
	size_t n;

	(void)slots;
	refuse(SYS_clone, error);
#ifdef SYS_clone3
	refuse(SYS_clone3, error);
#endif
	expect(sheaf_gp_urcu_init(&urcu, &rcu_flavor, NULL) == 0);
	cache = make(&urcu.gp, 64, 1000);
	plain = make(NULL, 64, 1000);
	for (round = 0; round < 5; round++) {
		n = take_all(cache, 5000);
		expect(n == 5000);
		give_all(cache, n);
		expect(sheaf_cache_barrier(cache) == 0);
		sheaf_cache_free(plain, sheaf_cache_alloc(plain, 0));
	}
	expect(sheaf_cache_throttle(cache) == 0);
	throttle_alone(&urcu.gp);
	expect(sheaf_cache_destroy(plain, NULL) == 0);
	expect(sheaf_cache_destroy(cache, NULL) == 0);
	sheaf_gp_urcu_fini(&urcu);
	/* A leak checker would look with a thread of its own. */
	_exit(EXIT_SUCCESS);
}

static int lowest_free_fd(void)
{
	int fd = dup(STDIN_FILENO);

	close(fd);
	return fd;
}

/* No watch for memory pressure can be had without this call, and nothing of it stays. */
static void pressure_without(long number, long other, int error)
{
	const struct sheaf_pressure_attr attr = {.size = sizeof(attr),
						 .events = "/proc/self/status"};
	int fd = lowest_free_fd(), i;

	expect(sheaf_pressure_start(&attr) == 0);
	expect(sheaf_pressure_stop() == 0);
	refuse(number, error);
	if (other)
		refuse(other, error);
	for (i = 0; i < 3; i++) {
		expect(sheaf_pressure_start(&attr) == -error);
		expect(lowest_free_fd() == fd);
	}
	expect(sheaf_pressure_stop() == 0);
	/* A leak checker would look with a thread of its own. */
	_exit(EXIT_SUCCESS);
}

static void pressure_eventfd(int error, unsigned slots)
{
	(void)slots;
	pressure_without(SYS_eventfd2, 0, error);
}

static void pressure_inotify(int error, unsigned slots)
{
	(void)slots;
	pressure_without(SYS_inotify_init1, 0, error);
}

static void pressure_inotify_watch(int error, unsigned slots)
{
	(void)slots;
	pressure_without(SYS_inotify_add_watch, 0, error);
}

static void pressure_thread(int error, unsigned slots)
{
	(void)slots;
#ifdef SYS_clone3
	pressure_without(SYS_clone, SYS_clone3, error);
#else
	pressure_without(SYS_clone, 0, error);
#endif
}

#define NO_AREAS "glibc.pthread.rseq=0"
#define T SHEAF_SLOTS_THREAD
#define C SHEAF_SLOTS_CPU

static const struct refusal {
	const char *name;
	void (*run)(int error, unsigned slots);
	int error;
	unsigned slots;
	const char *tunables;
} refusals[] = {
	{"membarrier later, EPERM, cpu", membarrier_later, EPERM, C, NULL},
	{"membarrier later, ENOSYS, cpu", membarrier_later, ENOSYS, C, NULL},
	{"membarrier later, EACCES, thread", membarrier_later, EACCES, T, NULL},
	{"membarrier later, ENOMEM, thread", membarrier_later, ENOMEM, T, NULL},
	{"membarrier later, EPERM, own areas", membarrier_later, EPERM, C, NO_AREAS},
	{"membarrier first, ENOSYS", membarrier_first, ENOSYS, C, NULL},
	{"membarrier first, EACCES", membarrier_first, EACCES, C, NULL},
	{"rseq first, EACCES", rseq_first, EACCES, C, NO_AREAS},
	{"rseq first, EINVAL", rseq_first, EINVAL, C, NO_AREAS},
	{"no fence at all, cpu", no_fence_at_all, 0, C, NULL},
	{"no fence at all, thread", no_fence_at_all, 0, T, NULL},
	{"mmap, ENOMEM", mmap_refused, ENOMEM, 0, NULL},
	{"mmap, EPERM", mmap_refused, EPERM, 0, NULL},
	{"address space", address_space, 0, 0, NULL},
	{"advice, EINVAL", advice_refused, EINVAL, 0, NULL},
	{"advice, EPERM", advice_refused, EPERM, 0, NULL},
	{"threads, EAGAIN", threads_refused, EAGAIN, 0, NULL},
	{"threads, EPERM", threads_refused, EPERM, 0, NULL},
	{"pressure, eventfd, EMFILE", pressure_eventfd, EMFILE, 0, NULL},
	{"pressure, inotify, EMFILE", pressure_inotify, EMFILE, 0, NULL},
	{"pressure, inotify watch, ENOSPC", pressure_inotify_watch, ENOSPC, 0, NULL},
	{"pressure, thread, EPERM", pressure_thread, EPERM, 0, NULL},
};

#define REFUSALS (sizeof(refusals) / sizeof(refusals[0]))

/* In a child: does not come back. */
static void start_again(unsigned i)
{
	char seed[32], number[16];

	snprintf(seed, sizeof(seed), "%llu", (unsigned long long)test_seed());
	snprintf(number, sizeof(number), "%u", i);
	setenv("SHEAF_SEED", seed, 1);
	unsetenv("SHEAF_SLOTS");
	if (refusals[i].tunables)
		setenv("GLIBC_TUNABLES", refusals[i].tunables, 1);
	execl("/proc/self/exe", "refused", number, (char *)NULL);
	_exit(2);
}

START_TEST(borne)
{
	int status = 0;
	pid_t child;

	fflush(NULL);
	child = fork();
	if (child == 0)
		start_again((unsigned)_i);
	ck_assert_int_gt(child, 0);
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_msg(test_child_good(status, refusals[_i].name), "%s: status %x",
		      refusals[_i].name, (unsigned)status);
}
END_TEST

int main(int argc, char **argv)
{
	Suite *suite;
	TCase *tc;

	if (argc > 1) {
		const struct refusal *refusal = &refusals[strtoul(argv[1], NULL, 10) % REFUSALS];

		alarm(120);
		refusal->run(refusal->error, refusal->slots);
		return EXIT_SUCCESS;
	}
	test_seed();
	suite = suite_create("faults");
	tc = tcase_create("refused");
	tcase_set_timeout(tc, 300);
	tcase_add_loop_test(tc, borne, 0, REFUSALS);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
