# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: the libsheaf authors
"""gdb learns of libsheaf: how to print its structs, and the command "sheaf"; doc/gdb.md.

It only reads memory, with the debug information of the library: nothing of the program is called, so it works
on a core file, and in a process that was stopped anywhere. What other threads were changing at that moment is shown
half changed: counts may be off by what they had in their hands.
"""
import struct

import gdb

LENT, STRICT, OVERSIZE, MAPPED = 1, 2, 4, 8  # marks of a sheaf, lib/cache_state.h
POINTER = struct.Struct("=Q")


class NotThere(gdb.GdbError):
    """What is asked for cannot be had, said in a sentence."""


def type_of(name):
    try:
        return gdb.lookup_type(name)
    except gdb.error:
        raise NotThere(f"no {name}: libsheaf's debug information is not loaded") from None


def address(value):
    """The number of a pointer."""
    return int(value) & (1 << 64) - 1


def static(name, field=None):
    """A static variable of the library, or of several of that name the one that has a field."""
    found = list(gdb.lookup_static_symbols(name, gdb.SYMBOL_VAR_DOMAIN))
    symbol = gdb.lookup_global_symbol(name)
    for symbol in found + ([symbol] if symbol else []):
        value = symbol.value()
        if field is None or (value.type.strip_typedefs().code == gdb.TYPE_CODE_STRUCT and
                             field in value.type.strip_typedefs().keys()):
            return value
    raise NotThere("no libsheaf in this program, or none with debug information")


def array(start, n):
    """n pointers in memory, as numbers."""
    if not n:
        return []
    return [p[0] for p in POINTER.iter_unpack(gdb.selected_inferior().read_memory(start, 8 * n).tobytes())]


def objects_of(sheaf):
    """Numbers of the objects in a sheaf."""
    return array(address(sheaf["objects"].address), int(sheaf["size"]))


def chain(sheaf, link="link"):
    """A list through link, as dereferenced values."""
    while sheaf:
        yield sheaf.dereference()
        sheaf = sheaf.dereference()[link]


class Place:
    """Sheaves, or single objects, that lie in one place of a cache."""

    def __init__(self, kind, where, sheaves=(), objects=()):
        self.kind = kind
        self.where = where
        self.sheaves = list(sheaves)
        self.singles = list(objects)

    def count(self):
        return sum(int(s["size"]) for s in self.sheaves) + len(self.singles)

    def objects(self):
        for sheaf in self.sheaves:
            yield from objects_of(sheaf)
        yield from self.singles


class Cache:
    """A cache, by the value of its struct."""

    def __init__(self, value):
        self.value = value
        self.at = address(value.address)
        self.name = value["name"].string(errors="replace")
        self.block = int(value["block_size"])
        self.none = address(static("sheaf_none").address)

    def nodes(self):
        return [self.value["node"][i] for i in range(int(self.value["nodes"]))]

    def _held(self, held, where):
        main = address(held["main"])
        for i in range(2):
            sheaf = held["pair"][i]
            if address(sheaf) != self.none:
                name = "main" if address(sheaf) == main else "spare"
                yield Place("slot", f"{where}, {name} sheaf", [sheaf.dereference()])
        if address(held["rcu"]) != self.none:
            yield Place("slot", f"{where}, rcu sheaf (retired)", [held["rcu"].dereference()])

    def slots(self):
        cpus = self.value["cpus"]
        for i in range(int(cpus["n"])):
            yield from self._held(cpus["slots"][i]["held"], f"slot of CPU {i}")
        for slot in chain(self.value["slots"], "next"):
            what = "slot of no thread" if slot["orphan"] else "slot of a thread"
            yield from self._held(slot["held"], f"{what}, {address(slot.address):#x}")

    def barns(self):
        for i, node in enumerate(self.nodes()):
            for name in ("full", "empty"):
                side = node["barn"][name]
                filled = int(side["filled"])
                cells = [side["cells"][n]["sheaf"] for n in range(64) if filled >> n & 1]
                yield Place("barn", f"barn {i}, {name} side", [c.dereference() for c in cells if c])
                yield Place("barn", f"barn {i}, {name} side, chain", chain(side["chain"]))

    def recyclers(self):
        for i, node in enumerate(self.nodes() if self.value["gp"] else []):
            recycler = node["recycler"]
            done = int(recycler["gp"]["completed"])
            for sheaf in [*chain(recycler["head"]), *chain(recycler["incoming"])]:
                left = (int(sheaf["ticket"]) - done) & (1 << 64) - 1
                state = "ripe" if left == 0 or left >> 63 else "ripening"
                yield Place("in flight", f"recycler {i}, {state}, ticket {int(sheaf['ticket'])}", [sheaf])

    def left_by_handlers(self):
        for i, node in enumerate(self.nodes()):
            spilled, at = [], address(node["spilled"])
            while at:
                spilled.append(at)
                at = array(at, 1)[0]
            yield Place("aside", f"left by signal handlers on node {i}, free", [], spilled)
            yield Place("aside", f"left by signal handlers on node {i}, retired", chain(node["sealed"]),
                        [address(note["object"]) for note in chain(node["noted"], "next")] if node["noted"] else [])

    def quarantine(self):
        debug = self.value["watch"]["debug"] if self.value["watch"] else None
        if debug and debug["quarantine"]:
            held = array(address(debug["quarantine"]), int(debug["quarantine_n"]))
            yield Place("aside", "quarantine of debug mode, free", [], [o for o in held if o])

    def places(self):
        """All that the cache itself has, its cross cache included."""
        for part in (self.slots, self.barns, self.recyclers, self.left_by_handlers, self.quarantine):
            yield from part()
        if self.value["cross"]:
            for place in Cache(self.value["cross"].dereference()).places():
                place.where += ", on its way to another node"
                yield place

    def counts(self):
        """Objects by kind of place."""
        counts = dict.fromkeys(("slot", "barn", "in flight", "aside"), 0)
        for place in self.places():
            counts[place.kind] += place.count()
        counts["lent"] = int(self.value["lent_objects"])
        out = int(self.value["backend_allocated"]) - int(self.value["backend_freed"])
        counts["in use"] = out - sum(counts.values())
        return counts


def caches():
    """All caches of the program; cross caches are parts of others."""
    registry = static("registry", "caches")
    for i in range(int(registry["n"])):
        cache = registry["caches"][i]
        if cache and not cache["cross_of"]:
            yield Cache(cache.dereference())


def region_of(at):
    """The region of a slab backend that an address is in, or None."""
    root = static("slab_map")
    if at >> 48 or not root[at >> 34]:
        return None
    region = root[at >> 34][at >> 21 & (1 << 13) - 1]
    return region.dereference() if region else None


class SlabObject:
    """The object of a slab that an address is in."""

    def __init__(self, region, at):
        slab = region["owner"].dereference()
        offset = at & (1 << 21) - 1
        inside = (offset & int(slab["slab_mask"])) - int(slab["start"])
        number = inside // int(slab["stride"])
        self.backend = address(slab.address)
        self.name = slab["name"].string(errors="replace")
        self.valid = 0 <= number < int(slab["slab_objects"])
        self.base = at - inside + number * int(slab["stride"])
        head = (address(region["heads"].address) +
                (offset >> int(slab["slab_shift"])) * int(slab["head_bytes"]))
        bits = gdb.Value(head).cast(type_of("struct slab").pointer())["bits"]
        self.free = self.valid and int(bits[number // 64]) >> number % 64 & 1


def lent_sheaves():
    """Lent sheaves that local variables of threads point to: (sheaf, where)."""
    seen, selected = set(), gdb.selected_thread()
    try:
        for thread in gdb.selected_inferior().threads():
            thread.switch()
            frame, depth = gdb.newest_frame(), 0
            while frame and depth < 64:
                for sheaf in sheaves_in(frame):
                    if address(sheaf.address) not in seen:
                        seen.add(address(sheaf.address))
                        yield sheaf, f"{frame.name() or '?'}() of thread {thread.num}"
                frame, depth = frame.older(), depth + 1
    finally:
        if selected:
            selected.switch()


def sheaves_in(frame):
    """What variables of a frame that are pointers to sheaves, or hold one, point to, if that is lent."""
    try:
        block = frame.block()
    except RuntimeError:
        return
    while block and not block.is_global and not block.is_static:
        for symbol in block:
            try:
                value = symbol.value(frame) if symbol.is_variable or symbol.is_argument else None
                if value is None or value.is_optimized_out:
                    continue
                if value.type.strip_typedefs().code == gdb.TYPE_CODE_STRUCT and "sheaf" in value.type.keys():
                    value = value["sheaf"]
                if str(value.type.strip_typedefs().unqualified()) == "struct sheaf *" and value:
                    sheaf = value.dereference()
                    if int(sheaf["mark"]) & LENT and int(sheaf["size"]) <= int(sheaf["capacity"]) <= 1 << 20:
                        yield sheaf
            except (gdb.error, gdb.MemoryError):
                continue
        block = block.superblock


def find(at):
    """Lines that say what an address is."""
    known = list(caches())
    region = region_of(at)
    slab = SlabObject(region, at) if region else None
    for cache in known:
        for place in cache.places():
            for base in place.objects():
                if base <= at < base + cache.block:
                    return [f"{at:#x}: byte {at - base} of object {base:#x} of cache {cache.name}", place.where]
            for sheaf in place.sheaves:
                start = address(sheaf.address)
                if start <= at < start + sheaf.type.sizeof + 8 * int(sheaf["capacity"]):
                    return [f"{at:#x}: the sheaf {start:#x} of cache {cache.name}", place.where]
    lent = list(lent_sheaves())
    for sheaf, where in lent:
        for base in objects_of(sheaf):
            if base == (slab.base if slab and slab.valid else at):
                return [f"{at:#x}: byte {at - base} of object {base:#x}",
                        f"in the lent sheaf {address(sheaf.address):#x}, which {where} has"]
    if not slab:
        return [f"{at:#x}: in no slab, and in no sheaf of a cache that is known",
                "an object in use, if its cache has another backend; else none of libsheaf's"]
    owner = [c for c in known if address(c.value["backend"]["ctx"]) == slab.backend]
    of = f"cache {owner[0].name}" if owner else f"the slab backend {slab.name}"
    if not slab.valid:
        return [f"{at:#x}: in a slab of {of}, in no object"]
    lines = [f"{at:#x}: byte {at - slab.base} of object {slab.base:#x} of {of}"]
    if slab.free:
        return lines + ["free, with the backend"]
    missing = owner[0].counts()["lent"] if owner else 0
    for sheaf, _ in lent:
        region = region_of(objects_of(sheaf)[0]) if sheaf["size"] else None
        if region and address(region["owner"]) == slab.backend:
            missing -= int(sheaf["ticket"]) & (1 << 32) - 1
    if missing > 0:
        return lines + [f"in use, or one of {missing} in lent sheaves that no variable of a thread points to"]
    return lines + ["in use"]


def tree_nodes(node, lo=0):
    """Ranges of a subtree in order: (first, last, entry)."""
    if int(node["level"]):
        inner = node.address.cast(type_of("struct tree_inner").pointer())
        for i in range(int(node["count"])):
            yield from tree_nodes(inner["child"][i].dereference())
        return
    leaf = node.address.cast(type_of("struct tree_leaf").pointer()).dereference()
    order, live = int(leaf["order"]), int(node["live"])
    while order & 15 != 15:
        slot, order = order & 15, order >> 4 | 15 << 60
        if not live >> slot & 1:
            continue
        if int(node["kind"]) == 0:
            yield int(leaf["points"]["key"][slot]), int(leaf["points"]["key"][slot]), leaf["points"]["entry"][slot]
        else:
            yield int(leaf["ranges"]["first"][slot]), int(leaf["ranges"]["last"][slot]), leaf["ranges"]["entry"][slot]


class SheafCommand(gdb.Command):
    """What libsheaf has in this program: caches, what an address is, what is in a tree."""

    def __init__(self):
        super().__init__("sheaf", gdb.COMMAND_DATA, prefix=True)


class CachesCommand(gdb.Command):
    """List all caches: what they have, and where it is.

In use: by the program. Slots: free, or retired and not yet sealed. In flight: retired, in recyclers. Lent: in
prefilled sheaves when they were last filled. Aside: left by signal handlers, or in quarantine."""

    def __init__(self):
        super().__init__("sheaf caches", gdb.COMMAND_DATA)

    def invoke(self, argument, from_tty):
        rows = [("cache", "name", "size", "capacity", "in use", "slots", "barns", "in flight", "lent", "aside")]
        for cache in caches():
            n = cache.counts()
            rows.append((f"{cache.at:#x}", cache.name, int(cache.value["object_size"]), int(cache.value["capacity"]),
                         n["in use"], n["slot"], n["barn"], n["in flight"], n["lent"], n["aside"]))
        width = [max(len(str(row[i])) for row in rows) for i in range(len(rows[0]))]
        for row in rows:
            print("  ".join(f"{c:<{w}}" if i < 2 else f"{c:>{w}}" for i, (c, w) in enumerate(zip(row, width))))


class FindCommand(gdb.Command):
    """Say which object an address is in, of which cache, and what state it is in.

Usage: sheaf find ADDRESS"""

    def __init__(self):
        super().__init__("sheaf find", gdb.COMMAND_DATA)

    def invoke(self, argument, from_tty):
        if not argument:
            raise NotThere("sheaf find ADDRESS")
        lines = find(address(gdb.parse_and_eval(argument)))
        print("\n  ".join(lines))


class TreeCommand(gdb.Command):
    """List the ranges of a tree.

Usage: sheaf tree POINTER"""

    def __init__(self):
        super().__init__("sheaf tree", gdb.COMMAND_DATA)

    def invoke(self, argument, from_tty):
        if not argument:
            raise NotThere("sheaf tree POINTER")
        tree = gdb.parse_and_eval(argument).cast(type_of("struct sheaf_tree").pointer()).dereference()
        print(f"tree {address(tree.address):#x}: {int(tree['entries'])} ranges, height {int(tree['height'])}, "
              f"{int(tree['writes'])} writes")
        for first, last, entry in tree_nodes(tree["root"].dereference()) if tree["root"] else []:
            keys = f"{first:#x}" if first == last else f"{first:#x}-{last:#x}"
            print(f"  {keys}: {address(entry):#x}")


class Printer:
    """One line for a struct; "print /r" shows its fields."""

    def __init__(self, value, text):
        self.value = value
        self.text = text

    def to_string(self):
        return self.text(self.value)


class SheafPrinter(Printer):
    """A sheaf, with its objects."""

    def children(self):
        if int(self.value["size"]) <= int(self.value["capacity"]) <= 1 << 20:
            for i, one in enumerate(objects_of(self.value)):
                yield f"[{i}]", gdb.Value(one).cast(type_of("void").pointer())

    def display_hint(self):
        return "array"


def sheaf_text(v):
    marks = [name for bit, name in ((LENT, "lent"), (STRICT, "strict"), (OVERSIZE, "oversize"), (MAPPED, "mapped"))
             if int(v["mark"]) & bit]
    return " ".join([f"sheaf, {int(v['size'])} of {int(v['capacity'])}", *marks])


def barn_text(v):
    sides = [f"{bin(int(v[s]['filled'])).count('1')} {s} and {sum(1 for _ in chain(v[s]['chain']))} chained (limit "
             f"{int(v[s]['limit'])}, {int(v[s]['lost_races'])} races lost)" for s in ("full", "empty")]
    return f"barn of node {int(v['node'])}: {sides[0]}, {sides[1]}"


def cache_text(v):
    n = Cache(v).counts()
    return (f"cache {v['name'].string(errors='replace')}: objects of {int(v['object_size'])}, capacity {int(v['capacity'])}, " +
            ", ".join(f"{n[k]} {k}" for k in ("in use", "slot", "barn", "in flight", "lent", "aside")))


def recycler_text(v):
    return (f"recycler: {int(v['objects'])} objects in {int(v['sheaves'])} sheaves, {int(v['given'])} sheaves given, "
            f"{int(v['taken'])} taken")


def leaf_text(v):
    ranges = [f"{a:#x}" if a == b else f"{a:#x}-{b:#x}" for a, b, _ in tree_nodes(v["head"])]
    return f"leaf of {('points', 'ranges')[int(v['head']['kind'])]}: {' '.join(ranges)}"


def inner_text(v):
    count = int(v["head"]["count"])
    return f"inner node of level {int(v['head']['level'])}, {count} children, pivots " + \
        " ".join(f"{int(v['pivot'][i]):#x}" for i in range(count - 1))


def node_text(v):
    kind = "struct tree_inner" if int(v["level"]) else "struct tree_leaf"
    return (inner_text if int(v["level"]) else leaf_text)(v.address.cast(type_of(kind).pointer()).dereference())


def tree_text(v):
    return f"tree of {int(v['entries'])} ranges, height {int(v['height'])}, {int(v['writes'])} writes"


TEXTS = {"sheaf": sheaf_text, "sheaf_barn": barn_text, "sheaf_cache": cache_text, "sheaf_recycler": recycler_text,
         "tree_node": node_text, "tree_leaf": leaf_text, "tree_inner": inner_text, "sheaf_tree": tree_text}


def pretty_printer(value):
    kind = value.type.strip_typedefs().unqualified()
    if kind.code != gdb.TYPE_CODE_STRUCT or kind.tag not in TEXTS or value.address is None or kind.sizeof == 0:
        return None
    return (SheafPrinter if kind.tag == "sheaf" else Printer)(value, TEXTS[kind.tag])


def register():
    pretty_printer.name = "libsheaf"
    pretty_printer.enabled = True
    if not any(getattr(p, "name", "") == "libsheaf" for p in gdb.pretty_printers):
        gdb.pretty_printers.insert(0, pretty_printer)
    for command in (SheafCommand, CachesCommand, FindCommand, TreeCommand):
        command()


register()
