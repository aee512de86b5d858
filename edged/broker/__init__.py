"""The brokers of the house: sessions made, changed in place and ended, and what lives as long.

``link`` is one broker's side, ``links`` all of them with one face; ``options`` is what a session
has to know, ``results`` the way by the disk, ``keeping`` what bindings remember, ``sparkplug`` the
node, ``figures`` what is measured.
"""
