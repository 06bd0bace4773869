/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * The atomics shim: every shared access of the library goes through these names,
 * with the memory order in the name, so that the same code can be bound to a
 * checker that schedules it (compile with SHEAF_ATOMIC_HOOK defined as a call).
 *
 * There is no seq_cst access and no thread fence among them. Where an order
 * between two locations is needed (store here, load there), it comes from a
 * read-modify-write on one word that both parties use, or from membarrier(2)
 * (base/membarrier.h), whose fast side is compiler_barrier().
 *
 * They take plain pointers: public structs must be readable by C++, so they have
 * no _Atomic members.
 */
#ifndef BASE_ATOMIC_H
#define BASE_ATOMIC_H

/* For Helgrind and DRD it makes of each built-in below an edge. */
#include <sheaf/edges.h>

#include <stdbool.h>
#include <stdint.h>

#ifndef SHEAF_ATOMIC_HOOK
#define SHEAF_ATOMIC_HOOK() ((void)0)
#endif

#define load_relaxed(p) (SHEAF_ATOMIC_HOOK(), __atomic_load_n((p), __ATOMIC_RELAXED))
#define load_acquire(p) (SHEAF_ATOMIC_HOOK(), __atomic_load_n((p), __ATOMIC_ACQUIRE))
#define store_relaxed(p, v) (SHEAF_ATOMIC_HOOK(), __atomic_store_n((p), (v), __ATOMIC_RELAXED))
#define store_release(p, v) (SHEAF_ATOMIC_HOOK(), __atomic_store_n((p), (v), __ATOMIC_RELEASE))

#define fetch_add_relaxed(p, v) (SHEAF_ATOMIC_HOOK(), __atomic_fetch_add((p), (v), __ATOMIC_RELAXED))
#define fetch_add_release(p, v) (SHEAF_ATOMIC_HOOK(), __atomic_fetch_add((p), (v), __ATOMIC_RELEASE))
#define fetch_sub_relaxed(p, v) (SHEAF_ATOMIC_HOOK(), __atomic_fetch_sub((p), (v), __ATOMIC_RELAXED))
#define fetch_sub_release(p, v) (SHEAF_ATOMIC_HOOK(), __atomic_fetch_sub((p), (v), __ATOMIC_RELEASE))
#define fetch_add_acq_rel(p, v) (SHEAF_ATOMIC_HOOK(), __atomic_fetch_add((p), (v), __ATOMIC_ACQ_REL))
#define fetch_and_acquire(p, v) (SHEAF_ATOMIC_HOOK(), __atomic_fetch_and((p), (v), __ATOMIC_ACQUIRE))
#define fetch_or_release(p, v) (SHEAF_ATOMIC_HOOK(), __atomic_fetch_or((p), (v), __ATOMIC_RELEASE))
#define fetch_or_acq_rel(p, v) (SHEAF_ATOMIC_HOOK(), __atomic_fetch_or((p), (v), __ATOMIC_ACQ_REL))
#define fetch_and_acq_rel(p, v) (SHEAF_ATOMIC_HOOK(), __atomic_fetch_and((p), (v), __ATOMIC_ACQ_REL))
#define exchange_acquire(p, v) (SHEAF_ATOMIC_HOOK(), __atomic_exchange_n((p), (v), __ATOMIC_ACQUIRE))
#define exchange_acq_rel(p, v) (SHEAF_ATOMIC_HOOK(), __atomic_exchange_n((p), (v), __ATOMIC_ACQ_REL))
#define exchange_relaxed(p, v) (SHEAF_ATOMIC_HOOK(), __atomic_exchange_n((p), (v), __ATOMIC_RELAXED))

/* Compare and swap: true if *p was *expected and is now v, else *expected is what
 * was found, loaded relaxed. The weak ones may fail for no reason: use in loops. */
#define cas_acquire(p, expected, v)                                                                \
	(SHEAF_ATOMIC_HOOK(), __atomic_compare_exchange_n((p), (expected), (v), false,             \
							  __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
#define cas_release(p, expected, v)                                                                \
	(SHEAF_ATOMIC_HOOK(), __atomic_compare_exchange_n((p), (expected), (v), false,             \
							  __ATOMIC_RELEASE, __ATOMIC_RELAXED))
#define cas_weak_release(p, expected, v)                                                           \
	(SHEAF_ATOMIC_HOOK(), __atomic_compare_exchange_n((p), (expected), (v), true,              \
							  __ATOMIC_RELEASE, __ATOMIC_RELAXED))
#define cas_acq_rel(p, expected, v)                                                                \
	(SHEAF_ATOMIC_HOOK(), __atomic_compare_exchange_n((p), (expected), (v), false,             \
							  __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
#define cas_weak_relaxed(p, expected, v)                                                           \
	(SHEAF_ATOMIC_HOOK(), __atomic_compare_exchange_n((p), (expected), (v), true,              \
							  __ATOMIC_RELAXED, __ATOMIC_RELAXED))

/* Keeps the compiler from moving memory accesses across; no instruction. What is on its two sides
 * can be seen apart, so a scheduler may come in here too. */
#define compiler_barrier() (SHEAF_ATOMIC_HOOK(), __atomic_signal_fence(__ATOMIC_SEQ_CST))

/* Raise a high-water mark. Relaxed: a statistic. */
static inline void raise_u32(uint32_t *mark, uint32_t value)
{
	uint32_t old = load_relaxed(mark);

	while (old < value && !cas_weak_relaxed(mark, &old, value))
		;
}

static inline void raise_u64(uint64_t *mark, uint64_t value)
{
	uint64_t old = load_relaxed(mark);

	while (old < value && !cas_weak_relaxed(mark, &old, value))
		;
}

#endif
