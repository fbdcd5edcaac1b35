"""ToolExpander-lite: an educational reproduction kit for ToolExpander (arXiv 2510.07737)."""

__version__ = "0.1.0"
