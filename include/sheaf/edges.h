/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/**
 * @file sheaf/edges.h
 * What race checkers cannot see for themselves: which access comes before which.
 *
 * ThreadSanitizer knows C11 atomics, but not the assembly of liburcu and Concurrency Kit. Helgrind
 * and DRD know neither. In a program that is compiled for one of them, that is with
 * -fsanitize=thread, or with SHEAF_VALGRIND defined as the pkg-config file of a library built with
 * -Dvalgrind=true has it, the functions below name an edge; and with SHEAF_VALGRIND each access by a
 * function that is used after this header (the __atomic built-ins and those of <stdatomic.h>, in C) is
 * one by itself: a release comes before the acquires of the same address, and the word is not
 * checked for races any more. In any other program all this is nothing.
 *
 * No edges are fences, operators on _Atomic objects (x = 1, x++, a plain read of x) and the __sync built-ins: write
 * the function with its order, or name the edge.
 *
 * <sheaf/rcu.h> does the same for what a program calls of liburcu.
 */
#ifndef SHEAF_EDGES_H
#define SHEAF_EDGES_H

#include <stddef.h>

#if defined(__SANITIZE_THREAD__)
#define SHEAF_EDGES_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SHEAF_EDGES_TSAN 1
#endif
#endif

#ifdef SHEAF_VALGRIND
/* In this order: the names that both define are then Helgrind's. */
#include <valgrind/helgrind.h>

#include <valgrind/drd.h>
#endif

#ifdef __cplusplus
extern "C" {
#endif

#ifdef SHEAF_EDGES_TSAN
void __tsan_acquire(void *addr);
void __tsan_release(void *addr);
#elif defined(SHEAF_VALGRIND)
enum sheaf_edges_tool { SHEAF_EDGES_ASK, SHEAF_EDGES_NONE, SHEAF_EDGES_HELGRIND, SHEAF_EDGES_DRD };

/* A request costs much more than the access it is about, so only the tool that runs is told. Each
 * thread finds out for itself, or it would be a race. */
static inline enum sheaf_edges_tool sheaf_edges_tool(void)
{
	static __thread enum sheaf_edges_tool tool;

	if (tool == SHEAF_EDGES_ASK) {
		if (DRD_GET_DRD_THREADID)
			tool = SHEAF_EDGES_DRD;
		else if (VALGRIND_HG_GET_ABITS(&tool, NULL, 1) >= 0)
			tool = SHEAF_EDGES_HELGRIND;
		else
			tool = SHEAF_EDGES_NONE;
	}
	return tool;
}
#endif

/**
 * What the calling thread has done so far comes before what others do after they have called
 * sheaf_edge_acquire() of the same address: right before an object is handed over by a way that the
 * checkers do not know.
 *
 * @param address stands for the way; of the object itself, as a rule. Is not accessed.
 *
 * Context: any. Ordering: none; it tells of an order that is there. Progress: wait-free.
 */
static inline void sheaf_edge_release(const volatile void *address)
{
#ifdef SHEAF_EDGES_TSAN
	__tsan_release((void *)(size_t)address);
#elif defined(SHEAF_VALGRIND)
	if (sheaf_edges_tool() == SHEAF_EDGES_HELGRIND)
		VALGRIND_DO_CLIENT_REQUEST_STMT(_VG_USERREQ__HG_USERSO_SEND_PRE, address, 0, 0, 0,
						0);
	else if (sheaf_edges_tool() == SHEAF_EDGES_DRD)
		VALGRIND_DO_CLIENT_REQUEST_STMT(VG_USERREQ__DRD_ANNOTATE_HAPPENS_BEFORE, address, 0,
						0, 0, 0);
#else
	(void)address;
#endif
}

/**
 * The partner of sheaf_edge_release(): right after an object was received.
 *
 * @param address as given there
 *
 * Context: any. Ordering: none. Progress: wait-free.
 */
static inline void sheaf_edge_acquire(const volatile void *address)
{
#ifdef SHEAF_EDGES_TSAN
	__tsan_acquire((void *)(size_t)address);
#elif defined(SHEAF_VALGRIND)
	if (sheaf_edges_tool() == SHEAF_EDGES_HELGRIND)
		VALGRIND_DO_CLIENT_REQUEST_STMT(_VG_USERREQ__HG_USERSO_RECV_POST, address, 0, 0, 0,
						0);
	else if (sheaf_edges_tool() == SHEAF_EDGES_DRD)
		VALGRIND_DO_CLIENT_REQUEST_STMT(VG_USERREQ__DRD_ANNOTATE_HAPPENS_AFTER, address, 0,
						0, 0, 0);
#else
	(void)address;
#endif
}

/**
 * Races on these bytes are meant, from now on: a word that is only written and read whole, by
 * means that Helgrind and DRD take for plain accesses. ThreadSanitizer is not told.
 *
 * @param address, bytes of the word. Is not accessed.
 *
 * Context: any. Ordering: none. Progress: wait-free.
 */
static inline void sheaf_edge_ignore(const volatile void *address, size_t bytes)
{
#if defined(SHEAF_VALGRIND) && !defined(SHEAF_EDGES_TSAN)
	if (sheaf_edges_tool() == SHEAF_EDGES_HELGRIND)
		VALGRIND_DO_CLIENT_REQUEST_STMT(_VG_USERREQ__HG_ARANGE_MAKE_UNTRACKED, address,
						bytes, 0, 0, 0);
	else if (sheaf_edges_tool() == SHEAF_EDGES_DRD)
		VALGRIND_DO_CLIENT_REQUEST_STMT(VG_USERREQ__DRD_START_SUPPRESSION, address, bytes,
						0, 0, 0);
#else
	(void)address;
	(void)bytes;
#endif
}

#if defined(SHEAF_VALGRIND) && !defined(SHEAF_EDGES_TSAN) && !defined(__cplusplus)
/* Before and after an atomic access; a failed exchange counts as one that did not fail, and acquires by its order of
 * failure besides. */
static inline void sheaf_edge_before(const volatile void *address, size_t bytes, int order)
{
	sheaf_edge_ignore(address, bytes);
	if (order == __ATOMIC_RELEASE || order == __ATOMIC_ACQ_REL || order == __ATOMIC_SEQ_CST)
		sheaf_edge_release(address);
}

static inline void sheaf_edge_after(const volatile void *address, int order)
{
	if (order == __ATOMIC_ACQUIRE || order == __ATOMIC_CONSUME || order == __ATOMIC_ACQ_REL ||
	    order == __ATOMIC_SEQ_CST)
		sheaf_edge_acquire(address);
}

/* A variable of its own for each use: uses are nested in arguments of others. */
#define SHEAF_EDGE_NAME_(name, n) name##n
#define SHEAF_EDGE_NAME(name, n) SHEAF_EDGE_NAME_(name, n)
#define SHEAF_EDGE_VALUE_(pointer, value, p, order, access, ...)                                   \
	__extension__({                                                                            \
		__auto_type pointer = (p);                                                         \
		sheaf_edge_before(pointer, sizeof(*pointer), (order));                             \
		__typeof__(access(pointer, __VA_ARGS__)) value = access(pointer, __VA_ARGS__);     \
		sheaf_edge_after(pointer, (order));                                                \
		value;                                                                             \
	})
#define SHEAF_EDGE_VOID_(pointer, p, order, access, ...)                                           \
	__extension__({                                                                            \
		__auto_type pointer = (p);                                                         \
		sheaf_edge_before(pointer, sizeof(*pointer), (order));                             \
		access(pointer, __VA_ARGS__);                                                      \
		sheaf_edge_after(pointer, (order));                                                \
	})
/* What is given is made first: its making is part of what the edge is for. type: that of the place, or of
 * a number that is added to it. */
#define SHEAF_EDGE_GIVE_(pointer, given, value, type, p, v, order, access)                         \
	__extension__({                                                                            \
		__auto_type pointer = (p);                                                         \
		type given = (v);                                                                  \
		sheaf_edge_before(pointer, sizeof(*pointer), (order));                             \
		__typeof__(access(pointer, given, order)) value = access(pointer, given, order);   \
		sheaf_edge_after(pointer, (order));                                                \
		value;                                                                             \
	})
#define SHEAF_EDGE_STORE_(pointer, given, p, v, order, access)                                     \
	__extension__({                                                                            \
		__auto_type pointer = (p);                                                         \
		__typeof__((void)0, *pointer) given = (v);                                         \
		sheaf_edge_before(pointer, sizeof(*pointer), (order));                             \
		access(pointer, given, order);                                                     \
	})
/* An exchange that compares reads what it expects after the edge; and that may lie in the very object
 * which is handed over, and be another thread's by then. So it is read before. */
#define SHEAF_EDGE_SWAP_(pointer, place, old, given, done, p, e, v, order, failure, access, ...)   \
	__extension__({                                                                            \
		__auto_type pointer = (p);                                                         \
		__auto_type place = (e);                                                           \
		__typeof__(*place) old = *place;                                                   \
		__typeof__((void)0, *pointer) given = (v);                                         \
		sheaf_edge_before(pointer, sizeof(*pointer), (order));                             \
		_Bool done = access(pointer, &old, given, __VA_ARGS__);                            \
		sheaf_edge_after(pointer, (order));                                                \
		if (!done) {                                                                       \
			sheaf_edge_after(pointer, (failure));                                      \
			*place = old;                                                              \
		}                                                                                  \
		done;                                                                              \
	})
#define SHEAF_EDGE_VALUE(n, ...)                                                                   \
	SHEAF_EDGE_VALUE_(SHEAF_EDGE_NAME(sheaf_edge_p, n), SHEAF_EDGE_NAME(sheaf_edge_v, n),      \
			  __VA_ARGS__)
#define SHEAF_EDGE_SWAP(n, ...)                                                                    \
	SHEAF_EDGE_SWAP_(SHEAF_EDGE_NAME(sheaf_edge_p, n), SHEAF_EDGE_NAME(sheaf_edge_e, n),       \
			 SHEAF_EDGE_NAME(sheaf_edge_o, n), SHEAF_EDGE_NAME(sheaf_edge_g, n),       \
			 SHEAF_EDGE_NAME(sheaf_edge_v, n), __VA_ARGS__)
#define SHEAF_EDGE_GIVE(n, ...)                                                                    \
	SHEAF_EDGE_GIVE_(SHEAF_EDGE_NAME(sheaf_edge_p, n), SHEAF_EDGE_NAME(sheaf_edge_g, n),       \
			 SHEAF_EDGE_NAME(sheaf_edge_v, n), __VA_ARGS__)
#define SHEAF_EDGE_STORE(n, ...)                                                                   \
	SHEAF_EDGE_STORE_(SHEAF_EDGE_NAME(sheaf_edge_p, n), SHEAF_EDGE_NAME(sheaf_edge_g, n),      \
			  __VA_ARGS__)
#define SHEAF_EDGE_VOID(n, ...) SHEAF_EDGE_VOID_(SHEAF_EDGE_NAME(sheaf_edge_p, n), __VA_ARGS__)

/* A macro's own name within it is the built-in. */
#define __atomic_load_n(p, o) SHEAF_EDGE_VALUE(__COUNTER__, p, o, __atomic_load_n, o)
#define __atomic_exchange_n(p, v, o)                                                               \
	SHEAF_EDGE_GIVE(__COUNTER__, __typeof__((void)0, *(p)), p, v, o, __atomic_exchange_n)
#define __atomic_compare_exchange_n(p, e, v, weak, o, f)                                           \
	SHEAF_EDGE_SWAP(__COUNTER__, p, e, v, o, f, __atomic_compare_exchange_n, weak, o, f)
#define SHEAF_EDGE_SWAP_WHOLE(p, e, v, weak, o, f) __atomic_compare_exchange(p, e, &(v), weak, o, f)
#define __atomic_compare_exchange(p, e, v, weak, o, f)                                             \
	SHEAF_EDGE_SWAP(__COUNTER__, p, e, *(v), o, f, SHEAF_EDGE_SWAP_WHOLE, weak, o, f)
#define __atomic_test_and_set(p, o) SHEAF_EDGE_VALUE(__COUNTER__, p, o, __atomic_test_and_set, o)
#define __atomic_fetch_add(p, v, o)                                                                \
	SHEAF_EDGE_GIVE(__COUNTER__, __typeof__((v) + 0), p, v, o, __atomic_fetch_add)
#define __atomic_add_fetch(p, v, o)                                                                \
	SHEAF_EDGE_GIVE(__COUNTER__, __typeof__((v) + 0), p, v, o, __atomic_add_fetch)
#define __atomic_fetch_sub(p, v, o)                                                                \
	SHEAF_EDGE_GIVE(__COUNTER__, __typeof__((v) + 0), p, v, o, __atomic_fetch_sub)
#define __atomic_sub_fetch(p, v, o)                                                                \
	SHEAF_EDGE_GIVE(__COUNTER__, __typeof__((v) + 0), p, v, o, __atomic_sub_fetch)
#define __atomic_fetch_and(p, v, o)                                                                \
	SHEAF_EDGE_GIVE(__COUNTER__, __typeof__((v) + 0), p, v, o, __atomic_fetch_and)
#define __atomic_and_fetch(p, v, o)                                                                \
	SHEAF_EDGE_GIVE(__COUNTER__, __typeof__((v) + 0), p, v, o, __atomic_and_fetch)
#define __atomic_fetch_or(p, v, o)                                                                 \
	SHEAF_EDGE_GIVE(__COUNTER__, __typeof__((v) + 0), p, v, o, __atomic_fetch_or)
#define __atomic_or_fetch(p, v, o)                                                                 \
	SHEAF_EDGE_GIVE(__COUNTER__, __typeof__((v) + 0), p, v, o, __atomic_or_fetch)
#define __atomic_fetch_xor(p, v, o)                                                                \
	SHEAF_EDGE_GIVE(__COUNTER__, __typeof__((v) + 0), p, v, o, __atomic_fetch_xor)
#define __atomic_xor_fetch(p, v, o)                                                                \
	SHEAF_EDGE_GIVE(__COUNTER__, __typeof__((v) + 0), p, v, o, __atomic_xor_fetch)
#define __atomic_fetch_nand(p, v, o)                                                               \
	SHEAF_EDGE_GIVE(__COUNTER__, __typeof__((v) + 0), p, v, o, __atomic_fetch_nand)
#define __atomic_nand_fetch(p, v, o)                                                               \
	SHEAF_EDGE_GIVE(__COUNTER__, __typeof__((v) + 0), p, v, o, __atomic_nand_fetch)
#define __atomic_store_n(p, v, o) SHEAF_EDGE_STORE(__COUNTER__, p, v, o, __atomic_store_n)
#define __atomic_load(p, r, o) SHEAF_EDGE_VOID(__COUNTER__, p, o, __atomic_load, r, o)
#define __atomic_store(p, v, o) SHEAF_EDGE_VOID(__COUNTER__, p, o, __atomic_store, v, o)
#define __atomic_exchange(p, v, r, o) SHEAF_EDGE_VOID(__COUNTER__, p, o, __atomic_exchange, v, r, o)
#define __atomic_clear(p, o) SHEAF_EDGE_VOID(__COUNTER__, p, o, __atomic_clear, o)
#ifdef __clang__
#define __c11_atomic_load(p, o) SHEAF_EDGE_VALUE(__COUNTER__, p, o, __c11_atomic_load, o)
#define __c11_atomic_exchange(p, v, o)                                                             \
	SHEAF_EDGE_GIVE(__COUNTER__, __typeof__((void)0, *(p)), p, v, o, __c11_atomic_exchange)
#define __c11_atomic_compare_exchange_strong(p, e, v, o, f)                                        \
	SHEAF_EDGE_SWAP(__COUNTER__, p, e, v, o, f, __c11_atomic_compare_exchange_strong, o, f)
#define __c11_atomic_compare_exchange_weak(p, e, v, o, f)                                          \
	SHEAF_EDGE_SWAP(__COUNTER__, p, e, v, o, f, __c11_atomic_compare_exchange_weak, o, f)
#define __c11_atomic_fetch_add(p, v, o)                                                            \
	SHEAF_EDGE_GIVE(__COUNTER__, __typeof__((v) + 0), p, v, o, __c11_atomic_fetch_add)
#define __c11_atomic_fetch_sub(p, v, o)                                                            \
	SHEAF_EDGE_GIVE(__COUNTER__, __typeof__((v) + 0), p, v, o, __c11_atomic_fetch_sub)
#define __c11_atomic_fetch_and(p, v, o)                                                            \
	SHEAF_EDGE_GIVE(__COUNTER__, __typeof__((v) + 0), p, v, o, __c11_atomic_fetch_and)
#define __c11_atomic_fetch_or(p, v, o)                                                             \
	SHEAF_EDGE_GIVE(__COUNTER__, __typeof__((v) + 0), p, v, o, __c11_atomic_fetch_or)
#define __c11_atomic_fetch_xor(p, v, o)                                                            \
	SHEAF_EDGE_GIVE(__COUNTER__, __typeof__((v) + 0), p, v, o, __c11_atomic_fetch_xor)
#define __c11_atomic_store(p, v, o) SHEAF_EDGE_STORE(__COUNTER__, p, v, o, __c11_atomic_store)
#endif
#endif

#ifdef __cplusplus
}
#endif

#endif
