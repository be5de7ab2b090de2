"""A soak of a few seconds against the shipped models: memory is not judged, all else is."""

import json
import subprocess
import sys

from loadtest.process import ROOT


def test_every_request_is_accounted_for(tmp_path):
    report, record = tmp_path / "new" / "soak.md", tmp_path / "other" / "soak.jsonl"
    options = [
        "--duration",
        "6",
        "--rate",
        "30",
        "--reload-every",
        "2",
        "--report",
        str(report),
        "--record",
        str(record),
    ]
    command = [
        sys.executable,
        "-m",
        "loadtest.soak",
        *options,
        "--",
        "--hang-timeout-s",
        "60",
        "--max-pending-s",
        "600",
    ]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, cwd=ROOT)
    output = ended.stdout + ended.stderr
    assert ended.returncode == 0, output
    assert ended.stdout.splitlines()[-1].startswith("soak: PASS: "), output
    document = json.loads(report.with_suffix(".json").read_text())
    sums = {each["name"]: each["counted"] for each in document["sums"]}
    assert document["num_reloads"] >= 1
    assert {"classify calls that left", "oip calls that left", "oip_grpc calls"} < set(sums)
    assert sums["samples answered"] > 100
    assert document["num_answers_as_before"] > 0
    assert json.loads(record.read_text().splitlines()[-1])["unexpected"] == 0
    assert "--max-pending-s 600`" in document["origin"]
    assert report.read_text() == ended.stdout
