"""The offline converter: trained models in, signed bundles with proven numbers out."""
