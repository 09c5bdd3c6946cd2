"""Pages, pictures and tables for people: what is inside a model, how runs went, which model is best, and sweeps."""
