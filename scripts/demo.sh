#!/usr/bin/env bash
# What `make demo` runs: the commands a user would type, on the sample set. Everything lands in runs/demo.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

data=data/cabin_mini.yaml
out=runs/demo
epochs=${DEMO_EPOCHS:-12}
export YOLO_OFFLINE=${YOLO_OFFLINE:-true} YOLO_CONFIG_DIR=${YOLO_CONFIG_DIR:-$PWD/.venv/config} MPLBACKEND=Agg

command -v dpose >/dev/null || { echo "demo: no dpose command; run it as 'make demo'" >&2; exit 1; }
run() { printf '\n$ %s\n' "$*"; "$@"; }

# The folder of this demo only; project= and name= below keep the paths the same each time.
rm -rf "$out"
mkdir -p "$out"
# an image of a posture that training saw three times
source=$(awk -F, '$2 == "test" && $3 == "stretch_up" {print "data/cabin_mini/images/test/" $1; exit}' data/cabin_mini/index.csv)

run dpose train data=$data model=dpose-125.yaml imgsz=192 epochs="$epochs" batch=32 device=cpu seed=0 project=$out name=train
best=$out/train/weights/best.pt
run dpose val model=$best data=$data split=test imgsz=192 device=cpu project=$out name=val
run dpose clusters data=$data project=$out name=clusters
run dpose cam model=$best source="$source" keypoints=left_wrist,right_wrist imgsz=192 project=$out name=cam
run dpose predict model=$best source="$source" imgsz=192 device=cpu project=$out name=predict
run dpose export model=$best format=onnx imgsz=192
run dpose predict model="${best%.pt}.onnx" source="$source" imgsz=192 project=$out name=predict_onnx

cat <<EOF

Demo done. Results:
  $out/train           weights, curves and settings of the training
  $out/val             accuracy on the balanced test part
  $out/clusters        postures found by clustering
  $out/cam             where the model looks for the wrists
  $out/predict         the prediction of the PyTorch model
  $out/predict_onnx    the prediction of the exported model
EOF
