"""What launch/gpu_acceptance.py runs and reports."""
