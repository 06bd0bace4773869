/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * A ring of links with the list's own link as head. An empty list and a link that
 * is in no list point to themselves, so that leaving twice does no harm.
 */
#ifndef SLAB_LIST_H
#define SLAB_LIST_H

#include <stdbool.h>

struct list {
	struct list *next;
	struct list *prev;
};

static inline void list_init(struct list *list)
{
	list->next = list;
	list->prev = list;
}

static inline bool list_empty(const struct list *list)
{
	return list->next == list;
}

/* Put a link that is in no list behind another: behind the head means first. */
static inline void list_add(struct list *link, struct list *where)
{
	link->next = where->next;
	link->prev = where;
	where->next->prev = link;
	where->next = link;
}

static inline void list_add_last(struct list *link, struct list *list)
{
	list_add(link, list->prev);
}

static inline void list_remove(struct list *link)
{
	link->prev->next = link->next;
	link->next->prev = link->prev;
	list_init(link);
}

#endif
