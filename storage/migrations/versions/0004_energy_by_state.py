"""energy by state, in the accounts of accelerators.

Accounts are made again as far back as raw samples are kept; of older ones the energy by state stays unknown.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

REAL: sa.types.TypeEngine[float] = sa.REAL().with_variant(sa.Double(), "postgresql")
COLUMNS = ("active_joules", "parked_joules", "free_joules")


def upgrade() -> None:
    for name in COLUMNS:
        op.add_column("account", sa.Column(name, REAL, nullable=True))
    op.execute("UPDATE entity SET accounted_until_ms = NULL WHERE family = 'accelerator'")


def downgrade() -> None:
    for name in COLUMNS:
        op.drop_column("account", name)
