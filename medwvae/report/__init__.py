"""The report: what was run, who won, by how much and how sure, in one self-contained HTML file."""
