"""what more servers and endpoints tell."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

REAL: sa.types.TypeEngine[float] = sa.REAL().with_variant(sa.Double(), "postgresql")

COUNTERS = ("rejected_requests", "reasoning_tokens")  # of a deployment, so each has an account column too
DEPLOYMENT = (*(f"{name}_total" for name in COUNTERS), "model_memory_bytes")
PROBE = (
    "cached_prompt_tokens",
    "chunks",
    "connect_seconds",
    "server_queue_seconds",
    "server_prefill_seconds",
    "server_decode_seconds",
    "server_e2e_seconds",
)
ADDED: dict[str, tuple[tuple[str, ...], sa.types.TypeEngine[float] | sa.types.TypeEngine[bytes]]] = {
    "deployment_sample": (DEPLOYMENT, REAL),
    "deployment_block": (DEPLOYMENT, sa.LargeBinary()),
    "account": (COUNTERS, REAL),
    "probe_sample": (PROBE, REAL),
}


def upgrade() -> None:
    for table, (columns, kind) in ADDED.items():
        for name in columns:
            op.add_column(table, sa.Column(name, kind, nullable=True))
    if op.get_bind().dialect.name == "postgresql":
        for name in DEPLOYMENT:  # payloads are compressed already
            op.execute(f"ALTER TABLE deployment_block ALTER COLUMN {name} SET STORAGE EXTERNAL")


def downgrade() -> None:
    for table, (columns, _) in ADDED.items():
        for name in columns:
            op.drop_column(table, name)
