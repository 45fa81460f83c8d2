#!/usr/bin/env bash
# What `make demo` runs: the commands a user would type, on the sample set. Everything lands in runs/demo.
# DEMO_EPOCHS: fewer are quicker. DEMO_OUT: another folder, which is emptied first.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

data=data/cabin_mini.yaml
out=${DEMO_OUT:-runs/demo}
epochs=${DEMO_EPOCHS:-18}
export YOLO_CONFIG_DIR=${YOLO_CONFIG_DIR:-$PWD/.venv/config} MPLBACKEND=Agg

command -v dpose >/dev/null || { echo "demo: no dpose command; run it as 'make demo'" >&2; exit 1; }
run() { printf '\n$ %s\n' "$*"; "$@"; }

# The folder of this demo only; project= and name= below keep the paths the same each time.
rm -rf "$out"
mkdir -p "$out"
# one test image of each of the rarest postures; training saw three or four of each
mkdir -p "$out/pictures"
for posture in stretch_up wave_left bend_down hands_behind_head; do
    file=$(awk -F, -v p="$posture" '$2 == "test" && $3 == p {print $1; exit}' data/cabin_mini/index.csv)
    if [ -n "$file" ]; then cp "data/cabin_mini/images/test/$file" "$out/pictures/$posture.jpg"; fi
done

# Short and small on purpose.
run dpose train data=$data model=dpose-125.yaml imgsz=128 epochs="$epochs" cache=ram device=cpu seed=0 project=$out name=train
best=$out/train/weights/best.pt
run dpose val model=$best data=$data split=test imgsz=128 device=cpu project=$out name=val
run dpose clusters data=$data project=$out name=clusters
run dpose cam model=$best source=$out/pictures keypoints=left_wrist,right_wrist imgsz=128 project=$out name=cam
run dpose predict model=$best source=$out/pictures imgsz=128 device=cpu project=$out name=predict
run dpose export model=$best format=onnx imgsz=128
run dpose predict model="${best%.pt}.onnx" source=$out/pictures imgsz=128 device=cpu project=$out name=predict_onnx

cat <<EOF

Demo done. Results:
  $out/train           weights (best.pt, best.onnx), curves, settings, effective draws
  $out/val             accuracy on the balanced test part
  $out/clusters        posture atlas: clusters, counts, before and after balancing
  $out/cam             where the model looks for the wrists
  $out/predict         poses drawn by the PyTorch model, on pictures of rare postures
  $out/predict_onnx    the same by the exported ONNX model
EOF
