/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * A storm on the slots of a cache themselves: on one sequence, and on those that keep it
 * going. Every thread, every handler and the remote party has a hand, of objects and sheaves.
 * Each object and each sheaf has an owner's stamp, exchanged whenever it goes from a hand
 * into a slot or back: of two owners one finds the other. At the end all are collected, and
 * each must be there once.
 */
#ifndef TESTS_RSEQ_HANDS_H
#define TESTS_RSEQ_HANDS_H

#include "slot.h"
#include "storm.h"

enum section {
	POP,
	PUSH,
	PUSH_RCU,
	POP_MANY,
	PUSH_MANY,
	SWAP,
	SWAP_FILLED,
	SWAP_ROOMY,
	INSTALL_SPARE,
	INSTALL_SPARE_IF_EMPTY,
	INSTALL_RCU,
	INSTALL_RCU_IF_FULL,
	SECTIONS,
};

/* What the storm counts: outcomes of the section (an enum slot_did), and aborts in slot_do(). */
enum { COUNT_OUTCOMES, COUNT_ABORTS = COUNT_OUTCOMES + 4, COUNT_ROUND };

const char *section_name(enum section section);

/* Does the section heed stop? */
bool section_stops(enum section section);

/* The section once, as a slot_do() without a loop. Pop and push want n = 1. */
enum slot_did section_do(const struct cpu_slots *cpus, enum section section, struct slot_io *io);

/* The operation of slot_do() that comes to the section, with n = 1 for pop and push. */
enum slot_op section_op(enum section section);

struct storm hands_storm(enum section section, unsigned disturbances, unsigned ms, uint64_t seed);

/* Fences of the take-over that is going on: for mutants. */
extern unsigned take_over_fences;

#endif
