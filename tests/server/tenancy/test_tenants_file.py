"""The tenants file: what it may say, and one clear line, without keys, for what it may not."""

from math import inf

import pytest

from server.records import Priority
from server.tenancy import make_key, read_tenants_file

KEY, KEPT = make_key()
_, ADMIN = make_key(is_admin=True)


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "tenants.toml"
        path.write_text(text)
        return path

    return write


def test_a_file_with_everything(write):
    tenants_file, ring = read_tenants_file(
        write(f"""
            [tenants.acme]
            keys = ["{KEPT.line}", "{ADMIN.line}"]
            weight = 2
            flops_per_s = 1e9
            burst_flops = 5e9
            soft_share = 0.5
            max_tape = 8
            min_tape = 2
            max_priority = "normal"
            max_pending_samples = 64

            [tenants.anonymous]
            flops_per_s = 1e6
        """),
        None,
    )
    acme = tenants_file.policy("acme")
    assert (acme.weight, acme.burst, acme.max_tape, acme.min_tape) == (2, 5e9, 8, 2)
    assert (acme.max_priority, acme.max_pending_samples) == (Priority.NORMAL, 64)
    assert tenants_file.policy("anonymous").burst == 1e7
    assert tenants_file.policy("whoever").flops_per_s is None
    assert ring.find(KEY).tenant == "acme"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[tenants.acme]\nwieght = 2", "tenants.acme.wieght: Extra inputs are not permitted"),
        ("[tenant.acme]", "tenant: Extra inputs"),
        ("[tenants.acme]\nweight = 0", "tenants.acme.weight: Input should be greater than 0"),
        ("[tenants.acme]\nmin_tape = 9\nmax_tape = 8", "tenants.acme: min_tape; got 9; expected at most max_tape"),
        ("[tenants.acme]\nburst_flops = 1e9", "burst_flops; got no flops_per_s"),
        ("[tenants.acme]\nmax_priority = 'first'", "tenants.acme.max_priority"),
        ("[tenants.'A B']", "tenant; got 'A B'; expected a name of"),
        (f"[tenants.anonymous]\nkeys = ['{KEPT.line}']", "keys of anonymous; got some; expected none"),
        (f"[tenants.acme]\nkeys = ['{KEY}']", "tenants.acme.keys.0: hash line; got something else"),
        (f"[tenants.acme]\nkeys = [12, '{KEY}']", "tenants.acme.keys.0: hash line"),
        (f"[tenants.acme]\nkeys = ['{KEPT.line}', '{KEPT.line}']", f"key ids; got {KEPT.id} twice"),
        (f"[tenants.acme]\n{KEY}", "which is no TOML"),
        (f"[tenants.acme]\nkeys = '{KEY}'", "tenants.acme.keys: Input should be a valid tuple"),
    ],
)
def test_a_wrong_file_is_one_line_without_keys(write, text, message):
    with pytest.raises(ValueError, match=r"tenants|key ids") as failure:
        read_tenants_file(write(text), None)
    assert message in str(failure.value)
    assert "\n" not in str(failure.value)
    assert KEY not in str(failure.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"tenants_file; got .*no\.toml: No such file"):
        read_tenants_file(tmp_path / "no.toml", None)


def test_keys_may_come_from_the_environment_alone():
    tenants_file, ring = read_tenants_file(None, f"acme={KEPT.line}, ops={ADMIN.line},")
    assert tenants_file.tenants == {}
    assert {(owner.tenant, owner.is_admin) for owner in ring.owners} == {("acme", False), ("ops", True)}


@pytest.mark.parametrize("item", [KEY, f"acme={KEY}", f"A B={KEPT.line}", f"anonymous={KEPT.line}", KEPT.line])
def test_wrong_keys_from_the_environment_are_not_repeated(item):
    with pytest.raises(ValueError, match=r"api_keys, item 1; got|hash line; got") as failure:
        read_tenants_file(None, item)
    assert KEY not in str(failure.value)
    assert KEPT.line not in str(failure.value)


def test_keys_beside_a_file_belong_to_its_tenants(write):
    path = write("[tenants.acme]\nweight = 2")
    assert read_tenants_file(path, f"acme={KEPT.line}")[1].find(KEY).tenant == "acme"
    with pytest.raises(ValueError, match=r"api_keys, item 1; got tenant zeta; expected one of the tenants file"):
        read_tenants_file(path, f"zeta={KEPT.line}")


NO_NUMBERS = [
    "nan",
    "inf",
    "-inf",
    "-1",
    "true",
    "false",
    '"5"',
    '"inf"',
    "1e400",
    f"1{'0' * 400}",
    "[1]",
    "2026-01-01",
]


@pytest.mark.parametrize(
    "field", ["weight", "flops_per_s", "burst_flops", "soft_share", "max_tape", "min_tape", "max_pending_samples"]
)
@pytest.mark.parametrize("value", NO_NUMBERS)
def test_a_limit_is_a_finite_number_and_nothing_that_looks_like_one(write, field, value):
    beside = "flops_per_s = 1.0\n" if field == "burst_flops" else ""
    with pytest.raises(ValueError, match=rf"tenants\.acme\.{field}: Input should be "):
        read_tenants_file(write(f"[tenants.acme]\n{beside}{field} = {value}"), None)


@pytest.mark.parametrize("value", ["1.5", "true", "-1", "1e1", str(1 << 31)])
def test_a_cap_is_a_whole_number_that_a_tensor_can_hold(write, value):
    with pytest.raises(ValueError, match=r"tenants\.acme\.max_tape: Input should be "):
        read_tenants_file(write(f"[tenants.acme]\nmax_tape = {value}"), None)


def test_the_largest_quota_is_finite(write):
    assert read_tenants_file(write("[tenants.acme]\nflops_per_s = 1e24"), None)[0].policy("acme").burst < inf
