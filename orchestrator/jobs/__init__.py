"""What a job's process does, for each kind of job.

Each kind asks for ensembles; none owns an accelerator.
"""
