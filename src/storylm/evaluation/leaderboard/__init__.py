"""Models side by side: what each is asked, answers that are kept, and who is best and how surely."""
