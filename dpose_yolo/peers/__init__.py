"""Pose models of others, for the comparison with one's own (paper Table 3): MoveNet, BlazePose, Lightweight OpenPose.

Each adapter reads a file that the user names; none is shipped. They look at one person at a time and have to be told
where: the labelled box goes in ("box prior", as in the paper for MoveNet).
"""

from dpose_yolo.peers.base import Peer
from dpose_yolo.peers.crop import Crop
from dpose_yolo.peers.recognise import load_peer

__all__ = ["Crop", "Peer", "load_peer"]
