"""`dpose prepare`: a YOLO-pose data set from videos, pictures and labels of other forms.

A source (`drive_act`, `coco`, `statefarm`, `footage`) reads what is there and makes a `Plan`: jobs of frames and
pictures with their labels and parts. `work` carries the jobs out, so that an interrupted command goes on where it was.
"""
