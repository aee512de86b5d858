"""What the two clients, ``edged.client`` and ``edged.aio``, are made of.

``link`` and ``aio_link`` hold a connection each, and say what ``protocol/asking`` says;
``pending``, ``stream`` and ``sequence`` are what may be under way on one; ``places``, ``placed``
and ``lane`` pass memory instead of bytes; ``prepared`` is a call that is made many times.
"""
