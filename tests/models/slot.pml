/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * The flag and membarrier(2) of slots per thread: S1 to S5 in lib/slot.h, slot_enter(), slot_hold()
 * and slot_leave(), slots_stop(), seize() and slots_go().
 *
 * An owner goes in and out of its slot, with a signal handler at any point that wants in too. A
 * remote party takes the slot over, more than once. Inside, each adds one to a plain word.
 *
 * Proved: never are two parties inside (S1, S2, S4). What one did inside the next one sees (S3): no
 * addition is lost. Everybody comes to the end: no wait without end is possible. With REFUSED the
 * same without membarrier(2), where stop stands for ever (S5).
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
 * and with WEAK, each of which TSO forgives:
 *
 *	LEAVE_RELAXED, GO_RELAXED, SEIZE_RELAXED, ENTER_RELAXED   an end of S3 without its order
 */
#define THREADS 2
#define WORDS 4

#define BUSY 0
#define STOP 1
#define LOCK 2
#define COUNT 3

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

inline take_lock()
{
	atomic {
		(RMW_RELAXED_WAITS && mem[LOCK] == 0);
		mem[LOCK] = 1;
		forget(me)
	}
}

inline drop_lock()
{
	STORE_RELEASE(LOCK, 0)
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
		take_lock();
		drop_lock()
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
			take_lock();
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
			drop_lock()
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
		take_lock();
		EARLY(COUNT);
#ifndef NOT_AWAITED
		atomic {
			(mem[BUSY] == 0);
#ifndef SEIZE_RELAXED
			forget(me)
#endif
		};
#endif
		work(x);
		drop_lock();
#ifndef REFUSED
		STORE_GO(STOP, 0);
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
