/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

#define _GNU_SOURCE
#include "storm.h"

#include "base/atomic.h"
#include "base/rseq.h"
#include "common.h"
#include "slot_cpu.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

#define SIGNAL_NS 20000
/* Steps in which two calls must be over; they take a hundredth of it. */
#define STEPS_MOST 1000000

/* Shared with the storm's process. */
static struct shared {
	struct storm_report report;
	bool stop;
	/* The first thread, once it is there, and is it in the hands of the tracer? */
	pid_t first;
	bool stepped;
} *shared;

struct storm_report *storm_now;
unsigned storm_cpu[STORM_CPUS];
unsigned storm_cpus;

static const struct storm *storm;
static uint64_t started;
static pid_t threads[STORM_THREADS];
static __thread unsigned me;
static __thread timer_t timer;

void storm_sleep_us(unsigned us)
{
	const struct timespec time = {us / 1000000, (long)(us % 1000000) * 1000};

	nanosleep(&time, NULL);
}

void storm_fault(enum storm_fault fault)
{
	fetch_add_relaxed(&storm_now->faults[fault], 1);
	if (!fetch_add_relaxed(&storm_now->all_faults, 1))
		store_relaxed(&storm_now->fault_ms, (uint32_t)(test_ms() - started));
	store_release(&shared->stop, true);
}

static bool over(void)
{
	return load_acquire(&shared->stop);
}

int storm_signal(void)
{
	return SIGRTMIN + 1;
}

bool storm_timer_begin(void)
{
	const struct itimerspec often = {{0, SIGNAL_NS}, {0, SIGNAL_NS}};
	struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = storm_signal()};

	event.sigev_notify_thread_id = (pid_t)syscall(SYS_gettid);
	return timer_create(CLOCK_MONOTONIC, &event, &timer) == 0 &&
	       timer_settime(timer, 0, &often, NULL) == 0;
}

void storm_timer_end(void)
{
	timer_delete(timer);
}

static void interrupted(int number)
{
	int saved = errno;

	(void)number;
	storm_now->thread[me].signals++;
	storm->interrupt(me);
	errno = saved;
}

void storm_pin(pid_t thread, unsigned cpu)
{
	cpu_set_t set;
	unsigned i;

	CPU_ZERO(&set);
	for (i = 0; i < storm_cpus; i++)
		if (cpu == storm_cpu[i] || cpu == UINT32_MAX)
			CPU_SET(storm_cpu[i], &set);
	sched_setaffinity(thread, sizeof(set), &set);
}

/* The process stays on the first few CPUs that it may use. */
static void choose_cpus(void)
{
	cpu_set_t may;
	unsigned cpu;

	storm_cpus = 0;
	CPU_ZERO(&may);
	sched_getaffinity(0, sizeof(may), &may);
	for (cpu = 0; cpu < CPU_SETSIZE && storm_cpus < STORM_CPUS; cpu++)
		if (CPU_ISSET(cpu, &may))
			storm_cpu[storm_cpus++] = cpu;
	storm_pin(0, UINT32_MAX);
}

static void *work(void *arg)
{
	uint64_t *calls, n = 0;

	me = *(unsigned *)arg;
	calls = &storm_now->thread[me].calls;
	store_release(&threads[me], (pid_t)syscall(SYS_gettid));
	if (!me)
		store_release(&shared->first, threads[me]);
	if (storm->disturbances & STORM_SIGNALS && !storm_timer_begin())
		store_relaxed(&storm_now->refused, true);
	while (!over()) {
		storm->work(me);
		store_relaxed(calls, ++n);
		/* Steps are many; leave them a CPU. */
		if (storm->disturbances & STORM_STEPS && me && n % 16 == 0)
			storm_sleep_us(100);
	}
	if (storm->disturbances & STORM_SIGNALS)
		storm_timer_end();
	while (!me && load_acquire(&shared->stepped))
		storm_sleep_us(100);
	return NULL;
}

static void *move(void *arg)
{
	uint64_t state = storm->seed;

	(void)arg;
	while (!over()) {
		pid_t thread = load_acquire(&threads[test_below(&state, storm->threads)]);

		if (thread)
			storm_pin(thread, storm_cpu[test_below(&state, storm_cpus)]);
		storm_now->moves++;
		storm_sleep_us(20);
	}
	return NULL;
}

static uint64_t all_calls(void)
{
	uint64_t calls = 0;
	unsigned i;

	for (i = 0; i < storm->threads; i++)
		calls += load_relaxed(&storm_now->thread[i].calls);
	return calls;
}

/* Is a thread at work on another CPU right now? */
static bool company(void)
{
	uint64_t calls = all_calls();
	unsigned spins;

	for (spins = 0; spins < 2500; spins++)
		if (all_calls() != calls)
			return true;
	return false;
}

/*
 * Best while others work. On a busy machine they seldom run at the same time, and who sleeps more than
 * it runs is let in at once.
 */
static void *take_over(void *arg)
{
	uint64_t state = storm->seed;
	bool others;

	(void)arg;
	while (!over()) {
		others = company();
		if (others || !test_below(&state, 8)) {
			storm->take_over();
			storm_now->take_overs++;
		}
		if (!others || !test_below(&state, 4))
			storm_sleep_us((unsigned)test_below(&state, 50));
	}
	return NULL;
}

static void set_pause(uint32_t turns)
{
#ifdef RSEQ_WIDEN
	store_relaxed(&rseq_pause, turns);
#else
	(void)turns;
#endif
}

/* While the threads work. */
static void wait_enough(void)
{
	uint64_t state = storm->seed;

	while (!over() && (test_ms() - started < storm->ms || !storm->enough())) {
		set_pause(storm->pause ? storm->pause : 50u << test_below(&state, 9));
		storm_sleep_us(500);
	}
	store_release(&shared->stop, true);
}

static void inside(void)
{
	struct sigaction action = {.sa_handler = interrupted, .sa_flags = SA_RESTART};
	pthread_t workers[STORM_THREADS], mover, remote;
	unsigned number[STORM_THREADS], i;

	choose_cpus();
	if (!storm->begin()) {
		storm_now->failed = true;
		return;
	}
	sigaction(storm_signal(), &action, NULL);
	started = test_ms();
	set_pause(storm->pause);
	for (i = 0; i < storm->threads; i++) {
		number[i] = i;
		if (pthread_create(&workers[i], NULL, work, &number[i]))
			abort();
	}
	if (storm->disturbances & STORM_MOVES && pthread_create(&mover, NULL, move, NULL))
		abort();
	if (storm->disturbances & STORM_TAKE_OVERS && pthread_create(&remote, NULL, take_over, NULL))
		abort();
	wait_enough();
	for (i = 0; i < storm->threads; i++)
		pthread_join(workers[i], NULL);
	if (storm->disturbances & STORM_MOVES)
		pthread_join(mover, NULL);
	if (storm->disturbances & STORM_TAKE_OVERS)
		pthread_join(remote, NULL);
	storm->end();
}

static bool ended(pid_t child)
{
	siginfo_t info = {0};

	return waitid(P_PID, (id_t)child, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid;
}

static void stop_and_continue(pid_t child)
{
	while (!over() && !ended(child)) {
		kill(child, SIGSTOP);
		storm_sleep_us(100);
		kill(child, SIGCONT);
		storm_sleep_us(300);
		shared->report.stops++;
	}
}

/* Until the traced thread stands. A signal for it is to be passed on. */
static bool stands(pid_t thread, long *signal)
{
	int status;

	if (waitpid(thread, &status, __WALL) != thread || !WIFSTOPPED(status))
		return false;
	*signal = WSTOPSIG(status) == SIGTRAP ? 0 : WSTOPSIG(status);
	return true;
}

/* Steps until two calls are over, so that one was stepped from end to end. */
static bool step_calls(pid_t thread, long signal)
{
	uint64_t before = load_relaxed(&shared->report.thread[0].calls), steps = 0, calls = 0;

	while (calls < 2 && !over()) {
		if (++steps > STEPS_MOST) {
			storm_fault(FAULT_STUCK);
			return true;
		}
		if (ptrace(PTRACE_SINGLESTEP, thread, NULL, signal) || !stands(thread, &signal))
			return false;
		calls = load_relaxed(&shared->report.thread[0].calls) - before;
	}
	shared->report.steps += steps;
	shared->report.stepped_calls += calls;
	return true;
}

static void step(pid_t child)
{
	pid_t thread = 0;
	long signal = 0;

	while (!over() && !ended(child) && !(thread = load_acquire(&shared->first)))
		storm_sleep_us(100);
	if (thread && ptrace(PTRACE_SEIZE, thread, NULL, NULL)) {
		shared->report.refused = true;
		thread = 0;
	}
	while (thread && !over()) {
		if (ptrace(PTRACE_INTERRUPT, thread, NULL, NULL) || !stands(thread, &signal) ||
		    !step_calls(thread, signal) || ptrace(PTRACE_CONT, thread, NULL, NULL))
			break;
		storm_sleep_us(200);
	}
	if (thread && ptrace(PTRACE_INTERRUPT, thread, NULL, NULL) == 0 && stands(thread, &signal))
		ptrace(PTRACE_DETACH, thread, NULL, signal);
	store_release(&shared->stepped, false);
}

static void *share(size_t bytes)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		abort();
	return memory;
}

/* A child that does not outlive its parent. */
static pid_t fork_child(void)
{
	pid_t parent = getpid(), child;

	fflush(NULL);
	child = fork();
	if (child < 0)
		abort();
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
	}
	return child;
}

struct storm_report storm_run(const struct storm *of)
{
	struct storm_report report;
	pid_t child;

	shared = share(sizeof(*shared));
	storm_now = &shared->report;
	storm = of;
	started = test_ms();
	shared->stepped = of->disturbances & STORM_STEPS;
	child = fork_child();
	if (child == 0) {
		inside();
		_exit(0);
	}
	if (of->disturbances & STORM_STEPS)
		step(child);
	else if (of->disturbances & STORM_STOPS)
		stop_and_continue(child);
	while (waitpid(child, &shared->report.status, 0) != child)
		;
	report = shared->report;
	munmap(shared, sizeof(*shared));
	return report;
}

bool storm_clean(const struct storm_report *report)
{
	return !report->failed && !report->all_faults && report->status == 0;
}

const char *storm_text(const struct storm_report *report)
{
	static char text[256];
	const uint32_t *faults = report->faults;

	snprintf(text, sizeof(text),
		 "%u doubled, %u lost, %u changed, %u conditions, %u stuck, status %x%s",
		 faults[FAULT_DOUBLED], faults[FAULT_LOST], faults[FAULT_CHANGED],
		 faults[FAULT_CONDITION], faults[FAULT_STUCK], (unsigned)report->status,
		 report->failed ? ", could not begin" : "");
	return text;
}

const char *storm_disturbances(unsigned disturbances)
{
	static const char *const names[] = {" signals", " stops", " moves", " steps", " take-overs"};
	static char text[64];
	unsigned i;

	strcpy(text, disturbances ? "" : " nothing");
	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (disturbances & 1u << i)
			strcat(text, names[i]);
	return text + 1;
}

/* glibc's; there from 2.35 on. */
extern const unsigned int __rseq_size __attribute__((weak));

/* Has the machine what sequences need? Asked without the library. */
static bool kernel_can(void)
{
#if defined(RSEQ_BUILT)
	const long need = MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ |
			  MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ;
	long can = syscall(__NR_membarrier, MEMBARRIER_CMD_QUERY, 0, 0);

	return can > 0 && (can & need) == need && &__rseq_size && __rseq_size;
#else
	return false;
#endif
}

bool storm_possible(void)
{
	struct answer {
		bool ready;
		char why[100];
	} *answer = share(sizeof(*answer));
	bool ready;
	int status;
	pid_t child = fork_child();

	if (child == 0) {
		const char *why;

		answer->ready = rseq_ready(&why);
		snprintf(answer->why, sizeof(answer->why), "%s", why);
		_exit(0);
	}
	if (waitpid(child, &status, 0) != child || status)
		abort();
	ready = answer->ready;
	if (!ready && kernel_can()) {
		printf("Bail out! the library finds no sequences (%s), the kernel has them\n",
		       answer->why);
		exit(1);
	}
	if (!ready)
		printf("1..0 # SKIP %s\n", answer->why);
	munmap(answer, sizeof(*answer));
	return ready;
}
