"""What `bench_gpu.py` measures: a module for each part of training and scoring, a function for each measurement.

It uses `muster.workers` alone, and needs neither Ray nor anything of the orchestrator.
"""
