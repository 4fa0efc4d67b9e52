"""The study of generative models: its images, the scores of one model, and the table of all."""
