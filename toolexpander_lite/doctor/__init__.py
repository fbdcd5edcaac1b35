"""A reader of anyone's GRPO log: what is wrong, why, and what to try next. `report.py` is where to begin."""

from .report import diagnose, report

__all__ = ["diagnose", "report"]
