/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/**
 * @file sheaf/rcu.h
 * liburcu's calls as race checkers should see them. Include it after liburcu's header and
 * before its lists: <urcu.h>, <sheaf/rcu.h>, <urcu/rculist.h>.
 *
 * liburcu is assembly and plain accesses. In a program that is compiled for ThreadSanitizer, or with
 * SHEAF_VALGRIND (see <sheaf/edges.h>), the names that a program uses are replaced: pointers are
 * published and followed by C11 atomics, and the end of a read section comes before the end of the
 * grace periods that it held up, of synchronize_rcu() as of tickets, and so before the reuse of what was
 * retired. In any other program nothing is replaced. What liburcu does with them inside its own
 * library (its hash table) cannot be replaced: name such edges by hand.
 */
#ifndef SHEAF_RCU_H
#define SHEAF_RCU_H

#include <sheaf/edges.h>

#if defined(SHEAF_EDGES_TSAN) || defined(SHEAF_VALGRIND)

#include <urcu/flavor.h>
#include <urcu/pointer.h>

#ifndef rcu_read_unlock
#error "include the header of a liburcu flavour first"
#endif

/* Flavours that are readers all the time end a section by more than one call. */
static inline void sheaf_rcu_read_unlock(void)
{
	sheaf_edge_release(&rcu_flavor);
	rcu_read_unlock();
}

static inline void sheaf_rcu_quiescent_state(void)
{
	sheaf_edge_release(&rcu_flavor);
	rcu_quiescent_state();
}

static inline void sheaf_rcu_thread_offline(void)
{
	sheaf_edge_release(&rcu_flavor);
	rcu_thread_offline();
}

static inline void sheaf_rcu_unregister_thread(void)
{
	sheaf_edge_release(&rcu_flavor);
	rcu_unregister_thread();
}

static inline void sheaf_rcu_synchronize(void)
{
	sheaf_edge_release(&rcu_flavor);
	synchronize_rcu();
	sheaf_edge_acquire(&rcu_flavor);
}

#undef rcu_read_unlock
#define rcu_read_unlock sheaf_rcu_read_unlock
#undef rcu_quiescent_state
#define rcu_quiescent_state sheaf_rcu_quiescent_state
#undef rcu_thread_offline
#define rcu_thread_offline sheaf_rcu_thread_offline
#undef rcu_unregister_thread
#define rcu_unregister_thread sheaf_rcu_unregister_thread
#undef synchronize_rcu
#define synchronize_rcu sheaf_rcu_synchronize

#undef rcu_dereference
#define rcu_dereference(p) __atomic_load_n(&(p), __ATOMIC_ACQUIRE)
#undef rcu_set_pointer
#define rcu_set_pointer(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
#undef rcu_xchg_pointer
#define rcu_xchg_pointer(p, v) __atomic_exchange_n((p), (v), __ATOMIC_ACQ_REL)
#undef rcu_cmpxchg_pointer
#define rcu_cmpxchg_pointer(p, old, v)                                                             \
	__extension__({                                                                            \
		__typeof__(*(p)) sheaf_rcu_found = (old);                                          \
		__atomic_compare_exchange_n((p), &sheaf_rcu_found, (v), 0, __ATOMIC_ACQ_REL,       \
					    __ATOMIC_ACQUIRE);                                     \
		sheaf_rcu_found;                                                                   \
	})
#undef CMM_LOAD_SHARED
#define CMM_LOAD_SHARED(p) __atomic_load_n(&(p), __ATOMIC_RELAXED)
#undef CMM_STORE_SHARED
#define CMM_STORE_SHARED(p, v) __atomic_store_n(&(p), (v), __ATOMIC_RELAXED)

#endif

#endif
