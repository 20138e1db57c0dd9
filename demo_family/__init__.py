"""The embedded demo family: described scenes of 64x64 pixels, small enough to train on two cores.

``scenes`` says what can be described, ``language`` reads and writes descriptions, ``render`` draws them, ``checker``
measures exactly whether a picture shows one, and ``family`` loads the networks trained on them.
"""
