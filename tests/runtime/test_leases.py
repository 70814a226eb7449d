"""Leases: never two holders, whatever the order of what contenders do; the dead are recovered, the late give way."""

import contextlib
import itertools
import json
import os
import subprocess
import sys
import threading

import hypothesis
import hypothesis.strategies as st
import pytest
from support import gs_stand_in

from selw2s_jax.errors import UserError
from selw2s_jax.runtime import leases, storage

NAME = "workdir"


class World:
    """Machines on one clock, which goes on only when one of them sleeps."""

    def __init__(self):
        self.now = 0.0
        self.machines: list[Machine] = []

    def sleep(self, seconds: float) -> None:
        end = self.now + seconds
        while due := [m for m in self.machines if m.beat is not None and m.runs and m.next_beat <= end]:
            machine = min(due, key=lambda m: m.next_beat)
            self.now = max(self.now, machine.next_beat)
            machine.next_beat += leases.HEARTBEAT_S
            if not machine.beat():
                machine.beat = None
        self.now = end


class Machine(leases.Machine):
    """A process of a host, with a clock of its own that shows another time than the others'."""

    def __init__(
        self, world: World, host: str, pid: int, *, file_id: str | None = None, heartbeats: bool = True
    ):
        self.world, self.host, self.pid, self.heartbeats = world, host, pid, heartbeats
        self.file_id = file_id or f"{len(world.machines):04d}"
        self.runs = self.exists = True
        self.beat, self.next_beat = None, 0.0
        world.machines.append(self)

    def identity(self):
        return {"host": self.host, "pid": self.pid, "kernel": self.host, "started": self.pid}

    def is_running(self, holder):
        if holder.get("kernel") != self.host:
            return None
        return any(m.exists for m in self.world.machines if (m.host, m.pid) == (self.host, holder["pid"]))

    def unique_id(self):
        return self.file_id

    def clock(self):
        return self.world.now + 1000.0 * hash_of(self.host)

    def sleep(self, seconds):
        self.world.sleep(seconds)

    def repeat(self, function, seconds):
        if self.heartbeats:
            self.beat, self.next_beat = function, self.world.now + seconds

    def kill(self):
        self.runs = self.exists = False


def hash_of(host: str) -> int:
    return sum(map(ord, host)) % 7


@pytest.fixture(params=["local", "gs"])
def folder(request, tmp_path):
    with gs_stand_in.workdir(request.param, tmp_path) as path:
        yield path / "leases"


def acquire(folder, machine, **options):
    return leases.acquire(folder, NAME, f"run of {machine.pid}", machine=machine, **options)


@pytest.mark.parametrize("hosts", ["aa", "ab"], ids=["one host", "two hosts"])
def test_a_held_name_is_refused_until_it_is_released(folder, hosts):
    world = World()
    first, second = (Machine(world, host, pid) for pid, host in enumerate(hosts))
    lease = acquire(folder, first)
    for _ in range(2):
        with pytest.raises(leases.HeldError, match="held by process 0 on a") as refusal:
            acquire(folder, second)
        assert refusal.value.claim.info == "run of 0"
    assert world.now <= 4 * leases.HEARTBEAT_S
    lease.check()
    lease.release()
    lease.release()
    start = world.now
    held = acquire(folder, second)
    assert world.now == start and held.recovered == []
    held.release()
    assert storage.names(folder) == []


def test_names_do_not_disturb_each_other(folder):
    machine = Machine(World(), "a", 1)
    for name in ("train-1", "train-12", "workdir"):
        leases.acquire(folder, name, machine=machine)
        machine.file_id += "0"
    assert len(storage.names(folder)) == 3


def test_a_holder_that_died_on_this_host_is_recovered_at_once(folder):
    world = World()
    first, second = Machine(world, "a", 1), Machine(world, "a", 2)
    acquire(folder, first)
    first.kill()
    lease = acquire(folder, second)
    assert world.now == 0 and [str(claim) for claim in lease.recovered] == ["process 1 on a"]
    assert len(storage.names(folder)) == 1


def test_a_holder_that_died_on_another_host_is_recovered_when_it_expires(folder):
    world = World()
    first, second = Machine(world, "a", 1), Machine(world, "b", 2)
    acquire(folder, first)
    first.kill()
    world.sleep(10_000)  # how old a claim is does not count: clocks of hosts differ
    waited = []
    lease = acquire(folder, second, on_wait=waited.append)
    assert leases.EXPIRY_S <= world.now - 10_000 <= leases.EXPIRY_S + 2
    assert list(map(str, waited)) == list(map(str, lease.recovered)) == ["process 1 on a"]


def test_a_process_with_the_number_of_a_dead_one_is_not_taken_for_it(folder):
    machine = leases.Machine()
    lease = leases.acquire(folder, NAME)
    (file,) = storage.names(folder)
    claim = json.loads(storage.read_bytes(folder / file))
    lease.release()
    assert claim["holder"]["pid"] == os.getpid()
    if claim["holder"]["kernel"] is None:
        pytest.skip("this system has no /proc: claims expire here")
    assert machine.is_running(claim["holder"]) is True
    assert machine.is_running(claim["holder"] | {"started": claim["holder"]["started"] - 1}) is False
    assert machine.is_running(claim["holder"] | {"kernel": "another boot"}) is None
    assert machine.is_running({}) is None


def test_processes_that_ended_do_not_run():
    machine = leases.Machine()
    code = (
        "import json; from selw2s_jax.runtime import leases; print(json.dumps(leases.Machine().identity()))"
    )
    process = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True, text=True)
    holder = json.loads(process.stdout)
    if holder["kernel"] is None:
        pytest.skip("this system has no /proc: claims expire here")
    assert machine.is_running(holder) is False


def test_without_proc_claims_expire(monkeypatch):
    monkeypatch.setattr(leases, "_kernel", lambda: None)
    machine = leases.Machine()
    assert machine.is_running(machine.identity()) is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"holder": 1, "info": "", "held": true}', b"\xff"])
def test_a_claim_that_makes_no_sense_holds_until_it_expires(folder, content):
    storage.make_folder(folder)
    storage.write_bytes(folder / f"{NAME}.x.json", content)
    machine = Machine(World(), "a", 1)
    assert len(acquire(folder, machine).recovered) == 1
    assert machine.world.now >= leases.EXPIRY_S


def test_a_holder_that_stood_still_goes_on_if_nobody_came(folder):
    world = World()
    machine = Machine(world, "a", 1)
    lease = acquire(folder, machine)
    machine.runs = False
    world.sleep(1000)
    machine.runs = True
    lease.check()
    with pytest.raises(leases.HeldError):
        acquire(folder, Machine(world, "b", 2))


def test_a_holder_that_stood_still_does_not_remove_the_claims_of_others(folder):
    """It cannot know whether it is itself taken for dead: two that remove each other's claims let in a third."""
    world = World()
    machine, other = Machine(world, "a", 1), Machine(world, "b", 2)
    lease = acquire(folder, machine)
    fields = {"holder": other.identity(), "info": "", "held": False}
    storage.write_bytes(folder / f"{NAME}.contender.json", json.dumps(fields).encode())
    machine.runs = False
    world.sleep(1000)
    start = world.now
    lease.check()
    assert world.now - start >= leases.EXPIRY_S
    assert f"{NAME}.contender.json" in storage.names(folder)


@pytest.mark.parametrize("by_heartbeat", [False, True])
def test_a_holder_that_stood_still_learns_that_it_lost(folder, by_heartbeat):
    world = World()
    machine, other = Machine(world, "a", 1), Machine(world, "b", 2)
    lease = acquire(folder, machine)
    machine.runs = False
    acquire(folder, other)
    machine.runs = by_heartbeat
    world.sleep(leases.HEARTBEAT_S)
    for _ in range(2):
        with pytest.raises(
            UserError, match=r"leases/workdir was lost to another process, as this process stood"
        ):
            lease.check()
    assert storage.names(folder) == [f"{NAME}.{other.file_id}.json"]


def test_heartbeats_outlive_a_file_system_that_fails_for_a_while(folder, monkeypatch):
    world = World()
    machine = Machine(world, "a", 1)
    lease = acquire(folder, machine)

    def fail(*args, **kwargs):
        raise OSError("network is down")

    with monkeypatch.context() as patch:
        patch.setattr(storage, "write_bytes", fail)
        world.sleep(30)
        lease.check()
        world.sleep(30)
        with pytest.raises(OSError, match="network is down"):
            lease.check()
    world.sleep(leases.HEARTBEAT_S)
    lease.check()


def test_what_another_process_writes_is_seen_though_listings_are_remembered(tmp_path):
    with gs_stand_in.workdir("gs", tmp_path) as path:
        world = World()
        storage.write_bytes(path / "leases" / "workdir.a.json", b"1")
        assert storage.names(path / "leases") == ["workdir.a.json"]
        listed = list((path / "leases").iterdir())
        (file,) = (tmp_path / "objects").iterdir()
        file.rename(file.with_name(file.name.replace("workdir.a", "workdir.b")))
        assert list((path / "leases").iterdir()) == listed  # the stand-in forgets no more than gcsfs
        assert storage.names(path / "leases") == ["workdir.b.json"]
        assert [str(claim) for claim in acquire(path / "leases", Machine(world, "a", 1)).recovered]


class Turns:
    """Runs functions in threads, one step at a time, in the order of a list of choices."""

    def __init__(self, functions, choices):
        self.choices = iter(choices)
        self.local = threading.local()
        self.go = [threading.Semaphore(0) for _ in functions]
        self.done = [False] * len(functions)
        self.back = threading.Semaphore(0)
        self.errors = []
        self.threads = [
            threading.Thread(target=self._run, args=(i, f), daemon=True) for i, f in enumerate(functions)
        ]

    def _run(self, index, function):
        self.local.index = index
        self.go[index].acquire()
        try:
            function()
        except BaseException as error:  # shown by the test
            self.errors.append(error)
        self.done[index] = True
        self.back.release()

    def step(self):
        """Where a thread hands over."""
        index = getattr(self.local, "index", None)
        if index is not None:
            self.back.release()
            self.go[index].acquire()

    def run(self):
        for thread in self.threads:
            thread.start()
        after = itertools.cycle(range(len(self.threads)))
        for steps in itertools.count():
            assert steps < 5000, "no end"
            alive = [index for index, done in enumerate(self.done) if not done]
            if not alive:
                break
            choice = next(self.choices, None)
            index = alive[(next(after) if choice is None else choice) % len(alive)]
            self.go[index].release()
            assert self.back.acquire(timeout=60)
        if self.errors:
            raise self.errors[0]


def contend(folder, machines, choices, *, hold_steps=2):
    """Lets machines contend in an order of steps; who won, in order. A step ends before each look or write."""
    winners, holding = [], []
    world = machines[0].world

    def contender(machine):
        def function():
            try:
                lease = acquire(folder, machine)
            except (leases.HeldError, UserError):
                return
            others = [other for other in holding if other._is_certain()]
            assert not others, "two processes hold the name"
            winners.append(machine.pid)
            holding.append(lease)
            for _ in range(hold_steps):
                turns.step()
            holding.remove(lease)
            lease.release()

        return function

    turns = Turns([contender(machine) for machine in machines], choices)
    originals = {name: getattr(storage, name) for name in ("write_bytes", "read_bytes", "names")}

    def stepping(original):
        def function(*args, **kwargs):
            turns.step()
            return original(*args, **kwargs)

        return function

    def sleep(seconds):
        turns.step()
        world.now += seconds

    with pytest.MonkeyPatch.context() as patch:
        for name, original in originals.items():
            patch.setattr(storage, name, stepping(original))
        patch.setattr(world, "sleep", sleep)
        turns.run()
    assert [name for name in storage.names(folder) if not name.startswith(f"{NAME}.dead")] == []
    return winners


@pytest.mark.slow
@pytest.mark.ci
def test_of_two_contenders_one_wins_in_every_order_of_their_steps(tmp_path):
    """Every order of the first steps of both: write, list, read, write again."""
    for number, choices in enumerate(itertools.product([0, 1], repeat=8)):
        world = World()
        machines = [Machine(world, "a", pid) for pid in range(2)]
        winners = contend(tmp_path / str(number), machines, choices, hold_steps=200)
        assert len(winners) == 1, choices


@hypothesis.settings(max_examples=60, deadline=None, derandomize=True)
@hypothesis.given(
    choices=st.lists(st.integers(0, 5), max_size=80),
    ids=st.permutations(["1", "2", "3"]),
    hosts=st.lists(st.sampled_from("ab"), min_size=3, max_size=3),
    dead=st.sampled_from(["none", "here", "elsewhere"]),
    kind=st.sampled_from(["local", "gs"]),
)
def test_never_two_holders(tmp_path_factory, choices, ids, hosts, dead, kind):
    """Three contenders that have no heartbeats, so that the ones elsewhere seem dead to each other in the end."""
    with gs_stand_in.workdir(kind, tmp_path_factory.mktemp("leases")) as folder:
        world = World()
        if dead != "none":
            victim = Machine(world, "a" if dead == "here" else "c", 9, file_id="dead")
            acquire(folder, victim)
            victim.kill()
        machines = [
            Machine(world, host, pid, file_id=ids[pid], heartbeats=False) for pid, host in enumerate(hosts)
        ]
        contend(folder, machines, choices)


@hypothesis.settings(max_examples=60, deadline=None, derandomize=True)
@hypothesis.given(
    stops=st.lists(st.tuples(st.integers(0, 2), st.floats(0, 200)), max_size=6),
    hosts=st.lists(st.sampled_from("ab"), min_size=3, max_size=3),
)
def test_processes_that_stop_and_go_on_never_hold_a_name_together(tmp_path_factory, stops, hosts):
    folder = tmp_path_factory.mktemp("leases")
    world = World()
    machines = [Machine(world, host, pid) for pid, host in enumerate(hosts)]
    held: dict[int, leases.Lease] = {}
    for stopped, seconds in stops:
        machines[stopped].runs = False
        world.sleep(seconds)
        for pid, machine in enumerate(machines):
            if machine.runs and pid not in held:
                machine.file_id += "+"
                with contextlib.suppress(leases.HeldError):
                    held[pid] = acquire(folder, machine)
        machines[stopped].runs = True
        for pid in list(held):
            try:
                held[pid].check()
            except UserError:
                del held[pid]
        assert len(held) <= 1
