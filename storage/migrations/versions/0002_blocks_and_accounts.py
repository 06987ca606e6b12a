"""blocks, their aggregates, and accounts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

INTEGER = sa.Integer().with_variant(sa.BigInteger(), "postgresql")
REAL: sa.types.TypeEngine[float] = sa.REAL().with_variant(sa.Double(), "postgresql")

PARTITIONED = (
    "accelerator_block",
    "block_aggregate",
    "cpu_block",
    "deployment_block",
    "host_block",
    "latency_block",
)


def upgrade() -> None:
    op.create_table(
        "metric",
        sa.Column("metric_id", INTEGER, nullable=False),
        sa.Column("family", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("metric_id", name=op.f("pk_metric")),
        sa.UniqueConstraint("family", "name", name=op.f("uq_metric_family_name")),
        sqlite_strict=True,
    )
    op.create_table(
        "accelerator_block",
        sa.Column("entity_id", INTEGER, nullable=False),
        sa.Column("span_ms", INTEGER, nullable=False),
        sa.Column("instants", INTEGER, nullable=False),
        sa.Column("first_at_ms", INTEGER, nullable=False),
        sa.Column("last_at_ms", INTEGER, nullable=False),
        sa.Column("times", sa.LargeBinary(), nullable=False),
        sa.Column("utilization_ratio", sa.LargeBinary(), nullable=True),
        sa.Column("memory_activity_ratio", sa.LargeBinary(), nullable=True),
        sa.Column("sm_active_ratio", sa.LargeBinary(), nullable=True),
        sa.Column("sm_occupancy_ratio", sa.LargeBinary(), nullable=True),
        sa.Column("tensor_active_ratio", sa.LargeBinary(), nullable=True),
        sa.Column("dram_active_ratio", sa.LargeBinary(), nullable=True),
        sa.Column("encoder_ratio", sa.LargeBinary(), nullable=True),
        sa.Column("decoder_ratio", sa.LargeBinary(), nullable=True),
        sa.Column("memory_used_bytes", sa.LargeBinary(), nullable=True),
        sa.Column("memory_total_bytes", sa.LargeBinary(), nullable=True),
        sa.Column("power_watts", sa.LargeBinary(), nullable=True),
        sa.Column("memory_power_watts", sa.LargeBinary(), nullable=True),
        sa.Column("power_limit_watts", sa.LargeBinary(), nullable=True),
        sa.Column("energy_joules_total", sa.LargeBinary(), nullable=True),
        sa.Column("temperature_celsius", sa.LargeBinary(), nullable=True),
        sa.Column("memory_temperature_celsius", sa.LargeBinary(), nullable=True),
        sa.Column("temperature_margin_celsius", sa.LargeBinary(), nullable=True),
        sa.Column("core_clock_hertz", sa.LargeBinary(), nullable=True),
        sa.Column("memory_clock_hertz", sa.LargeBinary(), nullable=True),
        sa.Column("performance_state", sa.LargeBinary(), nullable=True),
        sa.Column("throttle_reasons", sa.LargeBinary(), nullable=True),
        sa.Column("throttle_power_seconds_total", sa.LargeBinary(), nullable=True),
        sa.Column("throttle_thermal_seconds_total", sa.LargeBinary(), nullable=True),
        sa.Column("throttle_brake_seconds_total", sa.LargeBinary(), nullable=True),
        sa.Column("ecc_corrected_errors_total", sa.LargeBinary(), nullable=True),
        sa.Column("ecc_uncorrected_errors_total", sa.LargeBinary(), nullable=True),
        sa.Column("remapped_rows_total", sa.LargeBinary(), nullable=True),
        sa.Column("retired_pages_total", sa.LargeBinary(), nullable=True),
        sa.Column("row_remap_state", sa.LargeBinary(), nullable=True),
        sa.Column("recovery_action", sa.LargeBinary(), nullable=True),
        sa.Column("pcie_rx_bytes_total", sa.LargeBinary(), nullable=True),
        sa.Column("pcie_tx_bytes_total", sa.LargeBinary(), nullable=True),
        sa.Column("pcie_rx_bytes_per_second", sa.LargeBinary(), nullable=True),
        sa.Column("pcie_tx_bytes_per_second", sa.LargeBinary(), nullable=True),
        sa.Column("pcie_generation", sa.LargeBinary(), nullable=True),
        sa.Column("pcie_lanes", sa.LargeBinary(), nullable=True),
        sa.Column("pcie_replays_total", sa.LargeBinary(), nullable=True),
        sa.Column("nvlink_rx_bytes_total", sa.LargeBinary(), nullable=True),
        sa.Column("nvlink_tx_bytes_total", sa.LargeBinary(), nullable=True),
        sa.Column("xgmi_rx_bytes_total", sa.LargeBinary(), nullable=True),
        sa.Column("xgmi_tx_bytes_total", sa.LargeBinary(), nullable=True),
        sa.Column("processes", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(["entity_id"], ["entity.entity_id"], name=op.f("fk_accelerator_block_entity_id")),
        sa.PrimaryKeyConstraint("entity_id", "span_ms", name=op.f("pk_accelerator_block")),
        postgresql_partition_by="RANGE (span_ms)",
        sqlite_strict=True,
    )
    op.create_table(
        "account",
        sa.Column("hours", INTEGER, nullable=False),
        sa.Column("entity_id", INTEGER, nullable=False),
        sa.Column("start_ms", INTEGER, nullable=False),
        sa.Column("observed_seconds", REAL, nullable=False),
        sa.Column("energy_joules", REAL, nullable=True),
        sa.Column("energy_seconds", REAL, nullable=True),
        sa.Column("energy_source", sa.Text(), nullable=True),
        sa.Column("active_seconds", REAL, nullable=True),
        sa.Column("parked_seconds", REAL, nullable=True),
        sa.Column("free_seconds", REAL, nullable=True),
        sa.Column("off_seconds", REAL, nullable=True),
        sa.Column("prompt_tokens", REAL, nullable=True),
        sa.Column("cached_prompt_tokens", REAL, nullable=True),
        sa.Column("generation_tokens", REAL, nullable=True),
        sa.Column("succeeded_requests", REAL, nullable=True),
        sa.Column("failed_requests", REAL, nullable=True),
        sa.Column("aborted_requests", REAL, nullable=True),
        sa.Column("preemptions", REAL, nullable=True),
        sa.Column("prefix_cache_queries_tokens", REAL, nullable=True),
        sa.Column("prefix_cache_hits_tokens", REAL, nullable=True),
        sa.Column("prefill_seconds", REAL, nullable=True),
        sa.Column("decode_seconds", REAL, nullable=True),
        sa.ForeignKeyConstraint(["entity_id"], ["entity.entity_id"], name=op.f("fk_account_entity_id")),
        sa.PrimaryKeyConstraint("hours", "entity_id", "start_ms", name=op.f("pk_account")),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "block_aggregate",
        sa.Column("metric_id", INTEGER, nullable=False),
        sa.Column("entity_id", INTEGER, nullable=False),
        sa.Column("span_ms", INTEGER, nullable=False),
        sa.Column("count", INTEGER, nullable=False),
        sa.Column("min", REAL, nullable=False),
        sa.Column("max", REAL, nullable=False),
        sa.Column("sum", REAL, nullable=False),
        sa.Column("first", REAL, nullable=False),
        sa.Column("last", REAL, nullable=False),
        sa.Column("increase", REAL, nullable=True),
        sa.ForeignKeyConstraint(["entity_id"], ["entity.entity_id"], name=op.f("fk_block_aggregate_entity_id")),
        sa.ForeignKeyConstraint(["metric_id"], ["metric.metric_id"], name=op.f("fk_block_aggregate_metric_id")),
        sa.PrimaryKeyConstraint("metric_id", "entity_id", "span_ms", name=op.f("pk_block_aggregate")),
        postgresql_partition_by="RANGE (span_ms)",
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "cpu_block",
        sa.Column("entity_id", INTEGER, nullable=False),
        sa.Column("span_ms", INTEGER, nullable=False),
        sa.Column("instants", INTEGER, nullable=False),
        sa.Column("first_at_ms", INTEGER, nullable=False),
        sa.Column("last_at_ms", INTEGER, nullable=False),
        sa.Column("times", sa.LargeBinary(), nullable=False),
        sa.Column("utilization_ratio", sa.LargeBinary(), nullable=True),
        sa.Column("power_watts", sa.LargeBinary(), nullable=True),
        sa.Column("energy_joules_total", sa.LargeBinary(), nullable=True),
        sa.Column("dram_energy_joules_total", sa.LargeBinary(), nullable=True),
        sa.Column("power_limit_watts", sa.LargeBinary(), nullable=True),
        sa.Column("temperature_celsius", sa.LargeBinary(), nullable=True),
        sa.Column("frequency_hertz", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(["entity_id"], ["entity.entity_id"], name=op.f("fk_cpu_block_entity_id")),
        sa.PrimaryKeyConstraint("entity_id", "span_ms", name=op.f("pk_cpu_block")),
        postgresql_partition_by="RANGE (span_ms)",
        sqlite_strict=True,
    )
    op.create_table(
        "deployment_block",
        sa.Column("entity_id", INTEGER, nullable=False),
        sa.Column("span_ms", INTEGER, nullable=False),
        sa.Column("instants", INTEGER, nullable=False),
        sa.Column("first_at_ms", INTEGER, nullable=False),
        sa.Column("last_at_ms", INTEGER, nullable=False),
        sa.Column("times", sa.LargeBinary(), nullable=False),
        sa.Column("running_requests", sa.LargeBinary(), nullable=True),
        sa.Column("waiting_requests", sa.LargeBinary(), nullable=True),
        sa.Column("kv_cache_usage_ratio", sa.LargeBinary(), nullable=True),
        sa.Column("prompt_tokens_total", sa.LargeBinary(), nullable=True),
        sa.Column("cached_prompt_tokens_total", sa.LargeBinary(), nullable=True),
        sa.Column("generation_tokens_total", sa.LargeBinary(), nullable=True),
        sa.Column("succeeded_requests_total", sa.LargeBinary(), nullable=True),
        sa.Column("failed_requests_total", sa.LargeBinary(), nullable=True),
        sa.Column("aborted_requests_total", sa.LargeBinary(), nullable=True),
        sa.Column("preemptions_total", sa.LargeBinary(), nullable=True),
        sa.Column("prefix_cache_queries_tokens_total", sa.LargeBinary(), nullable=True),
        sa.Column("prefix_cache_hits_tokens_total", sa.LargeBinary(), nullable=True),
        sa.Column("prefill_seconds_total", sa.LargeBinary(), nullable=True),
        sa.Column("decode_seconds_total", sa.LargeBinary(), nullable=True),
        sa.Column("process_started_at_seconds", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(["entity_id"], ["entity.entity_id"], name=op.f("fk_deployment_block_entity_id")),
        sa.PrimaryKeyConstraint("entity_id", "span_ms", name=op.f("pk_deployment_block")),
        postgresql_partition_by="RANGE (span_ms)",
        sqlite_strict=True,
    )
    op.create_table(
        "host_block",
        sa.Column("entity_id", INTEGER, nullable=False),
        sa.Column("span_ms", INTEGER, nullable=False),
        sa.Column("instants", INTEGER, nullable=False),
        sa.Column("first_at_ms", INTEGER, nullable=False),
        sa.Column("last_at_ms", INTEGER, nullable=False),
        sa.Column("times", sa.LargeBinary(), nullable=False),
        sa.Column("cpu_utilization_ratio", sa.LargeBinary(), nullable=True),
        sa.Column("cpu_iowait_ratio", sa.LargeBinary(), nullable=True),
        sa.Column("load_1m", sa.LargeBinary(), nullable=True),
        sa.Column("memory_used_bytes", sa.LargeBinary(), nullable=True),
        sa.Column("memory_total_bytes", sa.LargeBinary(), nullable=True),
        sa.Column("swap_used_bytes", sa.LargeBinary(), nullable=True),
        sa.Column("disk_used_bytes", sa.LargeBinary(), nullable=True),
        sa.Column("disk_total_bytes", sa.LargeBinary(), nullable=True),
        sa.Column("disk_read_bytes_total", sa.LargeBinary(), nullable=True),
        sa.Column("disk_written_bytes_total", sa.LargeBinary(), nullable=True),
        sa.Column("network_rx_bytes_total", sa.LargeBinary(), nullable=True),
        sa.Column("network_tx_bytes_total", sa.LargeBinary(), nullable=True),
        sa.Column("cpu_pressure_ratio", sa.LargeBinary(), nullable=True),
        sa.Column("memory_pressure_ratio", sa.LargeBinary(), nullable=True),
        sa.Column("io_pressure_ratio", sa.LargeBinary(), nullable=True),
        sa.Column("node_power_watts", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(["entity_id"], ["entity.entity_id"], name=op.f("fk_host_block_entity_id")),
        sa.PrimaryKeyConstraint("entity_id", "span_ms", name=op.f("pk_host_block")),
        postgresql_partition_by="RANGE (span_ms)",
        sqlite_strict=True,
    )
    op.create_table(
        "latency_account",
        sa.Column("hours", INTEGER, nullable=False),
        sa.Column("entity_id", INTEGER, nullable=False),
        sa.Column("start_ms", INTEGER, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("bounds_id", INTEGER, nullable=False),
        sa.Column("increments", sa.Text(), nullable=False),
        sa.Column("sum_seconds", REAL, nullable=True),
        sa.ForeignKeyConstraint(
            ["bounds_id"], ["histogram_bounds.bounds_id"], name=op.f("fk_latency_account_bounds_id")
        ),
        sa.ForeignKeyConstraint(["entity_id"], ["entity.entity_id"], name=op.f("fk_latency_account_entity_id")),
        sa.PrimaryKeyConstraint("hours", "entity_id", "start_ms", "kind", "bounds_id", name=op.f("pk_latency_account")),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "latency_block",
        sa.Column("entity_id", INTEGER, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("bounds_id", INTEGER, nullable=False),
        sa.Column("span_ms", INTEGER, nullable=False),
        sa.Column("instants", INTEGER, nullable=False),
        sa.Column("first_at_ms", INTEGER, nullable=False),
        sa.Column("last_at_ms", INTEGER, nullable=False),
        sa.Column("times", sa.LargeBinary(), nullable=False),
        sa.Column("sum_seconds", sa.LargeBinary(), nullable=False),
        sa.Column("increments", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["bounds_id"], ["histogram_bounds.bounds_id"], name=op.f("fk_latency_block_bounds_id")),
        sa.ForeignKeyConstraint(["entity_id"], ["entity.entity_id"], name=op.f("fk_latency_block_entity_id")),
        sa.PrimaryKeyConstraint("entity_id", "kind", "bounds_id", "span_ms", name=op.f("pk_latency_block")),
        postgresql_partition_by="RANGE (span_ms)",
        sqlite_strict=True,
    )
    with op.batch_alter_table("entity", schema=None) as batch_op:
        batch_op.add_column(sa.Column("accounted_until_ms", INTEGER, nullable=True))
    if op.get_bind().dialect.name == "postgresql":
        _store_payloads_as_they_are()


def _store_payloads_as_they_are() -> None:
    """Payloads are compressed already; partitions, of which each table needs one, take this over from their parent."""
    for table in PARTITIONED:
        columns = sa.inspect(op.get_bind()).get_columns(table)
        payloads = [column["name"] for column in columns if isinstance(column["type"], sa.LargeBinary)]
        for name in payloads:
            op.execute(f"ALTER TABLE {table} ALTER COLUMN {name} SET STORAGE EXTERNAL")
        op.execute(f"CREATE TABLE {table}_default PARTITION OF {table} DEFAULT")


def downgrade() -> None:
    with op.batch_alter_table("entity", schema=None) as batch_op:
        batch_op.drop_column("accounted_until_ms")

    op.drop_table("latency_block")
    op.drop_table("latency_account")
    op.drop_table("host_block")
    op.drop_table("deployment_block")
    op.drop_table("cpu_block")
    op.drop_table("block_aggregate")
    op.drop_table("account")
    op.drop_table("accelerator_block")
    op.drop_table("metric")
