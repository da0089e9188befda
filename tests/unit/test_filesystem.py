"""The file-system source: names of versions, the wanted ones, and announcements."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from servable.config.values import All, Folder, Latest, ModelConfig, Specific, VersionPolicy
from servable.savedmodel.layout import is_version_name
from servable.sources import AspiredVersion, filesystem
from servable.sources.filesystem import FilesystemSource, choose, look, versions_among


class Announcements:
    """A receiver that stores the last announcement of each model and can be waited on."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.last: dict[str, list[int] | None] = {}
        self.count = 0

    def aspire(self, model: str, versions: tuple[AspiredVersion, ...]) -> None:
        self._note(model, [one.version for one in versions])

    def missing(self, model: str) -> None:
        self._note(model, None)

    def _note(self, model: str, versions: list[int] | None) -> None:
        with self.changed:
            self.last[model] = versions
            self.count += 1
            self.changed.notify_all()

    def wait_for(self, **expected: list[int] | None) -> None:
        with self.changed:
            reached = self.changed.wait_for(
                lambda: all(
                    model in self.last and self.last[model] == versions
                    for model, versions in expected.items()
                ),
                10,
            )
            assert reached, self.last


@contextmanager
def watched(
    *models: ModelConfig, poll_seconds: float | None = 3600, look_seconds: float | None = None
) -> Iterator[tuple[FilesystemSource, Announcements]]:
    """Runs a source for these models; yields it with its announcements."""
    source, receiver = FilesystemSource(poll_seconds, look_seconds), Announcements()
    source.watch(models)
    source.start(receiver)
    try:
        yield source, receiver
    finally:
        source.stop()


def folders(base: Path, *names: str) -> Path:
    for name in names:
        (base / name).mkdir(parents=True)
    return base


@pytest.mark.parametrize("name", ["0", "1", "007", "00000123", "9223372036854775807", "0" * 30 + "7"])
def test_version_names(name: str) -> None:
    assert is_version_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        " 7 ",
        "+7",
        "-5",
        "0x10",
        "1e3",
        "1a",
        "v1",
        "1.0",
        "9223372036854775808",
        "\u0661",
        "\u00b2",
        "1\n",
        "9" * 5000,
    ],
)
def test_names_that_are_no_versions(name: str) -> None:
    assert not is_version_name(name)


@given(
    st.text(max_size=25) | st.integers(0, 2**64).map(str) | st.from_regex(r"[0-9+\- ]{1,22}", fullmatch=True)
)
def test_a_version_name_is_what_int_reads_from_digits_alone(name: str) -> None:
    plain = name != "" and all(character in "0123456789" for character in name)
    assert is_version_name(name) == (plain and int(name) < 2**63)


def test_near_misses_are_named_once_each_and_others_are_not_mentioned() -> None:
    found, problems = versions_among(
        [("1", True), ("+7", True), ("8", False), ("README", False), (" 3 ", True)]
    )
    assert found == {1: "1"}
    assert problems == [
        "' 3 ' is not a version: the name of a version folder is digits only",
        "'+7' is not a version: the name of a version folder is digits only",
        "'8' is not a version: it is not a folder",
    ]


def test_of_two_names_for_one_number_the_later_in_byte_order_is_taken() -> None:
    found, problems = versions_among([("1", True), ("001", True), ("01", True)])
    assert found == {1: "1"}
    assert len(problems) == 2


@pytest.mark.parametrize(
    ("policy", "wanted"),
    [
        (Latest(), [9]),
        (Latest(0), [9]),
        (Latest(2), [7, 9]),
        (Latest(99), [1, 7, 9]),
        (All(), [1, 7, 9]),
        (Specific((7, 8)), [7]),
        (Specific(()), []),
    ],
)
def test_policies(policy: VersionPolicy, wanted: list[int]) -> None:
    assert choose(policy, [9, 1, 7]) == wanted


def test_a_look_joins_the_base_path_with_the_name_as_found(tmp_path: Path) -> None:
    folders(tmp_path, "007", "3")
    finding = look(ModelConfig("m", str(tmp_path)))
    assert finding.versions == (AspiredVersion(7, str(tmp_path / "007")),)
    assert finding.problems == ()


def test_specific_matches_leading_zeros_and_names_what_is_absent(tmp_path: Path) -> None:
    folders(tmp_path, "007")
    finding = look(ModelConfig("m", str(tmp_path), policy=Specific((7, 8))))
    assert [one.version for one in finding.versions or ()] == [7]
    assert finding.problems == ("Version 8 of servable m is not among those found: 7",)


def test_a_symlink_to_a_folder_is_a_version_and_a_dangling_one_is_not(tmp_path: Path) -> None:
    folders(tmp_path, "store/a")
    base = folders(tmp_path, "base") / "base"
    (base / "1").symlink_to(tmp_path / "store" / "a")
    (base / "2").symlink_to(tmp_path / "gone")
    finding = look(ModelConfig("m", str(base)))
    assert [one.version for one in finding.versions or ()] == [1]


@pytest.mark.parametrize(
    ("build", "words"),
    [
        ([], "the folder is empty: put the SavedModel into"),
        (["other"], "holds other, and folders named by numbers"),
        (["a/1", "b/1"], "looks like a folder of models (a, b)"),
    ],
)
def test_no_version_says_what_was_seen(tmp_path: Path, build: list[str], words: str) -> None:
    finding = look(ModelConfig("m", str(folders(tmp_path, *build))))
    assert finding.versions == ()
    assert finding.problems[0].startswith(f"No versions of servable m found under base path {tmp_path}\n")
    assert words in finding.problems[0]


def test_a_saved_model_without_its_version_folder_is_recognised(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").touch()
    (problem,) = look(ModelConfig("m", str(tmp_path))).problems
    assert f"move the model to {tmp_path}/1" in problem


def test_a_missing_base_path_is_no_announcement_and_says_what_is_there(tmp_path: Path) -> None:
    folders(tmp_path, "half_plus_two")
    finding = look(ModelConfig("m", str(tmp_path / "half_plus_too")))
    assert finding.versions is None
    assert finding.problems[0].startswith(
        f"Could not find base path {tmp_path}/half_plus_too for servable m with error"
    )
    assert "holds half_plus_two" in finding.problems[0]


def test_a_file_as_base_path(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    finding = look(ModelConfig("m", str(tmp_path / "file")))
    assert finding.versions is None
    assert "is needed" in finding.problems[0]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_base_path(tmp_path: Path) -> None:
    base = folders(tmp_path, "base/1") / "base"
    base.chmod(0)
    try:
        assert "Permission denied" in look(ModelConfig("m", str(base))).problems[0]
    finally:
        base.chmod(0o700)


def test_one_versions_own_folder(tmp_path: Path) -> None:
    model = ModelConfig("m", str(tmp_path), policy=Folder(3))
    assert look(model).versions == (AspiredVersion(3, str(tmp_path)),)
    gone = look(ModelConfig("m", str(tmp_path / "gone"), policy=Folder(3)))
    assert gone.versions == ()
    assert "is gone" in gone.problems[0]


def test_it_announces_each_model_on_its_own(tmp_path: Path) -> None:
    bad = ModelConfig("bad", str(tmp_path / "bad"))
    good = ModelConfig("good", str(folders(tmp_path, "good/1") / "good"))
    with watched(bad, good, poll_seconds=0.01) as (_, receiver):
        receiver.wait_for(bad=None, good=[1])
        folders(tmp_path, "good/2")
        receiver.wait_for(bad=None, good=[2])
        folders(tmp_path, "bad/5")
        receiver.wait_for(bad=[5], good=[2])
        (tmp_path / "bad" / "5").rmdir()
        receiver.wait_for(bad=[], good=[2])
        (tmp_path / "bad").rmdir()
        receiver.wait_for(bad=None, good=[2])


def test_a_model_no_longer_watched_is_announced_empty(tmp_path: Path) -> None:
    model = ModelConfig("m", str(folders(tmp_path, "1")))
    with watched(model) as (source, receiver):
        receiver.wait_for(m=[1])
        source.watch([])
        receiver.wait_for(m=[])
        source.watch([model])
        receiver.wait_for(m=[1])


def test_a_path_that_no_file_can_have_concerns_its_own_model_only(tmp_path: Path) -> None:
    odd, model = ModelConfig("odd", "/a\0b"), ModelConfig("m", str(folders(tmp_path, "1")))
    with watched(odd, model) as (_, receiver):
        receiver.wait_for(odd=None, m=[1])


def test_what_was_found_for_an_earlier_list_is_not_announced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look takes time, and its list of models is replaced meanwhile."""
    receiver = Announcements()
    source = FilesystemSource(poll_seconds=3600)
    base = str(folders(tmp_path, "1", "2"))
    looked = filesystem.look

    def slow(model: ModelConfig) -> filesystem.Finding:
        if model.policy == All():
            source.watch([ModelConfig("m", base, policy=Specific((1,)))])
        return looked(model)

    monkeypatch.setattr(filesystem, "look", slow)
    source.watch([ModelConfig("m", base, policy=All())])
    source.start(receiver)
    try:
        receiver.wait_for(m=[1])
        assert receiver.count == 1
    finally:
        source.stop()


@pytest.mark.parametrize("poll_seconds", [0.0, 3600.0])
def test_between_polls_only_watch_makes_it_look(tmp_path: Path, poll_seconds: float) -> None:
    model = ModelConfig("m", str(folders(tmp_path, "a/1") / "a"))
    with watched(model, poll_seconds=poll_seconds) as (source, receiver):
        receiver.wait_for(m=[1])
        folders(tmp_path, "a/2")
        source.watch([ModelConfig("n", str(folders(tmp_path, "b/1") / "b"))])
        receiver.wait_for(m=[], n=[1])


def test_polling_never_announces_nothing_and_stops(tmp_path: Path) -> None:
    with watched(ModelConfig("m", str(folders(tmp_path, "1"))), poll_seconds=None) as (_, receiver):
        pass
    assert receiver.count == 0


def test_a_lasting_problem_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    missing = ModelConfig("m", str(tmp_path / "none"))
    model = ModelConfig("n", str(folders(tmp_path, "n/1") / "n"))
    with caplog.at_level(logging.WARNING), watched(missing, model, poll_seconds=0.001) as (_, receiver):
        for version in range(2, 12):
            folders(tmp_path, f"n/{version}")
            receiver.wait_for(n=[version])
    assert sum("Could not find base path" in line for line in caplog.messages) == 1


def test_what_is_looked_for_elsewhere_is_announced_though_nothing_is_there_either(tmp_path: Path) -> None:
    """A caller who changed the path waits for the answer."""
    with watched(ModelConfig("m", str(tmp_path / "none"))) as (source, receiver):
        receiver.wait_for(m=None)
        receiver.last.clear()
        source.watch([ModelConfig("m", str(tmp_path / "none")), ModelConfig("other", str(tmp_path / "none"))])
        receiver.wait_for(other=None)
        assert "m" not in receiver.last
        source.watch([ModelConfig("m", str(tmp_path / "neither"))])
        receiver.wait_for(m=None)


class DeadMount:
    """Looks at the base paths ``dead`` wait until ``answers`` is set, which the end of a block does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *dead: Path) -> None:
        self.answers = threading.Event()
        self.looks = 0
        self._dead = {str(path) for path in dead}
        self._look = filesystem.look
        monkeypatch.setattr(filesystem, "look", self._slow)

    def __enter__(self) -> DeadMount:
        return self

    def __exit__(self, *_: object) -> None:
        self.answers.set()

    def _slow(self, model: ModelConfig) -> filesystem.Finding:
        if model.base_path in self._dead:
            self.looks += 1
            assert self.answers.wait(30)
        return self._look(model)


@pytest.mark.parametrize("poll_seconds", [0.0, 0.01])
def test_a_look_that_hangs_holds_up_no_other_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, poll_seconds: float
) -> None:
    dead, alive = folders(tmp_path, "dead/1") / "dead", folders(tmp_path, "alive/1") / "alive"
    mount = DeadMount(monkeypatch, dead)
    models = (ModelConfig("dead", str(dead)), ModelConfig("alive", str(alive)))
    with watched(*models, poll_seconds=poll_seconds, look_seconds=0.05) as (_, receiver), mount:
        # Nobody waits for a folder that cannot be examined.
        receiver.wait_for(dead=None, alive=[1])
        folders(tmp_path, "alive/2")
        if poll_seconds:
            receiver.wait_for(dead=None, alive=[2])
        mount.answers.set()
        receiver.wait_for(dead=[1], alive=[2])
        assert mount.looks == 1 or poll_seconds
    assert sum("does the file system of" in line for line in caplog.messages) == 1


def test_a_model_that_is_moved_away_from_a_dead_mount_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead, alive = folders(tmp_path, "dead/1") / "dead", folders(tmp_path, "alive/2") / "alive"
    mount = DeadMount(monkeypatch, dead)
    model = ModelConfig("m", str(dead))
    with watched(model, poll_seconds=0.01, look_seconds=0.05) as (source, receiver), mount:
        receiver.wait_for(m=None)
        source.watch([ModelConfig("m", str(alive))])
        receiver.wait_for(m=[2])
        # The old look's finding concerns a path that is no longer wanted.
        mount.answers.set()
        folders(tmp_path, "alive/3")
        receiver.wait_for(m=[3])


def test_a_mount_with_many_models_is_given_up_sooner_for_each_further_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred looks of ten seconds each would delay the model behind them by a quarter of an hour."""
    dead = [folders(tmp_path, f"{number}/1") / str(number) for number in range(20)]
    alive = folders(tmp_path, "alive/1") / "alive"
    mount = DeadMount(monkeypatch, *dead)
    models = [ModelConfig(path.name, str(path)) for path in (*dead, alive)]
    with watched(*models, look_seconds=1.0) as (_, receiver), mount:
        receiver.wait_for(alive=[1], **{path.name: None for path in dead})


def test_a_look_that_hangs_does_not_hold_up_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dead = folders(tmp_path, "dead/1") / "dead"
    mount = DeadMount(monkeypatch, dead)
    receiver = Announcements()
    source = FilesystemSource(poll_seconds=0.01, look_seconds=3600)
    source.watch([ModelConfig("dead", str(dead))])
    source.start(receiver)
    monkeypatch.setattr(filesystem, "LAST_LOOK_SECONDS", 0.01)
    source.stop()
    mount.answers.set()
    assert receiver.count == 0


# ---- a model that is a file


class Places(Announcements):
    """Stores what was announced last, whole."""

    def aspire(self, model: str, versions: tuple[AspiredVersion, ...]) -> None:
        with self.changed:
            self.places = versions
        super().aspire(model, versions)

    def wait_until(self, condition: Callable[[tuple[AspiredVersion, ...]], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.count and condition(self.places), 10), self.places


@pytest.mark.parametrize(
    ("policy", "versions"),
    [(Folder(5), [5]), (Latest(), [1]), (All(), [1]), (Specific((1, 2)), [1]), (Specific((2,)), [])],
)
def test_a_file_is_one_version(tmp_path: Path, policy: VersionPolicy, versions: list[int]) -> None:
    file = tmp_path / "net.onnx"
    file.touch()
    finding = look(ModelConfig("m", str(file), policy=policy))
    assert [one.version for one in finding.versions or ()] == versions
    assert all(one.reloads and one.path == str(file) and one.fingerprint for one in finding.versions or ())
    assert bool(finding.problems) == isinstance(policy, Specific)


@pytest.mark.parametrize("policy", [Folder(1), Latest()])
def test_a_file_that_is_gone_is_unloaded_and_its_whole_folder_is_not(
    tmp_path: Path, policy: VersionPolicy
) -> None:
    (tmp_path / "other.onnx").touch()
    gone = look(ModelConfig("m", str(tmp_path / "net.onnx"), policy=policy))
    assert gone.versions == ()
    assert "is gone" in gone.problems[0] and f"{tmp_path} holds other.onnx" in gone.problems[0]
    dangling = tmp_path / "link.onnx"
    dangling.symlink_to(tmp_path / "nowhere")
    assert look(ModelConfig("m", str(dangling), policy=policy)).versions == ()
    if policy == Latest():
        assert look(ModelConfig("m", str(tmp_path / "mount" / "net.onnx"))).versions is None
        os.mkfifo(tmp_path / "pipe.onnx")
        assert look(ModelConfig("m", str(tmp_path / "pipe.onnx"))).versions is None


def test_a_folder_named_like_a_file_is_a_base_path(tmp_path: Path) -> None:
    base = folders(tmp_path, "net.onnx/3") / "net.onnx"
    finding = look(ModelConfig("m", str(base)))
    assert finding.versions == (AspiredVersion(3, str(base / "3")),)


def test_a_file_that_is_being_written_is_announced_when_two_polls_agree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "net.onnx"
    file.touch()
    stamps = iter(["first", "half", "more", "whole"])
    asked: list[str] = []

    def stamp(_: str) -> str:
        asked.append(next(stamps, "whole"))
        return asked[-1]

    monkeypatch.setattr(filesystem, "fingerprint", stamp)
    receiver, source = Places(), FilesystemSource(0.01)
    source.watch([ModelConfig("m", str(file), policy=Folder(1))])
    source.start(receiver)
    try:
        receiver.wait_until(lambda places: places[0].fingerprint == "whole")
        assert receiver.count == 2
        assert asked[:5] == ["first", "half", "more", "whole", "whole"]
    finally:
        source.stop()


def test_a_log_that_grows_beside_a_file_does_not_hold_it_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, log = tmp_path / "model.onnx", tmp_path / "model_train.log"
    file.write_bytes(b"1")
    looked = filesystem.fingerprint

    def write_and_look(path: str) -> str:
        with log.open("a") as opened:
            opened.write("one more step\n")
        return looked(path)

    monkeypatch.setattr(filesystem, "fingerprint", write_and_look)
    receiver, source = Places(), FilesystemSource(0.01)
    source.watch([ModelConfig("m", str(file), policy=Folder(1))])
    source.start(receiver)
    try:
        receiver.wait_for(m=[1])
        first = receiver.places[0].fingerprint
        file.write_bytes(b"2!")
        receiver.wait_until(lambda places: places[0].fingerprint != first)
        assert receiver.count == 2
    finally:
        source.stop()


def test_every_way_to_replace_a_file_is_announced(tmp_path: Path) -> None:
    file, fresh = tmp_path / "net.onnx", tmp_path / "fresh"
    file.write_bytes(b"1")
    receiver, source = Places(), FilesystemSource(0.01)
    source.watch([ModelConfig("m", str(file), policy=Folder(1))])
    source.start(receiver)
    try:
        receiver.wait_for(m=[1])
        states = [receiver.places[0].fingerprint]

        def changed() -> None:
            receiver.wait_until(lambda places: bool(places) and places[0].fingerprint != states[-1])
            states.append(receiver.places[0].fingerprint)

        fresh.write_bytes(b"2")
        fresh.rename(file)
        changed()
        file.write_bytes(b"3!")
        changed()
        fresh.symlink_to(tmp_path / "target")
        (tmp_path / "target").write_bytes(b"4")
        fresh.rename(file)
        changed()
        (tmp_path / "target").write_bytes(b"five")
        changed()
        file.unlink()
        receiver.wait_for(m=[])
    finally:
        source.stop()
