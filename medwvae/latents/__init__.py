"""What people do with a latent: draw, walk, edit, look, fill in."""
