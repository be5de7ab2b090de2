"""The dashboard of batching: how samples form executions, and the time of each stage and bucket."""

from monitoring.dashboards.plan import (
    BUCKET,
    MODEL,
    SAMPLE,
    Board,
    Chart,
    Kind,
    Query,
    heatmap,
    mean,
    quantile,
    quantiles,
    rate,
)

_PLACE = "stage, bucket"
_NAMED = "{{stage}} {{bucket}}"

BATCHES = (
    Chart(
        "Mean batch size",
        "Samples in an execution, by stage and bucket, against the limit.",
        "short",
        (
            Query(mean("adatape_batch_size", BUCKET, _PLACE), _NAMED),
            Query(f"max(adatape_batch_size_limit{{{MODEL}}})", "limit"),
        ),
    ),
    heatmap("Batch sizes of the trunk", "Their distribution.", "adatape_batch_size", f'{BUCKET},stage="trunk"'),
    Chart(
        "Executions",
        "A second, by stage and bucket.",
        "ops",
        (Query(rate("adatape_execution_seconds_count", BUCKET, _PLACE), _NAMED),),
        Kind.STACKED,
    ),
    Chart(
        "Waiting",
        "Samples in line, by what they wait for.",
        "short",
        (Query(f"sum by ({_PLACE}) (adatape_waiting_samples{{{BUCKET}}})", _NAMED),),
        Kind.STACKED,
    ),
)

BUCKETS = (
    Chart(
        "Samples by bucket",
        "Where answers ran, a second; `none` had no answer.",
        "ops",
        (Query(rate("adatape_sample_seconds_count", SAMPLE, "bucket"), "{{bucket}}"),),
        Kind.STACKED,
    ),
    Chart(
        "Samples by outcome",
        "Answered as asked, degraded, or not at all.",
        "ops",
        (Query(rate("adatape_sample_seconds_count", SAMPLE, "outcome"), "{{outcome}}"),),
        Kind.STACKED,
    ),
    Chart(
        "Time of a sample by bucket",
        "Arrival to settlement, 99th percentile.",
        "s",
        (Query(quantile(0.99, "adatape_sample_seconds", SAMPLE, "bucket"), "{{bucket}}"),),
    ),
    Chart(
        "FLOPs of a sample by bucket",
        "Mean that ran for it.",
        "short",
        (Query(mean("adatape_sample_executed_flops", SAMPLE, "bucket"), "{{bucket}}"),),
    ),
    Chart(
        "FLOP/s by bucket",
        "What ran, by stage and bucket.",
        "short",
        (Query(rate("adatape_executed_flops_total", BUCKET, _PLACE), _NAMED),),
        Kind.STACKED,
    ),
    Chart(
        "Padding by cause",
        "FLOP/s: the reader's fixed steps, a bucket longer than the tape, a ride in a larger bucket.",
        "short",
        (Query(rate("adatape_padding_flops_total", MODEL, "cause"), "{{cause}}"),),
        Kind.STACKED,
    ),
)

TIMES = (
    Chart("Waiting time", "In line, a sample.", "s", quantiles("adatape_queue_seconds", MODEL), width=8),
    Chart("Reader time", "In the reader, a sample.", "s", quantiles("adatape_read_seconds", MODEL), width=8),
    Chart("Trunk time", "In the trunk, a sample.", "s", quantiles("adatape_trunk_seconds", MODEL), width=8),
    Chart(
        "Time of an execution",
        "Median by stage and bucket.",
        "s",
        (Query(quantile(0.5, "adatape_execution_seconds", BUCKET, _PLACE), _NAMED),),
        width=8,
    ),
    Chart(
        "Actual over predicted",
        "Time of an execution, median: 1 is right; batching, budgets and refusals rest on it.",
        "short",
        (Query(quantile(0.5, "adatape_execution_prediction_ratio", MODEL, "stage"), "{{stage}}"),),
        width=8,
    ),
    Chart(
        "Predicted minus actual",
        "Time of an execution, 5th, 50th and 95th percentile; above 0 it was quicker than thought.",
        "s",
        tuple(
            Query(quantile(q, "adatape_predicted_minus_actual_seconds", MODEL), f"p{q * 100:g}")
            for q in (0.05, 0.5, 0.95)
        ),
        width=8,
    ),
)

BATCHING = Board(
    "adatape-batching",
    "adatape-serve: batching and buckets",
    "How samples become executions, where they run and what each stage takes.",
    (("Batches", BATCHES), ("Buckets", BUCKETS), ("Times", TIMES)),
    ("model", "version", "bucket"),
)
