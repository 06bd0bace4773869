/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

#include "hands.h"

#include "base/atomic.h"
#include "cache_state.h"
#include "common.h"

#include <stdlib.h>

#define HAND_OBJECTS 16
#define HAND_SHEAVES 3
/* Room behind each sheaf, for mutants. */
#define SHEAF_BYTES 512
/* A hand per thread, one per handler, and the remote party's. */
#define HANDS (2 * STORM_THREADS + 1)
#define REMOTE (HANDS - 1)
#define SHEAVES (HANDS - 1 + 3 * STORM_CPUS)
/* For each sheaf, in it or in a hand. */
#define SHARE 16
#define OBJECTS (SHARE * SHEAVES)

/* Stamps: in a slot, or in a sheaf; else 1 and the number of a hand. */
enum { PLACED = 0, COLLECTED = UINT32_MAX };

struct object {
	uint32_t owner;
};

struct hand {
	uint32_t stamp;
	bool nowait;
	uint64_t state;
	uint32_t objects;
	struct object *object[HAND_OBJECTS];
	uint32_t sheaves;
	struct sheaf *sheaf[HAND_SHEAVES];
	/* As the owner left it. */
	uint32_t size[HAND_SHEAVES];
	/* Outcomes of the section. */
	uint64_t did[4];
	uint64_t turns;
} __attribute__((aligned(128)));

static struct sheaf_cache *cache;
static struct object objects[OBJECTS];
static char sheaf_memory[SHEAVES][SHEAF_BYTES] __attribute__((aligned(64)));
static uint32_t sheaf_owner[SHEAVES];
static struct hand hands[HANDS];
static enum section hammered;
static bool stepped;
static bool signalled;

unsigned take_over_fences;

#define BIT(section) (1u << (section))

/* What keeps a section going. */
static const struct {
	const char *name;
	enum slot_op op;
	unsigned partners;
} sections[SECTIONS] = {
	[POP] = {"pop", SLOT_POP_MANY, BIT(PUSH)},
	[PUSH] = {"push", SLOT_PUSH_MANY, BIT(POP)},
	[PUSH_RCU] = {"push rcu", SLOT_PUSH_RCU, BIT(INSTALL_RCU)},
	[POP_MANY] = {"pop many", SLOT_POP_MANY, BIT(PUSH_MANY) | BIT(PUSH)},
	[PUSH_MANY] = {"push many", SLOT_PUSH_MANY, BIT(POP_MANY) | BIT(POP)},
	[SWAP] = {"swap", SLOT_SWAP, BIT(POP) | BIT(PUSH) | BIT(INSTALL_SPARE)},
	[SWAP_FILLED] = {"swap filled", SLOT_SWAP_FILLED,
			 BIT(POP) | BIT(PUSH) | BIT(SWAP) | BIT(INSTALL_SPARE)},
	[SWAP_ROOMY] = {"swap roomy", SLOT_SWAP_ROOMY,
			BIT(POP) | BIT(PUSH) | BIT(SWAP) | BIT(INSTALL_SPARE)},
	[INSTALL_SPARE] = {"install spare", SLOT_INSTALL, BIT(POP) | BIT(PUSH) | BIT(SWAP)},
	[INSTALL_SPARE_IF_EMPTY] = {"install spare if empty", SLOT_INSTALL_IF_EMPTY,
				    BIT(POP_MANY) | BIT(PUSH) | BIT(SWAP) | BIT(INSTALL_SPARE)},
	[INSTALL_RCU] = {"install rcu", SLOT_INSTALL_RCU, BIT(PUSH_RCU)},
	[INSTALL_RCU_IF_FULL] = {"install rcu if full", SLOT_INSTALL_RCU_FULL,
				 BIT(PUSH_RCU) | BIT(INSTALL_RCU)},
};

const char *section_name(enum section section)
{
	return sections[section].name;
}

bool section_stops(enum section section)
{
	return section >= SWAP;
}

enum slot_op section_op(enum section section)
{
	return sections[section].op;
}

enum slot_did section_do(const struct cpu_slots *cpus, enum section section, struct slot_io *io)
{
	struct sheaf *sheaf = io->sheaf ? io->sheaf : &sheaf_none, *was = &sheaf_none;
	enum slot_did did = SLOT_AWAY;

	switch (section) {
	case POP:
		return cpu_pop(cpus, &io->objects[0]);
	case PUSH:
		return cpu_push(cpus, io->objects[0]);
	case PUSH_RCU:
		return cpu_push_rcu(cpus, io->objects[0]);
	case POP_MANY:
		return cpu_pop_many(cpus, &io->n, io->objects);
	case PUSH_MANY:
		return cpu_push_many(cpus, &io->n, io->objects);
	case SWAP:
		return cpu_swap(cpus);
	case SWAP_FILLED:
		return cpu_swap_filled(cpus);
	case SWAP_ROOMY:
		return cpu_swap_roomy(cpus);
	case INSTALL_SPARE:
		did = cpu_install_spare(cpus, sheaf, &was);
		break;
	case INSTALL_SPARE_IF_EMPTY:
		did = cpu_install_spare_if_empty(cpus, sheaf, &was);
		break;
	case INSTALL_RCU:
		did = cpu_install_rcu(cpus, sheaf, &was);
		break;
	case INSTALL_RCU_IF_FULL:
		did = cpu_install_rcu_if_full(cpus, sheaf, &was);
		break;
	case SECTIONS:
		break;
	}
	if (did == SLOT_DID)
		io->sheaf = sheaf_is_none(was) ? NULL : was;
	return did;
}

/* From one owner to another. */
static void pass(uint32_t *owner, uint32_t from, uint32_t to)
{
	if (exchange_acq_rel(owner, to) != from)
		storm_fault(FAULT_DOUBLED);
}

static void pass_object(struct object *object, uint32_t from, uint32_t to)
{
	if (object < objects || object >= objects + OBJECTS)
		storm_fault(FAULT_CHANGED);
	else
		pass(&object->owner, from, to);
}

static unsigned sheaf_number(const struct sheaf *sheaf)
{
	return (unsigned)(((const char *)sheaf - sheaf_memory[0]) / SHEAF_BYTES);
}

static void pass_sheaf(struct sheaf *sheaf, uint32_t from, uint32_t to)
{
	if (sheaf_number(sheaf) >= SHEAVES)
		storm_fault(FAULT_CHANGED);
	else
		pass(&sheaf_owner[sheaf_number(sheaf)], from, to);
}

static void check_size(const struct sheaf *sheaf, uint32_t size)
{
	if (load_relaxed(&sheaf->size) != size)
		storm_fault(FAULT_CHANGED);
}

static void hand_add(struct hand *h, struct sheaf *sheaf)
{
	h->size[h->sheaves] = load_relaxed(&sheaf->size);
	h->sheaf[h->sheaves++] = sheaf;
}

/* Works on a sheaf as its owner: nobody else changes it. Fills or empties it, or begins to. */
static void knead(struct hand *h)
{
	uint32_t most = (uint32_t)test_below(&h->state, HAND_OBJECTS), i;
	struct sheaf *sheaf;

	if (!h->sheaves)
		return;
	i = (uint32_t)test_below(&h->state, h->sheaves);
	sheaf = h->sheaf[i];
	check_size(sheaf, h->size[i]);
	if (test_below(&h->state, 2)) {
		for (; most && h->objects && !sheaf_full(sheaf); most--) {
			pass_object(h->object[--h->objects], h->stamp, PLACED);
			sheaf_push(sheaf, h->object[h->objects]);
		}
	} else {
		for (; most && h->objects < HAND_OBJECTS && !sheaf_empty(sheaf); most--) {
			h->object[h->objects] = sheaf_pop(sheaf);
			pass_object(h->object[h->objects++], PLACED, h->stamp);
		}
	}
	h->size[i] = sheaf->size;
}

static enum slot_did attempt(struct hand *h, enum section section, struct slot_io *io)
{
	/* Who is stepped gets out by slot_do() only; pop and push try by themselves first. */
	bool alone = stepped ? section == POP || section == PUSH : test_below(&h->state, 4) != 0;
	enum slot_did did = alone ? section_do(&cache->cpus, section, io) : SLOT_ABORTED;

	if (!alone || (stepped && did == SLOT_ABORTED))
		did = slot_do(cache, section_op(section), h->nowait, io);
	if (section == hammered)
		store_relaxed(&h->did[did], h->did[did] + 1);
	return did;
}

static void pop_some(struct hand *h, enum section section)
{
	uint32_t most = HAND_OBJECTS - h->objects, asked, i;
	struct slot_io io = {.objects = (void **)&h->object[h->objects]};

	if (!most)
		return;
	asked = io.n = section == POP ? 1 : 1 + (uint32_t)test_below(&h->state, most);
	if (attempt(h, section, &io) != SLOT_DID)
		return;
	if (!io.n || io.n > asked) {
		storm_fault(FAULT_CONDITION);
		return;
	}
	for (i = 0; i < io.n; i++)
		pass_object(h->object[h->objects++], PLACED, h->stamp);
}

static void push_some(struct hand *h, enum section section)
{
	uint32_t first, asked, i;
	struct object *rest[HAND_OBJECTS];
	struct slot_io io;

	if (!h->objects)
		return;
	asked = section == PUSH_MANY ? 1 + (uint32_t)test_below(&h->state, h->objects) : 1;
	first = h->objects - asked;
	for (i = 0; i < asked; i++) {
		rest[i] = h->object[first + i];
		pass_object(rest[i], h->stamp, PLACED);
	}
	io = (struct slot_io){.n = asked, .objects = (void **)rest};
	i = attempt(h, section, &io) == SLOT_DID ? io.n : 0;
	if (i > asked)
		storm_fault(FAULT_CONDITION);
	/* Those that did not go. */
	for (h->objects = first; i < asked; i++) {
		pass_object(rest[i], PLACED, h->stamp);
		h->object[h->objects++] = rest[i];
	}
}

/* Puts a sheaf in, or takes one out. */
static void install(struct hand *h, enum section section)
{
	bool out = !h->sheaves || (h->sheaves < HAND_SHEAVES && !test_below(&h->state, 4));
	struct slot_io io = {.sheaf = out ? NULL : h->sheaf[h->sheaves - 1]};
	struct sheaf *sheaf = io.sheaf;

	if (sheaf) {
		check_size(sheaf, h->size[--h->sheaves]);
		pass_sheaf(sheaf, h->stamp, PLACED);
	}
	if (attempt(h, section, &io) == SLOT_DID) {
		sheaf = io.sheaf;
		if (sheaf && ((section == INSTALL_SPARE_IF_EMPTY && !sheaf_empty(sheaf)) ||
			      (section == INSTALL_RCU_IF_FULL && !sheaf_full(sheaf))))
			storm_fault(FAULT_CONDITION);
	}
	if (sheaf) {
		pass_sheaf(sheaf, PLACED, h->stamp);
		hand_add(h, sheaf);
	}
}

static void work_on(struct hand *h, enum section section)
{
	struct slot_io io = {0};

	switch (section) {
	case POP:
	case POP_MANY:
		pop_some(h, section);
		break;
	case PUSH:
	case PUSH_MANY:
	case PUSH_RCU:
		push_some(h, section);
		break;
	case SWAP:
	case SWAP_FILLED:
	case SWAP_ROOMY:
		attempt(h, section, &io);
		break;
	default:
		install(h, section);
	}
}

/* The section, or something that keeps it going. */
static void work_hand(struct hand *h)
{
	unsigned partners = sections[hammered].partners, n;

	if (!test_below(&h->state, 4))
		knead(h);
	if (test_below(&h->state, 2)) {
		work_on(h, hammered);
		return;
	}
	for (n = (unsigned)test_below(&h->state, (uint64_t)__builtin_popcount(partners)); n; n--)
		partners &= partners - 1;
	work_on(h, (enum section)__builtin_ctz(partners));
}

static void work(unsigned me)
{
	work_hand(&hands[me]);
}

static void interrupt(unsigned me)
{
	work_hand(&hands[STORM_THREADS + me]);
}

static struct slot_sheaves *held(unsigned i)
{
	return &cache->cpus.slots[storm_cpu[i % storm_cpus]].held;
}

/* For as long as a few sequences, or not at all. */
static void dawdle(struct hand *h)
{
	uint64_t n;

	for (n = test_below(&h->state, 2) * test_below(&h->state, 10000); n; n--)
		store_relaxed(&h->turns, n);
}

/* The sheaves of a list are the remote party's: takes each object out, and puts it back. */
static void keep_for_a_while(struct hand *h, struct sheaf *list, unsigned expected)
{
	struct sheaf *sheaf;
	uint32_t i, n = 0, size[3 * STORM_CPUS];

	for (sheaf = list; sheaf && n < expected; sheaf = sheaf->link) {
		pass_sheaf(sheaf, PLACED, h->stamp);
		size[n] = load_relaxed(&sheaf->size);
		for (i = 0; i < size[n]; i++)
			pass_object(sheaf->objects[i], PLACED, h->stamp);
		n++;
	}
	if (sheaf || n != expected)
		storm_fault(FAULT_LOST);
	dawdle(h);
	for (n = 0, sheaf = list; sheaf && n < expected; sheaf = sheaf->link) {
		check_size(sheaf, size[n]);
		for (i = 0; i < size[n]; i++)
			pass_object(sheaf->objects[i], h->stamp, PLACED);
		pass_sheaf(sheaf, h->stamp, PLACED);
		n++;
	}
}

/* While they are stopped: main last, as pops and pushes go on. */
static void put_back(unsigned i, const struct slot_sheaves *sheaves, unsigned parts)
{
	if (parts & PART_RCU)
		store_release(&held(i)->rcu, sheaves->rcu);
	if (parts & PART_ALLOC) {
		held(i)->pair[0] = sheaves->pair[0];
		held(i)->pair[1] = sheaves->pair[1];
		store_release(&held(i)->main, sheaves->main);
	}
}

/* C2 of slot_cpu.h. What was on one CPU comes back on the next. */
static void take_over(void)
{
	struct hand *h = &hands[REMOTE];
	unsigned parts = 1 + (unsigned)test_below(&h->state, PART_RCU | PART_ALLOC), i;
	struct slot_sheaves seen[STORM_CPUS];
	unsigned expected = 0;

	pthread_mutex_lock(&cache->remote_lock);
	take_over_fences = 0;
	slots_stop(cache, PART_RCU | PART_ALLOC);
	for (i = 0; i < storm_cpus; i++) {
		seen[i] = *held(i);
		if (parts & PART_RCU)
			expected += !sheaf_is_none(seen[i].rcu);
		if (parts & PART_ALLOC)
			expected +=
				!sheaf_is_none(seen[i].pair[0]) + !sheaf_is_none(seen[i].pair[1]);
	}
	if (slots_count(cache).objects > OBJECTS)
		storm_fault(FAULT_CHANGED);
	/* Pops and pushes go on. */
	dawdle(h);
	keep_for_a_while(h, slots_collect(cache, parts), expected);
	for (i = 0; i < storm_cpus; i++)
		put_back(i + 1, &seen[i], parts);
	slots_go(cache);
	pthread_mutex_unlock(&cache->remote_lock);
}

static uint64_t outcomes(enum slot_did did)
{
	uint64_t n = 0;
	unsigned i;

	for (i = 0; i < HANDS; i++)
		n += load_relaxed(&hands[i].did[did]);
	return n;
}

/* The section did, and what disturbs had an effect. */
static bool enough(void)
{
	if (outcomes(SLOT_DID) < 100)
		return false;
	if (load_relaxed(&storm_now->refused))
		return true;
	if (signalled && !outcomes(SLOT_ABORTED) && !load_relaxed(&cache->aborts))
		return false;
	/* A call went from end to end under the tracer's hands, and round the slot. */
	return !stepped ||
	       (load_relaxed(&storm_now->stepped_calls) && load_relaxed(&hands[0].did[SLOT_AWAY]));
}

/*
 * A sheaf with half as many objects as it can hold; of the rest some go to a hand, if any. Most are
 * small; some cannot be filled in the time of a fence.
 */
static struct sheaf *deal(unsigned number, struct hand *h)
{
	uint32_t capacity = number % 3 ? 2 + number % 4 : 24;
	struct sheaf *sheaf = sheaf_init(sheaf_memory[number], capacity);
	unsigned i;

	for (i = SHARE * number; i < SHARE * (number + 1); i++) {
		if (sheaf->size < sheaf->capacity / 2) {
			sheaf_push(sheaf, &objects[i]);
		} else if (h && h->objects < HAND_OBJECTS / 2) {
			objects[i].owner = h->stamp;
			h->object[h->objects++] = &objects[i];
		} else {
			objects[i].owner = COLLECTED;
		}
	}
	return sheaf;
}

static void deal_hands(uint64_t seed)
{
	unsigned i;

	for (i = 0; i < HANDS; i++) {
		struct hand *h = &hands[i];

		h->stamp = 1 + i;
		h->nowait = i >= STORM_THREADS;
		h->state = seed + i;
		if (i == REMOTE)
			continue;
		sheaf_owner[i] = h->stamp;
		hand_add(h, deal(i, h));
	}
}

static uint64_t seed_of_storm;

static bool begin(void)
{
	const struct sheaf_cache_attr attr = {
		.size = sizeof(attr), .object_size = 64, .slots = SHEAF_SLOTS_CPU};
	unsigned i, number = HANDS - 1;

	if (sheaf_cache_create(&cache, &attr) || !cache->cpus.n)
		return false;
	deal_hands(seed_of_storm);
	for (i = 0; i < storm_cpus; i++) {
		struct slot_sheaves *sheaves = held(i);

		sheaves->main = sheaves->pair[i % 2] = deal(number++, NULL);
		sheaves->pair[!(i % 2)] = deal(number++, NULL);
		sheaves->rcu = deal(number++, NULL);
	}
	/* Objects and sheaves that nobody got are not missing at the end. */
	for (; number < SHEAVES; number++) {
		sheaf_owner[number] = COLLECTED;
		for (i = SHARE * number; i < SHARE * (number + 1); i++)
			objects[i].owner = COLLECTED;
	}
	return true;
}

static void collect_sheaf(struct sheaf *sheaf, uint32_t owner)
{
	uint32_t i;

	if (sheaf_is_none(sheaf))
		return;
	pass_sheaf(sheaf, owner, COLLECTED);
	if (!sheaf_check(sheaf))
		storm_fault(FAULT_CHANGED);
	for (i = 0; i < sheaf->size && i < sheaf->capacity; i++)
		pass_object(sheaf->objects[i], PLACED, COLLECTED);
}

static void collect_hand(struct hand *h)
{
	uint32_t i;

	for (i = 0; i < h->objects; i++)
		pass_object(h->object[i], h->stamp, COLLECTED);
	for (i = 0; i < h->sheaves; i++) {
		check_size(h->sheaf[i], h->size[i]);
		collect_sheaf(h->sheaf[i], h->stamp);
	}
}

static void end(void)
{
	unsigned i;

	if (!slots_check(cache) || sheaf_none.size || sheaf_none.capacity)
		storm_fault(FAULT_CHANGED);
	for (i = 0; i < cache->cpus.n; i++) {
		struct slot_sheaves *sheaves = &cache->cpus.slots[i].held;

		collect_sheaf(sheaves->pair[0], PLACED);
		collect_sheaf(sheaves->pair[1], PLACED);
		collect_sheaf(sheaves->rcu, PLACED);
		sheaves->main = sheaves->rcu = sheaves->pair[0] = sheaves->pair[1] = &sheaf_none;
	}
	for (i = 0; i < HANDS; i++)
		collect_hand(&hands[i]);
	for (i = 0; i < 4; i++)
		storm_now->counts[COUNT_OUTCOMES + i] = outcomes((enum slot_did)i);
	for (i = 0; i < OBJECTS; i++)
		if (objects[i].owner != COLLECTED)
			storm_fault(FAULT_LOST);
	for (i = 0; i < SHEAVES; i++)
		if (sheaf_owner[i] != COLLECTED)
			storm_fault(FAULT_LOST);
	storm_now->counts[COUNT_ABORTS] = cache->aborts;
	storm_now->counts[COUNT_ROUND] = hands[0].did[SLOT_AWAY];
	if (!storm_now->all_faults && sheaf_cache_destroy(cache, NULL))
		storm_fault(FAULT_LOST);
}

struct storm hands_storm(enum section section, unsigned disturbances, unsigned ms, uint64_t seed)
{
	hammered = section;
	stepped = disturbances & STORM_STEPS;
	signalled = disturbances & STORM_SIGNALS;
	seed_of_storm = seed;
	return (struct storm){
		.threads = STORM_THREADS,
		.disturbances = disturbances,
		.ms = ms,
		.seed = seed,
		.begin = begin,
		.work = work,
		.interrupt = interrupt,
		.take_over = take_over,
		.enough = enough,
		.end = end,
	};
}
