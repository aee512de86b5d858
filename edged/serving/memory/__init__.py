"""Who may stay in a device's memory, who has to go, and who is loaded next.

``memory`` and ``load_line`` decide, by what ``footprint`` says; ``residency`` does it.
"""
