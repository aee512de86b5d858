"""The report of a bundle: one JSON file and one page that needs nothing beside itself."""
