/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Memory of the models: what a thread stores waits in a buffer of its own, from which it comes
 * into memory later; the thread itself sees it at once.
 *
 * Without WEAK the buffer is emptied in order, and a read-modify-write empties it first: that is
 * how amd64 orders memory (TSO). With WEAK stores to different words come into memory in any order,
 * but a release after all that was stored before it; a read-modify-write passes what waits,
 * unless it is a release; and a load that no acquire precedes may have been made early, of which
 * the models make use by EARLY(). That is not all that a weak machine may do: stores of
 * others become visible to all at once, and nothing is speculated but those loads.
 *
 * BARRIER_ALL is membarrier(2): each thread's buffer is emptied, and what it has loaded early is
 * forgotten.
 *
 * A model defines THREADS and WORDS before it includes this. `me` is the thread.
 */
#define WAITING 4

typedef buffer {
	byte n;
	byte word[WAITING];
	byte value[WAITING];
	bool release[WAITING];
	/* Loaded early: a word and its value. */
	bool early;
	byte early_word;
	byte early_value;
}

buffer buf[THREADS];
byte mem[WORDS];

/* Scratch of steps that are atomic. */
hidden byte k;
hidden byte at;

inline put(w, v, r)
{
	atomic {
		(buf[me].n < WAITING);
		at = buf[me].n;
		buf[me].word[at] = w;
		buf[me].value[at] = v;
		buf[me].release[at] = r;
		buf[me].n++;
		at = 0
	}
}

#define STORE_RELAXED(w, v) put(w, v, false)
#define STORE_RELEASE(w, v) put(w, v, true)

/* What the thread sees. In atomic steps. */
inline see(w, v)
{
	v = mem[w];
	k = 0;
	do
	:: k < buf[me].n ->
		if
		:: buf[me].word[k] == w -> v = buf[me].value[k]
		:: else
		fi;
		k++
	:: else -> break
	od;
	k = 0
}

/* Nothing behind an acquire was loaded before it. In atomic steps. */
inline forget(t)
{
	buf[t].early = false;
	buf[t].early_word = 0;
	buf[t].early_value = 0
}

inline LOAD_ACQUIRE(w, v)
{
	d_step {
		see(w, v);
		forget(me)
	}
}

/* Takes what was loaded early, if that is it. */
inline LOAD_RELAXED(w, v)
{
	d_step {
		if
		:: buf[me].early && buf[me].early_word == w ->
			v = buf[me].early_value;
			forget(me)
		:: else ->
			see(w, v)
		fi
	}
}

/* A load that comes next, or later, may be made here. */
inline EARLY(w)
{
#ifdef WEAK
	atomic {
		if
		:: see(w, at);
			buf[me].early = true;
			buf[me].early_word = w;
			buf[me].early_value = at;
			at = 0
		:: skip
		fi
	}
#else
	skip
#endif
}

/* Takes entry i of thread t's buffer into memory. In atomic steps. */
inline commit(t, i)
{
	mem[buf[t].word[i]] = buf[t].value[i];
	k = i;
	do
	:: k + 1 < buf[t].n ->
		buf[t].word[k] = buf[t].word[k + 1];
		buf[t].value[k] = buf[t].value[k + 1];
		buf[t].release[k] = buf[t].release[k + 1];
		k++
	:: else -> break
	od;
	buf[t].word[k] = 0;
	buf[t].value[k] = 0;
	buf[t].release[k] = false;
	buf[t].n--;
	k = 0
}

#define EMPTY (buf[me].n == 0)
/* What a read-modify-write waits for that is no release; one that is waits for EMPTY. */
#ifdef WEAK
#define RMW_RELAXED_WAITS true
#else
#define RMW_RELAXED_WAITS EMPTY
#endif

inline BARRIER_ALL()
{
	d_step {
		at = 0;
		do
		:: at < THREADS ->
			do
			:: buf[at].n > 0 -> commit(at, 0)
			:: else -> break
			od;
			forget(at);
			at++
		:: else -> break
		od;
		at = 0
	}
}

/* Empties the buffer of a thread, for ever. */
proctype Drain(byte t)
{
end:
	do
	:: atomic { buf[t].n > 0 -> commit(t, 0) }
#ifdef WEAK
	/* The second one before the first. */
	:: atomic {
		buf[t].n > 1 && !buf[t].release[1] && buf[t].word[1] != buf[t].word[0] ->
			commit(t, 1)
	}
	:: atomic {
		buf[t].n > 2 && !buf[t].release[2] && buf[t].word[2] != buf[t].word[0] &&
			buf[t].word[2] != buf[t].word[1] -> commit(t, 2)
	}
#endif
	od
}
