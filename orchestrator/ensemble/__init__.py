"""What all jobs share: from a request by packs, plan and training to results.

It knows no kind of job, and starts no process of its own: the fleet does.
"""
