"""Data sources: what is accepted, what is refused, and that splits never overlap."""

import io
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adatape.data import open_source


def rows(x: np.ndarray) -> set[bytes]:
    return {row.tobytes() for row in x}


def test_digits_are_split_the_same_way_every_time() -> None:
    first, second = open_source("digits", image_size=32), open_source("digits", image_size=32)
    assert first.digest == second.digest
    assert first.test is not None
    assert len(first.train) + len(first.validation) + len(first.test) == 1797
    assert first.train.x.shape[1:] == (32, 32, 3)
    assert not rows(first.train.x) & rows(first.test.x)


def test_npz_round_trip_and_validation_cut(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (50, 8, 8, 3), np.uint8), np.arange(50) % 5
    np.savez(
        tmp_path / "d.npz", x_train=x, y_train=y, x_test=x[:10], y_test=y[:10], class_names=np.array(list("abcde"))
    )
    data = open_source(str(tmp_path / "d.npz"), image_size=8, validation_share=0.2)
    assert (len(data.train), len(data.validation)) == (40, 10)
    assert rows(data.train.x) | rows(data.validation.x) == rows(x)
    assert not rows(data.train.x) & rows(data.validation.x)
    assert data.class_names == tuple("abcde")
    assert data.split("test").y.tolist() == y[:10].tolist()


def test_npz_without_test_split_says_so(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x_train=np.zeros((20, 8, 8, 3), np.uint8), y_train=np.arange(20) % 2)
    data = open_source(str(tmp_path / "d.npz"), image_size=8)
    with pytest.raises(ValueError, match=r"got .test.; expected train, validation$"):
        data.split("test")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros(3)}, "expected x_train, y_train"),
        ({"x_train": np.zeros((4, 9, 8, 3), np.uint8), "y_train": np.zeros(4)}, r"got uint8 \(4, 9, 8, 3\)"),
        ({"x_train": np.zeros((4, 8, 8, 3)), "y_train": np.zeros(4)}, "got float64"),
        ({"x_train": np.zeros((4, 8, 8, 3), np.uint8), "y_train": np.zeros(3)}, "with 3 labels"),
        ({"x_train": np.zeros((4, 8, 8, 3), np.uint8), "y_train": np.array([0, 1, 2, -1])}, "labels; got -1 to 2"),
    ],
)
def test_npz_of_the_wrong_kind_is_refused(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        open_source(str(tmp_path / "d.npz"), image_size=8)


def make_folder(
    root: Path, splits: tuple[str, ...] = ("train", "val"), classes: tuple[str, ...] = ("cat", "dog")
) -> Path:
    for split in splits:
        for label, name in enumerate(classes):
            (root / split / name).mkdir(parents=True)
            for number in range(3):
                Image.new("RGB", (20, 10 + number), (label * 200, 0, 0)).save(root / split / name / f"{number}.png")
    return root


def test_image_folder(tmp_path: Path) -> None:
    data = open_source(str(make_folder(tmp_path)), image_size=16)
    assert data.class_names == ("cat", "dog")
    assert (len(data.train), len(data.validation), data.test) == (6, 6, None)
    assert data.train.x.shape == (6, 16, 16, 3)
    assert data.train.x[data.train.y == 1][:, 0, 0, 0].tolist() == [200, 200, 200]


def test_image_folder_without_val_cuts_it_from_train(tmp_path: Path) -> None:
    data = open_source(str(make_folder(tmp_path, splits=("train",))), image_size=16, validation_share=0.1)
    assert (len(data.train), len(data.validation)) == (4, 2)
    assert set(data.validation.y) == {0, 1}


def test_image_folder_may_be_classes_alone(tmp_path: Path) -> None:
    plain, split = make_folder(tmp_path / "a", splits=("",)), make_folder(tmp_path / "b", splits=("train",))
    (plain / ".cache").mkdir()
    (plain / "cat" / "._0.png").write_bytes(b"what a Mac leaves behind")
    a, b = (open_source(str(root), image_size=16) for root in (plain, split))
    assert a.class_names == b.class_names
    assert a.digest == b.digest


def test_image_folder_mistakes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="with val but no train"):
        open_source(str(make_folder(tmp_path / "untrained", splits=("val",))), image_size=16)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="got 0; expected at least 2 folders"):
        open_source(str(tmp_path / "empty"), image_size=16)
    heic = make_folder(tmp_path / "heic")
    for file in (heic / "train" / "dog").iterdir():
        file.rename(file.with_suffix(".heic"))
    with pytest.raises(ValueError, match=r"dog; got 3 of \.heic; expected \.bmp"):
        open_source(str(heic), image_size=16)
    single = make_folder(tmp_path / "single", splits=("train",))
    for name in ("1.png", "2.png"):
        (single / "train" / "dog" / name).unlink()
    with pytest.raises(ValueError, match="class dog; got 1; expected at least 2"):
        open_source(str(single), image_size=16)
    with pytest.raises(ValueError, match="expected at least 2 folders"):
        open_source(str(make_folder(tmp_path / "one", classes=("cat",))), image_size=16)
    broken = make_folder(tmp_path / "broken")
    (broken / "train" / "cat" / "0.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"0\.png.*expected a readable image"):
        open_source(str(broken), image_size=16)
    extra = make_folder(tmp_path / "extra")
    (extra / "val" / "cow").mkdir()
    with pytest.raises(ValueError, match=r"got \['cow'\]"):
        open_source(str(extra), image_size=16)


def cifar_batches(kind: str) -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    batches = {}
    for name in names:
        labels, pixels = rng.integers(0, 10, 20), rng.integers(0, 256, (20, 3072), np.uint8)
        if kind == "binary":
            batches[f"{name}.bin"] = b"".join(
                bytes([label]) + row.tobytes() for label, row in zip(labels, pixels, strict=True)
            )
        else:
            batches[name] = pickle.dumps({b"data": pixels, b"labels": labels.tolist()}, protocol=2)
    return batches


def write_archive(path: Path, batches: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, blob in batches.items():
            member = tarfile.TarInfo(f"cifar-10-batches/{name}")
            member.size = len(blob)
            archive.addfile(member, io.BytesIO(blob))
    return path


@pytest.mark.parametrize("kind", ["binary", "python"])
def test_cifar10_archives(tmp_path: Path, kind: str) -> None:
    path = write_archive(tmp_path / f"cifar-10-{kind}.tar.gz", cifar_batches(kind))
    data = open_source(str(path), image_size=32)
    assert data.test is not None
    assert (len(data.train) + len(data.validation), len(data.test)) == (100, 20)
    assert data.class_names[0] == "airplane"


def test_both_cifar10_archives_hold_the_same_images(tmp_path: Path) -> None:
    digests = {
        open_source(str(write_archive(tmp_path / f"cifar-10-{kind}.tar.gz", cifar_batches(kind))), image_size=32).digest
        for kind in ("binary", "python")
    }
    assert len(digests) == 1


def test_cifar10_archive_that_would_run_code_is_refused(tmp_path: Path) -> None:
    batches = cifar_batches("python")
    batches["data_batch_1"] = b"cos\nsystem\n(S'true'\ntR."
    path = write_archive(tmp_path / "cifar-10-python.tar.gz", batches)
    with pytest.raises(ValueError, match=r"got os\.system|got posix\.system"):
        open_source(str(path), image_size=32)


def test_cifar10_archive_without_a_batch_is_refused(tmp_path: Path) -> None:
    batches = cifar_batches("binary")
    del batches["data_batch_3.bin"]
    with pytest.raises(ValueError, match="got no data_batch_3"):
        open_source(str(write_archive(tmp_path / "cifar-10-binary.tar.gz", batches)), image_size=32)


def test_parity_labels_are_the_parity_of_ones() -> None:
    data = open_source("parity", image_size=224, seq_len=12)
    assert data.train.x.shape == (256_000, 12)
    assert ((data.validation.x == 2).sum(1) % 2 == data.validation.y).all()
    assert data.train.y.mean() == pytest.approx(0.5, abs=0.01)
    with pytest.raises(ValueError, match="expected parity or parity-variable, for strings of 12"):
        open_source("digits", image_size=32, seq_len=12)
