"""The cohort folder that training reads, and the texts and regions drawn from it."""
