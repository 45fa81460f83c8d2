"""Pictures and tables of what a run did: posture atlas, cluster tables, attention overlays.

Knows nothing of Ultralytics or torch; takes arrays and the posture part's objects, writes files.
"""
