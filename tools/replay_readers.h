/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* Threads that look addresses up while the map is rebuilt, and check what they see. */
#ifndef TOOLS_REPLAY_READERS_H
#define TOOLS_REPLAY_READERS_H

#include "address_space.h"
#include "shadow.h"

struct reader_counts {
	uint64_t faults; /* look-ups: hits and misses */
	uint64_t hits;
	uint64_t misses;
	uint64_t sharp; /* of the faults, those with at most one write under way meanwhile */
	uint64_t bad;
	char first_bad[192]; /* what was wrong with the first of them */
};

struct readers;

/*
 * Start @count threads on @spaces. *hot is the number of the space that the writer
 * works on, written by it with store_relaxed(); readers look there more often. Returns
 * when all of them run; NULL if a thread could not be made.
 */
struct readers *readers_start(unsigned count, struct spaces *spaces, const struct shadow *shadow,
			      uint32_t *hot, uint64_t seed);

/* Stop them; the sum of what they saw. */
void readers_stop(struct readers *readers, struct reader_counts *sum);

#endif
