#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: the libsheaf authors
"""
Proves of sheaf-stat and the page that it reads: who can be looked at, and who not; that a page
lives as long as its process shows one, through fork, exec, exit and kill, and what is left is taken
away; that the output is what it says it is, in JSON, for Prometheus, and in terminals of any size;
and that a broken page or a wrong call is a message.

usage: tool.py SHEAF_STAT SHOWN [CASE...]
"""
import ctypes
import fcntl
import json
import mmap
import os
import pathlib
import pty
import re
import resource
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time

TOOL, SHOWN = sys.argv[1:3]
FOLDER = pathlib.Path("/dev/shm")
PATIENCE = 60


def page(pid):
    return FOLDER / f"libsheaf-stat.{pid}"


class Shown:
    """A program to look at."""

    def __init__(self, caches=1, threads=0, name="shown", stats="1", attribute=False, before=None):
        env = {k: v for k, v in os.environ.items() if k != "SHEAF_STATS"}
        if stats is not None:
            env["SHEAF_STATS"] = stats
        self.run = subprocess.Popen([SHOWN, str(caches), str(threads), name] + ["attribute"] * attribute,
                                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, text=True,
                                    stderr=subprocess.PIPE if before else None, preexec_fn=before)
        self.pid = int(self.line().split()[1])

    def line(self):
        return self.run.stdout.readline()

    def say(self, word):
        self.run.stdin.write(word + "\n")
        self.run.stdin.flush()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.run.poll() is None:
            self.run.send_signal(signal.SIGCONT)
            self.run.stdin.close()
            try:
                self.run.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.run.kill()
                self.run.wait()
        page(self.pid).unlink(missing_ok=True)


def stat(*args):
    """Exit status, stdout, stderr."""
    done = subprocess.run([TOOL, *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=60, check=False)
    assert done.returncode in (0, 1, 2), f"sheaf-stat {args}: {done.returncode}"
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def right(*args):
    # On a machine that stands still for two seconds nobody answers.
    for _ in range(3):
        code, out, err = stat(*args)
        if "does not answer" not in err:
            break
    assert code == 0 and not err, (args, code, err)
    return out


def wrong(code, text, *args):
    found, out, err = stat(*args)
    assert found == code and text in err and not out, (args, found, out, err)
    assert err.startswith("sheaf-stat: ") and err.count("\n") == 1, err


def ask(file):
    """An update, asked for without a look at the lock of the page."""
    words = mmap.mmap(file.fileno(), 4096)
    request, serial = (ctypes.c_uint32.from_buffer(words, at) for at in (16, 20))
    before = serial.value
    request.value += 1
    # FUTEX_WAKE
    ctypes.CDLL(None).syscall({"x86_64": 202}.get(os.uname().machine, 98), ctypes.byref(request), 1, 1, None, None, 0)
    wait_for(lambda: serial.value >= before + 2, "an update")


def wait_for(what, text):
    end = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < end, text
        time.sleep(0.01)


def case_json():
    with Shown(3, 2) as shown:
        # Any turn of who is busy is enough: an interval may be over without one.
        for interval in (0.05, 1, 5):
            lines = right("--json", "--count", 3, "--interval", interval, "--sort", "name",
                          shown.pid).splitlines()
            assert len(lines) == 3
            first, _, last = map(json.loads, lines)
            if last["caches"][0]["trips_per_second"]:
                break
        assert first["pid"] == shown.pid and first["program"] == "test-stats-shown", first
        assert last["updates"] > first["updates"] and last["time_ns"] > first["time_ns"]
        assert last["took_ns"] > 0 and last["missing"] == 0
        assert [c["name"] for c in last["caches"]] == ["shown"] * 3
        assert first["caches"][0]["trips_per_second"] is None
        busy, _, quiet = last["caches"]
        assert busy["trips_per_second"] > 0 and quiet["trips_per_second"] == 0
        # Exact, for nobody is in a call with this one.
        assert quiet["in_use"] == 7
        held = quiet["held_slots"] + quiet["held_barns"]
        assert quiet["backend_allocated"] - quiet["backend_freed"] == 7 + held
        assert quiet["slab"] and quiet["memory_touched"] >= (7 + held) * 64
        assert busy["sealed"] > 0 and busy["retires"] and len(busy["ages"]) == 16


LABEL = r'[a-z_]+="(?:[^"\\\n]|\\["\\n])*"'
SAMPLE = re.compile(rf"([a-z_]+)\{{({LABEL}(?:,{LABEL})*)\}} (\d+(?:\.\d+)?)")


def case_prometheus():
    with Shown(2, 1, 'quo"te\\s') as shown:
        text = right("--prometheus", shown.pid)
        assert text.endswith("\n")
        kinds, seen, name = {}, set(), None
        for line in text.splitlines():
            if line.startswith("# HELP "):
                name = line.split()[2]
                assert name not in kinds and len(line.split()) > 3, line
            elif line.startswith("# TYPE "):
                assert line.split()[2] == name and line.split()[3] in ("counter", "gauge"), line
                kinds[name] = line.split()[3]
                assert (kinds[name] == "counter") == name.endswith("_total"), line
            else:
                match = SAMPLE.fullmatch(line)
                assert match, line
                # All of one name together, each set of labels once.
                assert match[1] == name and (name, match[2]) not in seen, line
                seen.add((name, match[2]))
        assert len(kinds) > 40 and kinds["sheaf_cache_in_use"] == "gauge"
        assert len(seen) == 2 * (len(kinds) - 1) + 2 * 16
        assert r'cache="quo\"te\\s"' in text
        assert re.search(r'sheaf_cache_in_use\{[^}]*number="2"\} 7\n', text), text


def case_table():
    with Shown(3, 1) as shown:
        text = right("--once", shown.pid)
        lines = text.splitlines()
        assert lines[0].startswith(f"test-stats-shown ({shown.pid}): 3 caches, "), lines[0]
        assert lines[1].split()[:6] == ["NAME", "MEMORY", "IN-USE", "HELD", "SIZE", "FRAG%"]
        assert len(lines) == 5 and all(line.startswith("shown ") for line in lines[2:])
        assert "\033" not in text and max(map(len, lines)) <= 200
        assert "\033[1m" in right("--once", "--colour", "always", shown.pid)
        # One update below the other, without a terminal.
        assert right("--count", 2, "--interval", 0.02, shown.pid).count("NAME") == 2
        for key in ("memory", "in-use", "held", "size", "frag", "trips", "barn", "flight", "age",
                    "recycler", "races", "backend"):
            right("--once", "--sort", key, shown.pid)
        by_use = json.loads(right("-1", "-j", "-s", "in-use", shown.pid))["caches"]
        assert [c["in_use"] for c in by_use] == sorted((c["in_use"] for c in by_use), reverse=True)


def screen(rows, columns, keys, shown, *more):
    """What a terminal of this size was sent, by updates; keys are pressed one after the other."""
    resize = lambda fd, r, c: fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", r, c, 0, 0))
    pid, master = pty.fork()
    if pid == 0:
        # Before it starts: a change of size would be an update more.
        resize(0, rows, columns)
        os.environ.pop("NO_COLOR", None)
        os.execv(TOOL, [TOOL, "--interval", "0.1", *more, str(shown.pid)])
    size = lambda r, c: resize(master, r, c)
    got, end = b"", time.monotonic() + PATIENCE
    keys = list(keys)
    pressed = 0
    while True:
        assert time.monotonic() < end, got
        if select.select([master], [], [], 0.3)[0]:
            try:
                some = os.read(master, 65536)
            except OSError:
                break
            if not some:
                break
            got += some
        if keys and got.count(b"\033[H") > pressed:
            pressed = got.count(b"\033[H")
            key = keys.pop(0)
            if callable(key):
                key(size, pid)
            else:
                os.write(master, key.encode())
    status = os.waitpid(pid, 0)[1]
    os.close(master)
    return os.waitstatus_to_exitcode(status), got.decode()


def lines_of(frame):
    plain = re.sub(r"\033\[\d+;1H", "\n", frame.split("\033[?25h")[0])
    return re.sub(r"\033\[[0-9;?]*[A-Za-z]", "", plain).replace("\r", "").split("\n")


def case_terminal():
    with Shown(60, 1) as shown:
        for rows, columns in ((24, 80), (10, 40), (3, 10), (1, 1), (50, 200)):
            code, got = screen(rows, columns, "ssq", shown)
            assert code == 0, got
            assert got.startswith("\033[?1049h\033[?25l") and got.endswith("\033[?25h\033[?1049l")
            frames = got.split("\033[H")[1:]
            assert len(frames) >= 3
            for frame in frames:
                lines = [line for line in lines_of(frame)]
                assert len(lines) <= rows + 1 and max(map(len, lines)) <= columns, (rows, columns, frame)
            if rows >= 10:
                assert "NAME" in frames[0] and "q quit" in frames[0] and "shown" in frames[0]
                assert "IN-USE" in frames[0]
                assert ("AGE" in frames[0]) == (columns == 200)
                assert "sort (memory)" in frames[0] and "sort (held)" in got, got


def case_resize():
    with Shown(60) as shown:
        code, got = screen(10, 40, [lambda size, pid: size(24, 100), "s", "s", "q"], shown)
        frames = got.split("\033[H")[1:]
        assert code == 0 and "FLIGHT" not in frames[0] and "FLIGHT" in frames[-1], got
        # By signals it ends too, and leaves the terminal as it was.
        code, got = screen(10, 40, [lambda size, pid: os.kill(pid, signal.SIGTERM)], shown)
        assert code == 0 and got.endswith("\033[?25h\033[?1049l")
        code, got = screen(10, 40, "", shown, "--count", "3")
        assert code == 0 and got.count("\033[H") == 3


def case_list():
    with Shown(2) as one, Shown(5) as other:
        lines = right().splitlines()
        assert lines[0].split() == ["PID", "CACHES", "PROGRAM"]
        rows = {int(line.split()[0]): line.split()[1] for line in lines[1:]}
        assert rows[one.pid] == "2" and rows[other.pid] == "5"


def case_opt_in():
    with Shown(1, stats=None) as shown:
        assert not page(shown.pid).exists()
        wrong(1, "shows no statistics", shown.pid)
    with Shown(1, stats="0") as shown:
        assert not page(shown.pid).exists()
    with Shown(1, stats=None, attribute=True) as shown:
        assert page(shown.pid).stat().st_mode & 0o777 == 0o600
        # Those that did not ask are not shown.
        shown.say("cache")
        assert shown.line() == "1\n"
        assert len(json.loads(right("-1j", shown.pid))["caches"]) == 1


def case_no_page():
    """Where there cannot be a page the program goes on, and says so in one line."""
    def taken():
        page(os.getpid()).mkdir()

    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    def left():
        # Of an earlier program of this number: it is in nobody's way.
        page(os.getpid()).write_bytes(b"x" * 5000)

    for before, error in ((taken, "File exists"), (limited, "File too large"), (left, None)):
        with Shown(3, 0, "idle", before=before) as shown:
            if error:
                wrong(1, "process", "-1", shown.pid)
            else:
                assert len(json.loads(right("-1j", shown.pid))["caches"]) == 3
            shown.say("end")
            assert shown.line() == "ended\n"
            if page(shown.pid).is_dir():
                page(shown.pid).rmdir()
            assert not page(shown.pid).exists()
            shown.run.stdin.close()
            shown.run.wait(PATIENCE)
            said = shown.run.stderr.read()
            if error:
                assert error in said and said.startswith("libsheaf: no page for sheaf-stat"), said
            assert said.count("\n") == (1 if error else 0), said


def case_many():
    with Shown(300) as shown:
        caches = [len(json.loads(line)["caches"])
                  for line in right("-j", "-c", 3, "-i", 0.03, shown.pid).splitlines()]
        # The page grows after the first update that had no room.
        assert caches[-1] == 300, caches


def case_two_lookers():
    with Shown(2, 1) as shown:
        lookers = [subprocess.Popen([TOOL, "-j", "-c", "20", "-i", "0.02", str(shown.pid)],
                                    stdout=subprocess.PIPE, text=True) for _ in range(3)]
        for looker in lookers:
            out = looker.communicate(timeout=60)[0]
            assert looker.returncode == 0 and len([json.loads(line) for line in out.splitlines()]) == 20


def case_exit():
    for word in ("end", "exit"):
        with Shown(2, name="idle") as shown:
            assert page(shown.pid).exists()
            shown.say(word)
            wait_for(lambda: not page(shown.pid).exists(), word)
            code, _, err = stat("-1", shown.pid)
            assert code == 1 and ("no process" in err or "shows no" in err), err


def case_left():
    with Shown() as shown:
        shown.run.kill()
        shown.run.wait()
        assert page(shown.pid).exists()
        wrong(1, "has ended", shown.pid)
        assert not page(shown.pid).exists()
    with Shown() as shown:
        shown.say("die")
        shown.run.wait()
        stat()
        assert not page(shown.pid).exists()


def case_exec():
    with Shown(1, 2) as shown:
        shown.say("exec")
        wait_for(lambda: "cat" in os.readlink(f"/proc/{shown.pid}/exe"), "exec")
        wrong(1, "shows no statistics any more", shown.pid)
        # Only a name without a lock that has had time to get one is taken away.
        os.utime(page(shown.pid))
        wrong(1, "shows no statistics any more", shown.pid)
        assert page(shown.pid).exists()
        old = time.time() - 60
        os.utime(page(shown.pid), (old, old))
        wrong(1, "shows no statistics any more", shown.pid)
        wrong(1, "start it with SHEAF_STATS=1", shown.pid)


def case_closed():
    # Asked before, so that an update comes when the file is the program's no more.
    with Shown(2, 0, "idle") as shown, open(page(shown.pid), "r+b", buffering=0) as file:
        assert len(json.loads(right("-1j", shown.pid))["caches"]) == 2
        shown.say("close")
        assert shown.line() == "1\n"
        wrong(1, "shows no statistics any more", shown.pid)
        for _ in range(40):
            shown.say("cache")
            assert shown.line() == "1\n"
        ask(file)
        shown.say("end")
        assert shown.line() == "ended\n"
        shown.say("kept")
        assert shown.line() == "1\n"


def case_cancelled():
    # The first cache makes the page, the last takes it away.
    with Shown(0, 0, "idle") as shown:
        shown.say("cancel")
        assert shown.line() == "1\n"
        assert not page(shown.pid).exists()


def case_fork():
    for stats, of_its_own in (("1", False), ("children", True)):
        with Shown(2, 0 if of_its_own else 2, stats=stats) as shown:
            shown.say("fork")
            child = int(shown.line())
            try:
                if of_its_own:
                    # The child makes it in its own time.
                    wait_for(lambda: stat("-1", child)[0] == 0, "a page of the child")
                    mine = json.loads(right("-1j", child))
                    assert mine["pid"] == child and len(mine["caches"]) == 2
                # That of the parent is none of the child's business.
                assert json.loads(right("-1j", shown.pid))["pid"] == shown.pid
                assert page(child).exists() == of_its_own
            finally:
                os.kill(child, signal.SIGKILL)
            assert json.loads(right("-1j", shown.pid))["pid"] == shown.pid
            page(child).unlink(missing_ok=True)


def case_silent():
    with Shown() as shown:
        shown.run.send_signal(signal.SIGSTOP)
        wrong(1, "does not answer", "-1", shown.pid)
        assert "does not answer" in right()
        shown.run.send_signal(signal.SIGCONT)
        right("-1", shown.pid)


def case_ends_meanwhile():
    with Shown() as shown:
        looker = subprocess.Popen([TOOL, "-i", "0.05", str(shown.pid)], stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, text=True)
        looker.stdout.readline()
        shown.run.kill()
        shown.run.wait()
        _, err = looker.communicate(timeout=60)
        assert looker.returncode == 1 and "has ended" in err, err


def case_other_user():
    if os.geteuid() != 0:
        return
    with Shown() as shown:
        done = subprocess.run([TOOL, "-1", str(shown.pid)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True, user=65534, check=False)
        if "Permission" not in done.stderr and done.returncode != 126:
            assert done.returncode == 1 and "another user" in done.stderr, done


def hold(path, contents):
    """A process that has the lock of a page with these contents, of its own number."""
    code = ("import fcntl,os,sys,struct\n"
            f"p='{path}'+str(os.getpid())\n"
            "c=sys.stdin.buffer.read()\n"
            "f=open(p,'w+b');f.write(c);f.flush()\n"
            "fcntl.lockf(f,fcntl.LOCK_EX)\n"
            "print(os.getpid(),flush=True)\nimport time\ntime.sleep(60)\n")
    run = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    run.stdin.write(contents)
    run.stdin.close()
    run.pid_said = int(run.stdout.readline())
    return run


# served: far ahead of the request, which others who list all pages add to as well.
def head(magic=b"sheafst1", head_bytes=None, record_bytes=800, count=0, serial=2, served=0x7fffffff,
         program=b"liar", request=None):
    text = struct.pack("8sIIIIIIIIQQQQ32s", magic, 0, record_bytes, served - 100 if request is None else request, serial, served, 1, count, 0,
                       1, 1, 1, 1, program)
    return text[:8] + struct.pack("I", head_bytes or len(text)) + text[12:]


def case_hostile():
    liars = {
        "empty": b"",
        "short": head()[:20],
        "no page": b"x" * 4096,
        "head beyond the end": head(head_bytes=60000),
        "head too small": head(head_bytes=8),
        "records too small": head(record_bytes=1, count=1) + b"x" * 1000,
        "records too large": head(record_bytes=0xffffffff, count=1),
        "records beyond the end": head(count=1000) + b"x" * 800,
        "count that wraps": head(record_bytes=65536, count=0xffffffff),
    }
    for what, contents in liars.items():
        run = hold(FOLDER / "libsheaf-stat.", contents)
        try:
            wrong(1, "is broken", "-1", run.pid_said)
        except AssertionError as e:
            raise AssertionError(what) from e
        finally:
            run.kill()
            run.wait()
            page(run.pid_said).unlink(missing_ok=True)
    # Whatever stands in the records can be printed, and says nothing to a terminal.
    for byte in (b"\xff", b"\x1b", b"\x00", b"\x7f"):
        for how in ("-1", "-1j", "-p"):
            run = hold(FOLDER / "libsheaf-stat.", head(count=3, program=byte * 32) + byte * (800 * 3))
            try:
                text = right(how, run.pid_said)
                assert all(" " <= c <= "~" or c == "\n" for c in text), text
                if how == "-1j":
                    assert len(json.loads(text)["caches"]) == 3
            finally:
                run.kill()
                run.wait()
                page(run.pid_said).unlink(missing_ok=True)


def case_cut_off():
    """A page that is truncated while somebody looks."""
    run = hold(FOLDER / "libsheaf-stat.", head(count=3, served=1, request=5) + b"\0" * 2400)
    try:
        looker = subprocess.Popen([TOOL, "-1", str(run.pid_said)], stderr=subprocess.PIPE, text=True)
        time.sleep(0.3)
        os.truncate(page(run.pid_said), 0)
        _, err = looker.communicate(timeout=60)
        assert looker.returncode == 1 and "is broken" in err, (looker.returncode, err)
    finally:
        run.kill()
        run.wait()
        page(run.pid_said).unlink(missing_ok=True)


def case_link():
    """A name that is not a file of its own is not followed."""
    target = FOLDER / f"libsheaf-test-{os.getpid()}"
    target.write_bytes(head())
    link = page(os.getpid())
    link.symlink_to(target)
    try:
        code, out, _ = stat("-1", os.getpid())
        assert code == 1 and not out
        assert target.read_bytes() == head()
    finally:
        link.unlink()
        target.unlink()


def case_usage():
    assert right("--help").startswith("usage: sheaf-stat")
    assert right("-V").startswith("sheaf-stat 0.")
    for args in (["x"], ["0"], ["-5x"], ["1", "2"], ["--interval", "0"], ["--interval", "nan"], ["-i", "1x", "1"],
                 ["--count", "0"], ["--count", "-1"], ["--sort", "colour"], ["--colour", "red"], ["--no-such"],
                 ["99999999999"], [""]):
        code, out, err = stat(*args)
        assert code == 2 and not out and err, (args, code, out, err)
    wrong(1, "there is no process", "-1", 999999999)


# Cases that wait, at the same time as the others.
GROUPS = (("terminal", "resize"), ("hostile", "cut_off"))


def main():
    cases = {name[5:]: fn for name, fn in globals().items() if name.startswith("case_")}
    failed = 0
    beside = []
    wanted = sys.argv[3:]
    # Another run on this machine would take away what is left here.
    lock = open(pathlib.Path(tempfile.gettempdir(), f"libsheaf-stat-test.{os.geteuid()}"), "w") if not wanted else None
    if lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
    if not wanted:
        beside = [subprocess.Popen([sys.executable, __file__, TOOL, SHOWN, *group]) for group in GROUPS]
        wanted = [name for name in cases if not any(name in group for group in GROUPS)]
    for name in wanted:
        start = time.monotonic()
        try:
            cases[name]()
            print(f"{name}: ok ({time.monotonic() - start:.1f} s)")
        except Exception as e:  # pylint: disable=broad-except
            import traceback
            traceback.print_exc()
            print(f"{name}: {type(e).__name__}")
            failed += 1
    failed += sum(run.wait() != 0 for run in beside)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
