/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * The flag and membarrier(2) of slots per thread: S1 to S6 in lib/slot.h, slot_enter(), slot_lock(),
 * slot_hold() and slot_leave(), slots_stop(), seize(), slots_freeze(), slots_thaw() and slots_go().
 *
 * An owner goes in and out of its slot, with a signal handler at any point that wants in too. A
 * remote party takes the slot over, more than once. Inside, each adds one to a plain word. With
 * FREEZE the remote party marks the slot and is inside without its lock.
 *
 * Proved: never are two parties inside (S1, S2, S4, S5). What one did inside the next one sees (S3):
 * no addition is lost. Everybody comes to the end: no wait without end is possible (but that an owner
 * finds no mark some time is not proved: it could go round). With REFUSED the same without
 * membarrier(2), where stop stands for ever (S6).
 *
 * Broken on purpose, each of which must be found:
 *
 *	NO_MEMBARRIER      the remote party does without; found with buffers emptied in order, which
 *	                   is why the real machine needs it
 *	STOP_LATE          stop is stored after membarrier
 *	LOOK_FIRST         the owner looks at stop before it stores busy
 *	NOT_AWAITED        the remote party does not wait for busy
 *	NOT_LOCKED         an owner that sees stop goes in without the lock
 *	BUSY_LEFT          an owner that sees stop leaves busy behind
 *	NOT_BUSY_BY_LOCK   by the lock, busy is not set: a handler does not find the owner inside
 *	HANDLER_LOCKS      a handler waits for the lock that its own thread may hold
 *
 * with FREEZE
 *
 *	MARK_IGNORED       an owner that has the lock does not look at the mark
 *	MARK_UNLOCKED      the mark is set after the lock is dropped
 *	LOCK_KEPT          an owner waits for the end of the freeze with the lock, which that needs
 *
 * and with WEAK, each of which TSO forgives:
 *
 *	LEAVE_RELAXED, GO_RELAXED, SEIZE_RELAXED, ENTER_RELAXED   an end of S3 without its order
 */
#define THREADS 2
#define WORDS 6

#define BUSY 0
#define STOP 1
#define LOCK 2
#define COUNT 3
#define FROZEN 4
#define REMOTE_LOCK 5

#define OWNER 0
#define REMOTE 1

#include "memory.h"

#ifndef ROUNDS
#define ROUNDS 2
#endif

/* Who is inside, and what they have added; nobody's memory. */
byte inside;
byte added;
byte handlers = 1;

#ifdef LEAVE_RELAXED
#define STORE_LEAVE STORE_RELAXED
#else
#define STORE_LEAVE STORE_RELEASE
#endif
#ifdef GO_RELAXED
#define STORE_GO STORE_RELAXED
#else
#define STORE_GO STORE_RELEASE
#endif

inline take(lock)
{
	atomic {
		(RMW_RELAXED_WAITS && mem[lock] == 0);
		mem[lock] = 1;
		forget(me)
	}
}

inline drop(lock)
{
	STORE_RELEASE(lock, 0)
}

#ifdef ENTER_RELAXED
#define LOAD_ENTER LOAD_RELAXED
#else
#define LOAD_ENTER LOAD_ACQUIRE
#endif

/* The additions of an owner and its handler cannot come between each other's halves: the slot is
 * busy for the handler then. */
inline work(x)
{
	atomic { inside++; assert(inside == 1) };
	LOAD_RELAXED(COUNT, x);
	STORE_RELAXED(COUNT, x + 1);
	atomic { added++; inside-- }
}

/* S4: it goes round if the slot is busy or stopped. */
inline handler(h, x)
{
	LOAD_ACQUIRE(BUSY, h);
	if
	:: h == 0 ->
		STORE_RELAXED(BUSY, 1);
		LOAD_ACQUIRE(STOP, h);
		if
		:: h == 0 ->
			work(x);
			STORE_LEAVE(BUSY, 0)
		:: else ->
			STORE_RELEASE(BUSY, 0)
		fi
#ifdef HANDLER_LOCKS
	:: else ->
		take(LOCK);
		drop(LOCK)
#else
	:: else
#endif
	fi
}

#define SIGNAL \
	if \
	:: handlers > 0 -> handlers--; handler(h, y) \
	:: skip \
	fi

proctype Owner()
{
	byte me = OWNER, n = 0, s, x, h, y;

	do
	:: n < ROUNDS ->
		SIGNAL;
#ifdef LOOK_FIRST
		LOAD_ACQUIRE(STOP, s);
		STORE_RELAXED(BUSY, 1);
#else
		STORE_RELAXED(BUSY, 1);
		SIGNAL;
		EARLY(COUNT);
		LOAD_ENTER(STOP, s);
#endif
		SIGNAL;
		if
		:: s == 0 ->
			work(x);
			SIGNAL;
			STORE_LEAVE(BUSY, 0)
		:: else ->
			/* What was loaded early is for the other way. */
			d_step { forget(me) };
#ifndef BUSY_LEFT
			STORE_RELEASE(BUSY, 0);
#endif
			SIGNAL;
#ifndef NOT_LOCKED
			take(LOCK);
#endif
#if defined(FREEZE) && !defined(MARK_IGNORED)
			do
			:: LOAD_RELAXED(FROZEN, s);
				if
				:: s == 0 -> break
				:: else
				fi;
#ifndef LOCK_KEPT
				drop(LOCK);
#endif
				SIGNAL;
				take(REMOTE_LOCK);
				drop(REMOTE_LOCK);
#ifndef LOCK_KEPT
				take(LOCK)
#endif
			od;
#endif
			SIGNAL;
#ifndef NOT_BUSY_BY_LOCK
			STORE_RELAXED(BUSY, 1);
#endif
			atomic { inside++; assert(inside == 1) };
			LOAD_RELAXED(COUNT, x);
			inside--;
			SIGNAL;
			atomic { inside++; assert(inside == 1) };
			STORE_RELAXED(COUNT, x + 1);
			atomic { added++; inside-- };
			STORE_LEAVE(BUSY, 0);
			SIGNAL;
#ifndef NOT_LOCKED
			drop(LOCK)
#endif
		fi;
		n++
	:: else -> break
	od;
	(EMPTY)
}

proctype Remote()
{
	byte me = REMOTE, n = 0, x;

	do
	:: n < ROUNDS ->
#ifdef FREEZE
		take(REMOTE_LOCK);
#endif
#ifdef STOP_LATE
		BARRIER_ALL();
		STORE_RELAXED(STOP, 1);
		(EMPTY);
#else
#ifndef REFUSED
		STORE_RELAXED(STOP, 1);
#endif
#if !defined(NO_MEMBARRIER) && !defined(REFUSED)
		BARRIER_ALL();
#endif
#endif
		take(LOCK);
		EARLY(COUNT);
#ifndef NOT_AWAITED
		atomic {
			(mem[BUSY] == 0);
#ifndef SEIZE_RELAXED
			forget(me)
#endif
		};
#endif
#ifdef FREEZE
#ifndef MARK_UNLOCKED
		STORE_RELAXED(FROZEN, 1);
#endif
		drop(LOCK);
#ifdef MARK_UNLOCKED
		STORE_RELAXED(FROZEN, 1);
#endif
		work(x);
		take(LOCK);
		STORE_RELAXED(FROZEN, 0);
		drop(LOCK);
#else
		work(x);
		drop(LOCK);
#endif
#ifndef REFUSED
		STORE_GO(STOP, 0);
#endif
#ifdef FREEZE
		drop(REMOTE_LOCK);
#endif
		n++
	:: else -> break
	od;
	(EMPTY)
}

init {
	pid owner, remote;

	atomic {
#ifdef REFUSED
		mem[STOP] = 1;
#endif
		run Drain(OWNER);
		run Drain(REMOTE);
		run Owner();
		run Remote()
	};
	/* Both are at the end, and all they stored is in memory. */
	(_nr_pr == 3);
	assert(mem[COUNT] == added)
}
