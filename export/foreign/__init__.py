"""Models that are none of ours: a plain ONNX file and a PEFT adapter become one plain ONNX file."""
