"""Graphs of models and steps that the operator writes, served as models of their own."""
