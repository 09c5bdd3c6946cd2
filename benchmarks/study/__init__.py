"""What the scaling study needs beside training: its grids, losses by kind of word, and pictures."""
