/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Stamps. What an object is, its own head says:
 *
 *	backend gives   -> FREE
 *	FREE            -> handed out: the state names who has it, the sequence goes up
 *	handed out      -> FREE: check word and pattern change, so a later write shows
 *	handed out      -> IN_TREE -> handed out again
 *	handed out      -> RETIRED: only the state changes, readers may look at the rest
 *	RETIRED         -> FREE by the callback over ripe objects, or handed out by caches without
 *	FREE, RETIRED   -> GONE, back at the backend
 *
 * Each step exchanges the state and knows what it must have been. So an object that is handed out
 * twice, freed twice, or given back while somebody has it, is seen by the second party, and a
 * write to what is free by the next one that gets it. All but the state is written by who
 * has the object to himself, without atomics: where the library does not order a hand-over,
 * ThreadSanitizer sees a race on it.
 */
#include "torture.h"

#include <inttypes.h>
#include <stdio.h>

/* Words at both ends of the pattern that are looked at. */
#define LOOK 6

enum kind { KIND_LIVE = 0x11, KIND_FREE = 0x22 };

static uint64_t mix(uint64_t x)
{
	x ^= x >> 31;
	x *= UINT64_C(0x9e3779b97f4a7c15);
	x ^= x >> 29;
	x *= UINT64_C(0xbf58476d1ce4e5b9);
	return x ^ x >> 32;
}

uint64_t random_stream(uint64_t seed, uint64_t n)
{
	uint64_t x = mix(mix(seed + 1) + n * UINT64_C(0x2545f4914f6cdd1d));

	return x ? x : 1;
}

static uint64_t check_of(const struct victim *victim, const struct stamp *object, enum kind kind)
{
	return mix((uintptr_t)object ^ mix(object->sequence) ^ (uint64_t)kind << 56 ^
		   victim->spec->object_size);
}

/* The words behind the stamp, of which the first and last ones are used. */
static uint64_t *body(struct stamp *object)
{
	return (uint64_t *)(object + 1);
}

static unsigned body_words(const struct victim *victim)
{
	return (unsigned)((victim->spec->object_size - sizeof(struct stamp)) / sizeof(uint64_t));
}

static const char *state_text(uint64_t state, char *text, size_t size)
{
	static const char *const names[] = {[STATE_FREE] = "free",
					    [STATE_RETIRED] = "retired",
					    [STATE_TREE] = "in a tree",
					    [STATE_GONE] = "back at the backend"};

	if (state >= STATE_FREE && state <= STATE_GONE)
		snprintf(text, size, "%s", names[state]);
	else if (state & OWNER_CHILD)
		snprintf(text, size, "in the hands of a child process");
	else if ((state & ~OWNER_HANDLER) >= STATE_OWNERS &&
		 (state & ~OWNER_HANDLER) < STATE_OWNERS + THREADS_MAX + 2)
		snprintf(text, size, "in the hands of %sthread %" PRIu64,
			 state & OWNER_HANDLER ? "the signal handler of " : "",
			 (state & ~OWNER_HANDLER) - STATE_OWNERS);
	else
		snprintf(text, size, "overwritten (%#" PRIx64 ")", state);
	return text;
}

__attribute__((noreturn)) static void
bad_state(const struct victim *victim, const struct stamp *object, const char *step, uint64_t state)
{
	char text[64];

	fault("cache %s: object %p is %s when %s", victim->spec->name, (const void *)object,
	      state_text(state, text, sizeof(text)), step);
}

static void write_body(struct victim *victim, struct stamp *object)
{
	unsigned words = body_words(victim), i;

	object->link = ~object->check;
	for (i = 0; i < words; i++)
		if (i < LOOK || i + LOOK >= words)
			body(object)[i] = object->check + i;
}

static void expect(struct victim *victim, struct stamp *object, enum kind kind, const char *step)
{
	unsigned words = body_words(victim), i;
	char text[64];

	if (object->check == check_of(victim, object, kind)) {
		for (i = 0; i < words; i++)
			if ((i < LOOK || i + LOOK >= words) && body(object)[i] != object->check + i)
				break;
		if (i == words && (kind == KIND_FREE || object->link == ~object->check))
			return;
		i = i == words ? 0 : (unsigned)sizeof(struct stamp) + i * 8;
	} else {
		i = offsetof(struct stamp, check);
	}
	fault("cache %s: object %p (%s) was written to at byte %u, seen when %s",
	      victim->spec->name, (void *)object,
	      state_text(load_relaxed(&object->state), text, sizeof(text)), i, step);
}

/* A free object from one that somebody has had. */
static void make_free(struct victim *victim, struct stamp *object)
{
	object->check = check_of(victim, object, KIND_FREE);
	write_body(victim, object);
}

void object_come(struct victim *victim, struct stamp *object)
{
	fetch_add_relaxed(&victim->out, 1);
	fetch_add_relaxed(&victim->come, 1);
	object->sequence = fetch_add_relaxed(&torture.sequences, 1) << 20;
	object->key = 0;
	store_relaxed(&object->state, STATE_FREE);
	make_free(victim, object);
}

void object_made(struct victim *victim, struct stamp *object)
{
	uint64_t state = load_relaxed(&object->state);

	if (state != STATE_FREE)
		bad_state(victim, object, "it is constructed", state);
	expect(victim, object, KIND_FREE, "it is constructed");
}

void object_go(struct victim *victim, struct stamp *object)
{
	uint64_t was = exchange_relaxed(&object->state, STATE_GONE);

	if (was == STATE_FREE)
		expect(victim, object, KIND_FREE, "it goes back to the backend");
	else if (was == STATE_RETIRED && !victim->spec->called)
		expect(victim, object, KIND_LIVE, "it goes back to the backend");
	else
		bad_state(victim, object, "it goes back to the backend", was);
	fetch_sub_relaxed(&victim->out, 1);
}

void object_take(struct victim *victim, struct stamp *object, uint64_t owner)
{
	uint64_t was = exchange_relaxed(&object->state, owner);

	if (was == STATE_FREE)
		expect(victim, object, KIND_FREE, "it is handed out");
	else if (was == STATE_RETIRED && !victim->spec->called)
		expect(victim, object, KIND_LIVE, "it is handed out");
	else
		bad_state(victim, object, "it is handed out", was);
	object->sequence++;
	object->key = 0;
	object->check = check_of(victim, object, KIND_LIVE);
	write_body(victim, object);
	fetch_add_relaxed(&torture.counts.handed_out, 1);
}

void object_free(struct victim *victim, struct stamp *object, uint64_t owner)
{
	uint64_t was = exchange_relaxed(&object->state, STATE_FREE);

	if (was != owner)
		bad_state(victim, object, "its owner frees it", was);
	expect(victim, object, KIND_LIVE, "its owner frees it");
	make_free(victim, object);
}

void object_retire(struct victim *victim, struct stamp *object, uint64_t owner)
{
	uint64_t was;

	expect(victim, object, KIND_LIVE, "its owner retires it");
	was = exchange_relaxed(&object->state, STATE_RETIRED);
	if (was != owner)
		bad_state(victim, object, "its owner retires it", was);
}

void object_ripe(struct victim *victim, struct stamp *object)
{
	uint64_t was = exchange_relaxed(&object->state, STATE_FREE);

	if (was != STATE_RETIRED)
		bad_state(victim, object, "it is said to be ripe", was);
	expect(victim, object, KIND_LIVE, "it is said to be ripe");
	make_free(victim, object);
}

void object_to_tree(struct victim *victim, struct stamp *object, uint64_t owner, uint64_t key)
{
	uint64_t was = exchange_relaxed(&object->state, STATE_TREE);

	if (was != owner)
		bad_state(victim, object, "its owner stores it in a tree", was);
	object->key = key;
}

void object_from_tree(struct victim *victim, struct stamp *object, uint64_t owner, uint64_t key)
{
	uint64_t was = exchange_relaxed(&object->state, owner);

	if (was != STATE_TREE)
		bad_state(victim, object, "a tree gives it back", was);
	if (object->key != key)
		fault("a tree gives object %p of key %#" PRIx64 " for key %#" PRIx64,
		      (void *)object, object->key, key);
}

/* Its writer may be taking it out: then somebody has it for a moment, and it will be retired. */
static bool readable(uint64_t state)
{
	return state != STATE_FREE && state != STATE_GONE;
}

uint64_t object_read(struct victim *victim, struct stamp *object, uint64_t key)
{
	uint64_t state = load_relaxed(&object->state);

	if (!readable(state))
		bad_state(victim, object, "a reader finds it in a tree", state);
	if (object->key != key)
		fault("a reader finds object %p of key %#" PRIx64 " at key %#" PRIx64,
		      (void *)object, object->key, key);
	expect(victim, object, KIND_LIVE, "a reader finds it in a tree");
	return object->sequence;
}

void object_read_again(struct victim *victim, struct stamp *object, uint64_t key, uint64_t seen)
{
	uint64_t state = load_relaxed(&object->state);

	if (!readable(state))
		bad_state(victim, object, "the read section that found it has not ended", state);
	if (object->sequence != seen || object->key != key)
		fault("cache %s: object %p was handed out again inside the read section that "
		      "found it",
		      victim->spec->name, (void *)object);
	expect(victim, object, KIND_LIVE, "the read section that found it has not ended");
}
