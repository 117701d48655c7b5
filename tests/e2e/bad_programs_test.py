"""Bad programs, in real nodes: every one has a clear outcome, gives its slot back only when its processes are
gone, and leaves none when its node is killed. Programs are found by a mark in their arguments, which a wiped
environment does not hide."""

import contextlib
import glob
import json
import os
import pwd
import signal
import subprocess
import time
import unittest
from pathlib import Path

from cluster import BIN, Gate, Story, below, clean_environment, fields, is_running, job, json_job, until

# The longest that a process may outlive its killed node, from SIGKILL to the last that is gone: in release, for which
# it is promised. With sanitizers the forks, reads and exits of the spawner and its keepers take so much longer.
ORPHAN_S = 1.0
SANITIZER_FACTOR = 5
BOMBER = "games"  # nobody else's: a limit of processes is one of the whole user
BOMB_PROCESSES = 24
MIB = 1 << 20

# What `kill -N $$` does not end.
HARMLESS = {signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH,
            signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}  # the last three: nobody could continue its session
SIGNALS = [*range(1, 32), *range(34, 65)]  # 32 and 33 are the C library's own

# Does as its number says: exits with it, or sends itself the signal of a negative one. The job comes as a line.
EXIT_KEPT = """while read -r line; do
  number=${line##*:}; number=${number%?}
  case $number in -*) kill $number $$ ;; *) exit $number ;; esac
  echo '{"result":"lived on"}'
done
"""
EXIT_EXEC = 'case $1 in -*) kill $1 $$ ;; *) exit $1 ;; esac; printf "lived on"'

# A kept program in Python that does what its job's payload says, and then says nothing by itself.
BAD_KEPT = """import json, msgpack, os, signal, struct, subprocess, sys, time
is_json = sys.argv[1] == "json"
source, out = sys.stdin.buffer, sys.stdout.buffer
def raw(data):
    out.write(data)
    out.flush()
def framed(word):
    if is_json:
        return json.dumps(word).encode() + b"\\n"
    data = msgpack.packb(word)
    return struct.pack(">I", len(data)) + data
def say(**word):
    raw(framed(word))
def next_job():
    if is_json:
        return json.loads(source.readline() or sys.exit())
    size = source.read(4) or sys.exit()
    return msgpack.unpackb(source.read(struct.unpack(">I", size)[0]))
while True:
    job = next_job()
    if "payload" in job:
        exec(job["payload"] if is_json else json.loads(job["payload"]))
"""

BOMB = """import os, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
while True:
    try:
        if os.fork() == 0:
            {escape}
    except OSError:
        pass
"""
BOMBS = {"spins": BOMB.format(escape="pass"), "escapes": BOMB.format(escape="os.setsid()")}


def name_of(number):
    if number == signal.SIGPOLL:  # Python calls it SIGIO
        return "SIGPOLL"
    return signal.Signals(number).name if number < 34 else f"SIG{number}"


def is_sanitized():
    program = (BIN / "sluice-worker").read_bytes()
    return b"__asan_init" in program or b"__tsan_init" in program


def rss_bytes(pid):
    [line] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) * 1024


class BadPrograms(Story):
    redis = "memory:"  # what is tested is the node

    def setUp(self):
        super().setUp()
        self.mark = f"{self.cluster.folder}/bad"
        os.mkdir(self.mark)
        os.chmod(self.cluster.folder, 0o711)  # programs run as another user, too
        os.symlink("/bin/sleep", f"{self.mark}/nap")
        self.nap = f"{self.mark}/nap 600"
        self.cluster.start_broker()
        self.client = self.cluster.client()

    # ---- starting

    def start_node(self, *tasks, slots=1, more=()):
        self.config = self.cluster.write("node.toml", "\n".join(tasks))
        # What AddressSanitizer holds back of freed memory would hide what the node holds.
        options = os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=1"
        self.node = self.cluster.start_worker("--config", self.config, "--concurrency", slots, *more,
                                              name=f"bad-{self.cluster.tag}", ASAN_OPTIONS=options)
        return self.node

    def exec_task(self, name="exec", *lines):
        """Runs the script that its payload says, in a shell that carries our mark."""
        return "\n".join([f"[task.{name}]", f'program = ["/bin/sh", "-c", "{{script}}", "{self.mark}/sh"]',
                          f'cwd = "{self.mark}"', 'stdin = "none"', 'grace = "100ms"', *lines])

    def kept_task(self, protocol, *lines):
        path = Path(self.mark, "kept.py")
        path.write_text(BAD_KEPT)
        return "\n".join([f"[task.{protocol}]", 'run = "kept"', f'protocol = "{protocol}"',
                          f'program = ["/usr/bin/python3", "-IB", "{path}", "{protocol}"]',
                          f'cwd = "{self.mark}"', 'grace = "100ms"', *lines])

    def submit(self, task, payload, **more):
        [job_id] = self.client.submit(json_job(task, payload, **{"max_retries": 0, **more}))
        return job_id

    def exec_job(self, script, task="exec", **more):
        return self.submit(task, {"script": script}, **more)

    # ---- looking

    def alive(self):
        """The processes with our mark: programs, and what they started."""
        found = []
        for entry in glob.glob("/proc/[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                pid = int(entry.split("/")[2])
                if self.mark.encode() in Path(entry).read_bytes() and is_running(pid):
                    found.append(pid)
        return found

    def naps(self):
        """Of these, what a program started, and no program."""
        return [pid for pid in self.alive() if Path(f"/proc/{pid}/comm").read_text() == "nap\n"]

    def ended(self, job_id):
        """The job, ended. Looks at the processes at once: the end is told when they are gone."""
        view = self.client.wait([job_id])[job_id]
        self.assertEqual(self.alive(), [], view)
        return view

    def check(self, view, name, state, code="", words="", result=b""):
        self.assertEqual((view["state"], view.get("error_code", "")), (state, code), f"{name}: {view}")
        self.assertIn(words, view.get("error", ""), name)
        self.assertEqual(view.get("result", b""), result, name)

    def until_gone(self, pids, since, name):
        """All of them, and all that carry our mark. `since`: when their node was killed."""
        until(lambda: not any(is_running(pid) for pid in pids) and not self.alive(),
              f"{name}: processes outlive their node")
        took = time.monotonic() - since
        bar = ORPHAN_S * (SANITIZER_FACTOR if is_sanitized() else 1)
        print(f"{name}: gone {took * 1000:.0f} ms after their node, {bar * 1000:.0f} at most", flush=True)
        self.assertLess(took, bar, name)

    def kill_node(self, name):
        """With all that is below it gone in time."""
        pids = [*below(self.node.pid), *self.alive()]
        since = time.monotonic()
        self.node.signal(signal.SIGKILL)
        self.until_gone([self.node.pid, *pids], since, name)

    # ---- programs for one job

    def test_a_program_for_one_job_has_a_clear_outcome_and_leaves_nothing(self):
        self.start_node(self.exec_task())
        os.mkfifo(f"{self.mark}/pipe")
        escape = (f"(env -i /usr/bin/setsid /bin/sh -c 'echo $$ > pipe; exec {self.nap}' "
                  "</dev/null >/dev/null 2>&1 &); ")
        garbage = r"printf '\377\376\000\001\033[2J\200' "
        wild = b"\xff\xfe\x00\x01\x1b[2J\x80"
        table = [
            ("stdout closed early, then well", "printf early; exec >&-; mkdir well", "completed", "", "", b"early"),
            ("stdout closed early, then 3", "printf early; exec >&-; exit 3", "failed", "exit_3", "code 3", b""),
            ("every stream closed", "exec <&- >&- 2>&- 3>&-; mkdir closed", "completed", "", "", b""),
            ("10 GB on stdout", "head -c 10G /dev/zero", "failed", "result_too_large", "stdout passed", b""),
            ("endless stdout, SIGTERM ignored", "trap '' TERM PIPE; yes; yes", "failed", "result_too_large",
             "stdout passed", b""),
            ("garbage on stdout", garbage, "completed", "", "", wild),
            ("garbage on stderr", garbage + ">&2; exit 3", "failed", "exit_3", "exited with code 3\n", b""),
            ("garbage on descriptor 3, then well", garbage + ">&3; echo >&3", "completed", "", "", b""),
            ("garbage on descriptor 3, then 3", garbage + ">&3; echo >&3; exit 3", "failed", "exit_3",
             "descriptor 3 is neither PERCENT TEXT", b""),
            ("half a line of progress", "printf 50 >&3; exit 3", "failed", "exit_3", "code 3", b""),
            ("its keeper killed", f"kill -9 $PPID; exec {self.nap}", "failed", "keeper_lost", "keeper", b""),
        ]
        for name, script, state, code, words, result in table:
            self.check(self.ended(self.exec_job(script)), name, state, code, words, result)
        self.assertTrue(Path(self.mark, "well").is_dir() and Path(self.mark, "closed").is_dir())
        for name, script in {"double fork, environment wiped": escape + "cat pipe",
                             "setsid": f"setsid sh -c 'echo $$ > pipe; exec {self.nap}' & cat pipe"}.items():
            view = self.ended(self.exec_job(script))
            self.assertEqual(view["state"], "completed", name)
            self.assertFalse(is_running(int(view["result"])), name)
        self.check(self.ended(self.exec_job("printf fine")), "a good one", "completed", result=b"fine")
        self.assertEqual(self.node.stop(), 0)

    def test_a_program_that_does_not_end_is_ended_by_its_time_out(self):
        self.start_node(self.exec_task("exec"))
        table = {
            "SIGTERM ignored": f"trap '' TERM; {self.nap}; {self.nap}",
            "stopped": f"{self.nap} & kill -STOP $$",
            "its keeper stopped": f"kill -STOP $PPID; exec {self.nap}",
            "stdout closed early": f"exec >&-; exec {self.nap}",
            "half a line of progress, then silence": f"printf 5 >&3; exec {self.nap}",
            "endless progress": "yes >&3",
            "endless stderr": "yes >&2",
        }
        self.check(self.ended(self.exec_job("printf fine")), "a good one", "completed", result=b"fine")
        before = rss_bytes(self.node.pid)
        for name, script in table.items():
            self.check(self.ended(self.exec_job(script, timeout_ms=300)), name, "failed", "timeout", "its time was over")
        self.assertLess(rss_bytes(self.node.pid) - before, 32 * MIB)
        self.check(self.ended(self.exec_job("printf fine")), "a good one", "completed", result=b"fine")
        self.assertEqual(self.node.stop(), 0)

    def test_every_exit_code_and_every_signal_is_told(self):
        path = self.cluster.write("exit.sh", EXIT_KEPT)
        self.start_node('[task.exec]\nprogram = ["/bin/sh", "-c", "{script}", "sh", "{number}"]\ngrace = "0s"\n',
                        f'[task.kept]\nrun = "kept"\ngrace = "0s"\nprogram = ["/bin/sh", "{path}"]\n', slots=16)
        numbers = [*range(256), *[-number for number in SIGNALS]]
        more = {65: {"max_retries": 1}, -signal.SIGSTOP: {"timeout_ms": 300}}
        ids = {("exec", number): self.submit("exec", {"script": EXIT_EXEC, "number": number}, **more.get(number, {}))
               for number in numbers}
        ids |= {("kept", number): self.submit("kept", number, **more.get(number, {})) for number in numbers}
        views = self.client.wait(list(ids.values()))
        for (run, number), job_id in ids.items():
            view = views[job_id]
            if number == -signal.SIGSTOP:
                self.check(view, (run, number), "failed", "timeout", "its time was over")
            elif number < 0 and -number in HARMLESS:
                self.check(view, (run, number), "completed", result=b"lived on")
            elif number < 0:
                name = name_of(-number)
                self.check(view, (run, number), "failed", f"killed_by_{name}", f"killed by {name}")
            elif number == 0 and run == "exec":
                self.check(view, (run, number), "completed")
            else:  # a kept program that leaves in the middle of a job has not done it, whatever its code
                self.check(view, (run, number), "failed", f"exit_{number}", f"exited with code {number}")
            self.assertEqual(view.get("retry_count", 0), 0, view)
        until(lambda: self.client.workers()[0]["running"] == 0)
        self.assertEqual(self.node.stop(), 0)

    # ---- programs that stay

    def test_a_kept_program_has_a_clear_outcome_and_leaves_nothing(self):
        self.start_node(self.kept_task("json"), self.kept_task("msgpack"))
        nap = f'subprocess.Popen(["{self.mark}/nap", "600"], start_new_session=True, env={{}}); '
        leaves = 'os.fork() and os._exit(0); os.setsid(); os.fork() and os._exit(0); '
        table = [
            ("binary garbage", r'raw(b"\xff\xfe\0\1\x1b[2J\x80\n"); next_job()', "program_broken",
             {"json": "is no JSON object", "msgpack": "more than 8 MiB"}),
            ("no map", 'raw(framed([1])); next_job()', "program_broken",
             {"json": "is no JSON object", "msgpack": "is no msgpack map"}),
            ("endless stdout without a line", 'while True: raw(b"\\0" * 65536)', "program_broken",
             {"json": "more than 8 MiB", "msgpack": "is no msgpack map"}),
            ("10 GB of lines", 'os.dup2(out.fileno(), 1); os.execvp("sh", ["sh", "-c", "yes | head -c 10G"])',
             "program_broken", {"json": "is no JSON object: y", "msgpack": "more than 8 MiB"}),
            ("half a word, then its end", 'raw(framed({"result": "x"})[:-3]); os._exit(0)', "exit_0",
             "before it told the job's end"),
            ("half a word, then 3", 'raw(framed({"result": "x"})[:-3]); os._exit(3)', "exit_3",
             "before it told the job's end"),
            ("half a word, then a whole one", 'raw(framed({"result": "x"})[:-3]); say(result="y"); next_job()',
             "program_broken", {"json": "is no JSON object", "msgpack": "frame"}),
            ("garbage on stderr, then 3", r'os.write(2, b"\xff\0\x80"); os._exit(3)', "exit_3", "code 3"),
            ("a child that escaped, then 3", nap + "os._exit(3)", "exit_3", "code 3"),
            ("a child that escaped, then SIGSEGV", nap + "os.kill(os.getpid(), 11)", "killed_by_SIGSEGV", "SIGSEGV"),
            ("a child that escaped, then garbage", nap + r'raw(b"garbage!\n"); next_job()', "program_broken",
             {"json": "is no JSON object", "msgpack": "more than 8 MiB"}),
            ("a daemon of itself", leaves + "time.sleep(600)", "exit_0", "before it told the job's end"),
            ("its keeper killed", "os.kill(os.getppid(), 9); time.sleep(600)", "keeper_lost", "keeper"),
        ]
        closed = ("both ends closed early", "os.close(0); os.close(1); time.sleep(600)", "program_broken",
                  "it closed its stream and lived on")
        for protocol, rows in {"json": [*table, closed], "msgpack": table}.items():
            for name, script, code, words in rows:
                words = words if isinstance(words, str) else words[protocol]
                view = self.client.wait([job_id := self.submit(protocol, script)])[job_id]
                self.check(view, (protocol, name), "failed", code, words)
                self.assertEqual(self.naps(), [], name)
            view = self.client.wait([job_id := self.submit(protocol, 'say(result="fine")')])[job_id]
            self.check(view, "a good one", "completed", result=b"fine")
        self.assertEqual(self.node.stop(), 0)
        self.assertEqual(self.alive(), [])

    def test_a_kept_program_that_does_not_end_a_job_is_ended_by_its_time_out(self):
        self.start_node(*[self.kept_task(protocol, 'timeout = "200ms"', "processes_min = 0")
                          for protocol in ("json", "msgpack")])
        table = {
            "silence": "next_job()",
            "SIGTERM ignored": "signal.signal(15, signal.SIG_IGN); time.sleep(600)",
            "stopped": "os.kill(os.getpid(), 19)",
            "its keeper stopped": "os.kill(os.getppid(), 19); time.sleep(600)",
            "half a word, then silence": 'raw(framed({"result": "x"})[:-3]); time.sleep(600)',
            "stdout closed early": "os.close(1); time.sleep(600)",
            "endless stderr": 'while True: os.write(2, b"y\\n" * 32768)',
            "endless progress": 'while True: say(progress=50, message="y" * 200)',
            "a child that escaped": f'subprocess.run(["{self.mark}/nap", "600"], start_new_session=True, env={{}})',
        }
        before = 0
        for protocol in ("json", "msgpack"):
            for name, script in table.items():
                job_id = self.submit(protocol, script)
                view = self.client.wait([job_id])[job_id]
                self.check(view, (protocol, name), "failed", "timeout", "its time was over")
                self.assertEqual(self.naps(), [], name)
            before = before or rss_bytes(self.node.pid)
        self.assertLess(rss_bytes(self.node.pid) - before, 32 * MIB)
        self.assertEqual(self.node.stop(), 0)
        self.assertEqual(self.alive(), [])

    def test_many_floods_of_progress_keep_nobody_waiting_and_take_no_memory(self):
        """While they run, and while what they said last is read."""
        self.start_node(self.kept_task("json", 'timeout = "2s"', "processes_min = 0"),
                        '[task.echo]\nrun = "thread"\n', slots=48)
        before = rss_bytes(self.node.pid)
        flood = "while True: os.write(1, b'{\"progress\":5}\\n' * 5000)"
        floods = [self.submit("json", flood) for _ in range(40)]
        self.client.until_state(floods[-1], "running")
        [echo] = self.client.submit(job("echo", b"among floods"))
        self.assertEqual(self.client.wait([echo])[echo]["result"], b"among floods")
        while any(self.client.get(job_id)["state"] != "failed" for job_id in floods):
            subprocess.run([BIN / "sluice-worker", "--check", "--name", f"bad-{self.cluster.tag}"],
                           env=clean_environment(), check=True, stdout=subprocess.DEVNULL)
        for job_id in floods:
            self.check(self.client.get(job_id), job_id, "failed", "timeout", "its time was over")
        self.assertLess(rss_bytes(self.node.pid) - before, 64 * MIB)
        self.assertEqual(self.node.stop(), 0)
        self.assertEqual(self.alive(), [])

    # ---- handlers in isolates

    def test_an_isolate_that_a_signal_ends_says_which_and_is_replaced(self):
        self.start_node('[task.sleep]\nrun = "isolate"\ngrace = "100ms"\n', slots=len(SIGNALS))
        deadly = [number for number in SIGNALS if number not in HARMLESS | {signal.SIGSTOP, signal.SIGPIPE}]
        ids = [self.submit("sleep", 600_000) for _ in deadly]

        def isolates():
            return [pid for pid, name in below(self.node.pid).items() if name == "sluice-isolate"]

        until(lambda: [of["busy"] for node in self.client.workers()
                       for of in node.get("isolates", [])] == [len(deadly)])
        until(lambda: len(isolates()) == len(deadly))
        killed = isolates()
        for pid, number in zip(killed, deadly):
            os.kill(pid, number)
        views = self.client.wait(ids).values()
        self.assertEqual({(view["state"], view["error_code"]) for view in views}, {("failed", "isolate_crashed")})
        self.assertEqual(sorted(view["error"].split(": ")[1].split(",")[0] for view in views),
                         sorted(name_of(number) for number in deadly))
        self.assertFalse(any(is_running(pid) for pid in killed))
        self.check(self.client.wait([job_id := self.submit("sleep", 0)])[job_id], "a good one", "completed")
        self.assertEqual(self.node.stop(), 0)

    def test_a_stopped_isolate_is_ended_by_its_time_out(self):
        self.start_node('[task.sleep]\nrun = "isolate"\ngrace = "100ms"\n',
                        '[task.echo]\nrun = "isolate"\nisolates_min = 0\n')
        [isolate] = until(lambda: [pid for pid, name in below(self.node.pid).items() if name == "sluice-isolate"])
        os.kill(isolate, signal.SIGSTOP)
        view = self.client.wait([job_id := self.submit("sleep", 600_000, timeout_ms=200)])[job_id]
        self.check(view, "stopped", "failed", "timeout", "its time was over")
        self.assertFalse(is_running(isolate))
        wild = bytes(range(256)) * 256
        [job_id] = self.client.submit(job("echo", wild))
        self.check(self.client.wait([job_id])[job_id], "garbage", "completed", result=wild)
        self.assertEqual(self.node.stop(), 0)

    # ---- fork bombs

    def bomb_task(self, name, run, bomb):
        """With its mark; runs as somebody whose processes are counted."""
        if os.geteuid() != 0:
            self.skipTest("only root may run a program as another user")
        with contextlib.suppress(KeyError):
            pwd.getpwnam(BOMBER)
            wait = "next(sys.stdin); " if run == "kept" else ""
            script = f"import sys; {wait}exec(sys.argv[2])"
            program = ["/usr/bin/python3", "-IS", "-c", script, self.mark, bomb]
            return "\n".join([f"[task.{name}]", f'run = "{run}"', f"program = {json.dumps(program)}",
                              f'user = "{BOMBER}"', 'cwd = "/"', 'grace = "50ms"',
                              *(["processes_min = 0"] if run == "kept" else ['stdin = "none"']),
                              f"[task.{name}.limits]", f"processes = {BOMB_PROCESSES}"])
        self.skipTest(f"there is no user {BOMBER} on this machine")

    def until_bomb_is_full(self):
        until(lambda: len(self.alive()) >= BOMB_PROCESSES // 2, "the bomb does not go off")

    def test_a_fork_bomb_stays_under_its_limit_and_all_of_it_ends_with_its_job(self):
        tasks = {f"{run}-{name}": (run, bomb) for run in ("exec", "kept") for name, bomb in BOMBS.items()}
        self.start_node(*[self.bomb_task(name, *how) for name, how in tasks.items()],
                        self.exec_task("good", f'user = "{BOMBER}"', "[task.good.limits]",
                                       f"processes = {BOMB_PROCESSES}"))
        for name in tasks:
            job_id = self.submit(name, 1)
            self.until_bomb_is_full()
            self.assertLessEqual(len(self.alive()), BOMB_PROCESSES)
            since = time.monotonic()
            self.client.ask("cancel", ids=[job_id])
            self.check(self.ended(job_id), name, "cancelled")
            print(f"{name}: cancelled and gone after {(time.monotonic() - since) * 1000:.0f} ms", flush=True)
            self.check(self.ended(self.exec_job("printf fine", "good")), "a good one", "completed", result=b"fine")
        self.assertEqual(self.node.stop(), 0)

    def test_a_fork_bomb_ends_with_its_killed_node(self):
        for name, bomb in BOMBS.items():
            self.start_node(self.bomb_task(name, "exec", bomb))
            job_id = self.submit(name, 1)
            self.until_bomb_is_full()
            self.kill_node(f"fork bomb that {name}")
            self.client.ask("cancel", ids=[job_id])
            self.client.wait([job_id])

    # ---- a killed node

    def test_nothing_of_bad_programs_outlives_a_killed_node(self):
        term = "signal.signal(15, signal.SIG_IGN)"
        escape = f'subprocess.run(["{self.mark}/nap", "600"], start_new_session=True, env={{}})'
        programs = {
            "double fork, environment wiped": f"(env -i setsid {self.nap} &); touch up; {self.nap}",
            "setsid": f"setsid {self.nap} & touch up; {self.nap}",
            "SIGTERM ignored": f"trap '' TERM; touch up; {self.nap}; {self.nap}",
            "stopped": f"setsid {self.nap} & touch up; kill -STOP $$",
            "its keeper stopped": f"setsid {self.nap} & touch up; kill -STOP $PPID; {self.nap}",
            "its keeper stopped over and over": f"setsid {self.nap} & touch up; while :; do kill -STOP $PPID; done",
            "every stream closed": f"touch up; exec <&- >&- 2>&- 3>&-; exec {self.nap}",
            "endless stderr": "touch up; yes >&2",
            "endless progress": "touch up; yes >&3",
        }
        kept = {
            "silence": "UP; next_job()",
            "SIGTERM ignored": f"UP; {term}; time.sleep(600)",
            "stopped": "UP; os.kill(os.getpid(), 19)",
            "its keeper stopped": "UP; os.kill(os.getppid(), 19); time.sleep(600)",
            "half a word": 'UP; raw(framed({"result": "x"})[:-3]); time.sleep(600)',
            "both ends closed": "UP; os.close(0); os.close(1); time.sleep(600)",
            "endless stderr": 'UP\nwhile True: os.write(2, b"y\\n" * 32768)',
            "a child that escaped": f"UP; {escape}",
        }
        self.start_node(self.exec_task(), self.kept_task("json"), self.kept_task("msgpack"),
                        '[task.sleep]\nrun = "isolate"\n', slots=64)
        ups = []

        def up(text, word):
            ups.append(Path(self.mark, f"up{len(ups)}"))
            return text.replace(word[0], word[1].format(ups[-1]))

        ids = [self.exec_job(up(script, ("touch up", "touch {}"))) for script in programs.values()]
        for protocol in ("json", "msgpack"):
            ids += [self.submit(protocol, up(script, ("UP", 'open("{}", "w")'))) for script in kept.values()]
        ids += [self.submit("sleep", 600_000) for _ in range(2)]
        until(lambda: all(path.exists() for path in ups), "the programs do not begin")
        isolates = until(lambda: len(found := [pid for pid, name in below(self.node.pid).items()
                                               if name == "sluice-isolate"]) == 2 and found)
        os.kill(isolates[0], signal.SIGSTOP)
        self.kill_node(f"{len(ids)} bad programs")
        for job_id in ids:
            self.client.until_state(job_id, "queued", lost_count=1)

    def test_what_outlived_node_spawner_and_keeper_is_ended_when_the_node_starts_again(self):
        state = ["--state-dir", self.cluster.folder / "state"]
        self.start_node(self.exec_task(), more=state)
        up = Path(self.mark, "up")
        self.exec_job(f"setsid {self.nap} </dev/null >/dev/null 2>&1 & touch up; {self.nap}")
        until(up.exists)
        [program, *escaped] = until(lambda: len(found := sorted(self.alive())) == 3 and found)
        by_name = {name: pid for pid, name in below(self.node.pid).items()}
        # Stopped, the spawner does not hear of the others' ends, nor end what they leave.
        os.kill(by_name["sluice-spawner"], signal.SIGSTOP)
        for pid in (by_name["sluice-keeper"], self.node.pid, by_name["sluice-spawner"]):
            self.cluster.kill_pid(pid)
        self.assertTrue(self.naps())
        self.start_node(self.exec_task(), more=state)
        killed = fields(self.node.line("leftovers_killed"))
        self.node.line("node_started")
        self.assertGreaterEqual(int(killed["processes"]), 1)
        self.assertFalse(any(is_running(pid) for pid in [program, *escaped]))

    # ---- a program file that is replaced

    def write_program(self, name, text):
        path = Path(self.mark, name)
        path.write_text(text)
        path.chmod(0o755)
        return path

    def test_a_program_file_replaced_by_another_is_run_by_the_next_job(self):
        gate = Gate(self.cluster.folder)
        self.addCleanup(gate.release)
        wait = f"touch $0.up; flock -s {self.cluster.folder}/gate true"
        texts = {"exec": f"#!/bin/sh\n{wait}\nprintf WHICH\n",
                 "kept": f"#!/bin/sh\nwhile read -r _; do {wait}; echo '{{\"result\":\"WHICH\"}}'; done\n"}
        paths = {run: self.write_program(run, text.replace("WHICH", "one")) for run, text in texts.items()}
        self.start_node(*[f'[task.{run}]\nrun = "{run}"\nprogram = ["{path}"]\n' for run, path in paths.items()],
                        "recycle_after = 1", slots=2)
        ids = {run: self.submit(run, 1) for run in texts}
        until(lambda: all(Path(f"{path}.up").exists() for path in paths.values()))
        for run, text in texts.items():
            os.rename(self.write_program("new", text.replace("WHICH", "two")), paths[run])
        gate.release()
        for which in (b"one", b"two"):
            for run, job_id in ids.items():
                self.check(self.client.wait([job_id])[job_id], run, "completed", result=which)
            ids = {run: self.submit(run, 1) for run in texts}
        self.client.wait(list(ids.values()))
        self.assertEqual(self.node.stop(), 0)

    def test_a_program_file_that_is_being_written_costs_no_retry_and_is_not_tried_without_end(self):
        path = self.write_program("program", "#!/bin/sh\nread -r _; echo '{\"result\":\"fine\"}'\n")
        self.start_node(*[f'[task.{run}]\nrun = "{run}"\nprogram = ["{path}"]\n' for run in ("exec", "kept")])
        with open(path, "a"):
            ids = [self.submit(run, 1) for run in ("exec", "kept")]
            for job_id in ids:  # three times, and then it rests
                view = self.client.until_state(job_id, "pending", attempt=3, retry_count=0)
                self.assertEqual({each["outcome"] for each in view["attempts"]}, {"handed_back"})
        for run in ("exec", "kept"):
            view = self.client.wait([job_id := self.submit(run, 1)])[job_id]
            self.assertEqual(view["state"], "completed", view)
        self.client.ask("cancel", ids=ids)
        self.client.wait(ids)
        self.assertEqual(self.node.stop(), 0)


if __name__ == "__main__":
    unittest.main()
