"""Where ``s3_connector`` has its container's program."""

from ..runtime import MetricsRegistry, build_config_from_env, metric_hook, run, start_metrics_server

__all__ = ["MetricsRegistry", "build_config_from_env", "metric_hook", "run", "start_metrics_server"]
