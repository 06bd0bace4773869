/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * A storm: threads that work on something of theirs, more of them than CPUs, while all is done
 * to interrupt them. Each storm is a process of its own, on two CPUs: what it finds wrong is
 * counted in memory shared with the one that asked for it, who also does what only another
 * process can do, and it may crash.
 */
#ifndef TESTS_RSEQ_STORM_H
#define TESTS_RSEQ_STORM_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* What disturbs; bits. */
enum {
	/* Each thread gets a signal every 20 us of its own timer; the handler works, too. */
	STORM_SIGNALS = 1,
	/* The process is stopped and continued by another one. */
	STORM_STOPS = 2,
	/* Threads are moved from CPU to CPU. */
	STORM_MOVES = 4,
	/* The first thread is single-stepped by another process, now and then. */
	STORM_STEPS = 8,
	/* A remote party takes everything, and puts it back. */
	STORM_TAKE_OVERS = 16,
	STORM_END = 32,
};

#define STORM_THREADS 6
#define STORM_CPUS 2

/* What can be wrong. */
enum storm_fault {
	FAULT_DOUBLED,	 /* in two hands */
	FAULT_LOST,	 /* in no hand */
	FAULT_CHANGED,	 /* by somebody who does not own it */
	FAULT_CONDITION, /* done although unmet, or the other way round */
	FAULT_STUCK,	 /* a call that does not return */
	STORM_FAULTS,
};

struct storm {
	unsigned threads; /* at most STORM_THREADS */
	unsigned disturbances;
	/* Turns of the loop before each committing store; 0: now few, now many. */
	uint32_t pause;
	/* At least so long, and until it is enough; but no longer once a fault is found. */
	unsigned ms;
	uint64_t seed;
	/* In the storm's process, before the threads; false if it cannot be done. */
	bool (*begin)(void);
	/* What thread number `me` does, over and over. */
	void (*work)(unsigned me);
	/* What a signal handler on this thread does. */
	void (*interrupt)(unsigned me);
	/* What the remote party does, over and over. */
	void (*take_over)(void);
	/* Has enough happened? */
	bool (*enough)(void);
	/* After the threads. */
	void (*end)(void);
};

#define STORM_COUNTS 8

struct storm_thread {
	uint64_t calls;
	uint64_t signals;
} __attribute__((aligned(64)));

/* What came of it. */
struct storm_report {
	uint32_t faults[STORM_FAULTS];
	uint32_t all_faults;
	/* When the first fault was found. */
	uint32_t fault_ms;
	struct storm_thread thread[STORM_THREADS];
	uint64_t stops;
	uint64_t moves;
	uint64_t steps;
	uint64_t stepped_calls;
	uint64_t take_overs;
	/* For the storm's own use. */
	uint64_t counts[STORM_COUNTS];
	/* It could not begin, or a disturbance is not to be had here. */
	bool failed;
	bool refused;
	/* As of waitpid(2): of the storm's process. */
	int status;
};

struct storm_report storm_run(const struct storm *storm);

/* No faults, and the process ended as it should. */
bool storm_clean(const struct storm_report *report);

/* In a few words; a static buffer. */
const char *storm_text(const struct storm_report *report);
const char *storm_disturbances(unsigned disturbances);

/* Are there sequences here? Asks in a process of its own; if not, says so as TAP does. */
bool storm_possible(void);

/*
 * In the storm's process.
 */

/* What the others see. */
extern struct storm_report *storm_now;
/* The CPUs it is on. */
extern unsigned storm_cpu[STORM_CPUS];
extern unsigned storm_cpus;

/* Async-signal-safe; the storm ends soon. */
void storm_fault(enum storm_fault fault);

/* A timer of the calling thread that interrupts it every 20 us with storm_signal(). */
bool storm_timer_begin(void);
void storm_timer_end(void);
int storm_signal(void);

/* Stay on one CPU, or on those of the storm. */
void storm_pin(pid_t thread, unsigned cpu);

void storm_sleep_us(unsigned us);

#endif
