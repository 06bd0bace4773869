/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Which country is an address in? A table of IPv4 ranges, loaded from a file in the format of Debian's
 * tor-geoipdb (lines "first,last,CC" in ascending order, addresses as decimal numbers), and loaded
 * anew while threads look addresses up: a new tree is built beside the old one and takes its
 * place at one moment. A single range is changed in place, at one moment as well.
 *
 * A prefix is a range. If prefixes are stored in the order of their lengths, each over the shorter
 * ones, what a load finds is the longest that matches.
 *
 *	ip_ranges FILE [ADDRESS...]
 */
#include <sheaf/tree.h>

#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <urcu.h>

#include <sheaf/rcu.h> /* for race checkers */

#define READERS 2
#define RELOADS 5

/* What a file says, to build a tree of. */
struct ranges {
	struct sheaf_tree_range *range;
	size_t n;
};

struct reader {
	pthread_t thread;
	const struct ranges *ranges;
	unsigned random;
	unsigned long answers, errors;
};

static struct sheaf_gp_urcu source;
static struct sheaf_cache *nodes; /* of all trees: the next one is made of the last one's */
static struct sheaf_tree *current;
static int stop;

/* Two letters are the entry itself; there is nothing to free. */
static void *country(const char *letters)
{
	return (void *)(((uintptr_t)(unsigned char)letters[0] << 8) | (unsigned char)letters[1]);
}

static int read_ranges(const char *path, struct ranges *ranges)
{
	FILE *file = fopen(path, "r");
	size_t room = 0;
	char line[256];
	int err = file ? 0 : -errno;

	*ranges = (struct ranges){NULL, 0};
	while (!err && fgets(line, sizeof(line), file)) {
		struct sheaf_tree_range *range;
		unsigned long first, last;
		char letters[3];

		if (line[0] == '#')
			continue;
		if (sscanf(line, "%lu,%lu,%2s", &first, &last, letters) != 3 ||
		    strlen(letters) != 2 || first > last || last > UINT32_MAX) {
			err = -EINVAL;
			break;
		}
		if (ranges->n == room) {
			room = room ? 2 * room : 1024;
			range = realloc(ranges->range, room * sizeof(*range));
			if (!range) {
				err = -ENOMEM;
				break;
			}
			ranges->range = range;
		}
		range = &ranges->range[ranges->n++];
		*range = (struct sheaf_tree_range){first, last, country(letters)};
	}
	if (!err && (ferror(file) || !ranges->n))
		err = -EIO;
	if (file)
		fclose(file);
	if (err) {
		free(ranges->range);
		ranges->range = NULL;
	}
	return err;
}

/* Puts a tree of these ranges in place of the one that readers use. If it fails they keep that. */
static int load(const struct ranges *ranges)
{
	struct sheaf_tree_attr attr = {.size = sizeof(attr), .gp = &source.gp, .nodes = nodes};
	struct sheaf_tree *tree, *old;
	int err = sheaf_tree_create(&tree, &attr);

	if (err)
		return err;
	err = sheaf_tree_build(tree, ranges->range, ranges->n); /* -EINVAL if out of order */
	if (err) {
		sheaf_tree_destroy(tree);
		return err;
	}
	old = rcu_xchg_pointer(&current, tree);
	if (!old)
		return 0;
	sheaf_gp_wait(&source.gp, sheaf_gp_ticket(&source.gp)); /* nobody is in the old one */
	return sheaf_tree_destroy(old);
}

/* The entry of an address, NULL if there is none. */
static void *look_up(uint64_t address)
{
	void *entry;

	rcu_read_lock();
	entry = sheaf_tree_load_rcu(rcu_dereference(current), address);
	rcu_read_unlock();
	return entry;
}

/* Whatever is loaded or changed meanwhile, each address has its answer. */
static void *look_up_all(void *arg)
{
	struct reader *me = arg;

	rcu_register_thread();
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		const size_t i = (size_t)rand_r(&me->random) % me->ranges->n;
		const struct sheaf_tree_range *range = &me->ranges->range[i];
		const uint64_t size = range->last - range->first + 1;
		const void *entry = look_up(range->first + (uint64_t)rand_r(&me->random) % size);

		me->errors += entry != range->entry && (i || entry != country("ZZ"));
		me->answers++;
	}
	rcu_unregister_thread();
	return NULL;
}

/* Each range from end to end, and what lies between them. */
static unsigned long check(const struct ranges *ranges)
{
	unsigned long errors = 0;
	size_t i;

	for (i = 0; i < ranges->n; i++) {
		const struct sheaf_tree_range *range = &ranges->range[i];

		errors += look_up(range->first) != range->entry;
		errors += look_up(range->last) != range->entry;
		if (i + 1 < ranges->n && range[1].first > range->last + 1)
			errors += look_up(range->last + 1) != NULL;
	}
	return errors;
}

/* Loads the file anew and changes the first range, with readers at it. Returns errors. */
static unsigned long serve(const char *path, const struct ranges *ranges)
{
	const struct sheaf_tree_range *first = ranges->range;
	struct reader reader[READERS] = {0};
	unsigned long answers = 0, errors = 0;
	struct ranges again;
	int i;

	for (i = 0; i < READERS; i++) {
		reader[i] = (struct reader){.ranges = ranges, .random = (unsigned)i};
		if (pthread_create(&reader[i].thread, NULL, look_up_all, &reader[i]))
			abort();
	}
	for (i = 0; i < RELOADS; i++) {
		if (read_ranges(path, &again) == 0) {
			errors += load(&again) != 0;
			free(again.range);
		} else {
			errors++;
		}
		errors += sheaf_tree_store(current, first->first, first->last, country("ZZ")) != 0;
	}
	errors += sheaf_tree_store(current, first->first, first->last, first->entry) != 0;
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	for (i = 0; i < READERS; i++) {
		pthread_join(reader[i].thread, NULL);
		answers += reader[i].answers;
		errors += reader[i].errors;
	}
	errors += check(ranges);
	printf("%zu ranges loaded %d times, %lu answers meanwhile, %lu errors\n", ranges->n,
	       RELOADS + 1, answers, errors);
	return errors;
}

static void print(const char *text)
{
	struct in_addr address;
	uintptr_t entry;

	if (inet_pton(AF_INET, text, &address) != 1) {
		printf("%s: not an address\n", text);
		return;
	}
	entry = (uintptr_t)look_up(ntohl(address.s_addr));
	if (entry)
		printf("%s: %c%c\n", text, (char)(entry >> 8), (char)entry);
	else
		printf("%s: not known\n", text);
}

int main(int argc, char **argv)
{
	struct ranges ranges;
	unsigned long errors;
	int err, i;

	if (argc < 2) {
		fprintf(stderr, "usage: ip_ranges FILE [ADDRESS...]\n");
		return 2;
	}
	if (sheaf_gp_urcu_init(&source, &rcu_flavor, NULL) ||
	    sheaf_tree_nodes_create(&nodes, &source.gp))
		return 1;
	rcu_register_thread();
	err = read_ranges(argv[1], &ranges);
	if (!err)
		err = load(&ranges);
	if (err) {
		fprintf(stderr, "%s: %s\n", argv[1], strerror(-err));
		free(ranges.range);
		return 1;
	}
	errors = serve(argv[1], &ranges);
	for (i = 2; i < argc; i++)
		print(argv[i]);
	free(ranges.range);
	rcu_unregister_thread();
	if (sheaf_tree_destroy(current) || sheaf_cache_destroy(nodes, NULL))
		return 1;
	sheaf_gp_urcu_fini(&source);
	return errors ? 1 : 0;
}
