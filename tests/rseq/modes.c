/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves that a cache says what slots it has and why, and works with what it can have: by
 * default, as attribute or environment ask, where the C library does not register threads for
 * rseq(2), where rseq(2) or membarrier(2) are refused from the start, are refused to later
 * threads, or are in other hands, on CPUs without a slot, and while affinity changes. In each
 * case several threads and a remote party use the cache, and nothing is lost.
 *
 * Each case is this program once more, with its name as argument: what the kernel was asked
 * holds for a process, and the environment is read when it starts.
 *
 * Not tried here: cpusets of cgroups, which take privileges and a mounted hierarchy. To a thread
 * they are what sched_setaffinity(2) is: it is moved, and its CPU number changes.
 */
#define _GNU_SOURCE
#include "base/atomic.h"
#include "base/membarrier.h"
#include "base/topology.h"
#include "cache_state.h"
#include "common.h"
#include "storm.h"
#include "users.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/membarrier.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define THREADS 4
#define GENERATIONS 3

static struct users users;

static void expect_true(bool is, const char *what, int line)
{
	const char *why = "no cache";

	if (is)
		return;
	if (users.cache)
		sheaf_cache_slots(users.cache, &why);
	fprintf(stderr, "modes.c:%d: not so: %s (%s)\n", line, what, why);
	_exit(1);
}

#define expect(is) expect_true(is, #is, __LINE__)

static void not_here(const char *why)
{
	printf("# %s\n", why);
	fflush(stdout);
	_exit(TEST_NOT_HERE);
}

/*
 * Threads that use the cache, once and again, and a remote party.
 */
struct worker {
	unsigned me;
	/* CPUs to be on, in turn; none: where it happens to be. */
	unsigned cpus;
	unsigned cpu[2];
	/* First of all. */
	void (*first)(void);
};

static void be_on(unsigned cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	expect(sched_setaffinity(0, sizeof(set), &set) == 0);
}

static void worker_run(void *arg)
{
	struct worker *w = arg;
	unsigned rounds = test_rounds(20000), i;

	if (w->first)
		w->first();
	for (i = 0; i < rounds; i++) {
		if (w->cpus && i % 256 == 0)
			be_on(w->cpu[(w->me + i / 256) % w->cpus]);
		user_work(&users, w->me);
	}
}

static void generation(const struct worker *like)
{
	struct worker workers[THREADS];
	unsigned i;

	for (i = 0; i < THREADS; i++) {
		workers[i] = *like;
		workers[i].me = i;
	}
	expect(users_run(&users, THREADS, worker_run, workers, sizeof(workers[0])));
}

static struct sheaf_cache_stats end(void)
{
	struct sheaf_cache_stats stats;
	unsigned wrong = users_end(&users, &stats);

	users.cache = NULL;
	expect(wrong == 0);
	return stats;
}

static struct sheaf_cache_stats use_and_end(const struct worker *like)
{
	unsigned i;

	for (i = 0; i < GENERATIONS; i++)
		generation(like);
	return end();
}

static const struct worker plain;

/* Are there slots per CPU, for this reason? */
static bool cpu_slots_for(const char *reason)
{
	const char *why = NULL;

	return sheaf_cache_slots(users.cache, &why) == SHEAF_SLOTS_CPU &&
	       sheaf_cache_slots(users.cache, NULL) == SHEAF_SLOTS_CPU && users.cache->cpus.n &&
	       why && strstr(why, reason);
}

static bool thread_slots_for(const char *reason)
{
	const char *why = NULL;

	return sheaf_cache_slots(users.cache, &why) == SHEAF_SLOTS_THREAD && !users.cache->cpus.n &&
	       why && strstr(why, reason);
}

static void works_on_cpu_slots(void)
{
	struct sheaf_cache_stats stats = use_and_end(&plain);

	expect(stats.cpu_slots && stats.slots == topology_cpus());
}

static void works_on_thread_slots(void)
{
	struct sheaf_cache_stats stats = use_and_end(&plain);

	expect(!stats.cpu_slots && stats.slots <= THREADS + 1 && !stats.aborts);
}

/*
 * Cases.
 */
static void by_default(void)
{
	expect(users_begin_small(&users, SHEAF_SLOTS_DEFAULT));
	expect(cpu_slots_for("rseq(2)"));
	works_on_cpu_slots();
}

static void by_environment(void)
{
	expect(users_begin_small(&users, SHEAF_SLOTS_DEFAULT));
	expect(thread_slots_for("SHEAF_SLOTS"));
	works_on_thread_slots();
}

/* The attribute is stronger than the environment, and two caches of a process may differ. */
static void attribute_thread(void)
{
	expect(users_begin_small(&users, SHEAF_SLOTS_THREAD));
	expect(thread_slots_for("attribute"));
	works_on_thread_slots();
	expect(users_begin_small(&users, SHEAF_SLOTS_DEFAULT));
	expect(cpu_slots_for("rseq(2)"));
	works_on_cpu_slots();
}

static void attribute_cpu(void)
{
	expect(users_begin_small(&users, SHEAF_SLOTS_CPU));
	expect(cpu_slots_for("rseq(2)"));
	works_on_cpu_slots();
	expect(users_begin_small(&users, SHEAF_SLOTS_DEFAULT));
	expect(thread_slots_for("SHEAF_SLOTS"));
	works_on_thread_slots();
}

static void attribute_wrong(void)
{
	const struct sheaf_cache_attr attr = {
		.size = sizeof(attr), .object_size = 16, .slots = SHEAF_SLOTS_CPU + 1};
	struct sheaf_cache *cache;

	expect(sheaf_cache_create(&cache, &attr) == -EINVAL);
}

/* Refuses a system call, or some of its first arguments (bits), from now on. */
static void refuse(long number, uint32_t of, int error)
{
#if defined(__x86_64__)
	const uint32_t machine = AUDIT_ARCH_X86_64;
#else
	const uint32_t machine = AUDIT_ARCH_AARCH64;
#endif
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, machine, 0, 5),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)number, 0, 3),
		/* The low word; both machines have it first. */
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, of, 0, of ? 1 : 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog program = {sizeof(filter) / sizeof(filter[0]), filter};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		not_here("no seccomp filters here");
}

static void own_registration(void)
{
	expect(users_begin_small(&users, SHEAF_SLOTS_DEFAULT));
	if (cpu_slots_for("C library"))
		not_here("the C library registers threads whatever it is told");
	expect(cpu_slots_for("by the library"));
	works_on_cpu_slots();
}

static int number_of_signals;

static void allocate_in_handler(int number)
{
	(void)number;
	sheaf_cache_free_nowait(users.cache, sheaf_cache_alloc_nowait(users.cache));
	number_of_signals++;
}

/* The first thing that a new thread does with the cache it does in a handler. */
static void raise_first(void)
{
	expect(rseq_self()->cpu_id == RSEQ_CPU_UNREGISTERED);
	raise(SIGUSR1);
	expect(rseq_self()->cpu_id < users.cache->cpus.n);
}

static void *raise_and_work(void *arg)
{
	raise_first();
	worker_run(arg);
	return NULL;
}

static void own_registration_in_handler(void)
{
	struct worker worker = {.me = 0};

	expect(users_begin_small(&users, SHEAF_SLOTS_DEFAULT));
	if (cpu_slots_for("C library"))
		not_here("the C library registers threads whatever it is told");
	signal(SIGUSR1, allocate_in_handler);
	for (unsigned i = 0; i < GENERATIONS; i++)
		test_threads(1, raise_and_work, &worker, sizeof(worker));
	expect(number_of_signals == GENERATIONS);
	end();
}

static void rseq_refused(void)
{
	refuse(SYS_rseq, 0, EPERM);
	expect(users_begin_small(&users, SHEAF_SLOTS_DEFAULT));
	if (cpu_slots_for("C library"))
		not_here("the C library registers threads whatever it is told");
	expect(thread_slots_for("rseq(2) refused"));
	works_on_thread_slots();
}

/* As of a kernel without it; and the attribute cannot have what there is not. */
static void rseq_missing(void)
{
	refuse(SYS_rseq, 0, ENOSYS);
	expect(users_begin_small(&users, SHEAF_SLOTS_CPU));
	if (cpu_slots_for("C library"))
		not_here("the C library registers threads whatever it is told");
	expect(thread_slots_for("rseq(2) refused"));
	works_on_thread_slots();
}

static void membarrier_refused(void)
{
	refuse(SYS_membarrier, 0, EPERM);
	expect(users_begin_small(&users, SHEAF_SLOTS_DEFAULT));
	expect(thread_slots_for("membarrier(2)"));
	/* All use the locks of their slots. */
	expect(!membarrier_ready());
	works_on_thread_slots();
}

static void fence_refused(void)
{
	refuse(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ, EINVAL);
	expect(users_begin_small(&users, SHEAF_SLOTS_DEFAULT));
	expect(thread_slots_for("membarrier(2)"));
	expect(membarrier_ready());
	works_on_thread_slots();
}

static void fence_registration_refused(void)
{
	refuse(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ, EINVAL);
	expect(users_begin_small(&users, SHEAF_SLOTS_CPU));
	expect(thread_slots_for("membarrier(2)"));
	expect(membarrier_ready());
	works_on_thread_slots();
}

/* Threads that are not registered go round the slots; this one, which is, does not. */
static void rseq_refused_later(void)
{
	struct sheaf_cache_stats stats;
	uint64_t bypassed;
	unsigned i;

	expect(users_begin_small(&users, SHEAF_SLOTS_DEFAULT));
	if (cpu_slots_for("C library"))
		not_here("the C library registers threads whatever it is told");
	refuse(SYS_rseq, 0, EPERM);
	for (i = 0; i < 1000; i++)
		user_work(&users, THREADS);
	expect(load_relaxed(&users.cache->bypassed) == 0);
	generation(&plain);
	bypassed = load_relaxed(&users.cache->bypassed);
	expect(bypassed > 0);
	for (i = 0; i < 1000; i++)
		user_work(&users, THREADS);
	expect(load_relaxed(&users.cache->bypassed) == bypassed);
	stats = use_and_end(&plain);
	expect(stats.cpu_slots && stats.bypassed > bypassed);
}

#if defined(__x86_64__)
#define SIGNATURE 0x53053053
#else
#define SIGNATURE 0xd428bc00
#endif

/* Somebody else registers the thread: another library, with an area of its own. */
static void register_elsewhere(void)
{
	static __thread struct rseq_area area;

	if (syscall(SYS_rseq, &area, sizeof(area), 0, SIGNATURE))
		not_here("rseq(2) refused, or the C library registers threads whatever it is told");
}

static void in_other_hands(void)
{
	register_elsewhere();
	expect(users_begin_small(&users, SHEAF_SLOTS_DEFAULT));
	expect(thread_slots_for("rseq(2) refused"));
	works_on_thread_slots();
}

static void later_in_other_hands(void)
{
	struct worker like = {.first = register_elsewhere};
	struct sheaf_cache_stats stats;

	expect(users_begin_small(&users, SHEAF_SLOTS_DEFAULT));
	if (cpu_slots_for("C library"))
		not_here("the C library registers threads whatever it is told");
	expect(cpu_slots_for("by the library"));
	generation(&like);
	stats = use_and_end(&plain);
	expect(stats.cpu_slots && stats.bypassed > 0);
}

/* What the C library registered is taken back. */
static void unregister(void)
{
	const int flag = 1; /* RSEQ_FLAG_UNREGISTER */

	if (syscall(SYS_rseq, rseq_self(), sizeof(struct rseq_area), flag, SIGNATURE))
		not_here("the C library's registration cannot be taken back");
}

static void registration_lost(void)
{
	struct worker like = {.first = unregister};
	struct sheaf_cache_stats stats;

	expect(users_begin_small(&users, SHEAF_SLOTS_DEFAULT));
	if (!cpu_slots_for("C library"))
		not_here("the C library does not register threads");
	generation(&like);
	stats = use_and_end(&plain);
	expect(stats.cpu_slots && stats.bypassed > 0);
}

/* Two CPUs that this process may be on; their number. */
static unsigned two_cpus(unsigned cpu[2])
{
	unsigned n = 0, i;
	cpu_set_t may;

	CPU_ZERO(&may);
	sched_getaffinity(0, sizeof(may), &may);
	for (i = 0; i < CPU_SETSIZE && n < 2; i++)
		if (CPU_ISSET(i, &may))
			cpu[n++] = i;
	return n;
}

/* A kernel that gives more CPU numbers than it said it would. */
static void cpu_without_slot(void)
{
	struct worker like = {.cpus = 1};
	struct cpu_slot *beyond;
	unsigned cpu[2];

	if (two_cpus(cpu) < 2)
		not_here("one CPU only");
	expect(users_begin_small(&users, SHEAF_SLOTS_DEFAULT));
	expect(cpu_slots_for("rseq(2)"));
	beyond = &users.cache->cpus.slots[cpu[1]];
	users.cache->cpus.n = users.cache->gate.cpus.n = cpu[1];
	/* There. */
	like.cpu[0] = cpu[1];
	generation(&like);
	expect(load_relaxed(&users.cache->bypassed) > 0);
	/* There and elsewhere. */
	like.cpus = 2;
	like.cpu[1] = cpu[0];
	generation(&like);
	expect(sheaf_is_none(beyond->held.main) && sheaf_is_none(beyond->held.pair[0]) &&
	       sheaf_is_none(beyond->held.pair[1]) && sheaf_is_none(beyond->held.rcu) &&
	       !beyond->stop && !beyond->trips.barn_alloc && !beyond->trips.barn_free);
	end();
}

static void affinity_changes(void)
{
	struct worker like = {.cpus = 2};
	struct sheaf_cache_stats stats;

	if (two_cpus(like.cpu) < 2)
		not_here("one CPU only");
	expect(users_begin_small(&users, SHEAF_SLOTS_DEFAULT));
	expect(cpu_slots_for("rseq(2)"));
	stats = use_and_end(&like);
	expect(stats.cpu_slots);
}

#define NO_AREAS "glibc.pthread.rseq=0"

static const struct mode {
	const char *name;
	void (*run)(void);
	const char *slots;
	const char *tunables;
} modes[] = {
	{"default", by_default, NULL, NULL},
	{"environment thread", by_environment, "thread", NULL},
	{"environment cpu", by_default, "cpu", NULL},
	{"environment something else", by_default, "both", NULL},
	{"attribute thread", attribute_thread, "cpu", NULL},
	{"attribute cpu", attribute_cpu, "thread", NULL},
	{"attribute wrong", attribute_wrong, NULL, NULL},
	{"own registration", own_registration, NULL, NO_AREAS},
	{"own registration in handlers", own_registration_in_handler, NULL, NO_AREAS},
	{"rseq refused", rseq_refused, NULL, NO_AREAS},
	{"rseq missing", rseq_missing, NULL, NO_AREAS},
	{"rseq refused later", rseq_refused_later, NULL, NO_AREAS},
	{"rseq in other hands", in_other_hands, NULL, NO_AREAS},
	{"rseq in other hands later", later_in_other_hands, NULL, NO_AREAS},
	{"registration lost", registration_lost, NULL, NULL},
	{"membarrier refused", membarrier_refused, NULL, NULL},
	{"membarrier refused, own registration", membarrier_refused, NULL, NO_AREAS},
	{"fence refused", fence_refused, NULL, NULL},
	{"fence registration refused", fence_registration_refused, NULL, NULL},
	{"CPU without slot", cpu_without_slot, NULL, NULL},
	{"CPU without slot, own registration", cpu_without_slot, NULL, NO_AREAS},
	{"affinity changes", affinity_changes, NULL, NULL},
	{"affinity changes, own registration", affinity_changes, NULL, NO_AREAS},
};

#define MODES (sizeof(modes) / sizeof(modes[0]))

static void set_or_clear(const char *name, const char *value)
{
	if (value)
		setenv(name, value, 1);
	else
		unsetenv(name);
}

/* In a child: does not come back. */
static void start_again(const struct mode *mode)
{
	char seed[32];

	snprintf(seed, sizeof(seed), "%llu", (unsigned long long)test_seed());
	setenv("SHEAF_SEED", seed, 1);
	set_or_clear("SHEAF_SLOTS", mode->slots);
	set_or_clear("GLIBC_TUNABLES", mode->tunables);
	execl("/proc/self/exe", "modes", mode->name, (char *)NULL);
	_exit(2);
}

START_TEST(works)
{
	int status = 0;
	pid_t child;

	fflush(NULL);
	child = fork();
	if (child == 0)
		start_again(&modes[_i]);
	ck_assert_int_gt(child, 0);
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_msg(test_child_good(status, modes[_i].name), "%s: status %x", modes[_i].name,
		      (unsigned)status);
}
END_TEST

static int run_mode(const char *name)
{
	for (unsigned i = 0; i < MODES; i++)
		if (!strcmp(modes[i].name, name)) {
			modes[i].run();
			return EXIT_SUCCESS;
		}
	return EXIT_FAILURE;
}

int main(int argc, char **argv)
{
	Suite *suite;
	TCase *tc;

	if (argc > 1)
		return run_mode(argv[1]);
	if (!storm_possible())
		return EXIT_SUCCESS;
	test_seed();
	suite = suite_create("rseq");
	tc = tcase_create("modes");
	tcase_set_timeout(tc, 300);
	tcase_add_loop_test(tc, works, 0, MODES);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
