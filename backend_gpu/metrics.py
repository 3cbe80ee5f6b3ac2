"""The figures that Prometheus reads."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """The metrics of one service, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.queued_jobs = Gauge("kotoe_queued_jobs", "Jobs that wait.", registry=self.registry)
        self.running_jobs = Gauge("kotoe_running_jobs", "Jobs in the batches that run.", registry=self.registry)
        self.jobs = Counter("kotoe_jobs", "Jobs that ended, by outcome.", ["outcome"], registry=self.registry)
        self.pictures = Counter("kotoe_pictures", "Pictures made.", registry=self.registry)
        self.stage_seconds = Histogram(
            "kotoe_stage_seconds",
            "Seconds that a stage took a batch; `finish` is encoding and writing.",
            ["stage"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.step_seconds = Histogram(
            "kotoe_step_seconds", "Seconds of one denoising step.", ["stage"], buckets=SECONDS, registry=self.registry
        )
        self.model_load_seconds = Gauge(
            "kotoe_model_load_seconds",
            "Seconds from the start of loading until a step was drawn.",
            registry=self.registry,
        )
