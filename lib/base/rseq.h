/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Restartable sequences, rseq(2): does the kernel do them for us, where is the thread's
 * area, and the fence that ends every sequence in the process.
 *
 * The area is the C library's where it registers one (glibc 2.35 and later), else one in
 * the library's own thread storage. Both stand at the same distance from the thread
 * pointer in every thread.
 */
#ifndef BASE_RSEQ_H
#define BASE_RSEQ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__SANITIZE_THREAD__)
#define RSEQ_HIDDEN_FROM_CHECKER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define RSEQ_HIDDEN_FROM_CHECKER 1
#endif
#endif

/* asm goto with outputs, without the faults of the first compilers that had it; and
 * __builtin_thread_pointer(), which clang had for aarch64 first. */
#if defined(__clang__) && defined(__x86_64__)
#define RSEQ_COMPILES (__clang_major__ >= 14)
#elif defined(__clang__)
#define RSEQ_COMPILES (__clang_major__ >= 11)
#else
#define RSEQ_COMPILES (__GNUC__ >= 11)
#endif

/* Is there assembly for this machine, which the checker of this build can bear? */
#if (defined(__x86_64__) && defined(__LP64__) || defined(__aarch64__) && defined(__AARCH64EL__)) && \
	RSEQ_COMPILES && !defined(RSEQ_HIDDEN_FROM_CHECKER)
#define RSEQ_BUILT 1
#endif

/* As the kernel defines it; what came later is not used. */
struct rseq_area {
	uint32_t cpu_id_start;
	uint32_t cpu_id; /* or one of the two below */
	uint64_t rseq_cs;
	uint32_t flags;
} __attribute__((aligned(32)));

#define RSEQ_CPU_UNREGISTERED UINT32_MAX
#define RSEQ_CPU_REFUSED (UINT32_MAX - 1)

/* Of the area of each thread from its thread pointer; valid after rseq_ready(). */
extern ptrdiff_t rseq_offset __attribute__((visibility("hidden")));

/*
 * Asks the kernel once, and registers the calling thread. False if sequences or their fence
 * are not to be had; *why (never NULL afterwards) says what is the case, in a few words.
 */
bool rseq_ready(const char **why);

/* The calling thread's area. Only after rseq_ready() said true. */
static inline struct rseq_area *rseq_self(void)
{
	return (struct rseq_area *)((char *)__builtin_thread_pointer() + rseq_offset);
}

/*
 * Registers the calling thread if it is not and the area is ours. True if it was done now,
 * so that another try makes sense. Async-signal-safe.
 */
bool rseq_thread_register(void);

/*
 * On return every sequence of the process that had begun before has ended or will begin anew,
 * and memory is ordered on every CPU as by membarrier_all().
 */
void rseq_fence(void);

/* In the child after fork(2): what the kernel forgot is asked for again. */
void rseq_fork_child(void);

#endif
