"""StyleGAN2-ADA for one grey channel."""
