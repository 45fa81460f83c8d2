"""Images a second and memory of the renderer, one process on one core.

python benchmarks/render_speed.py images=60 size=320x240
"""

import resource
import sys
import time

from dpose_yolo.render.scene import POSTURES, Renderer, SceneSpec


def main(arguments: list[str]) -> None:
    """Render `images` scenes of all postures in turn and print wall and processor time an image, and peak memory."""
    options = {"images": "60", "size": "320x240", "look": "mixed", **dict(word.split("=", 1) for word in arguments)}
    width, height = (int(part) for part in options["size"].split("x"))
    names, count = list(POSTURES), int(options["images"])
    with Renderer() as renderer:
        for seed in range(3):  # textures, panoramas and tables are read once
            renderer.render(SceneSpec(seed, names[seed], size=(width, height)))
        wall, processor = time.perf_counter(), time.process_time()
        for seed in range(count):
            renderer.render(SceneSpec(seed, names[seed % len(names)], look=options["look"], size=(width, height)))
        wall, processor = (time.perf_counter() - wall) / count, (time.process_time() - processor) / count
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{width}x{height}: {processor:.3f} s of processor an image = {1 / processor:.1f} images/s on an idle core")
    print(f"wall {wall:.3f} s an image here, peak memory {peak:.0f} MB")


if __name__ == "__main__":
    main(sys.argv[1:])
