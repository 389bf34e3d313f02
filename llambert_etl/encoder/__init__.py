"""The small model: fine-tuning, calibration, metrics and fast inference."""
