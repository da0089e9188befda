"""The budget of memory: room before a load, what was measured counts, requests in flight are waited for."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from fake_core import FakeCore, FakeError

from servable.errors import StatusError
from servable.lifecycle import memory_budget
from servable.lifecycle.interfaces import NoRoomError
from servable.lifecycle.memory_budget import ENGINE_BYTES, LEAST_BYTES, MemoryBudget
from servable.sources import VersionLoad

BUDGET = 10 * LEAST_BYTES
PART = 4 * LEAST_BYTES


class Memory:
    """A budget, with a core whose versions leave at once unless they are in flight."""

    def __init__(self, folder: Path) -> None:
        self.core = FakeCore()
        self.folder = folder
        self.left: list[str] = []
        self.now = 0.0
        self.most: int | None = None
        self.pinned: set[str] = set()
        self.unwanted: set[str] = set()
        self.budget = MemoryBudget(
            self.core,
            BUDGET,
            self._rest,
            lambda: self.now,
            lambda name: name in self.pinned,
            lambda name, _: name not in self.unwanted,
        )

    def tick(self) -> None:
        """Has time pass with every look at it, so that a wait ends."""
        clock = iter(range(10_000))
        self.budget._clock = lambda: float(next(clock))

    def _rest(self, name: str, version: int) -> bool:
        if name in self.pinned or not self.core.rest(name, version):
            return False
        self.left.append(name)
        self.core.unload(name, version)
        self.budget.freed(name, version)
        return True

    def load(self, name: str, taken: int | None, file_bytes: int = 0) -> None:
        path = self.folder / name
        path.mkdir(exist_ok=True)
        (path / "weights").write_bytes(bytes(file_bytes))
        load = VersionLoad(name, 1, str(path), threading.Event())
        with self.budget.turn(load, str(path)) as turn:
            self.core.state[name, 1] = "AVAILABLE"
            self.most = turn.most
            turn.took(taken)

    def use(self, name: str, idle: float, uses: int = 1) -> None:
        self.core.used[name, 1] = (idle, uses)


@pytest.fixture
def memory(tmp_path: Path) -> Memory:
    memory = Memory(tmp_path)
    # The first load of an engine starts what all others share.
    memory.load("first", BUDGET)
    assert memory.most is None
    memory.budget.freed("first", 1)
    return memory


def test_of_the_first_load_of_an_engine_what_the_engine_keeps_is_taken_off(tmp_path: Path) -> None:
    memory = Memory(tmp_path)
    memory.load("a", ENGINE_BYTES + PART, file_bytes=LEAST_BYTES)
    assert memory.most is None
    assert memory.budget.held("a", 1) == (PART, False)
    memory.load("b", PART)
    assert memory.most == BUDGET
    assert memory.budget.held("b", 1) == (PART, True)
    memory.load("a", PART + 1)
    assert memory.budget.held("a", 1) == (PART + 1, True)


def test_a_small_first_model_counts_as_its_files(tmp_path: Path) -> None:
    memory = Memory(tmp_path)
    memory.load("a", ENGINE_BYTES - 1, file_bytes=2 * LEAST_BYTES)
    assert memory.budget.held("a", 1) == (2 * LEAST_BYTES, False)


def test_the_first_model_of_an_engine_leaves_if_it_is_too_large_and_its_next_load_is_measured(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    memory = Memory(tmp_path)
    memory.load("a", ENGINE_BYTES + BUDGET + 1)
    assert caplog.text.count("and --memory_budget allows 655.4 kB") == 1
    memory.core.in_flight.add(("a", 1))
    memory.budget.look()
    assert memory.left == []
    memory.core.in_flight.clear()
    memory.budget.look()
    assert (memory.left, memory.budget.total()) == (["a"], 0)
    # The engine kept more than was taken off.
    memory.load("a", PART)
    assert memory.most == BUDGET
    memory.budget.look()
    assert (memory.left, memory.budget.held("a", 1)) == (["a"], (PART, True))
    assert caplog.text.count("--memory_budget allows") == 1


def test_the_log_tells_once_that_models_that_stay_take_too_much(
    memory: Memory, caplog: pytest.LogCaptureFixture
) -> None:
    memory.pinned |= {"a", "b"}
    memory.load("a", 9 * LEAST_BYTES)
    assert caplog.text == ""
    memory.load("b", 9 * LEAST_BYTES)
    memory.budget.look()
    taken = "what is loaded takes 1.2 MB, and --memory_budget allows 655.4 kB"
    told = f"{taken}; models that stay, pinned or with traffic rules, take 1.2 MB, so no other finds room"
    assert caplog.text.count(taken) == caplog.text.count(told) == 1
    assert memory.left == []
    memory.pinned.clear()
    memory.budget.look()
    assert len(memory.left) == 1
    memory.pinned |= {"a", "b", "c"}
    memory.load("c", 9 * LEAST_BYTES)
    assert caplog.text.count(taken) == 2


def test_what_was_measured_counts_and_the_least_recently_used_leaves(memory: Memory) -> None:
    memory.load("a", PART)
    memory.load("b", PART)
    memory.use("a", 1.0)
    memory.use("b", 9.0)
    assert (memory.left, memory.budget.total()) == ([], 2 * PART)
    memory.load("c", PART, file_bytes=PART)
    assert memory.left == ["b"]
    assert memory.budget.held("c", 1) == (PART, True)
    assert memory.budget.held("b", 1) is None


def test_more_than_was_expected_makes_others_leave_afterwards(memory: Memory) -> None:
    memory.load("a", PART)
    memory.load("b", 9 * LEAST_BYTES)
    assert memory.left == ["a"], "its files said nothing of that"
    memory.core.rest("b", 1)
    memory.budget.freed("b", 1)
    memory.load("a", PART)
    memory.load("b", 9 * LEAST_BYTES)
    assert memory.left == ["a", "a"]


def test_files_count_where_nothing_was_measured(memory: Memory) -> None:
    memory.load("a", None, file_bytes=PART)
    assert memory.budget.held("a", 1) == (PART, False)
    memory.load("huge", None, file_bytes=2 * BUDGET)
    assert memory.budget.held("huge", 1) == (BUDGET, False), "a guess refuses no model"
    assert memory.left == ["a"]


def test_one_that_was_measured_as_too_large_is_refused(memory: Memory) -> None:
    memory.load("a", PART)
    memory.load("large", BUDGET + 1)
    memory.budget.freed("large", 1)
    with pytest.raises(StatusError, match="--memory_budget allows") as refused:
        memory.load("large", BUDGET + 1)
    assert refused.value.code == "RESOURCE_EXHAUSTED"


def test_requests_in_flight_are_waited_for(memory: Memory) -> None:
    memory.load("a", PART)
    memory.load("b", PART)
    memory.core.in_flight |= {("a", 1), ("b", 1)}
    loading = threading.Thread(target=memory.load, args=("c", PART, PART), daemon=True)
    loading.start()
    memory.core.in_flight.discard(("b", 1))
    loading.join(30)
    assert not loading.is_alive()
    assert memory.left == ["b"]


def test_a_load_without_room_fails_in_the_end_and_leaves_its_turn(memory: Memory) -> None:
    memory.load("a", PART)
    memory.load("b", PART)
    memory.core.in_flight |= {("a", 1), ("b", 1)}
    memory.tick()
    with pytest.raises(StatusError, match="There is no room for") as refused:
        memory.load("c", PART, PART)
    assert refused.value.code == "RESOURCE_EXHAUSTED"
    memory.core.in_flight.clear()
    memory.load("c", PART, PART)
    assert len(memory.left) == 1


def with_a_pinned_one(memory: Memory) -> None:
    """Loads a pinned model, and three small ones."""
    memory.load("pinned", 6 * LEAST_BYTES)
    memory.pinned.add("pinned")
    for name in ("a", "b", "c"):
        memory.load(name, LEAST_BYTES)


def test_nothing_leaves_for_one_that_cannot_fit_beside_what_is_pinned(memory: Memory) -> None:
    memory.load("large", 5 * LEAST_BYTES)
    memory.core.rest("large", 1)
    memory.budget.freed("large", 1)
    with_a_pinned_one(memory)
    for _ in range(2):
        with pytest.raises(NoRoomError, match=f"models that are pinned take {6 * LEAST_BYTES}"):
            memory.load("large", 5 * LEAST_BYTES)
    assert memory.left == []


def test_a_guess_does_not_refuse_one_beside_what_is_pinned(memory: Memory) -> None:
    with_a_pinned_one(memory)
    memory.load("guessed", LEAST_BYTES, file_bytes=2 * BUDGET)
    assert memory.budget.held("guessed", 1) == (LEAST_BYTES, True)
    assert sorted(memory.left) == ["a", "b", "c"]


def test_nothing_more_leaves_once_it_is_known_that_there_is_no_room(memory: Memory) -> None:
    memory.load("large", 8 * LEAST_BYTES)
    memory.load("a", LEAST_BYTES)
    memory.use("large", 9.0)
    memory.use("a", 1.0)
    memory.core.in_flight.add(("large", 1))
    memory.tick()
    with pytest.raises(NoRoomError):
        memory.load("b", PART, file_bytes=PART)
    assert memory.left == []


def test_one_that_the_core_has_found_too_large_is_not_loaded_again(memory: Memory) -> None:
    path = memory.folder / "large"
    path.mkdir()
    (path / "model.onnx").write_bytes(b"large")
    load = VersionLoad("large", 1, str(path), threading.Event())
    said = f"It takes {BUDGET + 1} bytes of memory, and --memory_budget allows {BUDGET} for all models"
    with pytest.raises(FakeError), memory.budget.turn(load, str(path)):
        raise FakeError("RESOURCE_EXHAUSTED", said)
    memory.load("a", PART)
    with pytest.raises(StatusError) as refused, memory.budget.turn(load, str(path)):
        raise AssertionError("there is no turn")
    assert (refused.value.message, isinstance(refused.value, NoRoomError)) == (said, False)
    assert memory.left == []
    # Other files may take less.
    (path / "model.onnx").write_bytes(b"smaller")
    with memory.budget.turn(load, str(path)) as turn:
        turn.took(PART)
    assert memory.budget.held("large", 1) is not None


def test_a_load_that_nobody_wants_ends_its_waiting(memory: Memory, tmp_path: Path) -> None:
    load = VersionLoad("m", 1, str(tmp_path), threading.Event())
    load.stopped.set()
    with pytest.raises(StatusError) as ended, memory.budget.turn(load, str(tmp_path)):
        raise AssertionError("there is no turn")
    assert ended.value.code == "CANCELLED"


def test_a_turn_that_hangs_is_given_to_the_next(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_budget, "PATIENCE", 0.01)
    hangs, begun = threading.Event(), threading.Event()

    def load() -> None:
        folder = memory.folder / "hanging"
        folder.mkdir()
        hanging = VersionLoad("hanging", 1, str(folder), threading.Event())
        with memory.budget.turn(hanging, str(folder)) as turn:
            begun.set()
            hangs.wait(30)
            turn.took(PART)

    hanging = threading.Thread(target=load, daemon=True)
    hanging.start()
    assert begun.wait(10)
    memory.load("a", None, PART)
    assert memory.budget.held("a", 1) == (PART, False)
    hangs.set()
    hanging.join(10)
    assert memory.budget.held("hanging", 1) == (PART, True)


def test_what_is_being_loaded_counts(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_budget, "PATIENCE", 0.01)
    path = memory.folder / "slow"
    path.mkdir()
    (path / "weights").write_bytes(bytes(8 * LEAST_BYTES))
    memory.load("a", LEAST_BYTES)
    memory.tick()
    with pytest.raises(FakeError):
        with memory.budget.turn(VersionLoad("slow", 1, str(path), threading.Event()), str(path)):
            # It takes so long that the next one has its turn beside it.
            with pytest.raises(NoRoomError, match=f"or have requests in flight, take {9 * LEAST_BYTES}"):
                memory.load("b", PART, file_bytes=PART)
            memory.load("c", LEAST_BYTES)
            assert memory.left == []
        raise FakeError("ABORTED", "it failed")
    memory.load("b", PART, file_bytes=PART)
    assert memory.left == []


# ---- what versions take after their loads


def test_what_a_version_takes_in_another_engine_counts_and_others_leave(memory: Memory) -> None:
    memory.load("a", PART)
    memory.load("b", PART)
    memory.use("a", 9.0)
    memory.use("b", 0.0, uses=5)
    memory.core.grown["b", 1] = PART
    memory.budget.look()
    assert memory.left == ["a"]
    assert memory.budget.held("b", 1) == (2 * PART, True)
    memory.core.grown["b", 1] = -PART
    memory.budget.look()
    assert memory.budget.held("b", 1) == (LEAST_BYTES, True)


def test_a_load_looks_too(memory: Memory) -> None:
    memory.load("a", PART)
    memory.core.grown["a", 1] = PART
    memory.load("b", PART, file_bytes=PART)
    assert memory.left == ["a"]


def test_room_is_made_for_what_a_version_will_take_again(memory: Memory) -> None:
    memory.load("a", PART)
    memory.core.grown["a", 1] = PART
    memory.budget.look()
    memory.core.rest("a", 1)
    memory.budget.freed("a", 1)
    del memory.core.grown["a", 1]
    memory.load("b", PART)
    memory.load("a", PART)
    assert memory.left == ["b"]


def test_one_that_takes_more_than_all_may_stays_alone_and_is_loaded_again(
    memory: Memory, caplog: pytest.LogCaptureFixture
) -> None:
    memory.load("a", PART)
    memory.load("b", PART)
    memory.core.grown["b", 1] = BUDGET
    for _ in range(3):
        memory.budget.look()
    assert memory.left == ["a"], "it would be loaded and moved again by its next request"
    assert caplog.text.count("b version 1 takes") == caplog.text.count("--engine=tensorflow") == 1
    del memory.core.grown["b", 1]
    memory.load("a", PART)
    assert memory.left == ["a"], "it fits in the engine that loaded it"


def test_looks_go_on_until_the_end_whatever_fails(
    memory: Memory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(memory_budget, "LOOK_SECONDS", 0.001)
    ended, looks = threading.Event(), []

    def look() -> None:
        looks.append(len(looks))
        if len(looks) == 1:
            raise RuntimeError("on purpose")
        if len(looks) == 3:
            ended.set()

    monkeypatch.setattr(memory.budget, "look", look)
    memory.budget.follow(ended)
    assert "on purpose" in caplog.text
    assert looks == [0, 1, 2]


def test_a_look_waits_for_no_load(memory: Memory, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.mkdir()
    load = VersionLoad("a", 1, str(path), threading.Event())
    memory.load("b", PART)
    memory.core.grown["b", 1] = 2 * BUDGET
    with memory.budget.turn(load, str(path)):
        before = memory.budget.total()
        looking = threading.Thread(target=memory.budget.look, daemon=True)
        looking.start()
        looking.join(30)
        assert not looking.is_alive()
        assert memory.budget.total() == before


def test_what_was_measured_of_versions_that_are_gone_is_forgotten(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_budget, "KNOWN", 4)
    memory.budget._most_measured = 4
    for number in range(40):
        memory.load(f"m{number}", PART)
        if number % 10:
            memory.unwanted.add(f"m{number}")
    assert len(memory.budget._measured) < 20, "four are wanted, and some are loaded"
    assert {("m0", 1), ("m10", 1), ("m20", 1), ("m30", 1)} <= memory.budget._measured.keys()
    assert memory.budget.held("m39", 1) == (PART, True)
