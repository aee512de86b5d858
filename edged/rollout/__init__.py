"""A new release beside the one that serves: who gets which, and what becomes of it.

Pure but for the file that remembers it; who asks and who answers is ``serving/``.
"""
