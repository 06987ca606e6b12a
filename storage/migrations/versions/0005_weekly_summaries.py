"""weekly summaries as they were made, and whom they were sent to."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

INTEGER = sa.Integer().with_variant(sa.BigInteger(), "postgresql")


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=False)


def upgrade() -> None:
    op.create_table(
        "weekly_summary",
        _text("week"),
        sa.Column("version", INTEGER, nullable=False),
        sa.Column("made_at_ms", INTEGER, nullable=False),
        _text("host"),
        _text("reason"),
        _text("settings_digest"),
        _text("accounts_digest"),
        _text("content"),
        sa.PrimaryKeyConstraint("week", "version", name="pk_weekly_summary"),
        sqlite_strict=True,
    )
    op.create_table(
        "summary_delivery",
        _text("week"),
        _text("recipient"),
        sa.Column("version", INTEGER, nullable=False),
        _text("state"),
        sa.Column("attempts", INTEGER, nullable=False),
        sa.Column("tried_at_ms", INTEGER, nullable=False),
        sa.Column("next_at_ms", INTEGER),
        _text("error"),
        sa.PrimaryKeyConstraint("week", "recipient", name="pk_summary_delivery"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    op.drop_table("summary_delivery")
    op.drop_table("weekly_summary")
