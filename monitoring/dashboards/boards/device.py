"""The dashboard of the machine and its devices."""

from monitoring.dashboards.plan import JOB, MODEL, RATE, Board, Chart, Query, rate

TLS = "TLS"
GPU = "a GPU and nvidia-ml-py"


def _by_instance(title: str, about: str, unit: str, *queries: Query, width: int = 8, needs: str = "") -> Chart:
    return Chart(title, about, unit, queries, width=width, needs=needs)


PROCESS = (
    _by_instance(
        "CPU",
        "Cores in use.",
        "short",
        Query(f"rate(process_cpu_seconds_total{{{JOB}}}[{RATE}])", "{{instance}}"),
    ),
    _by_instance(
        "Memory",
        "Resident; large request bodies in it, against their limit.",
        "bytes",
        Query(f"process_resident_memory_bytes{{{JOB}}}", "{{instance}}"),
        Query(f"sum(adatape_bodies_bytes{{{JOB}}})", "bodies"),
        Query(f"sum(adatape_bodies_limit_bytes{{{JOB}}})", "limit of bodies"),
    ),
    _by_instance(
        "File descriptors",
        "Open, connections included, against the limit.",
        "short",
        Query(f"process_open_fds{{{JOB}}}", "{{instance}}"),
        Query(f"min(process_max_fds{{{JOB}}})", "limit"),
    ),
    _by_instance(
        "Event loop",
        "How long a scrape waited for its turn: what every request waits, too.",
        "s",
        Query(f"adatape_event_loop_lag_seconds{{{JOB}}}", "{{instance}}"),
    ),
    _by_instance(
        "Up for",
        "Since the process started.",
        "s",
        Query(f"time() - process_start_time_seconds{{{JOB}}}", "{{instance}}"),
    ),
    _by_instance(
        "Versions",
        "Servers by version, families by device.",
        "short",
        Query(f"sum by (version, python) (adatape_build_info{{{JOB}}})", "server {{version}}, Python {{python}}"),
        Query(
            f"sum by (model, version, precision, device) (adatape_model_info{{{MODEL}}})",
            "{{model}} {{version}} {{precision}} {{device}}",
        ),
    ),
)

CONNECTIONS = (
    _by_instance(
        "Open connections",
        "HTTP, idle ones included.",
        "short",
        Query(f"adatape_open_connections{{{JOB}}}", "{{instance}}"),
        width=6,
    ),
    _by_instance(
        "Connections ended",
        "By the server, over a limit.",
        "ops",
        Query(rate("adatape_connections_ended_total", JOB, "reason"), "HTTP: {{reason}}"),
        Query(rate("adatape_rpcs_ended_total", JOB, "reason"), "gRPC: {{reason}}"),
        width=6,
    ),
    _by_instance(
        "Certificates",
        "Changed ones that the server took on or refused, a second; 0 while what is in the files is refused.",
        "short",
        Query(rate("adatape_tls_reads_total", JOB, "result"), "{{result}}"),
        Query(f"adatape_tls_last_read_ok{{{JOB}}}", "{{instance}}: last read ok"),
        needs=TLS,
        width=6,
    ),
    _by_instance(
        "Faults",
        "Failed, hung or lacked memory, once the next execution had ended well; canaries sent back; failing tasks.",
        "ops",
        Query(rate("adatape_recovery_seconds_count", JOB, "fault"), "{{fault}}"),
        Query(rate("adatape_canary_rollbacks_total", JOB, "model"), "canary of {{model}}"),
        Query(rate("adatape_background_task_failures_total", JOB, "task"), "task {{task}}"),
        width=6,
    ),
)

DEVICE_ROW = (
    _by_instance(
        "Device busy",
        "Share of the time in which an instance ran something.",
        "percentunit",
        Query(f"{rate('adatape_execution_seconds_sum', JOB)} / sum(adatape_executions_running_limit{{{JOB}}})", "busy"),
        width=12,
    ),
    _by_instance(
        "Executions running",
        "Against how many may at once.",
        "short",
        Query(f"sum(adatape_executions_running{{{JOB}}})", "running"),
        Query(f"sum(adatape_executions_running_limit{{{JOB}}})", "limit"),
        width=12,
    ),
    _by_instance(
        "GPU busy",
        "Share of the last moments.",
        "percentunit",
        Query(f"adatape_gpu_utilization_ratio{{{JOB}}}", "{{instance}} {{gpu_uuid}}"),
        needs=GPU,
    ),
    _by_instance(
        "GPU memory",
        "In use, by whomever, against what there is.",
        "bytes",
        Query(f"adatape_gpu_memory_used_bytes{{{JOB}}}", "{{instance}} {{gpu_uuid}}"),
        Query(f"min(adatape_gpu_memory_limit_bytes{{{JOB}}})", "limit"),
        needs=GPU,
    ),
    _by_instance(
        "GPU power",
        "Drawn, against what may be.",
        "watt",
        Query(f"adatape_gpu_power_watts{{{JOB}}}", "{{instance}} {{gpu_uuid}}"),
        Query(f"min(adatape_gpu_power_limit_watts{{{JOB}}})", "limit"),
        needs=GPU,
    ),
)

DEVICE = Board(
    "adatape-device",
    "adatape-serve: device and process",
    "The machine below: process, instances, GPU.",
    (("Process", PROCESS), ("Connections and faults", CONNECTIONS), ("Device", DEVICE_ROW)),
)
