"""What in a slide could identify a patient, and names that say nothing of one."""
