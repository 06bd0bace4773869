/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * sheaf-torture: what its files share.
 *
 *	sheaf-torture.c  options, rounds, the watchdog
 *	object.c         stamps: who has an object, and is it as it was left
 *	caches.c         the caches of a round, on backends that count
 *	source.c         grace-period sources and how threads read with them
 *	worker.c         threads, what they are asked to do, signal handlers
 *	cache_ops.c      operations on caches
 *	tree_ops.c       writes to trees
 *	tree_reads.c     what readers find in them, and copies
 *	disturb.c        disturbances
 *	report.c         faults, counts, memory
 *
 * A process tortures once, and signal handlers have to find all of it: hence one global struct.
 */
#ifndef TOOLS_TORTURE_H
#define TOOLS_TORTURE_H

#include <pthread.h>
#include <sheaf/cache.h>
#include <sheaf/gp.h>
#include <sheaf/tree.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/atomic.h"

#define CACHES 4
#define TREES 3
#define THREADS_MAX 256
/* Objects that a thread keeps of each cache, and its signal handler of all. */
#define HAND 64
#define HANDLER_HAND 16
/* A tree has this many places, of this many keys each. In the last one entries are of a place's first
 * key alone. */
#define CELLS 512
#define CELL_KEYS 16
#define POINTS (TREES - 1)
/* One place of so many is never empty, but entries replace each other there; and one is left alone. */
#define PLACES_KEPT 128
#define NODES 4

/* Disturbances; the order of their names in disturb.c. */
enum disturbance {
	DISTURB_FORK,
	DISTURB_SIGNALS,
	DISTURB_AFFINITY,
	DISTURB_SHRINK,
	DISTURB_CAPACITY,
	DISTURB_LIMITS,
	DISTURB_BUDGET,
	DISTURB_NODES,
	DISTURB_EXIT,
	DISTURB_CANCEL,
	DISTURBANCES
};

/* Faults that the tool makes itself, so that tests see it find them. */
enum plant {
	PLANT_NONE,
	PLANT_LOSE,   /* forgets an object */
	PLANT_TWICE,  /* lets the cache have an object that is in a hand */
	PLANT_WRITE,  /* writes to an object after it was freed */
	PLANT_EARLY,  /* frees what readers may hold without a grace period */
	PLANT_LEAK,   /* keeps memory, round by round */
	PLANT_LITTLE, /* of malloc(), less than pages tell */
	PLANT_HANG,   /* a thread that does not go on */
	PLANT_STUCK,  /* main() does not go on at the end of a round */
	PLANT_HOLE,   /* takes out of a tree what always is there, for a moment */
	PLANTS
};

struct options {
	uint64_t seconds;
	uint64_t rounds;
	uint64_t threads;
	uint64_t seed;
	uint64_t patience; /* seconds */
	unsigned slots;
	const char *source;
	bool slab;
	bool quiet;
	bool json;
	uint32_t disturb; /* bits by enum disturbance */
	enum plant plant;
};

/* The head of each object; the rest of it is a pattern. */
struct stamp {
	uint64_t link;     /* the library may chain free objects through it */
	uint64_t state;    /* relaxed: FREE, RETIRED, IN_TREE, GONE, or who has it */
	uint64_t sequence; /* one more each time it is handed out */
	uint64_t key;      /* its place, if it is in a tree */
	uint64_t check;    /* made of its address, sequence and kind */
};

enum { STATE_FREE = 1, STATE_RETIRED, STATE_TREE, STATE_GONE, STATE_OWNERS = 16 };
/* Who has it: a thread by its number, its signal handler, a child process. */
#define OWNER_HANDLER (UINT64_C(1) << 32)
#define OWNER_CHILD (UINT64_C(1) << 33)

struct spec {
	const char *name;
	uint32_t object_size;
	uint32_t capacity;
	uint32_t barn_limit;
	unsigned nodes;
	unsigned barns_per_node;
	bool called; /* has a callback over ripe objects */
	bool made;   /* has a constructor */
	bool driven; /* which is the driver's */
	bool tuned;
};

/* A cache of the round; its backend counts and stamps. */
struct victim {
	const struct spec *spec;
	struct sheaf_cache *cache;
	struct sheaf_backend below;
	uint64_t out;   /* objects that the cache has from its backend */
	uint64_t come;  /* that have ever come from there */
	uint64_t made;  /* that the constructor has seen */
	uint64_t ended; /* backends that were destroyed */
};

/* Things asked of a worker between two operations. */
#define ASK_FORK 1u
#define ASK_EXIT 2u

struct worker {
	unsigned number;
	uint64_t random;
	uint64_t handler_random;
	pthread_t thread;
	bool running;      /* the disturber's */
	uint32_t left;     /* the thread is about to end: atomic */
	uint32_t asked;    /* atomic bits */
	uint32_t handling; /* signals are welcome */
	bool inside;       /* in an operation; the thread's */
	bool refused;      /* that did not do what it is for */
	uint64_t overused; /* strict sheaves of which it wanted too much */
	uint32_t place;    /* injected; atomic */
	/* For the watchdog, atomic. */
	const char *doing;
	const char *with;
	uint64_t since_ms; /* by the watchdog's clock */
	uint64_t steps;
	/* Of the thread, or of main() while there is none. */
	struct stamp *hand[CACHES][HAND];
	unsigned n[CACHES];
	struct stamp *handler_hand[HANDLER_HAND];
	unsigned char handler_cache[HANDLER_HAND];
	unsigned handler_n;
	void *record; /* the source's */
	bool reads;
};

struct counts {
	uint64_t operations;
	uint64_t handed_out;
	uint64_t refused;
	uint64_t read_sections;
	uint64_t objects_read;
	uint64_t handlers;
	uint64_t children;
	uint64_t threads_made;
	uint64_t disturbances[DISTURBANCES];
};

struct torture {
	struct options options;
	uint32_t stop;
	uint32_t disturber_stop;
	unsigned round;
	struct sheaf_gp *gp;
	struct victim victims[CACHES];
	struct sheaf_cache *nodes;
	struct sheaf_tree *trees[TREES];
	struct worker workers[THREADS_MAX];
	struct worker disturber;
	uint64_t sequences;
	uint32_t planted;
	bool child;
	pid_t pid; /* main()'s */
	struct counts counts;
	uint64_t begun_ms;
	/* The watchdog's clock, atomic: stands still while the whole machine does. */
	uint64_t watched_ms;
};

extern struct torture torture;

/* The calling thread's worker; NULL in others. */
extern __thread struct worker *self;

static inline uint64_t random_next(uint64_t *state)
{
	uint64_t x = *state;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	*state = x;
	return x * UINT64_C(0x2545f4914f6cdd1d);
}

static inline unsigned random_below(uint64_t *state, unsigned n)
{
	return (unsigned)((random_next(state) >> 33) % n);
}

/* A seed for stream number n, never 0. */
uint64_t random_stream(uint64_t seed, uint64_t n);

/* Is this disturbance wanted? */
static inline bool disturbed(enum disturbance d)
{
	return torture.options.disturb >> d & 1;
}

/* True for one caller, once per run, if this is what is planted. */
bool plant_now(enum plant plant);

/* object.c; all end the run if something is wrong. */
void object_come(struct victim *victim, struct stamp *object);
void object_go(struct victim *victim, struct stamp *object);
/* In the constructor: it has come, and nobody had it. */
void object_made(struct victim *victim, struct stamp *object);
void object_take(struct victim *victim, struct stamp *object, uint64_t owner);
void object_free(struct victim *victim, struct stamp *object, uint64_t owner);
void object_retire(struct victim *victim, struct stamp *object, uint64_t owner);
void object_ripe(struct victim *victim, struct stamp *object);
void object_to_tree(struct victim *victim, struct stamp *object, uint64_t owner, uint64_t key);
void object_from_tree(struct victim *victim, struct stamp *object, uint64_t owner, uint64_t key);
/* Inside a read section: what a reader sees of an object of a tree; and it is the same later. */
uint64_t object_read(struct victim *victim, struct stamp *object, uint64_t key);
void object_read_again(struct victim *victim, struct stamp *object, uint64_t key, uint64_t seen);

/* caches.c; victims_begin() gives 0 or -errno, and what failed. */
int victims_begin(const char **what);
void victims_end(void);
/* Where the injected topology says that the caller is. */
int victim_place(void *victim);

/* source.c */
bool source_known(const char *name);
int source_begin(void);
void source_end(void);
void source_thread_begin(struct worker *w);
void source_thread_end(struct worker *w);
/* Between two operations, and round what may block for long. */
void source_quiescent(void);
void source_offline(void);
void source_online(void);
/* Read sections of the source, for workers. */
void source_read_lock(void);
void source_read_unlock(void);
/* main() calls it now and then: manual sources are stepped. */
void source_tend(void);
/* In a child: do grace periods end there? */
bool source_ends_in_child(void);
bool source_by_hand(void);
void source_child(void);

/* worker.c */
bool worker_start(struct worker *w);
void worker_note(struct worker *w, const char *doing, const char *with);
void workers_install_handler(void);
uint64_t worker_owner(const struct worker *w);

/* cache_ops.c: all take a worker that is the caller's. */
struct operation {
	const char *name;
	void (*run)(struct worker *w);
	unsigned weight;
	uint64_t done; /* how often it did what it is for; atomic */
};
extern struct operation cache_operations[];
extern struct operation tree_operations[];
/* In an operation: what it wants is not to be had, as memory, a gap, or a moment without writers. */
static inline void refused(struct worker *w)
{
	w->refused = true;
}
void hand_empty(struct worker *w, unsigned c);
void hand_empty_all(struct worker *w);
struct stamp *victim_alloc(struct worker *w, unsigned c);
void victim_retire(struct worker *w, struct victim *victim, struct stamp *object);
/* In a child of fork(): uses the caches, does not return. */
__attribute__((noreturn)) void child_run(struct worker *w);

/* tree_ops.c */
int trees_begin(void);
void trees_end(void);
struct sheaf_tree *any_tree(struct worker *w);
uint64_t any_key(struct worker *w);
/* Of a place that is never empty, and written to. */
uint64_t any_kept_key(struct worker *w);
static inline uint64_t cell_of(uint64_t key)
{
	return key - key % CELL_KEYS;
}
/* The last key of an entry whose place begins with this key. */
static inline uint64_t last_of(const struct sheaf_tree *tree, uint64_t key)
{
	return tree == torture.trees[POINTS] ? key : key + CELL_KEYS - 1;
}
static inline bool key_still(uint64_t key)
{
	return key / CELL_KEYS % PLACES_KEPT == PLACES_KEPT / 2 - 1;
}
static inline bool key_kept(uint64_t key)
{
	return key / CELL_KEYS % PLACES_KEPT == PLACES_KEPT - 1 || key_still(key);
}

/* tree_reads.c */
void trees_read(struct worker *w, unsigned loads);
void do_walk(struct worker *w);
void do_read(struct worker *w);
void do_gap_rcu(struct worker *w);
void do_snapshot(struct worker *w);
void do_copy(struct worker *w);

/*
 * disturb.c; happened() counts what has, by any thread or handler; all_happened(): every one that is
 * wanted, since the counts were before[].
 */
void happened(enum disturbance d);
bool all_happened(const uint64_t *before);
int disturbance_named(const char *name, size_t length);
const char *disturbance_name(unsigned d);
uint32_t disturbances_possible(void);
void *disturber_run(void *arg);
void disturber_undo(void);
/* Joins workers that have left and makes new ones; all: every one, and no new ones. */
void disturber_join(bool all);

/* report.c */
__attribute__((noreturn, format(printf, 1, 2))) void fault(const char *format, ...);
void report_crashes(void);
void report_threads(int fd);
void report_result(void);
uint64_t now_ms(void);
/* After each round, with nothing alive: ends the run if memory grows. */
void report_memory(void);

#endif
