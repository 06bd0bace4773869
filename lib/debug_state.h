/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * What debug mode keeps of each object, and the steps that its files share.
 *
 *	debug.c          making and ending it; objects that come and go
 *	debug_check.c    patterns in free objects and red zones
 *	debug_guard.c    sampled objects on pages of their own
 *	debug_object.c   the book of all objects: found by address
 *	debug_report.c   reports
 *	debug_words.c    SHEAF_DEBUG
 *
 *	block  |-- front --|---- object (size) ----|-- back --|
 *
 * A block is what the backend gives, an object what the user has. front and back are red zones, 0 where
 * there are none. A sampled allocation takes a block as any other does, and hands out an object on
 * guarded pages in its stead; the block goes the way of the object through sheaves and recyclers.
 *
 * Invariants:
 *  D1  Each block that the cache has from its backend has an entry of this cache in the book, under the address
 *      of its object, with state FREE in sheaves, barns and quarantine; OUT or RETIRED; or LENT while
 *      a guarded object is OUT or RETIRED for it. Then block and guard know each other. While it comes,
 *      constructor and all, it is COMING, so that a backend which gives it twice in one call is found.
 *  D2  Who changes a state by compare-and-swap from OUT is the only one to give the object
 *      back. Whoever loses reports and does nothing.
 *  D3  Entries stay for good: state GONE while the backend has the memory. So a pointer that is freed may be
 *      anything, and nothing is read at it before the book has said whose it is.
 *  D4  Owner and state are one word, `whose`. It is written by the owner alone, but where it says GONE:
 *      then whoever's the address is next may take the entry, by compare-and-swap (acquire; partner the store
 *      of GONE), and an owner that ends takes his name off in the same way. So nobody changes an
 *      entry that has become another's, however late he comes, and who reads the word
 *      has an owner and a state that belong together.
 *  D5  Owners stay for good as well, with their names (release: each store of `whose`; acquire: who reads a
 *      name that it leads to). A cache that ends gives its owner back, to be that of a later cache of the same
 *      name; none of the entries say so by then. So a name can be read at any time.
 *  D6  One address may be several caches' at once, for a backend may use a cache: its entries are a stack. What
 *      is had from a cache is entered while the cache has it, and gone before, so that those which are
 *      not GONE are the lowest ones, and the last of them is the innermost: whose the object is
 *      that the user sees.
 */
#ifndef DEBUG_STATE_H
#define DEBUG_STATE_H

#include <sheaf/debug.h>

#include "base/atomic.h"
#include "cache_state.h"

/* The most that the attribute and SHEAF_DEBUG may ask for. A process may have 65,530 mappings, and each guard has three of
 * them. */
#define QUARANTINE_MAX (UINT32_C(1) << 20)
#define GUARDS_MAX 16384

enum object_state {
	OBJECT_GONE,
	OBJECT_FREE,
	OBJECT_OUT,
	OBJECT_RETIRED,
	OBJECT_LENT,
	OBJECT_COMING
};

enum { BYTE_FREE = 0xf5, BYTE_FRESH = 0xa5, BYTE_ZONE = 0xb7 };

struct debug;

/* A cache with debug mode, as entries know it (D5). */
struct debug_owner {
	/* Fixed. */
	struct debug_owner *next;
	char name[sizeof(((struct sheaf_cache *)0)->name)];
	/* Is it a cache's? */
	uint32_t used;
	/* The cache's id and one; 0 as long as it has none. For reports: relaxed. */
	uint32_t number;
};

/* An entry of the book. */
struct debug_object {
	/* Fixed. */
	void *object;
	struct debug_object *next;
	/* The next one of this address, once there is one (D6). */
	struct debug_object *above;
	/* The owner, and in the lowest bits enum object_state (D4); from OUT by compare-and-swap (D2). */
	uintptr_t whose;
	/* Written by who has the object, read by who reports: relaxed. */
	uint32_t front;
	uint32_t back;
	size_t size;
	/* Bytes around it where nothing else can be: the red zones, or the rest of the pages of a guarded object. */
	size_t before;
	size_t behind;
	struct debug_guard *place;  /* of a guarded object */
	void *block;                /* of a guarded object: the block that it is out for */
	struct debug_object *guard; /* of a block: the guarded object that is out for it */
	uint64_t sum;
	struct sheaf_debug_trace got;
	struct sheaf_debug_trace gave;
};

enum guard_state { GUARD_NONE, GUARD_FREE, GUARD_USED };

struct debug_guard {
	uint32_t state; /* enum guard_state */
	char *pages;    /* the first one that can be accessed */
	struct debug_object *object;
};

struct debug {
	/* Fixed. */
	struct sheaf_cache *cache;
	struct debug_owner *owner;
	size_t size;
	size_t align;
	unsigned flags;
	uint32_t front;
	uint32_t back;
	uint32_t sample;
	uint32_t fail;
	uint64_t seed;
	sheaf_debug_report_fn *report;
	void *report_arg;
	/* What is freed comes in at the next place, and pushes out who was there. */
	void **quarantine;
	uint32_t quarantine_n;
	/* One after another; relaxed. */
	uint64_t quarantined;
	uint64_t allocations;
	uint64_t calls;
	/* Sampled objects. */
	struct debug_guard *guards;
	uint32_t guards_n;
	uint32_t guard_next;
	size_t guard_bytes;
};

#define STATE_BITS ((uintptr_t)7)
static_assert(OBJECT_COMING <= STATE_BITS, "an owner is aligned to 8 bytes");

static inline uintptr_t whose_word(const struct debug_owner *owner, enum object_state state)
{
	return (uintptr_t)owner | (uintptr_t)state;
}

static inline const struct debug_owner *whose_owner(uintptr_t whose)
{
	return (const struct debug_owner *)(whose & ~STATE_BITS);
}

static inline enum object_state whose_state(uintptr_t whose)
{
	return (enum object_state)(whose & STATE_BITS);
}

/* acquire: D5 */
static inline const struct debug_owner *object_owner(const struct debug_object *o)
{
	return whose_owner(load_acquire(&o->whose));
}

static inline enum object_state object_state(const struct debug_object *o)
{
	return whose_state(load_acquire(&o->whose));
}

/* By its owner. release: D5; and of GONE, D4; and of FREE after COMING, for the CAS of a free (D2), which must
 * not meet an object that is half made. */
static inline void object_turn(struct debug_object *o, const struct debug *d,
			       enum object_state state)
{
	store_release(&o->whose, whose_word(d->owner, state));
}

/* Owners. take: NULL without memory; lock-free. */
struct debug_owner *owner_take(const char *name);
void owner_give(struct debug_owner *owner);
/* One with the low half of this id, as lent sheaves have it, or NULL. Wait-free. */
const struct debug_owner *owner_find(uint16_t id);

/* Entries by address; wait-free. find: the innermost one, or one that is GONE, or NULL. find_of: the owner's, if he has
 * the object, or had it last; else as find. around: the innermost one whose object, zones included, the
 * address is in. at: that of the object which begins there, else one around it. first: to walk all. */
struct debug_object *object_find(const void *object);
struct debug_object *object_find_of(const void *object, const struct debug_owner *owner);
struct debug_object *object_around(const void *address);
struct debug_object *object_at(const void *address);
struct debug_object *object_first(void);

/* New ones; lock-free; NULL without memory. make: the lowest one of an address, found or new. take: the
 * object is the owner's, *taken, and COMING from here on; if he has it already, the entry that says so. */
struct debug_object *object_make(void *object);
struct debug_object *object_take(void *object, const struct debug_owner *owner, bool *taken);

/* All that an owner has, or had, is nobody's and GONE. */
void objects_leave(const struct debug_owner *owner);

/* The address as the book has it. One to one: an odd factor, and a shift that can be taken back. */
static inline uint64_t object_bits(const void *object)
{
	uint64_t x = (uint64_t)(uintptr_t)object * UINT64_C(0x9e3779b97f4a7c15);

	return x ^ x >> 32;
}

static inline struct debug_object *object_of(const struct debug *d, void *block)
{
	return object_find_of((char *)block + d->front, d->owner);
}

/* Relaxed all over: who reports reads what another may write. */
void trace_copy(struct sheaf_debug_trace *to, const struct sheaf_debug_trace *from);

/* The chain of calls from caller on; caller alone without SHEAF_DEBUG_TRACE. */
void trace_here(const struct debug *d, struct sheaf_debug_trace *trace, const void *caller);

/* What an entry that was taken says besides. */
void object_begin(const struct debug *d, struct debug_object *o, uint32_t front, uint32_t back);

/* In a child. */
void debug_fork_child(void);

/* Around each look at, or write to, the memory of an object that is not the user's. */
void object_open(const struct debug *d, const struct debug_object *o);
void object_close(const struct debug *d, const struct debug_object *o);

/* Inside: red zones and pattern as they should be; and if not, report, and mend the zones. */
void zones_fill(const struct debug *d, const struct debug_object *o);
void zones_check(struct debug *d, struct debug_object *o, const struct sheaf_debug_trace *here,
		 bool nowait);
void poison_fill(const struct debug *d, struct debug_object *o);
void poison_check(struct debug *d, struct debug_object *o, const struct sheaf_debug_trace *here,
		  bool nowait);
void fresh_fill(const struct debug *d, const struct debug_object *o);

/* A guarded object, NULL if there is none to be had. give: it cannot be accessed any more. */
int guards_make(struct debug *d, uint32_t n);
void guards_delete(struct debug *d);
struct debug_object *guard_take(struct debug *d);
void guard_give(struct debug *d, struct debug_object *o);

/* What there is to report beside the object and where it was found. */
struct finding {
	enum sheaf_debug_kind kind;
	const void *object;              /* as given */
	const struct debug_object *of;   /* what is known of it, or NULL */
	const struct debug_owner *owner; /* whose it was found to be, or NULL: as the entry says */
	ptrdiff_t offset;
	size_t bytes;
	const unsigned char *found; /* the first of these bytes */
	size_t count;
	const struct sheaf_debug_trace *here;
	bool nowait;
};
void debug_report(struct debug *d, const struct finding *finding);
void debug_leaks(struct debug *d, uint64_t loans);

/* What SHEAF_DEBUG says for a cache of this name; none: that word is among it, for a checker found at run time too. */
struct sheaf_debug_attr debug_words(const char *name, bool *none);

/* Debug mode of a new cache as the attributes say; its block size. NULL in *made if there is none. 0 or -errno. */
int debug_create(struct debug **made, struct sheaf_cache *cache, const struct sheaf_cache_attr *a,
		 const struct sheaf_debug_attr *attr);
/* The cache has its id. */
void debug_numbered(struct debug *d);
void debug_destroy(struct debug *d);

/* The events of watch.h. in, retired: NULL if it was wrong, or stays in quarantine. */
void *debug_out(struct debug *d, void *block, const void *caller, bool nowait);
void *debug_in(struct debug *d, void *object, const void *caller, bool nowait);
void *debug_retired(struct debug *d, void *object, const void *caller, bool nowait);
void debug_ripe(struct debug *d, struct sheaf *sheaf, bool nowait);
size_t debug_came(struct debug *d, size_t n, void **blocks);
void debug_gone(struct debug *d, size_t n, void *const *blocks);

/* Around the callback over ripe objects: blocks become objects; and those left blocks again. */
void debug_show(struct debug *d, struct sheaf *sheaf);
void debug_hide(struct debug *d, struct sheaf *sheaf);

/* Blocks out of quarantine, at most n, oldest first. */
size_t debug_release(struct debug *d, size_t n, void **blocks);

/* How many are in it; exact if nobody frees meanwhile. */
uint64_t debug_held_back(const struct debug *d);
bool debug_holds_back(const struct debug *d, const void *block);

/* The block of an entry. */
void *debug_block(const struct debug *d, const struct debug_object *o);

/* Is the next allocation to fail? *part, if not NULL: of so many, how many may come. */
bool debug_refuses(struct debug *d, size_t *part);

#endif
