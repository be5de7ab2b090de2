"""Model cards: every figure is generated, and the committed cards say what the manifests say."""

import json
from pathlib import Path

import pytest

from export.card import BEGIN, END, figures, main, read_test, with_figures
from server.models.manifest import Manifest

ROOT = Path(__file__).parents[2]
CARDS = sorted(path for path in (ROOT / "docs" / "models").glob("adatape_*.md"))


@pytest.mark.parametrize("card", CARDS, ids=lambda path: path.stem)
def test_committed_card_says_what_the_manifest_says(card: Path) -> None:
    manifest = newest_manifest(card.stem)
    test = read_test(ROOT / "checkpoints" / card.stem.removeprefix("adatape_") / "test.json")
    assert figures(manifest, test) in card.read_text(encoding="utf-8")


def test_every_shipped_family_has_a_card() -> None:
    shipped = {path.parts[-3] for path in (ROOT / "model_repository").glob("*/*/manifest.json")}
    assert shipped == {card.stem for card in CARDS}


def newest_manifest(family: str) -> Manifest:
    paths = (ROOT / "model_repository" / family).glob("*/manifest.json")
    return Manifest.model_validate_json(max(paths, key=lambda path: int(path.parts[-2])).read_bytes())


def test_figures_replace_what_stands_between_the_markers() -> None:
    assert with_figures(f"by hand\n{BEGIN}\nold\n{END}\nmore", f"{BEGIN}new{END}") == f"by hand\n{BEGIN}new{END}\nmore"


@pytest.mark.parametrize("card", ["", BEGIN, f"{END} {BEGIN}", f"{BEGIN}{END}{BEGIN}{END}"])
def test_a_card_without_one_pair_of_markers_is_refused(card: str) -> None:
    with pytest.raises(ValueError, match="no single pair of markers"):
        with_figures(card, "")


def test_unreadable_input_ends_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({}))
    with pytest.raises(SystemExit, match=r"export\.card: "):
        main([str(tmp_path / "manifest.json"), str(tmp_path / "test.json"), str(tmp_path / "card.md")])
