/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Tickets of a source with a driver: G1 and G2 in lib/gp_driver.c, driver_ticket(), run_period(),
 * sleep_unwanted(), wake_driver(), and wait_elapsed() of who sleeps for it.
 *
 * Two updaters each unlink an object, take a ticket, and use the object for something else
 * once that has elapsed: the one polls, the other one sleeps. A reader goes through a section, in
 * which it follows what is linked. (With WAKING there is no reader, and they do it twice.) The driver runs a period when one is wanted, and sleeps. What
 * synchronize() does is liburcu's: membarrier(2), so that readers do without barriers, a wait
 * for the sections that it finds, membarrier(2). With FENCED readers have a barrier of their own,
 * as in liburcu's flavour mb, and the driver's is for itself only.
 *
 * Proved: what a reader finds linked is not used for anything else while its section lasts, so no
 * ticket elapses early (G1). No wake-up is lost, be it the driver's or a waiter's (G2): everybody
 * comes to the end but the driver, who is asleep then.
 *
 * Broken on purpose, each of which must be found:
 *
 *	TICKET_RUNNING   a ticket is the period that runs, not the one after it
 *	TICKET_FIRST     the ticket is taken before the object is unlinked
 *	PUBLISH_EARLY    a period is published before synchronize()
 *	BEGIN_LATE       the word is moved on after synchronize()
 *	WANTED_LOST      WANTED is cleared at the end of a period
 *	SLEEP_BY_STORE   ASLEEP is set whatever the word is
 *	WAKE_READ_LATE   the driver reads the word that it sleeps on after it has set ASLEEP
 *	NOT_WOKEN        a ticket does not look for ASLEEP
 *	DONE_READ_LATE   a waiter reads the word that it sleeps on after its look
 *	DONE_FIRST       that word is changed before the period is published
 *
 * and with WEAK, each of which TSO forgives:
 *
 *	TICKET_RELAXED   unlinking may come after the ticket (with FENCED: membarrier(2) would make up
 *	                 for it)
 *	DONE_RELAXED     done may change before the period is published
 */
#define THREADS 4
#define WORDS 9

#define BEGUN 0
#define COMPLETED 1
#define WAKE 2
#define DONE 3
#define SECTION 4
#define LINKED 5 /* and 6: of the two updaters */
#define REUSED 7 /* and 8 */

#define DRIVER 0
#define READER 1
#define POLLER 2
#define WAITER 3

#define WANTED 1
#define ASLEEP 2
#define PERIOD 4
#define NUMBER(word) ((word) - (word) % 4)

#include "memory.h"

#define SECTIONS 1

bool driver_sleeps;
bool waiter_sleeps;

/* Nothing that was loaded before is kept: each is acquire too. */
#ifdef TICKET_RELAXED
#define TICKET_WAITS RMW_RELAXED_WAITS
#else
#define TICKET_WAITS EMPTY
#endif
#ifdef DONE_RELAXED
#define DONE_WAITS RMW_RELAXED_WAITS
#else
#define DONE_WAITS EMPTY
#endif

inline unlink(u)
{
#ifdef WAKING
	skip
#else
	STORE_RELAXED(LINKED + u, 0)
#endif
}

inline take_ticket(t, old)
{
	atomic {
		TICKET_WAITS ->
		old = mem[BEGUN];
		if
		:: old % 2 == 0 -> mem[BEGUN] = old + WANTED
		:: else
		fi;
		forget(me)
	};
#ifdef TICKET_RUNNING
	t = NUMBER(old);
#else
	t = NUMBER(old) + PERIOD;
#endif
#ifndef NOT_WOKEN
	if
	:: old % 4 >= ASLEEP ->
		atomic {
			EMPTY ->
			old = mem[BEGUN];
			if
			:: old % 4 >= ASLEEP -> mem[BEGUN] = old - ASLEEP
			:: else
			fi
		};
		if
		:: old % 4 >= ASLEEP ->
			atomic { EMPTY -> mem[WAKE] = mem[WAKE] + 1 };
			driver_sleeps = false
		:: else
		fi
	:: else
	fi;
#endif
	old = 0
}

proctype Updater(byte me; byte u; byte rounds)
{
	byte t, old, d;

	do
	:: rounds > 0 ->
#ifdef TICKET_FIRST
		take_ticket(t, old);
		unlink(u);
#else
		unlink(u);
		take_ticket(t, old);
#endif
		if
		:: me == POLLER ->
			(mem[COMPLETED] >= t)
		:: else ->
			do
			:: true ->
#ifdef DONE_READ_LATE
				LOAD_ACQUIRE(COMPLETED, old);
				if
				:: old >= t -> break
				:: else
				fi;
				LOAD_ACQUIRE(DONE, d);
#else
				LOAD_ACQUIRE(DONE, d);
				LOAD_ACQUIRE(COMPLETED, old);
				if
				:: old >= t -> break
				:: else
				fi;
#endif
				waiter_sleeps = (mem[DONE] == d);
				(!waiter_sleeps)
			od
		fi;
		t = 0; d = 0; old = 0;
#ifndef WAKING
		STORE_RELAXED(REUSED + u, 1);
#endif
		rounds--
	:: else -> break
	od;
	(EMPTY)
}

inline follow(u)
{
	LOAD_ACQUIRE(LINKED + u, p);
	if
	:: p == 1 ->
		LOAD_RELAXED(REUSED + u, p);
		assert(p == 0);
		LOAD_RELAXED(REUSED + u, p);
		assert(p == 0)
	:: else
	fi;
	p = 0
}

proctype Reader()
{
	byte me = READER, n = 0, p;

	do
	:: n < SECTIONS ->
		STORE_RELAXED(SECTION, 2 * n + 1);
#ifdef FENCED
		(EMPTY);
#endif
		follow(0);
		STORE_RELEASE(SECTION, 2 * n + 2);
		n++
	:: else -> break
	od;
	(EMPTY)
}

#ifdef FENCED
#define BARRIER() (EMPTY)
#else
#define BARRIER() BARRIER_ALL()
#endif

inline synchronize()
{
	BARRIER();
	LOAD_ACQUIRE(SECTION, s);
	(s % 2 == 0 || mem[SECTION] != s);
	BARRIER();
	s = 0
}

inline begin_period()
{
	atomic {
		EMPTY ->
		b = NUMBER(mem[BEGUN]) + PERIOD;
		mem[BEGUN] = b;
		forget(me)
	}
}

inline change_done()
{
	atomic {
		DONE_WAITS -> mem[DONE] = mem[DONE] + 1
	};
	waiter_sleeps = false
}

inline run_period()
{
#ifdef BEGIN_LATE
	synchronize();
	begin_period();
#else
	begin_period();
#ifdef PUBLISH_EARLY
	STORE_RELEASE(COMPLETED, b);
#endif
	synchronize();
#endif
#ifdef WANTED_LOST
	atomic {
		EMPTY ->
		if
		:: mem[BEGUN] % 2 -> mem[BEGUN] = mem[BEGUN] - WANTED
		:: else
		fi
	};
#endif
#ifdef DONE_FIRST
	change_done();
#endif
	STORE_RELEASE(COMPLETED, b);
#ifndef DONE_FIRST
	change_done();
#endif
	b = 0
}

proctype Driver()
{
	byte me = DRIVER, b, woke, s;

	do
	:: true ->
		LOAD_RELAXED(BEGUN, b);
		if
		:: b % 2 ->
			run_period()
		:: else ->
			LOAD_ACQUIRE(WAKE, woke);
			LOAD_RELAXED(BEGUN, b);
			if
			:: b % 2
			:: else ->
				atomic {
					EMPTY ->
					if
#ifdef SLEEP_BY_STORE
					:: mem[BEGUN] % 4 < ASLEEP ->
						mem[BEGUN] = mem[BEGUN] + ASLEEP;
						b = 1
#else
					:: mem[BEGUN] == b && b % 4 == 0 ->
						mem[BEGUN] = b + ASLEEP;
						b = 1
					:: mem[BEGUN] == b && b % 4 != 0 ->
						b = 1
#endif
					:: else -> b = 0
					fi
				};
				if
				:: b ->
#ifdef WAKE_READ_LATE
					LOAD_ACQUIRE(WAKE, woke);
#endif
					driver_sleeps = (mem[WAKE] == woke);
end:					(!driver_sleeps)
				:: else
				fi
			fi
		fi;
		b = 0; woke = 0
	od
}

init {
	atomic {
		mem[LINKED] = 1;
		mem[LINKED + 1] = 1;
		run Drain(DRIVER);
		run Driver();
#ifdef WAKING
		run Updater(POLLER, 0, 2);
		run Updater(WAITER, 1, 2)
#else
		run Drain(READER);
		run Drain(POLLER);
		run Drain(WAITER);
		run Reader();
		run Updater(POLLER, 0, 1);
		run Updater(WAITER, 1, 1)
#endif
	}
}
