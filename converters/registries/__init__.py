"""Artefacts and registries of other tools (MLflow, BentoML, Triton), read as data.

A registry resolves what somebody has into recipe fields; the ordinary conversion and its gate do
the rest. Nothing here imports those tools, and nothing here opens a model.
"""
