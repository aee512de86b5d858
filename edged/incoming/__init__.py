"""How bundles come to a device: verified and put in place by one way, whoever brings them."""
