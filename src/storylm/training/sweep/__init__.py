"""Many small runs of one kind: which there are, and how they are carried out."""
