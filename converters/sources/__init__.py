"""Sources: one file a framework, each imported only when it is used."""
