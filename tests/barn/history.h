/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Linearizability of what scheduled threads did: is there an order of their calls that keeps each call before those
 * that began after it had ended, and in which a sequential model gives every call the result it had? All
 * orders are tried, depth first (Wing and Gong, Testing and verifying concurrent objects, 1993).
 *
 * Calls are noted by the threads themselves. No other one runs between two atomic accesses of the library
 * (schedule.h), so this needs no care, and no call of a complete run is pending. Nor does any between a call's end and
 * the next one's beginning: where a thread has done nothing in a call yet it has begun all the same.
 */
#ifndef TESTS_BARN_HISTORY_H
#define TESTS_BARN_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HISTORY_MOST 32
#define HISTORY_STATE 64

struct history_call {
	/* The model's words for what was asked, and what came of it. */
	unsigned kind;
	int arg;
	int result;
	/* Moments of the history's own clock. */
	unsigned began;
	unsigned ended;
	/* A bit for the kind of each call that was under way meanwhile. */
	uint32_t beside;
};

struct history {
	struct history_call calls[HISTORY_MOST];
	unsigned n;
	unsigned clock;
};

struct history_model {
	/* Of a state, in bytes: HISTORY_STATE at most. Copied as it is. */
	size_t size;
	/* What the state is before all calls. */
	void (*first)(void *state);
	/* Makes the call on the state. False if its result cannot be: the state is not used any more. */
	bool (*make)(void *state, const struct history_call *call);
};

/* A call begins now: the moment, for history_end(). */
unsigned history_begin(struct history *history);

/* A call that began at that moment ends now. What does several things at no one moment is noted as a call for each. */
void history_end(struct history *history, unsigned began, unsigned kind, int arg, int result);

/* No thread is in a call. */
bool history_linearizable(struct history *history, const struct history_model *model);

#endif
