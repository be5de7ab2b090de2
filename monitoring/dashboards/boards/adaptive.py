"""The dashboard of adaptive tapes: their lengths, cost and accuracy."""

from monitoring.dashboards.plan import (
    JOB,
    MODEL,
    SAMPLE,
    Board,
    Chart,
    Kind,
    Query,
    causes,
    heatmap,
    mean,
    quantile,
    rate,
    ratio,
)

SLO = "a service level (--slo-ms)"
SHADOW = "shadows (--shadow-share)"
_EXECUTED, _USEFUL = "adatape_sample_executed_flops", "adatape_sample_useful_flops"

TAPES = (
    heatmap("Tape used", "Tape length of each answer.", "adatape_tape_length_used", MODEL),
    heatmap("Tape wanted", "What it would have been by halting alone.", "adatape_tape_length_wanted", MODEL),
    heatmap("Cap in effect", "The smallest cap that any rule asked for.", "adatape_tape_length_cap", MODEL),
    heatmap("Cap asked for", "What callers' own asks come to.", "adatape_tape_length_requested_cap", MODEL),
    Chart(
        "Mean tape",
        "Used against wanted: the gap is what caps cut off.",
        "short",
        (
            Query(mean("adatape_tape_length_used", MODEL), "used"),
            Query(mean("adatape_tape_length_wanted", MODEL), "wanted"),
            Query(mean("adatape_tape_length_cap", MODEL), "cap"),
        ),
    ),
    Chart(
        "Who set the cap",
        "Samples answered by the rule that bound their cap.",
        "ops",
        (Query(rate("adatape_budget_reason_total", MODEL, "reason"), "{{reason}}"),),
        Kind.STACKED,
    ),
)

CONTROL = (
    Chart(
        "Cap trajectory",
        "What the controller has chosen, between the smallest and the largest it may.",
        "short",
        (
            Query(f"adatape_controller_cap{{{MODEL}}}", "{{model}} {{instance}}"),
            Query(f"min(adatape_controller_cap_floor{{{MODEL}}})", "floor"),
            Query(f"max(adatape_controller_cap_limit{{{MODEL}}})", "tape capacity"),
        ),
        needs=SLO,
    ),
    Chart(
        "Moves of the cap",
        "A second, up and down; many of both are hunting.",
        "ops",
        (Query(rate("adatape_controller_moves_total", MODEL, "direction"), "{{direction}}"),),
    ),
)

COST = (
    Chart(
        "FLOPs by use",
        "What the device works for: answers (useful, padding), nobody (wasted), checks (shadow).",
        "short",
        (Query(rate("adatape_flops_total", MODEL, "kind"), "{{kind}}"),),
        Kind.STACKED,
    ),
    Chart(
        "Padding",
        "Share of answers' FLOPs that is padding, by what was too long.",
        "percentunit",
        (causes("adatape_padding_flops_total", rate("adatape_flops_total", f'{MODEL},kind=~"useful|padding"')),),
        Kind.STACKED,
    ),
    Chart(
        "FLOPs a sample",
        "Executed against useful, median and 99th percentile.",
        "short",
        tuple(
            Query(quantile(q, name, SAMPLE), f"{legend} p{q * 100:g}")
            for name, legend in ((_EXECUTED, "executed"), (_USEFUL, "useful"))
            for q in (0.5, 0.99)
        ),
    ),
    heatmap("FLOPs executed", "Distribution over samples settled.", _EXECUTED, SAMPLE),
)

QUALITY = (
    Chart(
        "Expected accuracy",
        "A proxy: what the quality curve says of the caps in effect, on its own data.",
        "percentunit",
        (
            Query(
                ratio(
                    rate("adatape_expected_correct_total", MODEL, "model"),
                    rate("adatape_inferences_total", MODEL, "model"),
                ),
                "{{model}}",
            ),
        ),
    ),
    Chart(
        "Agreement with full tape",
        "Capped answers that name full tape's class, by cap, on your own traffic; below the limit a cap is held back.",
        "percentunit",
        (
            Query(f"adatape_shadow_agreement_ratio{{{MODEL}}}", "{{model}} cap {{cap}}"),
            Query(f"max(adatape_shadow_agreement_ratio_min{{{JOB}}})", "limit"),
        ),
        needs=SHADOW,
    ),
    Chart(
        "Comparisons",
        "Capped answers compared with full tape, by what came of it.",
        "ops",
        (Query(rate("adatape_shadow_comparisons_total", MODEL, "result"), "{{result}}"),),
        Kind.STACKED,
        needs=SHADOW,
    ),
    Chart(
        "Degraded answers",
        "Share that got a smaller cap than asked, by cause.",
        "percentunit",
        (causes("adatape_degraded_total", rate("adatape_inferences_total", MODEL)),),
        Kind.STACKED,
    ),
)

ADAPTIVE = Board(
    "adatape-adaptive",
    "adatape-serve: adaptive compute",
    "How long the tapes are, who decided that, what they cost and what they are worth.",
    (("Tapes", TAPES), ("Control", CONTROL), ("Cost", COST), ("Quality", QUALITY)),
    ("model", "version", "bucket"),
)
