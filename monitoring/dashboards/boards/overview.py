"""The overview: health, and whether the service level is met."""

from monitoring.dashboards.plan import JOB, MODEL, Board, Chart, Kind, Query, heatmap, mean, quantiles, rate, ratio

SLO = "a service level (--slo-ms)"
_LATE = rate("adatape_slo_answers_total", f'{MODEL},result="late"')
_JUDGED = rate("adatape_slo_answers_total", MODEL)
_MET = rate("adatape_slo_answers_total", f'{MODEL},result="met"')


def _number(title: str, about: str, unit: str, expr: str, needs: str = "") -> Chart:
    return Chart(title, about, unit, (Query(expr),), Kind.NUMBER, width=4, height=4, needs=needs)


NOW = (
    _number("Ready servers", "Servers that admit requests.", "short", f"sum(adatape_ready{{{JOB}}})"),
    _number("Requests", "Requests settled, a second.", "reqps", rate("adatape_requests_total", MODEL)),
    _number("Attained now", "Share of answers within the service level.", "percentunit", ratio(_MET, _JUDGED), SLO),
    _number(
        "Demand",
        "FLOPs asked for, as a share of what the device can run at full tape.",
        "percentunit",
        f"adatape:demand:ratio_rate5m{{{JOB}}}",
    ),
    _number(
        "Expected accuracy",
        "What the quality curve says of the caps in effect.",
        "percentunit",
        ratio(rate("adatape_expected_correct_total", MODEL), rate("adatape_inferences_total", MODEL)),
    ),
    _number("FLOPs a sample", "Mean that ran for it.", "short", mean("adatape_sample_executed_flops", MODEL)),
)

REQUESTS = (
    Chart(
        "Requests by outcome",
        "What became of requests; only what happened is drawn.",
        "reqps",
        (Query(f"{rate('adatape_requests_total', MODEL, 'outcome')} > 0", "{{outcome}}"),),
        Kind.STACKED,
    ),
    Chart(
        "Errors by reason",
        "Requests not answered, those for no model included.",
        "reqps",
        (Query(rate("adatape_errors_total", JOB, "reason"), "{{reason}}"),),
    ),
    Chart(
        "Requests by protocol",
        "Where requests come in.",
        "reqps",
        (Query(rate("adatape_requests_total", MODEL, "protocol"), "{{protocol}}"),),
        Kind.STACKED,
    ),
    Chart(
        "Samples answered by model",
        "A request may hold several.",
        "ops",
        (Query(rate("adatape_inferences_total", MODEL, "model"), "{{model}}"),),
    ),
)

LATENCY = (
    Chart(
        "Time of an answer",
        "Arrival to answer, a request, against the service level. Exemplars lead to traces.",
        "s",
        (*quantiles("adatape_request_duration_seconds", MODEL), Query(f"max(adatape_slo_seconds{{{JOB}}})", "SLO")),
        needs="",
    ),
    heatmap(
        "Times of answers",
        "Their distribution over time; the service level is an edge.",
        "adatape_request_duration_seconds",
        MODEL,
        unit="s",
    ),
    Chart(
        "Attainment",
        "Share of answers of high and normal priority within the service level, against its objective.",
        "percentunit",
        (
            Query(ratio(_MET, _JUDGED), "attained"),
            Query(f"avg(adatape_slo_attainment_ratio{{{MODEL}}})", "lately, by the server"),
            Query(f"max(adatape_slo_objective_ratio{{{JOB}}})", "objective"),
        ),
        needs=SLO,
    ),
    Chart(
        "Late answers",
        "A second.",
        "reqps",
        (Query(_LATE, "late"),),
        needs=SLO,
    ),
)

BURN = tuple(
    Chart(
        f"{title} budget burn",
        "How many times faster than allowed the error budget is spent; the alerts compare two windows each.",
        "short",
        tuple(
            Query(f"{record}:ratio_rate{window}{{{MODEL}}} / {budget}", f"{{{{model}}}} {window}")
            for window in ("5m", "1h", "6h", "3d")
        ),
        needs=needs,
    )
    for title, record, budget, needs in (
        ("Availability", "adatape:request_errors", 0.001, ""),
        ("Latency", "adatape:late_answers", 0.01, SLO),
    )
)

OVERVIEW = Board(
    "adatape-overview",
    "adatape-serve: overview and service level",
    "Start here: is it well, how fast is it, and is the service level kept?",
    (("Now", NOW), ("Requests", REQUESTS), ("Latency", LATENCY), ("Error budgets", BURN)),
)
