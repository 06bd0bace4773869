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
 * retired. uatomic_xchg() and its like are replaced as well where they are assembly, and for Valgrind, by those of the
 * compiler. In any other program nothing is replaced.
 *
 * A callback of call_rcu() begins with sheaf_rcu_called(). What liburcu does inside its own library (its hash table,
 * rcu_barrier(), defer_rcu(), polled grace periods) cannot be replaced: name such edges by hand.
 */
#ifndef SHEAF_RCU_H
#define SHEAF_RCU_H

#include <sheaf/edges.h>

struct rcu_head;

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

static inline void sheaf_rcu_call(struct rcu_head *head, void (*func)(struct rcu_head *head))
{
	sheaf_edge_release(head);
	call_rcu(head, func);
}

#undef call_rcu
#define call_rcu sheaf_rcu_call
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
#if defined(SHEAF_VALGRIND) || defined(__x86_64__) || defined(__i386__)
#undef uatomic_xchg
#define uatomic_xchg(p, v) __atomic_exchange_n((p), (__typeof__(*(p)))(v), __ATOMIC_SEQ_CST)
#undef uatomic_cmpxchg
#define uatomic_cmpxchg(p, old, v)                                                                 \
	__extension__({                                                                            \
		__typeof__(*(p)) sheaf_rcu_found = (__typeof__(*(p)))(old);                        \
		__atomic_compare_exchange_n((p), &sheaf_rcu_found, (__typeof__(*(p)))(v), 0,       \
					    __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);                   \
		sheaf_rcu_found;                                                                   \
	})
#undef uatomic_add_return
#define uatomic_add_return(p, v) __atomic_add_fetch((p), (__typeof__(*(p)))(v), __ATOMIC_SEQ_CST)
#undef uatomic_add
#define uatomic_add(p, v) ((void)uatomic_add_return((p), (v)))
#undef uatomic_inc
#define uatomic_inc(p) uatomic_add((p), 1)
#undef uatomic_dec
#define uatomic_dec(p) uatomic_add((p), -1)
#undef uatomic_and
#define uatomic_and(p, v) ((void)__atomic_and_fetch((p), (__typeof__(*(p)))(v), __ATOMIC_SEQ_CST))
#undef uatomic_or
#define uatomic_or(p, v) ((void)__atomic_or_fetch((p), (__typeof__(*(p)))(v), __ATOMIC_SEQ_CST))
#endif
#undef CMM_LOAD_SHARED
#define CMM_LOAD_SHARED(p) __atomic_load_n(&(p), __ATOMIC_RELAXED)
#undef CMM_STORE_SHARED
#define CMM_STORE_SHARED(p, v) __atomic_store_n(&(p), (v), __ATOMIC_RELAXED)

#endif

/**
 * Begins a callback of call_rcu(): what was done to the object before the call, and by readers before the end of the grace
 * period, comes before what the callback does. No code in programs where this header replaces nothing.
 * @param head What the callback was called with.
 *
 * Context: a callback of call_rcu(), first of all.
 * Ordering: acquire, for race checkers; liburcu has ordered it.
 * Progress: wait-free.
 */
static inline void sheaf_rcu_called(struct rcu_head *head)
{
#if defined(SHEAF_EDGES_TSAN) || defined(SHEAF_VALGRIND)
	sheaf_edge_acquire(head);
	sheaf_edge_acquire(&rcu_flavor);
#else
	(void)head;
#endif
}

#endif
