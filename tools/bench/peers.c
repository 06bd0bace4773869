/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* Who competes, and how each is found. */
#include "bench.h"
#include "peers_in.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Sanitizers bring a malloc of their own, which cannot be replaced. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

static const struct competitor competitors[] = {
	{.name = "libsheaf", .peer = &peer_sheaf, .objects = true, .retires = true, .trees = true, .pools = true},
	{.name = "libsheaf-bulk", .peer = &peer_sheaf_bulk, .objects = true, .only = "prefill"},
	{.name = "libsheaf-thread", .peer = &peer_sheaf_thread, .objects = true, .only = "crowd"},
	{.name = "libsheaf-prepared",
	 .peer = &peer_sheaf_prepared,
	 .trees = true,
	 .only = "tree-fill tree-erase tree-vma"},
	{.name = "libsheaf-locked",
	 .peer = &peer_sheaf_locked,
	 .trees = true,
	 .only = "tree-fill tree-append tree-erase"},
	{.name = "limit", .peer = &peer_limit, .objects = true, .private_objects = true},
	{.name = "glibc", .peer = &peer_malloc, .objects = true},
	{.name = "jemalloc", .peer = &peer_malloc, .objects = true, .preload = "libjemalloc.so.2"},
	{.name = "mimalloc", .peer = &peer_malloc, .objects = true, .preload = "libmimalloc.so.2"},
	{.name = "tcmalloc",
	 .peer = &peer_malloc,
	 .objects = true,
	 .preload = "libtcmalloc_minimal.so.4"},
	{.name = "ck_stack", .peer = &peer_ck_stack, .objects = true, .pools = true},
	{.name = "rte_mempool", .module = "bench-dpdk.so", .objects = true, .threads_most = 120},
	{.name = "call_rcu+glibc", .peer = &peer_call_rcu, .retires = true},
	{.name = "call_rcu+jemalloc",
	 .peer = &peer_call_rcu,
	 .retires = true,
	 .preload = "libjemalloc.so.2"},
	{.name = "call_rcu+mimalloc",
	 .peer = &peer_call_rcu,
	 .retires = true,
	 .preload = "libmimalloc.so.2"},
	{.name = "call_rcu+tcmalloc",
	 .peer = &peer_call_rcu,
	 .retires = true,
	 .preload = "libtcmalloc_minimal.so.4"},
	{.name = "call_rcu-62+glibc", .peer = &peer_call_rcu_batch, .retires = true},
	{.name = "call_rcu-62+tcmalloc",
	 .peer = &peer_call_rcu_batch,
	 .retires = true,
	 .preload = "libtcmalloc_minimal.so.4"},
	{.name = "defer_rcu+glibc", .peer = &peer_defer_rcu, .retires = true},
	{.name = "ck_epoch+glibc", .peer = &peer_ck_epoch, .retires = true},
	{.name = "absl::btree_map", .module = "bench-absl.so", .trees = true},
	{.name = "std::map", .module = "bench-std.so", .trees = true},
	{.name = "JudyL", .module = "bench-judy.so", .trees = true},
	{.name = "cds_lfht", .peer = &peer_lfht, .trees = true, .unordered = true},
	{.name = "rbtree", .peer = &peer_rbtree, .trees = true},
	{.name = "ck_ring", .peer = &peer_ck_ring, .pools = true},
	{.name = "ck_spinlock", .peer = &peer_ck_spinlock, .pools = true},
	{.name = "mutex", .peer = &peer_mutex, .pools = true},
};

const struct competitor *competitor_nth(size_t i)
{
	return i < sizeof(competitors) / sizeof(competitors[0]) ? &competitors[i] : NULL;
}

/* A word of a list? */
static bool listed(const char *list, const char *word)
{
	const size_t n = strlen(word);
	const char *at;

	for (at = list; (at = strstr(at, word)); at += n)
		if ((at == list || at[-1] == ' ') && (at[n] == ' ' || !at[n]))
			return true;
	return false;
}

bool competitor_fits(const struct competitor *competitor, const struct config *config)
{
	const struct scenario *scenario = config->scenario;

	if (competitor->only && !listed(competitor->only, scenario->name))
		return false;
	if (competitor->threads_most && config->param[PARAM_THREADS] > competitor->threads_most)
		return false;
	if (scenario->own)
		return strcmp(competitor->name, "libsheaf") == 0;
	switch (scenario->class) {
	case CLASS_OBJECT:
		return competitor->objects && !(scenario->crosses && competitor->private_objects);
	case CLASS_RETIRE:
		return competitor->retires;
	case CLASS_POOL:
		return competitor->pools;
	case CLASS_POINTS:
		return competitor->trees &&
		       !(competitor->unordered && strcmp(scenario->name, "tree-scan") == 0);
	default:
		return competitor->trees && !competitor->unordered;
	}
}

void beside_program(char *path, size_t bytes, const char *name)
{
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	self[n > 0 ? n : 0] = '\0';
	slash = strrchr(self, '/');
	if (slash)
		slash[1] = '\0';
	snprintf(path, bytes, "%s%s", self, name);
}

/* The loader goes on without a library that it cannot find: look whether it is there. */
static bool mapped(const char *name)
{
	FILE *file = fopen("/proc/self/maps", "re");
	char line[PATH_MAX + 128];
	char stem[64];
	bool found = false;

	if (!file)
		return false;
	snprintf(stem, sizeof(stem), "/%.*s", (int)strcspn(name, "."), name);
	while (!found && fgets(line, sizeof(line), file))
		found = strstr(line, stem);
	fclose(file);
	return found;
}

static const struct bench_peer *module_load(const struct competitor *competitor)
{
	char path[PATH_MAX + 64];
	const struct bench_peer *peer;
	void *module;

	beside_program(path, sizeof(path), competitor->module);
	if (access(path, F_OK)) {
		fprintf(stderr, "absent: this build has no %s\n", competitor->module);
		return NULL;
	}
	module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!module) {
		fprintf(stderr, "%s\n", dlerror());
		return NULL;
	}
	peer = dlsym(module, "bench_peer");
	if (!peer)
		fprintf(stderr, "%s has no bench_peer\n", competitor->module);
	return peer;
}

const char *competitor_barred(const struct competitor *competitor)
{
	return competitor->preload && SANITIZED ? "a sanitizer has its own malloc" : NULL;
}

const struct bench_peer *competitor_load(const struct competitor *competitor)
{
	if (competitor->preload && !mapped(competitor->preload)) {
		fprintf(stderr, "absent: %s is not installed\n", competitor->preload);
		return NULL;
	}
	return competitor->module ? module_load(competitor) : competitor->peer;
}
