"""What is compared with: the least that could do the job, and the usual way to do it, as programs of their own."""
