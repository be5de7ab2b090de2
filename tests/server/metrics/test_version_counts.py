"""The series of versions: shown while they are loaded, and for a few versions more."""

from server.backends.fake import FAMILY, fake_manifest
from server.metrics import Metrics
from server.metrics.version_counts import MAX_RETIRED
from tests.server.metrics.test_metrics import answer, receipt, total


def come_and_go(metrics, version):
    """Load a version, let it answer once and see it out."""
    manifest = fake_manifest(version=version)
    metrics.meter(manifest).answered("oip", answer(receipt(version=version)), 0.0)
    metrics.retire(manifest)


def num_samples(metrics, version):
    return total(metrics, "adatape_sample_seconds_count", version=version)


def test_only_the_last_few_versions_that_went_are_shown_and_sums_stay():
    metrics, lengths, versions = Metrics(), [], [str(number) for number in range(1, 3 * MAX_RETIRED)]
    for version in versions:
        come_and_go(metrics, version)
        lengths.append(len(metrics.render()[0]))
    assert [version for version in versions if num_samples(metrics, version)] == versions[-MAX_RETIRED:]
    assert lengths[-1] < 1.02 * lengths[MAX_RETIRED]
    assert total(metrics, "adatape_inferences_total") == len(versions)


def test_a_version_is_shown_for_as_long_as_one_load_of_it_lasts():
    metrics, first = Metrics(), fake_manifest()
    metrics.meter(first)
    later = metrics.meter(first)
    metrics.retire(first)
    for number in range(2, 2 + 2 * MAX_RETIRED):
        come_and_go(metrics, str(number))
    later.answered("oip", answer(receipt()), 0.0)
    assert num_samples(metrics, "1") == 1


def test_the_versions_of_one_family_do_not_crowd_out_those_of_another():
    metrics, other = Metrics(), fake_manifest("other")
    metrics.meter(other).answered("oip", answer(receipt(model="other")), 0.0)
    metrics.retire(other)
    for number in range(1, 1 + 2 * MAX_RETIRED):
        come_and_go(metrics, str(number))
    assert total(metrics, "adatape_sample_seconds_count", model="other") == 1


def test_a_version_that_comes_back_in_time_goes_on_counting():
    metrics = Metrics()
    for version in ("1", "2", "1"):
        come_and_go(metrics, version)
    assert num_samples(metrics, "1") == 2
    assert total(metrics, "adatape_sample_seconds_count", model=FAMILY) == 3
