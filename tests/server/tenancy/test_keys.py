"""API keys: made, hashed, found; and nothing that goes wrong repeats one."""

import hashlib
import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.tenancy import __main__ as command
from server.tenancy.keys import KeyHash, KeyRing, make_key


def test_a_key_is_long_and_new_each_time():
    made = {make_key()[0] for _ in range(100)}
    assert len(made) == 100
    assert all(re.fullmatch(r"adk_[0-9a-f]{8}_[\w-]{43}", key) for key in made)


def test_what_is_kept_is_a_hash_of_the_whole_key():
    key, kept = make_key()
    assert kept.line == f"{key[4:12]}:{hashlib.sha256(key.encode()).hexdigest()}"
    assert key not in repr(kept)


@pytest.mark.parametrize("is_admin", [False, True])
def test_a_hash_line_reads_back(is_admin):
    _, kept = make_key(is_admin=is_admin)
    assert KeyHash.parse(kept.line) == kept
    assert kept.line.endswith(":admin") == is_admin


@given(st.text(max_size=200))
def test_text_that_is_no_hash_line_is_refused_and_not_repeated(text):
    with pytest.raises(ValueError, match=r"^hash line; got something else; expected <id>:"):
        KeyHash.parse(text)


def test_a_key_in_place_of_its_hash_line_is_not_repeated():
    key, _ = make_key()
    with pytest.raises(ValueError, match="hash line") as failure:
        KeyHash.parse(key)
    assert key not in str(failure.value)


def test_the_ring_knows_its_keys_and_no_other():
    (mine, kept), (admins, admin), (other, _) = make_key(), make_key(is_admin=True), make_key()
    ring = KeyRing([("acme", kept), ("ops", admin)])
    assert (ring.find(mine).tenant, ring.find(mine).is_admin) == ("acme", False)
    assert (ring.find(admins).tenant, ring.find(admins).is_admin) == ("ops", True)
    assert [ring.find(key) for key in (other, "", mine[:-1], mine + "a", mine.upper(), "adk_", "é" * 57)] == [None] * 7
    assert len(ring) == 2


def test_the_right_id_with_another_secret_is_not_known():
    key, kept = make_key()
    assert KeyRing([("acme", kept)]).find(key[:-1] + ("a" if key[-1] != "a" else "b")) is None


def test_digests_are_compared_in_constant_time(monkeypatch):
    compared = []
    monkeypatch.setattr("hmac.compare_digest", lambda *both: compared.append(both) or both[0] == both[1])
    (key, kept), (unknown, _) = make_key(), make_key()
    ring = KeyRing([("acme", kept)])
    assert ring.find(key)
    assert ring.find(unknown) is None
    assert [len(one) == len(other) == 32 for one, other in compared] == [True, True]


def test_two_keys_of_one_id_are_refused():
    _, kept = make_key()
    with pytest.raises(ValueError, match=f"key ids; got {kept.id} twice"):
        KeyRing([("acme", kept), ("zeta", kept)])


@pytest.mark.parametrize("is_admin", [False, True])
def test_the_command_prints_a_key_once_with_its_hash_line(capsys, is_admin):
    command.main(["--admin"] if is_admin else [])
    out = capsys.readouterr().out
    (key,), (line,) = (
        re.findall(r"^key +(\S+)$", out, re.MULTILINE),
        re.findall(r"^hash line +(\S+)$", out, re.MULTILINE),
    )
    assert out.count(key) == 1
    assert KeyHash.of(key, is_admin=is_admin).line == line


def test_the_command_hashes_a_key_from_standard_input(capsys, monkeypatch):
    key, kept = make_key()
    monkeypatch.setattr("sys.stdin", io.StringIO(key + "\n"))
    command.main(["--stdin"])
    assert capsys.readouterr().out == kept.line + "\n"
    monkeypatch.setattr("sys.stdin", io.StringIO("hunter2\n"))
    with pytest.raises(SystemExit, match=r"^API key; got something else; expected adk_<id>_<secret>$"):
        command.main(["--stdin"])
