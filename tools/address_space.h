/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Address spaces rebuilt from a recording: for each space a tree from ranges to VMA
 * objects. One writer works on all of them; readers look addresses up meanwhile.
 *
 *	                   | readers: table, | writer: start, fork,
 *	                   | tree, vma       | call, check, drop
 *	-------------------+-----------------+---------------------
 *	readers            |      yes        |         yes
 *	writer             |      yes        |   no: one thread
 *	init, settle, fini |      no         |         no
 *
 * The essay in address_space.c says what a reader may rely on.
 */
#ifndef TOOLS_ADDRESS_SPACE_H
#define TOOLS_ADDRESS_SPACE_H

#include "trace.h"

#include <sheaf/cache.h>
#include <sheaf/gp.h>
#include <sheaf/tree.h>

/* What a range is, apart from where. */
struct vma_kind {
	uint8_t prot;
	bool anonymous; /* private and without a file: may be merged with its like */
	bool nofork;
	bool stack;
};

#define VMA_LIVE UINT32_MAX

/*
 * One mapping. It never changes while it is in the tree, but for `retired`; a call
 * that changes a mapping replaces the object. Written by the writer alone.
 */
struct vma {
	uint64_t first;
	uint64_t last; /* inclusive */
	uint32_t space;
	uint32_t born;	  /* number of the write that made it */
	uint32_t retired; /* VMA_LIVE, or the write that removed it; atomic */
	struct vma_kind kind;
};

struct address_space {
	/* Numbers of the last write begun and of the last one finished; atomic,
	 * written by the writer and read by everybody. begun - finished is 0 or 1. */
	uint32_t begun;
	uint32_t finished;
	/* Below: the tree is for all, the rest for the writer alone. */
	struct sheaf_tree *tree;
	uint32_t id;
	uint64_t brk;	    /* 0: not known yet */
	uint64_t mmap_base; /* end of the highest place for mmap, as far as known */
	uint64_t ticket;    /* of a dropped space */
	struct address_space *next;
};

/* A range to be; without `mapped` it becomes a hole. */
struct piece {
	uint64_t first;
	uint64_t last;
	bool mapped;
	struct vma_kind kind;
};

struct piece_list {
	struct piece *at;
	size_t count;
	size_t room;
};

struct space_counts {
	uint64_t vmas_made;
	uint64_t vmas_retired;
	uint64_t vmas_peak;
	uint64_t nodes_made;
	uint64_t nodes_retired;
	uint64_t nodes_peak;
	uint64_t tree_writes;
	uint64_t stack_growths;
	/* mmap without a fixed address: the kernel's place, the tree's, both the same;
	 * of the others, those the kernel put on a 2 MiB boundary. */
	uint64_t places;
	uint64_t places_same;
	uint64_t places_huge;
};

struct spaces {
	struct sheaf_gp *gp;
	struct sheaf_cache *vmas;
	struct sheaf_cache *nodes;
	struct trace *trace;
	/* By space number; NULL before its start and after its drop; atomic. */
	struct address_space **table;
	uint32_t count;
	struct address_space *dead; /* dropped, ticket not yet elapsed; newest first */
	struct space_counts counts;
	/* Memory for the write at hand. */
	struct piece_list pieces;
	struct piece_list plan;
	struct vma **removed;
	size_t removed_count;
	size_t removed_room;
};

/*
 * All that return int return 0, or -1 with trace->error set. @count spaces; the source
 * must outlive them.
 */
int spaces_init(struct spaces *spaces, struct sheaf_gp *gp, struct trace *trace, uint32_t count);

/* Wait until all dropped spaces and what they held are free. */
int spaces_settle(struct spaces *spaces);

/* Drops what is left; the counts stay. Returns the number of objects that were lost: 0. */
size_t spaces_fini(struct spaces *spaces);

/* Steps of a plan. Errors name the line of the event. */
int space_start(struct spaces *spaces, uint32_t id, const struct trace_map *map);
int space_fork(struct spaces *spaces, uint32_t id, uint32_t from);
int space_call(struct spaces *spaces, uint32_t id, const struct trace_event *event);
int space_drop(struct spaces *spaces, uint32_t id);

/* Compare with what the kernel showed; *same tells, and trace->error why not. */
int space_check(struct spaces *spaces, uint32_t id, const struct trace_event *event, bool *same);

/* ---- for space_call.c and space_check.c ---- */

/* Each write is made between these two. */
void space_begin(struct address_space *space);
void space_finish(struct address_space *space);

/*
 * Make [first, last] what spaces->pieces says: ascending, inside the range; what they
 * leave out becomes a hole. Each address goes from what it was to what it will be
 * without anything in between.
 */
int space_replace(struct spaces *spaces, struct address_space *space, uint64_t first, uint64_t last);

/* Append to a list; a piece that continues the last one is merged with it. */
int piece_add(struct spaces *spaces, struct piece_list *list, struct piece piece);

/* The mapping that holds @address, or the first one above it; NULL if none. Writer only. */
const struct vma *space_find(const struct address_space *space, uint64_t address);

/* Is nothing mapped in [first, last]? Writer only. */
bool space_is_free(const struct address_space *space, uint64_t first, uint64_t last);

#endif
