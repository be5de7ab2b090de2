"""`python -m monitoring.dashboards`: write every dashboard."""

from pathlib import Path

from monitoring.dashboards.boards import BOARDS
from monitoring.dashboards.grafana import render

FOLDER = Path(__file__).parents[1] / "grafana" / "dashboards"


def files() -> dict[str, str]:
    """Return the JSON by file name."""
    return {f"{board.uid}.json": render(board) for board in BOARDS}


def main() -> None:
    """Write them, and remove what no board stands for any more."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for stale in FOLDER.glob("*.json"):
        stale.unlink()
    for name, text in files().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
        print(FOLDER.relative_to(Path.cwd()) / name)


if __name__ == "__main__":
    main()
